"""How a request's prompts reach a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pipelines import calls
from pipelines.embedding import Embedded, Embedder, encoders_of
from studio.prompt_nodes import Prompt
from studio.prompt_syntax import is_plain, is_read_by, parse_prompt

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from pipelines.loader import LoadedModel
    from studio.request import GenerationRequest
    from studio.specs import ModelSpec


def prompt_arguments(
    loaded: LoadedModel,
    request: GenerationRequest,
    drawn: range | None = None,
    on_version: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The keyword arguments of a pipeline's call that say what to draw.

    Prompts that are short, and mean nothing but their words, are handed over as text: the
    pipeline encodes them itself.

    Args:
        drawn: which of the request's steps the call draws, counted from 0; None is all.
        on_version: called before each version of a changing prompt is encoded; what it raises
            ends that.
    """
    spec = loaded.spec
    texts = [request.prompt, *([request.negative_prompt] if spec.negative_prompt else [])]
    encoders = tuple(encoders_of(loaded.pipeline)) if is_weighed(spec, request) else ()
    if not encoders:
        return calls.prompt_arguments(spec, request)
    embedder = Embedder(encoders, loaded.pipeline)
    if all(is_plain(text) and embedder.fits(text) for text in texts):
        return calls.prompt_arguments(spec, request)
    steps = max(1, int(request.num_inference_steps * calls.strength_of(spec, request)))
    prompts = [parse_prompt(text) for text in texts]
    course = _Course.of(embedder, prompts, steps, drawn or range(steps), on_version)
    return course.arguments(can_change=spec.callback == "new")


def is_weighed(spec: ModelSpec, request: GenerationRequest) -> bool:
    """Whether signs in the prompts weigh and change words, and nothing is too long."""
    return request.prompt_syntax == "a1111" and is_read_by(spec)


@dataclass(frozen=True, slots=True)
class _Course:
    """The prompt, and the negative one if there is one, on their way through a call."""

    embedder: Embedder
    prompts: list[Prompt]
    steps: int
    """Of the request."""
    drawn: range
    """Those of the call."""
    length: int
    """Chunks that every version is brought to."""

    @classmethod
    def of(
        cls,
        embedder: Embedder,
        prompts: list[Prompt],
        steps: int,
        drawn: range,
        on_version: Callable[[], None],
    ) -> _Course:
        """Encode all that will be said before the call: later the encoders may be elsewhere."""
        versions = [version for prompt in prompts for version in prompt.versions(steps)]
        length = max(map(embedder.count_chunks, versions))
        for version in versions:
            on_version()
            embedder.embed(version, length)
        return cls(embedder, prompts, steps, drawn, length)

    def arguments(self, *, can_change: bool) -> dict[str, Any]:
        """What the call is given: what is said first, and how that changes."""
        first = self._said(self.drawn[0])
        given: dict[str, Any] = {}
        for prefix, said in zip(("", "negative_"), first, strict=False):
            given[f"{prefix}prompt_embeds"] = said.embeds
            if said.pooled is not None:
                given[f"{prefix}pooled_prompt_embeds"] = said.pooled
        if can_change and any(prompt.is_changing for prompt in self.prompts):
            given["callback_on_step_end"] = self._change
        return given

    def _said(self, step: int) -> list[Embedded]:
        versions = [prompt.at_step(step + 1, self.steps) for prompt in self.prompts]
        return [self.embedder.embed(version, self.length) for version in versions]

    def _change(
        self,
        pipeline: DiffusionPipeline,
        index: int,
        timestep: Any,
        tensors: Mapping[str, torch.Tensor],
    ) -> dict[str, Any]:
        """Say what the next call of the U-Net reads, after call `index`.

        Some schedulers call it twice for a step: both read the same. With guidance on, the
        pipeline has both prompts in one tensor, the negative one first.
        """
        now, following = (self._step_of(i, pipeline.num_timesteps) for i in (index, index + 1))
        if now == following:
            return {}
        said = self._said(following)
        in_order = reversed(said) if pipeline.do_classifier_free_guidance else said[:1]
        count = len(tensors["latents"])
        rows = [(one.embeds.repeat(count, 1, 1), one.pooled) for one in in_order]
        changed = {"prompt_embeds": torch.cat([embeds for embeds, _ in rows])}
        pooled = [one.repeat(count, 1) for _, one in rows if one is not None]
        return changed | ({"add_text_embeds": torch.cat(pooled)} if pooled else {})

    def _step_of(self, index: int, calls: int) -> int:
        """The step that a call of the U-Net belongs to."""
        return self.drawn[min(index * len(self.drawn) // calls, len(self.drawn) - 1)]
