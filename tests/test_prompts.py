"""Prompts as the model reads them: weights, chunks, changes; plain ones as they ever were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_families.house import draw_family, family_manager, family_request, start_for
from tiny_house import RecordingWatcher

from pipelines.chunks import read_chunks
from pipelines.embedding import Embedded, Embedder, encoders_of, weigh
from pipelines.loader import LoadedModel
from pipelines.manager import PipelineManager
from pipelines.prompts import prompt_arguments
from studio.errors import Cancelled
from studio.prompt_nodes import Fragment
from studio.prompt_syntax import parse_prompt
from studio.request import GenerationRequest

LONG = "a cat on a mat, " * 12
SIGNED = "award winning photo of a ((ladybird)) hybrid, [trending on artstation]"
FAMILIES = ("sd15", "sd2", "sdxl", "sdxl-refiner", "lcm", "sd-turbo", "sd2-depth", "sd-x4-upscaler")


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return family_manager(*FAMILIES, "sd2-inpainting")


@pytest.fixture(scope="module")
def sd(manager: PipelineManager) -> Iterator[LoadedModel]:
    with manager.borrow("sd15") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def sdxl(manager: PipelineManager) -> Iterator[LoadedModel]:
    with manager.borrow("sdxl") as loaded:
        yield loaded


def signed(key: str, prompt: str, **changes: object) -> GenerationRequest:
    return family_request(key, prompt=prompt, prompt_syntax="a1111", **changes)


def embedder_of(loaded: LoadedModel) -> Embedder:
    return Embedder(tuple(encoders_of(loaded.pipeline)), loaded.pipeline)


def version(text: str) -> tuple[tuple[Fragment, ...], ...]:
    return parse_prompt(text).at_step(1, 1)


@pytest.mark.parametrize("syntax", ["plain", "a1111"])
@pytest.mark.parametrize("prompt", ["a red fox", ":) 16:9 (unbalanced", "x" * 75])
def test_a_plain_short_prompt_goes_as_text(sd: LoadedModel, syntax: str, prompt: str) -> None:
    request = family_request("sd15", prompt=prompt, prompt_syntax=syntax)
    assert prompt_arguments(sd, request) == {"prompt": prompt, "negative_prompt": ""}


@pytest.mark.parametrize("prompt", [SIGNED, LONG, "[a|b]"])
def test_old_requests_and_other_encoders_take_brackets_for_text(
    sd: LoadedModel, prompt: str
) -> None:
    as_text = {"prompt": prompt, "negative_prompt": ""}
    assert prompt_arguments(sd, family_request("sd15", prompt=prompt)) == as_text
    reads_sentences = replace(sd, spec=replace(sd.spec, prompt_encoder="t5"))
    assert prompt_arguments(reads_sentences, signed("sd15", prompt)) == as_text


@pytest.mark.parametrize("text", ["", "a red fox", "naïve 🦊, x" * 6])
def test_a_chunk_is_encoded_as_the_pipeline_does(sd: LoadedModel, text: str) -> None:
    own = sd.pipeline.encode_prompt(text, "cpu", 1, False)[0]
    assert torch.equal(embedder_of(sd).embed(version(text), 1).embeds, own)


def test_both_encoders_of_sdxl_are_read_as_the_pipeline_does(sdxl: LoadedModel) -> None:
    own, _, pooled, _ = sdxl.pipeline.encode_prompt("a red fox", do_classifier_free_guidance=False)
    said = embedder_of(sdxl).embed(version("a red fox"), 1)
    assert torch.equal(said.embeds, own)
    assert said.pooled is not None
    assert torch.equal(said.pooled, pooled)


def test_chunks_end_at_commas_or_words(sd: LoadedModel) -> None:
    tokenizer = sd.pipeline.tokenizer  # a token for every letter

    def texts(text: str) -> list[str]:
        chunks = read_chunks(tokenizer, version(text))
        assert {len(chunk.ids) for chunk in chunks} == {77}
        return [tokenizer.decode(chunk.ids, skip_special_tokens=True).strip() for chunk in chunks]

    assert texts("x" * 150) == ["x" * 75] * 2
    assert texts("x" * 60 + "," + "y" * 20) == ["x" * 60 + " ,", "y" * 20]
    assert texts("x" * 60 + " " + "y" * 20) == ["x" * 60, "y" * 20]
    assert texts("a b BREAK c BREAK ") == ["a b", "c"]
    assert texts("(cat:1.2)fish") == ["cat fish"]
    assert texts("") == [""]


def test_chunks_follow_one_another_and_both_prompts_are_as_long(sd: LoadedModel) -> None:
    said = prompt_arguments(sd, signed("sd15", f"{'x' * 75} a hen", negative_prompt="a dog"))
    chunks = [sd.pipeline.encode_prompt(t, "cpu", 1, False)[0] for t in ("x" * 75, "a hen")]
    assert torch.equal(said["prompt_embeds"], torch.cat(chunks, dim=1))
    apart = [sd.pipeline.encode_prompt(t, "cpu", 1, False)[0] for t in ("a dog", "")]
    assert torch.equal(said["negative_prompt_embeds"], torch.cat(apart, dim=1))


def test_weights_multiply_and_the_mean_stays() -> None:
    states = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(1)) + 0.5
    weights = torch.tensor([[1.0, 1.3, 1.3, 0.5, 1.0, 1.0]])
    weighed = weigh(states, weights)
    assert weighed.mean() == pytest.approx(states.mean())
    ratios = (weighed / states)[0, :, 0]
    assert torch.allclose(ratios / ratios[0], weights[0], atol=1e-5)
    assert torch.equal(weigh(states, torch.ones(1, 6)), states)


def test_a_mean_near_zero_is_left_as_it_became() -> None:
    states = torch.tensor([[[1.0, 2.0], [-1.0, -2.0 + 1e-4]]])
    weights = torch.tensor([[2.0, 1.0]])
    assert torch.equal(weigh(states, weights), states * weights[..., None])


def test_only_weighed_tokens_differ(sd: LoadedModel) -> None:
    plain, weighed = (
        embedder_of(sd).embed(version(text), 1).embeds[0] for text in ("a b c", "a (b:1.4) c")
    )
    ratios = (weighed / plain).mean(-1)
    assert torch.allclose(ratios[[1, 3]], ratios[0].repeat(2), atol=1e-4)
    assert ratios[2] / ratios[0] == pytest.approx(1.4, abs=1e-4)


@pytest.mark.parametrize("key", FAMILIES)
def test_every_family_draws_signs_and_long_prompts(manager: PipelineManager, key: str) -> None:
    plain, same, signs, long = (
        draw_family(manager, family_request(key, prompt=prompt, prompt_syntax=syntax))[0]
        for prompt, syntax in (
            ("a red fox", "plain"),
            ("a red fox", "a1111"),
            ("a (red:1.5) [fox|hen]", "a1111"),
            (LONG, "a1111"),
        )
    )
    assert np.array_equal(plain, same)
    assert not np.array_equal(plain, signs)
    assert not np.array_equal(plain, long)


@pytest.mark.parametrize("key", ["sd15", "sdxl"])
def test_the_end_of_a_long_prompt_counts(manager: PipelineManager, key: str) -> None:
    cut = [draw_family(manager, family_request(key, prompt=LONG + end))[0] for end in ("", "zebra")]
    assert np.array_equal(*cut)
    whole = [draw_family(manager, signed(key, LONG + end))[0] for end in ("", "zebra")]
    assert not np.array_equal(*whole)


def words_read(manager: PipelineManager, request: GenerationRequest, *texts: str) -> str:
    """Which of some texts the U-Net read at each of its calls, by the first letter of each."""
    read = []
    with manager.borrow(request.model) as loaded:
        known = {text[0]: embedder_of(loaded).embed(version(text), 1).embeds[0] for text in texts}

        def on_call(module: object, args: object, given: dict[str, torch.Tensor]) -> None:
            states = given["encoder_hidden_states"][-1]
            (letter,) = (name for name, one in known.items() if torch.equal(one, states))
            read.append(letter)

        hook = loaded.pipeline.unet.register_forward_pre_hook(on_call, with_kwargs=True)
        try:
            draw_family(manager, request)
        finally:
            hook.remove()
    return "".join(read)


CALLS = {
    ("euler", "[a:b:0.5]"): "aaaaabbbbb",
    ("euler", "[a:b:3]"): "aaabbbbbbb",
    ("euler", "[a|b]"): "ababababab",
    ("heun", "[a:b:0.5]"): "aaaaaaaaaabbbbbbbbb",
    ("heun", "[a|b]"): "aabbaabbaabbaabbaab",
    ("kdpm2", "[a:b:1]"): "aabbbbbbbbbbbbbbbbb",
    ("dpmpp_2m_karras", "[a:b:9]"): "aaaaaaaaab",
    ("pndm", "[a:b:1]"): "aabbbbbbbbb",
}


@pytest.mark.parametrize(("scheduler", "prompt"), CALLS)
def test_words_change_at_their_step(manager: PipelineManager, scheduler: str, prompt: str) -> None:
    request = signed("sd15", prompt, scheduler=scheduler, num_inference_steps=10)
    assert words_read(manager, request, "a", "b") == CALLS[scheduler, prompt]


@pytest.mark.parametrize("key", ["sdxl", "lcm", "sd-turbo", "sd2-depth"])
def test_words_change_in_other_families(manager: PipelineManager, key: str) -> None:
    request = signed(key, "[a:b:0.5]")
    read = words_read(manager, request, "a", "b")
    assert "".join(sorted(read)) == read
    assert {*read} == {"a", "b"}
    assert read.count("a") == len(read) // 2


def test_steps_are_counted_from_where_a_picture_is_started_from(manager: PipelineManager) -> None:
    start = start_for("image_to_image", strength=0.4)
    request = signed("sd15", "[a:b:0.5]", num_inference_steps=20, start=start)
    assert words_read(manager, request, "a", "b") == "aaaabbbb"


def test_the_negative_prompt_changes_too(manager: PipelineManager) -> None:
    fixed, changing = (
        draw_family(manager, signed("sd15", "a fox", negative_prompt=text, num_images=2))
        for text in ("(a)", "[(a)|b]")
    )
    assert not np.array_equal(fixed[0], changing[0])
    assert not np.array_equal(changing[0], changing[1])


def test_what_is_said_of_the_whole_changes_with_the_words(manager: PipelineManager) -> None:
    pooled = []
    with manager.borrow("sdxl") as loaded:

        def on_call(
            module: object, args: object, given: dict[str, dict[str, torch.Tensor]]
        ) -> None:
            pooled.append(given["added_cond_kwargs"]["text_embeds"].clone())

        hook = loaded.pipeline.unet.register_forward_pre_hook(on_call, with_kwargs=True)
        draw_family(manager, signed("sdxl", "[a:b:0.5]"))
        hook.remove()
        wanted = [embedder_of(loaded).embed(version(text), 1).pooled for text in ("a", "b")]
    assert torch.equal(pooled[0][-1:], wanted[0])
    assert torch.equal(pooled[-1][-1:], wanted[1])
    assert torch.equal(pooled[0][0], pooled[-1][0])  # the negative prompt stays


def test_a_refiner_goes_on_with_the_words_of_its_steps(manager: PipelineManager) -> None:
    request = signed("sdxl", "[a:b:0.85]", num_inference_steps=20)
    with manager.borrow("sdxl-refiner") as refiner:
        begun, ended = (
            prompt_arguments(refiner, request, drawn) for drawn in (range(16, 20), range(17, 20))
        )
        texts = [embedder_of(refiner).embed(version(text), 1).embeds for text in ("a", "b")]
    assert torch.equal(begun["prompt_embeds"], texts[0])
    assert torch.equal(ended["prompt_embeds"], texts[1])


def test_stop_is_heard_while_many_versions_are_encoded(
    manager: PipelineManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, encoded = RecordingWatcher(), []
    embed = Embedder.embed

    def counted(self: Embedder, *args: Any) -> Embedded:
        encoded.append(args)
        if len(encoded) == 2:
            watcher.steps.append((0, 0, 0))  # the visitor stops it now
        return embed(self, *args)

    monkeypatch.setattr(Embedder, "embed", counted)
    monkeypatch.setattr(RecordingWatcher, "is_cancelled", lambda self: len(self.steps) > 1)
    with pytest.raises(Cancelled):
        draw_family(manager, signed("sd15", "[red|blue|green|pink] cat"), watcher)
    assert len(encoded) == 2
