"""What is particular to U-Net families: the bits of diffusers, and what checkpoints bring along."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DDPMScheduler,
    EulerDiscreteScheduler,
    KandinskyV22CombinedPipeline,
    StableDiffusionPipeline,
)
from safetensors.torch import load_file, save_file
from tiny_families.house import (
    draw_family,
    drawn_images,
    family_catalogue,
    family_folder,
    family_manager,
    family_request,
    family_settings,
    row_of,
)
from tiny_families.kandinsky import save_kandinsky_decoder
from tiny_families.unets import save_sd1
from tiny_house import RecordingWatcher

from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from pipelines.safety import Flaw
from pipelines.schedulers import build_scheduler
from studio.errors import ModelUnavailable


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return family_manager("sd14", "sd2", "kandinsky22")


def test_the_snippet_of_the_task_page_draws_the_same_bits(manager: PipelineManager) -> None:
    """https://huggingface.co/tasks/text-to-image, but for the device, the dtype and the seed."""
    folder = family_folder("sd2")
    prompt = "a photo of an astronaut riding a horse on mars"

    scheduler = EulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    pipe = StableDiffusionPipeline.from_pretrained(folder, scheduler=scheduler)
    generator = torch.Generator().manual_seed(7)
    image = pipe(prompt, width=64, height=64, generator=generator).images[0]

    # What the call above leaves out: 50 steps, guidance 7.5, no negative prompt.
    steps_and_guidance = {"num_inference_steps": 50, "guidance_scale": 7.5}
    request = family_request("sd2", prompt=prompt, scheduler="euler", **steps_and_guidance)
    [drawn] = draw_family(manager, request)
    np.testing.assert_array_equal(drawn, np.asarray(image))


def test_the_example_of_stable_diffusion_1_draws_the_same_bits(manager: PipelineManager) -> None:
    """The card of CompVis/stable-diffusion-v1-4: the checkpoint's own PNDM and safety checker."""
    prompt = "a photo of an astronaut riding a horse on mars"
    pipe = StableDiffusionPipeline.from_pretrained(family_folder("sd14"))
    generator = torch.Generator().manual_seed(7)
    image = pipe(prompt, width=64, height=64, generator=generator).images[0]
    settings = {"num_inference_steps": 50, "guidance_scale": 7.5}
    request = family_request("sd14", prompt=prompt, scheduler="pndm", **settings)
    [drawn] = draw_family(manager, request)
    np.testing.assert_array_equal(drawn, np.asarray(image))


def test_kandinsky_draws_the_bits_of_the_combined_pipeline(manager: PipelineManager) -> None:
    """With a negative prompt the prior is asked about both at once, as there."""
    request = family_request("kandinsky22", negative_prompt="blurry")
    with manager.borrow("kandinsky22") as loaded:
        scheduler = DDPMScheduler.from_config(loaded.scheduler_config)
        plain = KandinskyV22CombinedPipeline(
            **{**loaded.pipeline.components, "scheduler": scheduler}
        )
        image = plain(
            request.prompt,
            negative_prompt=request.negative_prompt,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            width=64,
            height=64,
            generator=torch.Generator().manual_seed(request.seed),
        ).images[0]
    [drawn] = draw_family(manager, request)
    np.testing.assert_allclose(drawn, np.asarray(image), atol=1)  # it cuts where others round


def test_a_flagged_picture_is_held_back(tmp_path: Path) -> None:
    strict = family_manager("sd14", folders={"sd14": save_sd1(tmp_path, flags_everything=True)})
    assert drawn_images(strict, family_request("sd14")) == [Flaw.HELD_BACK]


def test_a_prior_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = save_kandinsky_decoder(tmp_path / "decoder")
    alone = family_manager("kandinsky22", folders={"kandinsky22": folder})
    with pytest.raises(ModelUnavailable, match="kandinsky-2-2-prior"):
        draw_family(alone, family_request("kandinsky22"))


def test_a_feature_extractor_by_its_old_name_is_loaded(tmp_path: Path) -> None:
    """As the repository of stable-diffusion-2-depth, older than image processors, names it."""
    folder = Path(shutil.copytree(family_folder("sd2-depth"), tmp_path / "old"))
    index = json.loads((folder / "model_index.json").read_text())
    index["feature_extractor"] = ["transformers", "DPTFeatureExtractor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    old = folder / "feature_extractor" / "preprocessor_config.json"
    old.write_text(old.read_text().replace("image_processor_type", "feature_extractor_type"))
    old.write_text(old.read_text().replace("DPTImageProcessor", "DPTFeatureExtractor"))
    [drawn] = draw_family(
        family_manager("sd2-depth", folders={"sd2-depth": folder}), family_request("sd2-depth")
    )
    assert drawn.std() > 1


def test_an_autoencoder_that_overflows_in_half_precision_still_has_previews(
    tmp_path: Path,
) -> None:
    """SDXL's does; its pipeline computes with it in 32 bits, and so must the previews."""
    folder = Path(shutil.copytree(family_folder("sdxl"), tmp_path / "large"))
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["encoder.conv_in.weight"] *= 60_000  # the next norm takes it out again
    save_file(tensors, weights, metadata={"format": "pt"})
    settings = replace(family_settings("sdxl"), dtype="float16", model_paths={"sdxl": folder})
    loader = Loader(settings)
    loaded = loader.load(loader.find(row_of("sdxl"), print))
    assert loaded.preview_map is not None
    assert loaded.preview_map.weight.isfinite().all()
    kept = loaded.pipeline.vae.state_dict()
    assert all(torch.equal(kept[name], tensor.half()) for name, tensor in tensors.items())


def test_an_autoencoder_that_was_widened_for_too_little_memory_is_itself_again() -> None:
    """SDXL's pipeline widens it to decode, which is where memory runs out."""
    settings = replace(family_settings("sdxl"), dtype="float16")
    half = PipelineManager(family_catalogue(settings), Loader(settings), 10**9)
    request = family_request("sdxl", num_inference_steps=2)
    expected = draw_family(half, request)
    watcher = RecordingWatcher()
    with half.borrow("sdxl") as loaded:
        vae = loaded.pipeline.vae

    def run_out_once(module: object, given: object) -> None:
        hook.remove()
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")

    hook = vae.decoder.register_forward_pre_hook(run_out_once)
    draw_family(half, request, watcher)
    assert any("tiles" in note for note in watcher.notes)
    assert vae.dtype == torch.float16
    np.testing.assert_array_equal(draw_family(half, request), expected)


@pytest.mark.parametrize("key", ["ddim", "ddim_trailing", "ddpm", "lcm"])
def test_latents_are_never_clipped_where_a_checkpoint_does_not_say(key: str) -> None:
    """These classes clip to [-1, 1] by default; SDXL's pipeline does not mend that as SD's does."""
    config = {"beta_schedule": "scaled_linear", "prediction_type": "epsilon"}
    spec = family_catalogue(family_settings("sdxl")).get_scheduler(key)
    assert not build_scheduler(spec, config).config.clip_sample
