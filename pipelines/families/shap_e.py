"""Shap-E: text, or a picture, to a thing in three dimensions (Jun and Nichol 2023).

One run of the prior gives latents, which are decoded twice: to views from a camera that goes
round the thing, and to a mesh. The picture of a run is its first view; a GIF of all views and
the mesh as GLB are attached to it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from pipelines.families import Batch, Result, Steps
from pipelines.families.one_call import load_pipeline
from pipelines.previews import small_jpeg
from pipelines.schedulers import build_scheduler, count_steps
from pipelines.shells import build_shell
from studio.attachments import GIF, GLB

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from diffusers.pipelines.shap_e.renderer import MeshDecoderOutput, ShapERenderer

__all__ = ["draw_batch", "load_pipeline"]

VIEWS = 20
"""Of diffusers' camera; the last one is the first again."""
VIEW_MS = 100
RAYS_AT_ONCE = 4096
"""diffusers drops the rays that are left over: none are where the side is a multiple of 32."""
UPRIGHT = ((-np.pi / 2, (1, 0, 0)), (np.pi, (0, 1, 0)))
"""Turns, in radians about an axis: Shap-E's z is up, glTF's is y, and the viewer looks from +z."""
NO_SURFACE = (
    "The model found no surface, so there is no mesh, only the turning view. Another seed or a "
    "plainer prompt may have one."
)


@dataclass(frozen=True, slots=True)
class Detail:
    """How finely latents are decoded; the values are Shap-E's own."""

    coarse_samples: int = 64
    fine_samples: int = 128
    """Points on each ray: evenly spread, and where the thing was found by them."""
    grid: int = 128
    """Points on each side of the cube in which the surface is sought."""


DETAIL = Detail()


class _NoSurface(Exception):
    """The latents describe nothing that has a surface."""


def draw_batch(batch: Batch) -> list[Result]:
    """Make one thing for each seed, one after the other: a GPU is busy with the rays of one."""
    scheduler = build_scheduler(
        batch.scheduler_spec, batch.loaded.scheduler_config, batch.loaded.scheduler
    )
    steps = count_steps(scheduler, batch.scheduler_spec, batch.request.num_inference_steps)
    batch.steps.begin(len(batch.seeds) * (steps + _ray_batches(batch.request.width) + 1))
    batch.steps.watch(scheduler)
    shell = build_shell(batch.loaded, scheduler)
    return [_make_thing(batch, shell, seed) for seed in batch.seeds]


def _make_thing(batch: Batch, shell: DiffusionPipeline, seed: int) -> Result:
    latents = shell(
        **_described(batch),
        guidance_scale=batch.request.guidance_scale,
        num_inference_steps=batch.request.num_inference_steps,
        generator=torch.Generator("cpu").manual_seed(seed),
        output_type="latent",
    ).images  # (1, rows of weights, numbers that say each)
    renderer: ShapERenderer = shell.shap_e_renderer
    with _global_noise_kept(latents.device):
        views = render_views(renderer, latents, batch.request.width, batch.steps)
    try:
        mesh = find_mesh(renderer, latents)
    except _NoSurface:
        return Result(views[0], attachments={GIF: encode_gif(views)}, notes=(NO_SURFACE,))
    finally:
        batch.steps.advance()
    return Result(views[0], attachments={GIF: encode_gif(views), GLB: encode_glb(mesh)})


def _described(batch: Batch) -> dict[str, Any]:
    """What the thing is made from: the picture that the request starts from, or its words."""
    start = batch.request.start
    if start is None:
        return {"prompt": batch.request.prompt}
    return {"image": batch.images[start.picture].convert("RGB")}


