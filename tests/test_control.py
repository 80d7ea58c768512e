"""Pictures that a drawing follows: ControlNets, IP-Adapters, and how control pictures are made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tiny_adapters import House, Listener, open_house, save_control, save_reference
from tiny_families.house import (
    MASK,
    PICTURE,
    family_folder,
    family_request,
    pictures,
    row_of,
)
from tiny_families.unets_from_pictures import save_sd2_depth
from transformers import DPTForDepthEstimation, DPTImageProcessor

from pipelines.control import control_picture, edges, lines
from studio.controls import CONTROLS_TOML, Controls, ControlSpec, read_controls
from studio.errors import Cancelled, InvalidRequest, ModelUnavailable
from studio.ingredients import CONTROLS, Control, Reference, SecondPass, Start
from studio.settings import Settings

MODELS = {"sd15": "sd1", "sdxl": "sdxl"}
SIZE = (64, 64)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder, guides = tmp_path_factory.mktemp("control"), {}
    plain = open_house(folder, *MODELS)
    for key, base in MODELS.items():
        with plain.manager.borrow(key) as loaded:
            guides[f"{key} canny"] = save_control(loaded, folder / f"control-{key}", base)
            guides[f"{key} reference"] = save_reference(loaded, folder / f"ip-{key}", base)
    return open_house(folder, *MODELS, guides=guides)


def canny(weight: float = 1.0, picture: str = PICTURE) -> Control:
    return Control(kind="canny", picture=picture, weight=weight)


def room() -> Image.Image:
    """A room in a few strokes: a floor, a window, a table."""
    image = Image.new("RGB", SIZE, "#c9b79c")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 44, 63, 63), fill="#6b4a2f")
    draw.rectangle((10, 10, 28, 28), fill="#dff1ff", outline="#222222")
    draw.rectangle((36, 34, 58, 38), fill="#3a2a1a")
    return image


IMAGES = {**pictures(), PICTURE: room(), MASK: pictures()[PICTURE].convert("RGB")}
"""A room, and under the mask's name another picture."""


@pytest.mark.parametrize("key", MODELS)
def test_a_control_picture_is_followed_and_the_model_stays_as_it_was(
    house: House, key: str
) -> None:
    plain = house.draw(family_request(key), images=IMAGES)
    followed = house.draw(family_request(key, control=canny()), images=IMAGES)
    weaker = house.draw(family_request(key, control=canny(0.5)), images=IMAGES)
    ready = replace(canny(), is_ready=True)
    other = house.draw(family_request(key, control=ready), images=IMAGES)
    assert len({one.tobytes() for one in (plain, followed, weaker, other)}) == 4
    off = house.draw(family_request(key, control=canny(0.0)), images=IMAGES)
    np.testing.assert_array_equal(plain, off)
    np.testing.assert_array_equal(plain, house.draw(family_request(key), images=IMAGES))


@pytest.mark.parametrize("key", MODELS)
def test_a_reference_picture_has_its_effect_and_the_model_stays_as_it_was(
    house: House, key: str
) -> None:
    def drawn(picture: str, weight: float) -> bytes:
        reference = Reference(picture=picture, weight=weight)
        return house.draw(family_request(key, reference=reference), images=IMAGES).tobytes()

    plain = house.draw(family_request(key), images=IMAGES).tobytes()
    one, other, weaker = drawn(PICTURE, 0.6), drawn(MASK, 0.6), drawn(PICTURE, 0.3)
    assert len({plain, one, other, weaker}) == 4
    assert drawn(PICTURE, 0.6) == one
    assert drawn(PICTURE, 0.0) == plain
    assert house.draw(family_request(key), images=IMAGES).tobytes() == plain


