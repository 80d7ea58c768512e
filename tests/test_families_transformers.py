"""The families that draw with a transformer, tiny, through the app's own loader and drawing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from tiny_families.house import (
    draw_family,
    family_catalogue,
    family_folder,
    family_manager,
    family_request,
    family_settings,
    row_of,
)
from tiny_families.transformers import ONE_OF_EACH, SAVED_BY
from tiny_house import RecordingWatcher
from transformers import PreTrainedTokenizerBase

from pipelines import steps as drawing_steps
from pipelines.lengths import cut_text, longest_tokenizer, read_length
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from pipelines.previews import PreviewMap
from studio.errors import Cancelled, InvalidRequest

every_row = pytest.mark.parametrize("key", SAVED_BY)

every_class = pytest.mark.parametrize("key", ONE_OF_EACH)


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return family_manager(*SAVED_BY)


@every_row
def test_it_is_the_rows_class_small_and_of_a_known_size(manager: PipelineManager, key: str) -> None:
    files = [file for file in family_folder(key).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 2e6
    with manager.borrow(key) as loaded:
        parts = loaded.pipeline.components.values()
        modules = [part for part in parts if isinstance(part, torch.nn.Module)]
        assert type(loaded.pipeline).__name__ == row_of(key).pipeline_class
        assert not any(part.training for part in modules)
    kept = {w.data_ptr(): w.nbytes for part in modules for w in part.state_dict().values()}
    found = Loader(family_settings(key)).find(row_of(key), print)
    assert found.nbytes == pytest.approx(sum(kept.values()), rel=1e-3)


CARDS: Mapping[str, Mapping[str, Any]] = {
    "pixart-sigma": {"guidance_scale": 4.5, "negative_prompt": "ugly"},
    "sd35-medium": {"guidance_scale": 4.5, "negative_prompt": "ugly", "max_sequence_length": 256},
    "sd35-large-turbo": {"guidance_scale": 0.0, "max_sequence_length": 256},
    "flux1-schnell": {"guidance_scale": 0.0, "max_sequence_length": 256},
    "flux1-dev": {"guidance_scale": 3.5, "max_sequence_length": 512},
    "flux2-klein": {"guidance_scale": 1.0},
    "sana-sprint": {"guidance_scale": 4.5},
    "z-image": {"guidance_scale": 4.0, "negative_prompt": "ugly"},
    "z-image-turbo": {"guidance_scale": 0.0},
    "qwen-image": {"true_cfg_scale": 4.0, "negative_prompt": "ugly"},
}
"""What the examples on the cards, with a negative prompt where it counts, pass to the pipeline."""


@every_row
def test_it_draws_the_bits_of_the_bare_pipeline(manager: PipelineManager, key: str) -> None:
    card = CARDS[key]
    pipe = DiffusionPipeline.from_pretrained(family_folder(key))
    pipe.set_progress_bar_config(disable=True)
    image = pipe(
        prompt="a red fox",
        **card,
        num_inference_steps=2,
        width=64,
        height=96,
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    negative = {name: value for name, value in card.items() if name == "negative_prompt"}
    request = family_request(key, num_inference_steps=2, height=96, **negative)
    [drawn] = draw_family(manager, request)
    assert drawn.shape == (96, 64, 3)
    np.testing.assert_array_equal(drawn, np.asarray(image))


@every_row
def test_progress_is_in_order_and_previews_show_what_is_decoded(
    manager: PipelineManager, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last step the estimate is the picture: it must be what the autoencoder gets."""
    monkeypatch.setattr("pipelines.steps.PREVIEW_INTERVAL_S", 0.0)
    watcher = RecordingWatcher()
    with shown_latents(monkeypatch) as shown, decoded_latents(manager, key) as decoded:
        [picture] = draw_family(manager, family_request(key, height=96), watcher)
    total = family_request(key).num_inference_steps
    assert watcher.steps == [(step, total, 0) for step in range(total + 1)]
    assert len(watcher.previews) == len(shown) == total
    assert picture.shape == (96, 64, 3)
    assert picture.std() > 1
    [latents] = decoded
    torch.testing.assert_close(shown[-1], latents.reshape(shown[-1].shape), atol=1e-3, rtol=1e-3)