def render_views(
    renderer: ShapERenderer, latents: torch.Tensor, side: int, steps: Steps
) -> np.ndarray:
    """Look at a thing from VIEWS places; each batch of rays is a step, each view a preview.

    Args:
        latents: (1, rows, numbers).
        side: px of a view, a multiple of 32.

    Returns:
        (VIEWS, side, side, 3), values in [0, 1].
    """
    seen: list[torch.Tensor] = []

    def on_rays(colours: torch.Tensor) -> None:  # (1, RAYS_AT_ONCE, 3)
        seen.append(colours[0].float().cpu())
        finished = RAYS_AT_ONCE * len(seen) % side**2 < RAYS_AT_ONCE
        steps.advance(_last_view(seen, side) if finished else None)

    with _watched_rays(renderer, on_rays):
        views = renderer.decode_to_image(
            latents,
            latents.device,
            size=side,
            ray_batch_size=RAYS_AT_ONCE,
            n_coarse_samples=DETAIL.coarse_samples,
            n_fine_samples=DETAIL.fine_samples,
        )
    return views.float().clamp(0, 1).cpu().numpy()


def _ray_batches(side: int) -> int:
    return VIEWS * side**2 // RAYS_AT_ONCE


def _last_view(seen: Sequence[torch.Tensor], side: int) -> bytes | None:
    """A JPEG of the last view that is complete; `seen` has the colours of all rays so far."""
    rays = torch.cat(list(seen))
    complete = len(rays) // side**2 * side**2
    if not complete:
        return None
    view = rays[complete - side**2 : complete].reshape(side, side, 3)
    return small_jpeg(_picture(view.clamp(0, 1).numpy()))


@contextmanager
def _watched_rays(
    renderer: ShapERenderer, on_rays: Callable[[torch.Tensor], None]
) -> Iterator[None]:
    """Call `on_rays(colours)` after each batch of rays; what it raises ends the rendering."""
    render = renderer.render_rays

    def watched(*args: Any, prev_model_out: Any = None, **kwargs: Any) -> Any:
        rendered = render(*args, prev_model_out=prev_model_out, **kwargs)
        if prev_model_out is not None:  # the second and last look along the same rays
            on_rays(rendered[0])
        return rendered

    renderer.render_rays = watched
    try:
        yield
    finally:
        del renderer.render_rays


@contextmanager
def _global_noise_kept(device: torch.device) -> Iterator[None]:
    """Undo a leftover of diffusers' renderer: it seeds the whole process's noise with 0."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def find_mesh(renderer: ShapERenderer, latents: torch.Tensor) -> MeshDecoderOutput:
    """Find the surface of a thing by marching cubes.

    Raises:
        _NoSurface: there is none, on which diffusers would fail with a ValueError.
    """

    def refuse_nothing(module: object, inputs: object, mesh: MeshDecoderOutput) -> None:
        if not len(mesh.verts):
            raise _NoSurface

    hook = renderer.mesh_decoder.register_forward_hook(refuse_nothing)
    try:
        return renderer.decode_to_mesh(latents, latents.device, grid_size=DETAIL.grid)
    finally:
        hook.remove()


def encode_gif(views: np.ndarray) -> bytes:
    """Encode views (n, side, side, 3), values in [0, 1], as an endless GIF, as diffusers does."""
    first, *others = (_picture(view) for view in views)
    stream = io.BytesIO()
    first.save(
        stream, "GIF", save_all=True, append_images=others, optimize=False, duration=VIEW_MS, loop=0
    )
    return stream.getvalue()


def encode_glb(mesh: MeshDecoderOutput) -> bytes:
    """Encode a mesh as GLB: upright, with its colours (linear, as glTF wants them) and normals."""
    import trimesh

    colours = torch.stack([mesh.vertex_channels[name] for name in "RGB"], dim=1)  # (V, 3)
    thing = trimesh.Trimesh(
        vertices=mesh.verts.float().cpu().numpy(),
        faces=mesh.faces.cpu().numpy(),
        vertex_colors=(colours.clamp(0, 1) * 255).round().byte().cpu().numpy(),
        process=False,
    )
    for angle, axis in UPRIGHT:
        thing.apply_transform(trimesh.transformations.rotation_matrix(angle, axis))
    encoded: bytes = thing.export(file_type="glb", include_normals=True)
    return encoded


def _picture(view: np.ndarray) -> Image.Image:
    return Image.fromarray((view * 255).round().astype("uint8"))
