"""LoRAs and pictures to follow on the page: the real app and the built-in model, in a browser."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Page, expect
from safetensors.torch import save_file

from lab.serving import free_port, wait_for_page
from pipelines.loader import LoadedModel, Loader
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.settings import ROOT, Settings
from tests.browser import Profiles, Visitor, chromium
from tests.page_fixtures import RESULT

FAST = ROOT / "assets/builtin/fast/pytorch_lora_weights.safetensors"
SLOWEST_MS = 120_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA and a ControlNet for the built-in model, and a LoRA for another."""
    from diffusers import ControlNetModel

    folder = tmp_path_factory.mktemp("files")
    loaded = builtin()
    dice = torch.Generator().manual_seed(1)
    tensors = {}
    for name, part in loaded.pipeline.unet.named_modules():
        if name.endswith(("to_q", "to_k", "to_v")):
            down = torch.randn(2, part.in_features, generator=dice) / 6
            up = torch.randn(part.out_features, 2, generator=dice) / 6
            tensors |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    phrase = {"modelspec.trigger_phrase": "mossy"}
    save_file(tensors, folder / "moss.safetensors", metadata=phrase)
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    foreign = {"A": torch.zeros(1, 2048), "B": torch.zeros(1280, 1)}
    foreign = {f"{layer}.lora_{side}.weight": tensor for side, tensor in foreign.items()}
    save_file(foreign, folder / "foreign.safetensors")
    scales = (16, 32, 96)
    net = ControlNetModel.from_unet(
        loaded.pipeline.unet, conditioning_embedding_out_channels=scales
    )
    torch.manual_seed(0)
    for block in (*net.controlnet_down_blocks, net.controlnet_mid_block):
        torch.nn.init.normal_(block.weight, std=0.05)
    net.save_pretrained(folder / "control")
    return folder


def builtin() -> LoadedModel:
    settings = Settings(device="cpu", offline=True)
    spec = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings).get_model("builtin")
    loader = Loader(settings)
    return loader.load(loader.find(spec, lambda text: None))


@pytest.fixture(scope="module")
def real_app(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`python app.py` on a free port, with a ControlNet for the built-in model."""
    port = free_port()
    env = os.environ | {
        "CROQUIS_PORT": str(port),
        "CROQUIS_DATA_DIR": str(tmp_path_factory.mktemp("real")),
        "CROQUIS_MODEL_PATHS": f"control-croquis-canny={files / 'control'}",
        "HF_HUB_OFFLINE": "1",
    }
    app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=env)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for_page(url, app)
        yield url
    finally:
        app.send_signal(signal.SIGINT)
        app.wait(60)


@pytest.fixture(scope="module")
def profiles() -> Iterator[Profiles]:
    with chromium() as browser:
        yield Profiles(browser)


@pytest.fixture
def visitor(real_app: str, profiles: Profiles) -> Iterator[Visitor]:
    """A new visitor with the form opened, seed 7, four steps, nothing enlarged."""
    visitor = profiles.visit(real_app)
    page = visitor.page
    page.fill("#prompt textarea", "a red house on a green hill")
    page.click("#more-button")
    page.fill("#steps input", "4")
    page.fill("#seed input", "7")
    page.locator("#upscale label", has_text="Off").click()
    yield visitor
    profiles.leave(visitor)
    assert visitor.complaints == []


def bring(page: Page, file: Path) -> None:
    """Choose a file by the button."""
    with page.expect_file_chooser() as chooser:
        page.click("#adapter-file")
    chooser.value.set_files(file)


def drawn(page: Page) -> np.ndarray:
    """Press Create and wait; the pixels (H, W, 3) of the new picture."""
    before = page.locator(".strip [data-event=pick]").count()
    page.click("#create")
    picks = page.locator(".strip [data-event=pick]")
    expect(picks).to_have_count(before + 1, timeout=SLOWEST_MS)
    expect(page.locator("#live .sheet")).to_have_count(0, timeout=SLOWEST_MS)
    answer = page.request.get(page.locator(RESULT).evaluate("image => image.src"))
    return np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB"))


def test_a_lora_on_and_off(visitor: Visitor, files: Path) -> None:
    page = visitor.page
    expect(page.locator("#lora-1-box")).to_be_visible()
    expect(page.locator("#lora-2-box")).to_be_hidden()
    plain = drawn(page)
    bring(page, files / "moss.safetensors")
    notice = page.locator("#notice")
    expect(notice).to_contain_text("“moss.safetensors” is here. A LoRA for Croquis Mini, rank 2.")
    expect(notice).to_contain_text("It was taught the words: mossy.")
    expect(page.locator("#lora-1 input")).to_have_value(named("moss.safetensors"))
    expect(page.locator("#lora-2-box")).to_be_visible()
    changed = drawn(page)
    assert not np.array_equal(plain, changed)
    visitor.shot("lora")
    page.uncheck("#lora-1-on input")
    np.testing.assert_array_equal(plain, drawn(page))
    page.check("#lora-1-on input")
    np.testing.assert_array_equal(changed, drawn(page))
    page.fill("#lora-1-weight input", "0.4")
    weaker = drawn(page)
    assert not np.array_equal(weaker, changed) and not np.array_equal(weaker, plain)

    bring(page, FAST)
    expect(notice).to_contain_text("A LoRA for Croquis Mini, rank")
    both = drawn(page)
    assert not np.array_equal(both, weaker)
    page.click("#lora-1-remove [data-event=unlora]")
    expect(page.locator("#lora-1 input")).to_have_value(named(FAST.name))
    page.click("#lora-1-remove [data-event=unlora]")
    expect(page.locator("#lora-1 input")).to_have_value("")
    np.testing.assert_array_equal(plain, drawn(page))


def named(name: str) -> re.Pattern[str]:
    """What a row shows of a file that was brought."""
    return re.compile(rf"^{re.escape(name)} \(input-[0-9a-f]{{64}}\)$")


def test_what_does_not_fit_is_said_beside_the_form(visitor: Visitor, files: Path) -> None:
    page, notice = visitor.page, visitor.page.locator("#notice")
    bring(page, files / "foreign.safetensors")
    expect(notice).to_contain_text("A LoRA for SDXL, rank 1")
    page.click("#create")
    expect(notice).to_contain_text("“foreign.safetensors” is for SDXL, but Croquis Mini is")
    page.click("#lora-1-remove [data-event=unlora]")
    page.fill("#lora-1 input", "owner/name/pytorch_lora_weights.bin")
    page.click("#create")
    expect(notice).to_contain_text("is a pickle file")
    page.fill("#lora-1 input", "")
    expect(page.locator("#adapters-note")).to_contain_text("no network to follow a reference")
    drawn(page)


def test_a_control_picture_is_shown_as_it_is_followed(visitor: Visitor) -> None:
    page = visitor.page
    expect(page.locator("#control")).to_be_visible()
    expect(page.locator("#reference")).to_be_hidden()
    plain = drawn(page)
    page.click("#control-shown")
    expect(page.locator("#control-view img.made")).to_be_visible()
    followed = drawn(page)
    assert not np.array_equal(plain, followed)
    visitor.shot("control")
    page.check("#control-ready input")
    expect(page.locator("#control-view img.made")).to_have_count(0)
    page.click("#control-view [data-event=uncontrol]")
    expect(page.locator("#control-chosen")).to_be_hidden()
    np.testing.assert_array_equal(plain, drawn(page))