@contextmanager
def shown_latents(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.Tensor]]:
    """What each preview is made of, as the autoencoder would get it."""
    shown: list[torch.Tensor] = []
    make = drawing_steps.preview_jpeg

    def recorded(latents: torch.Tensor, preview_map: PreviewMap, aspect: float) -> bytes:
        shown.append(preview_map.own_latents(latents, aspect))
        return make(latents, preview_map, aspect)

    with monkeypatch.context() as patch:
        patch.setattr(drawing_steps, "preview_jpeg", recorded)
        yield shown


@contextmanager
def decoded_latents(manager: PipelineManager, key: str) -> Iterator[list[torch.Tensor]]:
    """What a model's autoencoder is asked to decode inside the block."""
    decoded: list[torch.Tensor] = []
    with manager.borrow(key) as loaded:
        vae = loaded.pipeline.vae
        decode = vae.decode
        vae.decode = lambda latents, **more: (decoded.append(latents), decode(latents, **more))[1]
        yield decoded
        del vae.decode


@every_row
def test_cancel_stops_within_one_step_and_leaves_the_model_as_it_was(
    manager: PipelineManager, key: str
) -> None:
    request = family_request(key)
    [expected] = draw_family(manager, request)
    watcher = RecordingWatcher(cancel_at=1)
    with pytest.raises(Cancelled):
        draw_family(manager, request, watcher)
    assert [step for step, _, _ in watcher.steps] == [0, 1]
    np.testing.assert_array_equal(draw_family(manager, request), [expected])


@every_row
def test_a_seed_draws_one_picture_alone_and_in_a_request(
    manager: PipelineManager, key: str
) -> None:
    two = draw_family(manager, family_request(key, num_images=2))
    [alone] = draw_family(manager, family_request(key, seed=8))
    [other_text] = draw_family(manager, family_request(key, prompt="blue"))
    np.testing.assert_array_equal(two[1], alone)
    assert (two[0] != two[1]).any()
    assert (two[0] != other_text).any()


