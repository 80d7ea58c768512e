"""Tiny checkpoints of Shap-E, from text and from a picture, in the Hub's layout."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DiffusionPipeline,
    HeunDiscreteScheduler,
    PriorTransformer,
    ShapEImg2ImgPipeline,
    ShapEPipeline,
)
from diffusers.pipelines.shap_e import ShapERenderer
from transformers import CLIPImageProcessor, CLIPVisionModel

from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.ingredients import Start
from studio.request import GenerationRequest
from studio.settings import Settings
from tiny_families.parts import (
    HIDDEN,
    PROJECTED,
    projecting_text_encoder,
    tokenizer,
    vision_config,
)

WIDE = 8
"""Numbers in a layer of the network that the latents describe."""
ROWS = 4 * WIDE
"""Rows of weights that the latents describe: of its first four layers."""
LATENT = 16
"""Numbers in a latent for each of them."""
SIGNED_DISTANCE = 0
"""Place among the numbers that this network answers; above 0 is inside the thing."""
DENSITIES = slice(1, 3)
"""Places of how opaque it is there, for the rays."""

Corner = int
"""Of a cube, 0 to 7: x + 2 y + 4 z."""
Edge = tuple[Corner, Corner]

EDGES: tuple[Edge, ...] = tuple(
    (corner, corner | 1 << axis)
    for axis in range(3)
    for corner in range(8)
    if not corner & 1 << axis
)
"""In the order of Shap-E's own table."""


def save_tiny_shap_e(folder: Path, *, from_picture: bool = False, is_empty: bool = False) -> Path:
    """Save a checkpoint of `ShapEPipeline`, or of `ShapEImg2ImgPipeline`.

    Args:
        is_empty: what it makes has no surface.
    """
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    shared = {
        "prior": _prior(HIDDEN if from_picture else PROJECTED),
        "scheduler": _scheduler(),
        "shap_e_renderer": _renderer(is_empty),
    }
    pipeline: DiffusionPipeline
    if from_picture:
        size = {"height": 32, "width": 32}
        looking = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
        eye = CLIPVisionModel(vision_config()).eval()
        pipeline = ShapEImg2ImgPipeline(image_encoder=eye, image_processor=looking, **shared)
    else:
        words = {"text_encoder": projecting_text_encoder(), "tokenizer": tokenizer(folder)}
        pipeline = ShapEPipeline(**words, **shared)
    pipeline.save_pretrained(folder)
    return folder


def _scheduler() -> HeunDiscreteScheduler:
    """What the scheduler folder of openai/shap-e holds."""
    return HeunDiscreteScheduler(
        beta_schedule="exp",
        num_train_timesteps=1024,
        prediction_type="sample",
        use_karras_sigmas=True,
        clip_sample=True,
        clip_sample_range=1.0,
    )


def _prior(described_by: int) -> PriorTransformer:
    """Its latents are ROWS rows of LATENT numbers; `described_by` numbers say what is wanted."""
    return PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=8,
        embedding_dim=LATENT,
        num_layers=1,
        num_embeddings=ROWS,
        embedding_proj_dim=described_by,
        clip_embed_dim=2 * LATENT,
        additional_embeddings=0,
        time_embed_act_fn="gelu",
        norm_in_type="layer",
        encoder_hid_proj_type=None,
        added_emb_type=None,
    ).eval()


def _renderer(is_empty: bool) -> ShapERenderer:
    renderer = ShapERenderer(
        param_shapes=((WIDE, 93), (WIDE, WIDE), (WIDE, WIDE), (WIDE, WIDE)),
        d_latent=LATENT,
        d_hidden=WIDE,
    ).eval()
    with torch.no_grad():
        last = renderer.mlp.mlp[-1]
        last.weight[SIGNED_DISTANCE] *= 0 if is_empty else 20
        last.bias[SIGNED_DISTANCE] = -1 if is_empty else 0
        last.weight[DENSITIES] *= 20
    cases, masks = _marching_cubes()
    renderer.mesh_decoder.cases.copy_(cases)
    renderer.mesh_decoder.masks.copy_(masks)
    return renderer


