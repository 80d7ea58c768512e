"""What of a prompt the text encoder never sees."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from studio.request import GenerationRequest

SHOWN_CHARACTERS = 200


def cut_text(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Return the end of `text` that does not fit into the tokenizer's length, or ""."""
    encoded = tokenizer(text, truncation=False, return_offsets_mapping=True, verbose=False)
    offsets = encoded["offset_mapping"]
    if len(offsets) <= tokenizer.model_max_length:
        return ""
    first_cut = tokenizer.model_max_length - 1  # the last place is the end token's
    return text[offsets[first_cut][0] :].strip()


def notes_on_length(
    tokenizer: PreTrainedTokenizerBase | None, request: GenerationRequest
) -> tuple[str, ...]:
    """Return one note for each of the two prompts that is too long for the model."""
    if tokenizer is None:
        return ()
    notes = []
    texts = {"prompt": request.prompt, "negative prompt": request.negative_prompt}
    for name, text in texts.items():
        cut = cut_text(tokenizer, text)
        if cut:
            notes.append(
                f"The {name} is longer than the {tokenizer.model_max_length - 2} tokens that this "
                f"model reads. Left out: {_quote(cut)}"
            )
    return tuple(notes)


def _quote(text: str) -> str:
    if len(text) <= SHOWN_CHARACTERS:
        return f"“{text}”"
    hidden = len(text) - SHOWN_CHARACTERS
    return f"“{text[:SHOWN_CHARACTERS]}…” and {hidden:,} more characters"