@every_class
def test_two_at_once_are_the_two_that_are_drawn_alone(
    manager: PipelineManager, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU draws them, but for the last bits."""
    request = family_request(key, num_images=2, prompt="a red fox", negative_prompt="")
    alone = draw_family(manager, request)
    monkeypatch.setattr("pipelines.drawing.picks_batches", lambda device: True)
    watcher = RecordingWatcher()
    together = draw_family(manager, request, watcher)
    assert set(watcher.batches) == {2}
    np.testing.assert_allclose(together, alone, atol=2)


@every_row
def test_a_negative_prompt_is_heeded_with_guidance_or_refused(
    manager: PipelineManager, key: str
) -> None:
    catalogue, row = family_catalogue(family_settings(key)), row_of(key)
    unwanted = family_request(key, guidance_scale=4.0, negative_prompt="blurry, blue")
    if not row.negative_prompt:
        with pytest.raises(InvalidRequest, match="negative_prompt"):
            catalogue.check(unwanted)
        return
    [without] = draw_family(manager, replace(unwanted, negative_prompt=""))
    [heeded] = draw_family(manager, unwanted)
    assert (heeded != without).any()
    unguided = [
        draw_family(manager, replace(unwanted, guidance_scale=1.0, negative_prompt=text))[0]
        for text in ("", "blurry, blue")
    ]
    np.testing.assert_array_equal(*unguided)


@every_row
def test_guidance_costs_a_second_look_or_none_as_the_row_says(
    manager: PipelineManager, key: str
) -> None:
    row = row_of(key)
    off, on = (family_request(key, guidance_scale=scale) for scale in (1.0, 6.0))
    looks, drawn = [], []
    for request in (off, on):
        with counted_looks(manager, key) as seen:
            drawn += draw_family(manager, request)
        looks.append(sum(seen) / request.num_inference_steps)
    assert looks == ([1, 2] if row.guidance in ("cfg", "true_cfg") else [1, 1])
    assert (drawn[0] != drawn[1]).any() == (row.guidance != "none")


@contextmanager
def counted_looks(manager: PipelineManager, key: str) -> Iterator[list[int]]:
    """How many pictures a model's transformer looks at in each of its calls."""
    seen: list[int] = []

    def count(module: torch.nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append(len(given[0] if given else named["hidden_states"]))

    with manager.borrow(key) as loaded:
        hook = loaded.pipeline.transformer.register_forward_pre_hook(count, with_kwargs=True)
        yield seen
        hook.remove()


@pytest.mark.parametrize(
    ("key", "scheduler"), [(key, name) for key in SAVED_BY for name in row_of(key).schedulers]
)
def test_all_its_schedulers_draw(manager: PipelineManager, key: str, scheduler: str) -> None:
    watcher = RecordingWatcher()
    request = family_request(key, scheduler=scheduler, num_inference_steps=3)
    [picture] = draw_family(manager, request, watcher)
    assert picture.std() > 1
    assert watcher.steps[-1][0] == watcher.steps[0][1] == len(watcher.steps) - 1


@every_class
def test_every_number_of_steps_draws_up_to_a_few(manager: PipelineManager, key: str) -> None:
    """Sana Sprint's middle step is for two of them alone."""
    for steps in range(row_of(key).min_steps, 5):
        watcher = RecordingWatcher()
        draw_family(manager, family_request(key, num_inference_steps=steps), watcher)
        assert [step for step, _, _ in watcher.steps] == list(range(steps + 1))


@every_class
def test_what_is_said_to_be_left_out_of_a_text_and_no_more_is_not_read(
    manager: PipelineManager, key: str
) -> None:
    with manager.borrow(key) as loaded:
        tokenizer = longest_tokenizer(loaded)
        limit = read_length(loaded, tokenizer)
        room = row_of(key).max_tokens
        assert room - 8 < limit <= room
        text = "x" * room
        while count_tokens(tokenizer, text) > limit - 1:
            text = text[:-1]
        for end, cut in (("z", ""), ("xz", "z")):
            request = family_request(key, prompt=text + end, num_inference_steps=2)
            assert cut_text(tokenizer, text + end, limit) == cut
            [one] = draw_family(manager, request)
            [other] = draw_family(manager, replace(request, prompt=text + end[:-1] + "w"))
            assert (one != other).any() == (not cut)


def count_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False).input_ids)


@every_class
def test_sizes_are_kept_to_or_refused(manager: PipelineManager, key: str) -> None:
    catalogue, row = family_catalogue(family_settings(key)), row_of(key)
    steps = row.min_steps
    wide = family_request(key, width=64 + row.multiple_of, num_inference_steps=steps)
    catalogue.check(wide)
    [drawn] = draw_family(manager, wide)
    assert drawn.shape == (64, 64 + row.multiple_of, 3)
    for width in {row.max_side + row.multiple_of, 64 + row.multiple_of // 2 // 8 * 8} - {64}:
        with pytest.raises(InvalidRequest, match=f"multiple of {row.multiple_of}"):
            catalogue.check(replace(wide, width=width))


def test_pixart_brings_its_words_as_sentence_pieces_alone() -> None:
    """As its repository does: `sentencepiece` and `protobuf` must be there to read them."""
    files = {file.name for file in (family_folder("pixart-sigma") / "tokenizer").iterdir()}
    assert "spiece.model" in files
    assert "tokenizer.json" not in files


def test_dev_reads_guidance_and_schnell_does_not() -> None:
    for key, expected in (("flux1-dev", True), ("flux1-schnell", False)):
        config = json.loads((family_folder(key) / "transformer" / "config.json").read_text())
        assert config["guidance_embeds"] is expected