@pytest.mark.parametrize("key", MODELS)
def test_all_go_together_with_a_start_and_a_second_pass(house: House, key: str) -> None:
    start = Start(task="image_to_image", picture=MASK)
    whole = {"start": start, "control": canny(), "reference": Reference(picture=PICTURE)}
    drawn = {"all": house.draw(family_request(key, **whole), images=IMAGES).tobytes()}
    for name in whole:
        rest = {part: value for part, value in whole.items() if part != name}
        drawn[name] = house.draw(family_request(key, **rest), images=IMAGES).tobytes()
    assert len(set(drawn.values())) == 4
    twice = family_request(key, control=canny(), second_pass=SecondPass(scale=1.5))
    assert house.draw(twice, images=IMAGES).shape == (96, 96, 3)
    masked = Start(task="inpainting", picture=PICTURE, mask=MASK)
    request = family_request(key, start=masked, control=canny())
    alone = family_request(key, start=masked)
    assert not np.array_equal(
        house.draw(request, images=pictures()), house.draw(alone, images=pictures())
    )


def test_a_cancel_in_mid_run_leaves_the_model_as_it_was(house: House) -> None:
    plain = house.draw(family_request("sd15"))
    request = family_request("sd15", control=canny(), reference=Reference(picture=PICTURE))
    with pytest.raises(Cancelled):
        house.draw(request, Listener(cancel_at=1))
    np.testing.assert_array_equal(plain, house.draw(family_request("sd15")))


def test_the_networks_count_in_the_budget_and_go_like_models(house: House) -> None:
    house.draw(family_request("sd15", control=canny(), reference=Reference(picture=PICTURE)))
    before = house.manager.nbytes
    assert house.manager.evict("control-sd1") and house.manager.nbytes < before
    middle = house.manager.nbytes
    assert house.manager.evict("reference-sd1") and house.manager.nbytes < middle
    watcher = Listener()
    house.draw(family_request("sd15", control=canny()), watcher)
    assert watcher.messages == ["Loading what follows a canny picture, 0 MB"]


def test_what_a_model_cannot_follow_is_refused(house: House, tmp_path: Path) -> None:
    controls = Controls.load(CONTROLS_TOML, Settings())
    depth = Control(kind="depth", picture=PICTURE)
    with pytest.raises(
        InvalidRequest, match="cannot follow a depth picture, only canny, reference"
    ):
        house.draw(family_request("sd15", control=depth))
    with pytest.raises(
        InvalidRequest, match="Stable Diffusion 2 cannot follow a depth picture, no"
    ):
        controls.check(row_of("sd2"), family_request("sd2", control=depth))
    areas = Control(kind="segmentation", picture=PICTURE)
    with pytest.raises(InvalidRequest, match="makes no segmentation pictures"):
        controls.check(row_of("sd15"), family_request("sd15", control=areas))
    ready = family_request("sd15", control=replace(areas, is_ready=True))
    controls.check(row_of("sd15"), ready)


def test_missing_and_damaged_files_are_a_clear_error(tmp_path: Path) -> None:
    plain = open_house(tmp_path, "sd15")
    with plain.manager.borrow("sd15") as loaded:
        spec, folder = save_control(loaded, tmp_path / "net", "sd1")
    house = open_house(tmp_path, "sd15", guides={"net": (spec, folder)})
    weights = folder / spec.files[-1]
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelUnavailable, match="could not be loaded: its files are damaged"):
        house.draw(family_request("sd15", control=canny()))
    weights.unlink()
    with pytest.raises(ModelUnavailable, match=f"“net” of `{spec.key}` lacks {weights.name}"):
        house.draw(family_request("sd15", control=canny()))
    weights.write_bytes(whole)
    assert house.draw(family_request("sd15", control=canny())).shape == (64, 64, 3)


