"""/generate: the one endpoint for gradio_client, MCP and other programs."""

from __future__ import annotations

from collections.abc import Mapping

import gradio as gr
from anyio import sleep, to_thread
from gradio.events import api
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from studio.errors import CroquisError
from studio.jobs import Job, JobState
from studio.request import RANDOM_SEED, GenerationRequest
from studio.studio import Studio

from ui.visitor import owner_of
from ui.words import plain

Wish = str | int | float | None
PAUSE_S = 0.1
"""Time between two looks at the job; the database is never asked on the event loop."""


def build_generate(studio: Studio, blocks: gr.Blocks) -> None:
    """Register the endpoint with `blocks`, which must be open."""

    async def generate(
        prompt: str,
        request: gr.Request,
        negative_prompt: str = "",
        model: str | None = None,
        scheduler: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        width: int | None = None,
        height: int | None = None,
        seed: int = RANDOM_SEED,
        num_images: int = 1,
        upscale: int | None = None,
        tiling: str = "none",
        prompt_syntax: str | None = None,
        exact: bool = False,
    ) -> tuple[list[dict[str, object]], int]:
        """Draw pictures from a prompt and wait for them.

        Args:
            prompt: What to draw, 1 to 10,000 characters.
            negative_prompt: What to keep out.
            model: Key of a model; None is the server's own choice.
            scheduler: Key of a scheduler that works with the model; None is the model's own.
            num_inference_steps: 1 to 200; None is the model's own.
            guidance_scale: How closely to follow the prompt, 1 (off) to 30; None as above.
            width: Drawn width in px; None is the model's own.
            height: Drawn height in px; None is the model's own.
            seed: 0 to 4294967295, or -1 for a random one; picture i uses seed + i.
            num_images: Pictures to draw.
            upscale: Enlargement after drawing, where the model offers it; None is the model's own.
            tiling: Edges that continue at the opposite one: none, x (sideways), y or both.
            prompt_syntax: a1111 to weigh words by brackets and read long prompts in pieces, plain
                to take brackets for text; None is a1111 where the model can.
            exact: Draw each picture alone, exact to the last bit even while others draw.

        Returns:
            The PNG files, and the seed of the first one.
        """
        wished = {
            "prompt": prompt or "",
            "negative_prompt": negative_prompt,
            "model": model or studio.settings.model,
            "scheduler": scheduler,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "width": width,
            "height": height,
            "seed": seed,
            "num_images": num_images,
            "upscale": upscale,
            "tiling": tiling,
            "prompt_syntax": prompt_syntax,
            "exact": exact,
        }
        job = await _draw(studio, wished, owner_of(request))
        return await to_thread.run_sync(_copy, studio, job, blocks), job.request.seed

    api(generate, api_name="generate", concurrency_limit=None)


async def _draw(studio: Studio, wished: Mapping[str, Wish], owner: str) -> Job:
    """Draw what is wished; where that is None, as the model does by itself.

    Raises:
        gr.Error: why it was refused, failed or was stopped.
    """
    given = {name: value for name, value in wished.items() if value is not None}
    try:
        own = studio.default_request(str(given["model"]), "-").to_json()
        order = GenerationRequest(**(own | given))
        job = await to_thread.run_sync(studio.submit, order, owner)
        job = await _wait(studio, job, owner)
    except CroquisError as exc:
        raise gr.Error(plain(str(exc)), print_exception=False) from exc
    if job.state is not JobState.DONE:
        raise gr.Error(plain(job.error or "The job was stopped."), print_exception=False)
    return job


async def _wait(studio: Studio, job: Job, owner: str) -> Job:
    while (await to_thread.run_sync(studio.progress, job.id, owner)).state.is_active:
        await sleep(PAUSE_S)
    return await to_thread.run_sync(studio.job, job.id, owner)


def _copy(studio: Studio, job: Job, blocks: gr.Blocks) -> list[dict[str, object]]:
    """Copy the pictures to where Gradio's clients download from; Gradio deletes the copies."""
    paths = [studio.picture(picture_id, job.owner).path for picture_id in job.picture_ids]
    copies = [save_file_to_cache(path, get_upload_folder()) for path in paths]
    blocks.upload_file_set.update(copies)
    return [_as_file(path) for path in copies]


def _as_file(path: str) -> dict[str, object]:
    """A file as Gradio's clients know it: they download it."""
    return {"path": path, "mime_type": "image/png", "meta": {"_type": "gradio.FileData"}}