def _marching_cubes() -> tuple[torch.Tensor, torch.Tensor]:
    """What the real renderer's weights hold beside its networks: the triangles of each cube.

    Returns:
        (256, 5, 3) places of edges in EDGES, and (256, 5) which of the 5 triangles there are.
        Bit i of a case says that corner i is inside.
    """
    cases = torch.zeros(256, 5, 3, dtype=torch.long)
    masks = torch.zeros(256, 5, dtype=torch.bool)
    for case in range(256):
        for place, triangle in enumerate(_triangles(case)):
            cases[case, place] = torch.tensor([EDGES.index(edge) for edge in triangle])
            masks[case, place] = True
    return cases, masks


def _triangles(case: int) -> Iterator[tuple[Edge, Edge, Edge]]:
    """Cut the outlines of what is inside into triangles, counter-clockwise seen from outside."""
    after = {start: end for face in _faces() for start, end in _cuts(face, case)}
    while after:
        outline = [start := next(iter(after))]
        while (edge := after.pop(outline[-1])) != start:
            outline.append(edge)
        for first, second in pairwise(outline[1:]):
            yield outline[0], second, first


def _faces() -> Iterator[list[Corner]]:
    """The six faces of a cube, their corners counter-clockwise seen from outside."""
    for axis in range(3):
        across, up = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        yield [0, up, up | across, across]
        yield [1 << axis | corner for corner in (0, across, across | up, up)]


def _cuts(face: list[Corner], case: int) -> Iterator[tuple[Edge, Edge]]:
    """Where the surface cuts a face: round each run of corners that are inside."""
    inside = [case >> corner & 1 for corner in face]
    for place in range(4):
        if not inside[place] and inside[(place + 1) % 4]:
            last = next(at for at in range(place + 1, place + 5) if not inside[(at + 1) % 4])
            entering = _edge(face[place], face[(place + 1) % 4])
            yield _edge(face[last % 4], face[(last + 1) % 4]), entering


def _edge(first: Corner, second: Corner) -> Edge:
    return min(first, second), max(first, second)


def shap_e_settings(**changes: Any) -> Settings:
    """Settings that name the folders of three tiny models, and never ask the network."""
    folders = {key: _checkpoint(key) for key in KINDS}
    return Settings(device="cpu", offline=True, cpu_threads=1, model_paths=folders, **changes)


def shap_e_catalogue(settings: Settings | None = None) -> Catalogue:
    """The rows of Shap-E for 64 px, and one of a model whose things have no surface."""
    full = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, Settings())
    rows = {key: full.get_model("shap-e-image" if "image" in key else "shap-e") for key in KINDS}
    small = {key: replace(row, key=key, min_side=64) for key, row in rows.items()}
    return Catalogue(small, full.schedulers, settings or shap_e_settings())


def shap_e_request(model: str = "shap-e", **changes: Any) -> GenerationRequest:
    """A small request with the row's guidance: 64 px, 2 steps, from a picture if it needs one."""
    defaults = shap_e_catalogue().get_model(model).defaults
    picture = "input-" + "1" * 64
    values = {
        "prompt": "a red chair",
        "model": model,
        "scheduler": defaults.scheduler,
        "num_inference_steps": 2,
        "guidance_scale": defaults.guidance_scale,
        "width": 64,
        "height": 64,
        "seed": 7,
        "start": Start(task="image_to_3d", picture=picture) if "image" in model else None,
    }
    return GenerationRequest(**(values | changes))


KINDS: Mapping[str, Mapping[str, bool]] = {
    "shap-e": {},
    "shap-e-image": {"from_picture": True},
    "shap-e-empty": {"is_empty": True},
}
"""The tiny models, and what `save_tiny_shap_e` is told of each."""


@functools.cache
def _checkpoint(key: str) -> Path:
    """The folder of a tiny model, saved once per test run."""
    folder = Path(tempfile.mkdtemp(prefix="croquis-shap-e-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return save_tiny_shap_e(folder / key, **KINDS[key])