def test_the_depth_of_any_picture_is_estimated(tmp_path: Path) -> None:
    plain = open_house(tmp_path, "sd15")
    with plain.manager.borrow("sd15") as loaded:
        spec, folder = save_control(loaded, tmp_path / "net", "sd1")
    net = replace(spec, kind="depth")
    tiny = save_sd2_depth(tmp_path / "depth")
    estimator = tmp_path / "estimator"
    dpt = DPTForDepthEstimation.from_pretrained(tiny / "depth_estimator")
    torch.manual_seed(2)
    for parameter in dpt.parameters():  # as made it sees the same depth everywhere
        torch.nn.init.normal_(parameter, std=0.4)
    dpt.save_pretrained(estimator)
    DPTImageProcessor.from_pretrained(tiny / "feature_extractor").save_pretrained(estimator)
    files = ("config.json", "preprocessor_config.json", "model.safetensors")
    depth = ControlSpec(key="depth-estimator", base="any", kind="depth_estimator", files=files)
    house = open_house(tmp_path, "sd15", guides={"net": (net, folder), "depth": (depth, estimator)})
    made = Control(kind="depth", picture=PICTURE)
    drawn = [
        house.draw(family_request("sd15", control=control), images=IMAGES).tobytes()
        for control in (made, replace(made, picture=MASK), replace(made, is_ready=True))
    ]
    assert len(set(drawn)) == 3
    lone = open_house(tmp_path, "sd15", guides={"net": (net, folder)})
    with pytest.raises(ModelUnavailable, match="no network for depth_estimator pictures"):
        lone.draw(family_request("sd15", control=made), images=IMAGES)


# How control pictures are made


def test_edges_are_thin_lines_where_the_picture_changes() -> None:
    found = np.asarray(edges(room())) > 0
    assert set(np.unique(np.asarray(edges(room())))) == {0, 255}
    assert found[42:47, 20].any() and found[10:30, 8:13].any()
    assert not found[2:6].any() and found.mean() < 0.15
    assert not np.asarray(edges(Image.new("RGB", SIZE, "grey"))).any()


def test_lines_of_a_drawing_are_the_drawing_inverted() -> None:
    sheet = Image.new("RGB", SIZE, "white")
    ImageDraw.Draw(sheet).line((8, 32, 56, 32), fill="black", width=2)
    found = np.asarray(lines(sheet))
    assert found[32, 16:48].min() > 200
    assert found[:24].max() < 20 and found[42:].max() < 20
    assert not np.asarray(lines(Image.new("RGB", SIZE, "navy"))).any()


@pytest.mark.parametrize("kind", CONTROLS)
def test_a_ready_picture_is_only_cut_to_the_size(kind: str) -> None:
    wide = Image.new("RGB", (256, 64), "red")
    wide.paste("blue", (40, 0, 216, 64))
    made = control_picture(kind, wide, (64, 32), is_ready=True)
    assert made.size == (64, 32) and made.getcolors() == [(64 * 32, (0, 0, 255))]


def test_the_table_of_networks_is_whole() -> None:
    specs = read_controls().values()
    for base in ("sd1", "sdxl"):
        kinds = {spec.kind for spec in specs if spec.base == base and spec.repository}
        assert kinds == {*CONTROLS, "reference"}
    for spec in specs:
        assert spec.files[-1].endswith(".safetensors") and not any(".." in n for n in spec.files)
        assert (spec.download_gb > 0) == (spec.repository is not None)
        assert spec.repository is None or spec.repository.count("/") == 1
        assert {*spec.uncertain} <= {"licence", "files"}


def test_a_model_offers_what_can_be_had(tmp_path: Path) -> None:
    controls = Controls.load(CONTROLS_TOML, Settings())
    assert controls.offered(row_of("sdxl")) == (*CONTROLS, "reference")
    assert controls.offered(row_of("sd2")) == ()
    builtin = replace(row_of("sd2"), base="croquis")
    assert controls.offered(builtin) == ()
    own = Settings(model_paths={"control-croquis-line": tmp_path})
    assert Controls.load(CONTROLS_TOML, own).offered(builtin) == ("line",)
    assert family_folder("sd15").is_dir()
