"""Shap-E: a picture, its turning GIF and its mesh, from words and from a picture."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from diffusers import ShapEPipeline
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from small_studio import wait_for_end
from tiny_families.shapes import shap_e_catalogue, shap_e_request, shap_e_settings
from tiny_house import RecordingWatcher

from api.pictures import build_picture_routes
from api.visitor import COOKIE, VisitorMiddleware, owner_of_token
from pipelines.drawing import Drawn, draw
from pipelines.engine import Engine
from pipelines.families import shap_e
from pipelines.families.shap_e import Detail
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from studio.attachments import GIF, GLB
from studio.errors import Cancelled, InvalidRequest
from studio.ingredients import Start
from studio.jobs import JobState
from studio.request import GenerationRequest
from studio.studio import Studio

MINE, THEIRS = "1" * 32, "2" * 32
COARSE = Detail(coarse_samples=2, fine_samples=2, grid=12)
LATENT_STEPS = 3
"""Calls of the prior for 2 steps of Heun's method."""
VIEWS = 20
Made = tuple[Drawn, RecordingWatcher]
TOTAL = LATENT_STEPS + VIEWS + 1
"""With one batch of rays for each view of 64 px, and the mesh."""


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few points on each ray and a small grid: a thing in a second instead of a minute."""
    monkeypatch.setattr(shap_e, "DETAIL", COARSE)


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    settings = shap_e_settings()
    return PipelineManager(shap_e_catalogue(settings), Loader(settings), 10**9)


def make(
    manager: PipelineManager, request: GenerationRequest, watcher: RecordingWatcher | None = None
) -> list[Drawn]:
    picture = Image.linear_gradient("L").convert("RGB")
    images = dict.fromkeys(request.pictures, picture)
    own = shap_e_catalogue().get_scheduler(request.scheduler)
    with manager.borrow(request.model) as loaded:
        indices = range(request.num_images)
        return list(draw(loaded, own, request, indices, watcher or RecordingWatcher(), images))


@pytest.fixture(scope="module")
def first(manager: PipelineManager) -> Made:
    """What the plain request makes, and what was reported meanwhile."""
    watcher = RecordingWatcher()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shap_e, "DETAIL", COARSE)
        [drawn] = make(manager, shap_e_request(), watcher)
    return drawn, watcher


def mesh_of(drawn: Drawn) -> trimesh.Trimesh:
    return trimesh.load(io.BytesIO(drawn.attachments[GLB]), file_type="glb", force="mesh")


@pytest.mark.parametrize("model", ["shap-e", "shap-e-image"])
def test_a_run_gives_a_picture_a_turning_gif_and_a_mesh(
    manager: PipelineManager, first: Made, model: str
) -> None:
    drawn = first[0] if model == "shap-e" else make(manager, shap_e_request(model))[0]
    gif = Image.open(io.BytesIO(drawn.attachments[GIF]))
    assert (gif.n_frames, gif.size, gif.info["loop"]) == (VIEWS, (64, 64), 0)
    assert drawn.image.size == (64, 64)
    assert np.asarray(drawn.image).std() > 5
    turned = [np.asarray(gif.convert("RGB")) for _ in _frames(gif)]
    assert (turned[0] != turned[10]).any()
    mesh = mesh_of(drawn)
    assert len(mesh.faces) > 100
    assert mesh.visual.kind == "vertex"


def _frames(gif: Image.Image) -> Iterator[None]:
    for index in range(gif.n_frames):
        gif.seek(index)
        yield


def test_the_views_are_those_of_diffusers_bit_for_bit(
    manager: PipelineManager, first: Made
) -> None:
    request, drawn = shap_e_request(), first[0]
    with manager.borrow("shap-e") as loaded:
        bare = ShapEPipeline(**loaded.pipeline.components)
        bare.set_progress_bar_config(disable=True)
        latents = bare(
            request.prompt,
            guidance_scale=request.guidance_scale,
            num_inference_steps=request.num_inference_steps,
            generator=torch.Generator().manual_seed(request.seed),
            output_type="latent",
        ).images
        pixels = bare.shap_e_renderer.decode_to_image(
            latents, "cpu", size=64, n_coarse_samples=2, n_fine_samples=2
        ).numpy()
        bare_mesh = bare.shap_e_renderer.decode_to_mesh(latents, "cpu", grid_size=12)
    [expected] = bare.numpy_to_pil(pixels[:1])
    np.testing.assert_array_equal(drawn.image, expected)
    x, y, z = bare_mesh.verts.T.numpy()
    turned = np.stack([-x, z, y], axis=1)  # as the Space turns it: z was up, now y is
    np.testing.assert_allclose(mesh_of(drawn).bounds, [turned.min(0), turned.max(0)], atol=1e-6)


def test_a_seed_makes_one_thing_alone_and_in_a_request(
    manager: PipelineManager, first: Made
) -> None:
    two = make(manager, shap_e_request(seed=6, num_images=2))
    assert two[1].attachments == first[0].attachments
    assert two[0].attachments[GLB] != two[1].attachments[GLB]


@pytest.mark.parametrize("change", [{"prompt": "a blue shark"}, {"guidance_scale": 1.0}])
def test_words_and_guidance_change_the_thing(
    manager: PipelineManager, first: Made, change: dict[str, object]
) -> None:
    [drawn] = make(manager, shap_e_request(**change))
    assert drawn.attachments[GLB] != first[0].attachments[GLB]


def test_progress_counts_the_steps_then_the_rays_and_shows_each_view(first: Made) -> None:
    watcher = first[1]
    assert watcher.steps == [(step, TOTAL, 0) for step in range(TOTAL + 1)]
    assert len(watcher.previews) == VIEWS
    assert Image.open(io.BytesIO(watcher.previews[-1])).size == (64, 64)
    assert len(set(watcher.previews)) > VIEWS // 2


@pytest.mark.parametrize("step", [1, LATENT_STEPS + 4], ids=["of the prior", "between views"])
def test_cancel_stops_within_one_step_and_leaves_the_model_as_it_was(
    manager: PipelineManager, first: Made, step: int
) -> None:
    request = shap_e_request()
    watcher = RecordingWatcher(cancel_at=step)
    with pytest.raises(Cancelled):
        make(manager, request, watcher)
    assert [number for number, _, _ in watcher.steps] == list(range(step + 1))
    assert make(manager, request)[0].attachments == first[0].attachments


def test_a_thing_without_a_surface_has_a_note_and_the_gif_alone(manager: PipelineManager) -> None:
    watcher = RecordingWatcher()
    [drawn] = make(manager, shap_e_request("shap-e-empty"), watcher)
    assert set(drawn.attachments) == {GIF}
    [note] = watcher.notes
    assert "no mesh" in note
    assert "seed" in note
    assert watcher.steps[-1][:2] == (TOTAL, TOTAL)


def test_the_noise_of_the_process_is_as_before(manager: PipelineManager) -> None:
    """diffusers' renderer seeds it with 0 each time, which would make others' noise the same."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make(manager, shap_e_request())
    assert torch.equal(torch.rand(3), expected)


