"""A pipeline for one call around shared modules.

A diffusers pipeline keeps the state of its call on itself and in its schedulers, so each call gets
its own of these. The tokenizer keeps its padding too, but a copy takes 40 ms: it is shared, and
one thread draws with a loaded model at a time.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diffusers import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin

if TYPE_CHECKING:
    from pipelines.loader import LoadedModel


def build_shell(
    loaded: LoadedModel,
    scheduler: SchedulerMixin | None = None,
    pipeline_class: type[DiffusionPipeline] | None = None,
    parts: Mapping[str, Any] | None = None,
) -> DiffusionPipeline:
    """Build a pipeline for one call.

    Args:
        scheduler: in the place of the model's own; every other scheduler is made anew from its
            config.
        pipeline_class: another class of the same family, such as the image-to-image one.
        parts: components that the loaded model lacks, or in the place of its own.
    """
    shared = loaded.pipeline
    shell_class = pipeline_class or type(shared)
    given = {"scheduler": scheduler} if scheduler is not None else {}
    given |= parts or {}
    components = {k: _own_copy(part) for k, part in shared.components.items() if k not in given}
    components |= given
    wanted = inspect.signature(shell_class.__init__).parameters
    options = {name: shared.config[name] for name in wanted if name in shared.config}
    shell = shell_class(**{**options, **{k: v for k, v in components.items() if k in wanted}})
    shell.set_progress_bar_config(disable=True)
    return shell


def _own_copy(part: Any) -> Any:
    """A scheduler keeps the state of a call; all else is shared."""
    return type(part).from_config(part.config) if isinstance(part, SchedulerMixin) else part
