"""Drawing at an inference provider, and the rows of the models that one can draw with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from studio.errors import ModelUnavailable
from studio.specs import Defaults, ModelSpec, split_source

if TYPE_CHECKING:
    from PIL import Image

    from studio.request import GenerationRequest
    from studio.settings import Settings

SUFFIX = "-hosted"
"""Of the key of a row that a provider draws."""
OWN_SCHEDULER = "own"
TIMEOUT_S = 300.0
"""A cold model of a provider takes minutes."""


@dataclass(frozen=True, slots=True)
class Provider:
    """Who draws: a provider's name, "auto" for the Hub's choice, or the URL of an endpoint."""

    name: str
    token: str | None = field(repr=False)

    @property
    def is_endpoint(self) -> bool:
        """Whether it is one's own endpoint, which draws with the one model that it has."""
        return self.name.startswith(("http://", "https://"))

    def draw(self, spec: ModelSpec, request: GenerationRequest, seed: int) -> Image.Image:
        """Draw one picture; takes seconds to minutes.

        Raises:
            ModelUnavailable: it refused, failed or cannot be reached.
        """
        from huggingface_hub import InferenceClient
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

        model = self.name if self.is_endpoint else split_source(spec.sources[0])[0]
        provider = None if self.is_endpoint else self.name
        try:
            client = InferenceClient(
                model=model,
                provider=provider,  # type: ignore[arg-type]
                token=self.token,
                timeout=TIMEOUT_S,
            )
            image = client.text_to_image(
                request.prompt,
                negative_prompt=request.negative_prompt or None,
                width=request.width,
                height=request.height,
                num_inference_steps=request.num_inference_steps,
                guidance_scale=request.guidance_scale if spec.guidance != "none" else None,
                seed=seed,
            )
        except (OSError, ValueError, HTTPError) as exc:
            raise ModelUnavailable(_refusal(spec, exc)) from exc
        return image


def provider_of(settings: Settings) -> Provider | None:
    """The provider that the host has chosen; None is none."""
    return Provider(settings.provider, settings.hf_token) if settings.provider else None


def hosted_rows(models: Mapping[str, ModelSpec]) -> dict[str, ModelSpec]:
    """A second row for each model that providers offer: nothing to download or to hold."""
    return {spec.key + SUFFIX: _hosted(spec) for spec in models.values() if spec.hosted}


def _hosted(spec: ModelSpec) -> ModelSpec:
    own = spec.defaults
    defaults = Defaults(
        scheduler=OWN_SCHEDULER,
        num_inference_steps=own.num_inference_steps,
        guidance_scale=own.guidance_scale,
        width=own.width,
        height=own.height,
    )
    return replace(
        spec,
        key=spec.key + SUFFIX,
        title=f"{spec.title}, hosted",
        summary=f"{spec.summary}; drawn by a provider on the web, who sees the prompt",
        backend="hosted",
        download_gb=0.0,
        memory_gb=0.0,
        tasks=("text_to_image",),
        lora=False,
        textual_inversion=False,
        next_stage=None,
        refiner=None,
        image_to_image_class=None,
        schedulers=(OWN_SCHEDULER,),
        tiling_choices=("none",),
        defaults=defaults,
    )


def _refusal(spec: ModelSpec, error: Exception) -> str:
    """What a provider's answer means, and what to do."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    said = str(getattr(error, "server_message", None) or "").strip()
    causes = {
        401: "it does not accept the token: set `CROQUIS_HF_TOKEN` to one that may call providers",
        402: "the credit of the token is used up",
        403: "the token may not call providers, or the model's licence is not accepted",
        404: "it does not offer this model",
        429: "it has had too many requests: wait a minute",
    }
    cause = causes.get(status or 0, "it failed" if status else "it cannot be reached")
    words = f" It said: {said[:200]}" if said else ""
    return f"The provider did not draw with {spec.title}: {cause}.{words} Or choose another model."