def test_the_picture_to_start_from_decides(manager: PipelineManager) -> None:
    request = shap_e_request("shap-e-image")
    own = shap_e_catalogue().get_scheduler(request.scheduler)
    meshes = set()
    for colour in ("red", "white"):
        images = {request.start.picture: Image.new("RGBA", (50, 70), colour)}
        with manager.borrow(request.model) as loaded:
            [drawn] = draw(loaded, own, request, [0], RecordingWatcher(), images)
        meshes.add(drawn.attachments[GLB])
    assert len(meshes) == 2


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """A studio with an engine that has the tiny models."""
    settings = shap_e_settings(data_dir=tmp_path / "data")
    studio = Studio(settings, shap_e_catalogue(settings))
    studio.start()
    loading = PipelineManager(studio.catalogue, Loader(settings), 10**9)
    engine = Engine(studio, loading, settings)
    engine.start()
    yield studio
    engine.close()
    studio.close()


def test_the_engine_keeps_the_files_and_the_server_sends_them_to_their_owner_alone(
    studio: Studio,
) -> None:
    owner = owner_of_token(MINE)
    job = wait_for_end(studio, studio.submit(shap_e_request(), owner))
    assert job.state is JobState.DONE, job.error
    [picture] = studio.pictures(owner)
    assert {path.suffix for path in picture.path.parent.iterdir()} == {".png", ".webp", GIF, GLB}
    app = FastAPI()
    app.add_middleware(VisitorMiddleware)
    app.include_router(build_picture_routes(studio))
    mine, theirs = (TestClient(app, cookies={COOKIE: token}) for token in (MINE, THEIRS))
    for suffix, kind in ((GIF, "image/gif"), (GLB, "model/gltf-binary")):
        answer = mine.get(f"/pictures/{picture.id}{suffix}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.content == picture.attachment(suffix).read_bytes()
        assert theirs.get(f"/pictures/{picture.id}{suffix}").status_code == 404
        named = mine.get(f"/pictures/{picture.id}{suffix}?download=1").headers
        assert f"a-red-chair-7{suffix}" in named["content-disposition"]


def test_a_kept_picture_becomes_a_thing(studio: Studio) -> None:
    owner = owner_of_token(MINE)
    wait_for_end(studio, studio.submit(shap_e_request(), owner))
    [parent] = studio.pictures(owner)
    start = Start(task="image_to_3d", picture=parent.id)
    again = studio.submit(shap_e_request("shap-e-image", start=start), owner)
    job = wait_for_end(studio, again)
    assert job.state is JobState.DONE, job.error
    assert studio.pictures(owner)[0].attachment(GLB)
    assert studio.pictures(owner)[0].recipe.request.start == start


def test_sides_that_would_lose_rays_are_refused(studio: Studio) -> None:
    with pytest.raises(InvalidRequest, match="multiple of 32"):
        studio.submit(shap_e_request(width=80, height=80), "a" * 32)
    with pytest.raises(InvalidRequest, match="must be the same"):
        studio.submit(shap_e_request(width=96), "a" * 32)
