"""Paper, ink and one accent, as a Gradio theme. assets/page.css refines what it leaves."""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils.sizes import Size

SYSTEM_FONTS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

# Gradio's own sizes are in px, which do not grow with the reader's text.
TEXT_SIZES = Size(
    name="text_rem",
    xxs="0.5625rem",
    xs="0.625rem",
    sm="0.75rem",
    md="0.875rem",
    lg="1rem",
    xl="1.375rem",
    xxl="1.625rem",
)

# Every colour is a variable of assets/page.css, which has a light and a dark set.
_PAINT = {
    "body_background_fill": "var(--paper)",
    "body_text_color": "var(--ink)",
    "body_text_color_subdued": "var(--ink-soft)",
    "background_fill_primary": "var(--sheet)",
    "background_fill_secondary": "var(--paper)",
    "border_color_primary": "var(--line)",
    "border_color_accent": "var(--accent)",
    "color_accent_soft": "var(--accent-soft)",
    "link_text_color": "var(--accent)",
    "link_text_color_hover": "var(--ink)",
    "link_text_color_visited": "var(--accent)",
    "link_text_color_active": "var(--accent)",
    "block_background_fill": "transparent",
    "block_border_color": "transparent",
    "block_label_background_fill": "transparent",
    "block_label_text_color": "var(--ink)",
    "block_title_text_color": "var(--ink)",
    "block_info_text_color": "var(--ink-soft)",
    "input_background_fill": "var(--sheet)",
    "input_background_fill_focus": "var(--sheet)",
    "input_border_color": "var(--line-strong)",
    "input_border_color_focus": "var(--accent)",
    "input_border_color_hover": "var(--ink-soft)",
    "input_placeholder_color": "var(--ink-soft)",
    "button_primary_background_fill": "var(--accent)",
    "button_primary_background_fill_hover": "var(--accent-strong)",
    "button_primary_border_color": "var(--accent)",
    "button_primary_border_color_hover": "var(--accent-strong)",
    "button_secondary_border_color_hover": "var(--line-strong)",
    "button_primary_text_color": "var(--on-accent)",
    "button_secondary_background_fill": "transparent",
    "button_secondary_background_fill_hover": "var(--accent-soft)",
    "button_secondary_border_color": "var(--line-strong)",
    "button_secondary_text_color": "var(--ink)",
    "checkbox_label_background_fill": "transparent",
    "checkbox_label_background_fill_hover": "var(--accent-soft)",
    "checkbox_label_background_fill_selected": "var(--accent-soft)",
    "checkbox_label_border_color": "var(--line-strong)",
    "checkbox_label_text_color": "var(--ink)",
    "checkbox_label_text_color_selected": "var(--ink)",
    "checkbox_background_color": "var(--sheet)",
    "checkbox_background_color_selected": "var(--accent)",
    "checkbox_border_color": "var(--line-strong)",
    "checkbox_border_color_selected": "var(--accent)",
    "accordion_text_color": "var(--ink)",
    "error_background_fill": "var(--sheet)",
    "error_text_color": "var(--ink)",
    "loader_color": "var(--accent)",
}

_SHAPE = {
    "block_border_width": "0px",
    "block_padding": "0px",
    "block_shadow": "none",
    "block_label_border_width": "0px",
    "block_label_padding": "0px",
    "block_title_text_weight": "600",
    "block_radius": "8px",
    "input_border_width": "1px",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "input_radius": "8px",
    "input_padding": "8px 12px",
    "layout_gap": "16px",
    "form_gap_width": "0px",
    "button_large_radius": "8px",
    "button_medium_radius": "8px",
    "button_small_radius": "8px",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
    "button_transition": "background-color 120ms",
    "checkbox_label_shadow": "none",
    "checkbox_label_padding": "8px 12px",
    "shadow_drop": "none",
    "shadow_drop_lg": "none",
}


def build_theme() -> gr.themes.Base:
    """Build the theme; system fonts only, so that no request leaves the page."""
    theme = gr.themes.Base(
        primary_hue="orange",
        neutral_hue="stone",
        radius_size="md",
        text_size=TEXT_SIZES,
        font=SYSTEM_FONTS,
        font_mono=MONO_FONTS,
    )
    dark = {f"{name}_dark": value for name, value in _PAINT.items()}
    known = set(theme.__dict__)
    dark = {name: value for name, value in dark.items() if name in known}
    theme.set(**_PAINT, **_SHAPE, **dark)
    return theme
