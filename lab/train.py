"""Make the built-in model: `python -m lab.train` runs every stage and picks up where it stopped."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lab import train_autoencoder, train_denoiser, train_fast, train_text
from lab.corpus import (
    EXTRAS_FROM,
    SHARD,
    count_shards,
    open_shelf,
    read_shard,
    with_stamps,
    write_shard,
)
from lab.export import read_unet
from lab.fast_lora import extract_lora
from lab.latents import encode_captions, encode_shard, load_latents, paired_shards
from lab.networks import build_text_encoder
from lab.paths import draw_paths, load_paths, save_paths
from lab.refine_decoder import refine_decoder
from lab.sources import EMOJI_STYLES, MissingCorpus
from lab.stamps import STAMPS
from lab.text_lessons import learn_texts, slot_words
from lab.text_slots import Repeater, teach_slots
from lab.tokens import load_tokenizer, tokenize
from lab.workers import Workers

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

CACHE = Path(".lab")
PATHS = 512
"""Paths from noise to picture in one file."""


def draw_corpus(options: argparse.Namespace) -> None:
    """Draw every shard that is missing."""
    shelf, shards = open_shelf(options.cache, options.without), -(-options.pictures // SHARD)
    if shards > EXTRAS_FROM:
        shelf = with_stamps(shelf, options.cache, options.without)
    for number in range(shards):
        write_shard(shelf, options.cache / "corpus", number)


def make_autoencoder(options: argparse.Namespace) -> None:
    """Train the autoencoder and save it with standardised latents."""
    folder, path = options.cache / "autoencoder", options.cache / "autoencoder.safetensors"
    if folder.exists():
        return
    run = train_autoencoder.start_run(options.device)
    if path.exists():
        train_autoencoder.load_run(run, path)
    images = read_shard(options.cache / "corpus", 0).images
    train_autoencoder.train_autoencoder(run, images[256:], path, options.autoencoder_minutes * 60)
    run.autoencoder.eval()
    train_autoencoder.standardise(run.autoencoder, images[256:2256])
    logging.info(
        "PSNR %.2f dB", train_autoencoder.reconstruction_psnr(run.autoencoder, images[:256])
    )
    run.autoencoder.save_pretrained(folder)


def make_text_encoder(options: argparse.Namespace) -> None:
    """Learn the vocabulary, ask the teacher once, distil the text encoder, and teach its slots."""
    folder, path = options.cache / "text-encoder", options.cache / "text.safetensors"
    if folder.exists():
        return
    lessons, texts = learn_texts(options.cache)
    tokenizer = load_tokenizer(options.cache / "tokenizer")
    torch.manual_seed(0)
    run = train_text.start_run(build_text_encoder(tokenizer), options.device)
    if path.exists():
        train_text.load_run(run, path)
    studied = train_text.Class(tokenizer, tokenize(tokenizer, texts), lessons, options.device)
    train_text.train_text(run, studied, path, options.text_minutes * 60)
    repeater = Repeater(run.average.encoder.requires_grad_(True)).to(options.device)
    names, seconds = slot_words(options.cache), options.slot_minutes * 60
    teach_slots(repeater, tokenizer, names, texts, seconds).save_pretrained(folder)


def encode_corpus(options: argparse.Namespace) -> None:
    """Encode every shard that is drawn and not yet encoded: pictures and captions."""
    from diffusers import AutoencoderKL

    autoencoder = (
        AutoencoderKL.from_pretrained(options.cache / "autoencoder").to(options.device).eval()
    )
    encoder, tokenizer = _load_text(options)
    corpus, folder = options.cache / "corpus", options.cache / "latents"
    for number in range(count_shards(corpus)):
        encode_shard(autoencoder, corpus, folder, number)
        encode_captions(encoder, tokenizer, corpus, folder, number)


def make_denoiser(options: argparse.Namespace) -> None:
    """Train the denoiser, first at half the size, where pictures cost a third."""
    path = options.cache / "denoiser.safetensors"
    run = train_denoiser.start_run(train_denoiser.fresh_unet(), options.device)
    if path.exists():
        train_denoiser.load_run(run, path)
    load = partial(load_latents, *_load_text(options), options.cache / "latents")
    half_s = options.half_minutes * 60
    phases = [
        train_denoiser.Phase("half", 64, half_s, 1.0),
        train_denoiser.Phase("full", 32, half_s + options.denoiser_minutes * 60, 0.6),
    ]
    train_denoiser.train_denoiser(run, load, path, phases)


def _load_text(options: argparse.Namespace) -> tuple[CLIPTextModel, CLIPTokenizer]:
    from transformers import CLIPTextModel

    encoder = CLIPTextModel.from_pretrained(options.cache / "text-encoder").to(options.device)
    return encoder.eval(), load_tokenizer(options.cache / "tokenizer")


def make_decoder(options: argparse.Namespace) -> None:
    """Refine the decoder on the cached latents; the encoder, and so the latents, stay."""
    from diffusers import AutoencoderKL

    refined = options.cache / "autoencoder-refined"
    start = refined if refined.exists() else options.cache / "autoencoder"
    autoencoder = AutoencoderKL.from_pretrained(start).to(options.device).train()
    pairs = paired_shards(options.cache / "corpus", options.cache / "latents")
    refine_decoder(autoencoder, pairs, refined, options.decoder_minutes * 60)


def make_fast(options: argparse.Namespace) -> None:
    """Distil the four-step variant from the finished denoiser, and keep it as a LoRA."""
    from safetensors.torch import save_file

    teacher = read_unet(options.cache / "denoiser.safetensors").to(options.device)
    latents = load_latents(*_load_text(options), options.cache / "latents", "full")
    folder, path = options.cache / "paths", options.cache / "fast.safetensors"
    for number in range(options.path_files):
        file = folder / f"paths-{number:03d}.npz"
        if not file.exists():
            folder.mkdir(exist_ok=True)
            save_paths(draw_paths(teacher, latents, PATHS, seed=number * 1_000_000), file)
    run = train_fast.start_run(teacher, options.device)
    if path.exists():
        train_fast.load_run(run, path)
    train_fast.train_fast(run, latents, load_paths(folder), path, options.fast_minutes * 60)
    save_file(extract_lora(teacher, run.average), options.cache / "fast-lora.safetensors")


STAGES: dict[str, Callable[[argparse.Namespace], None]] = {
    "corpus": draw_corpus,
    "autoencoder": make_autoencoder,
    "text": make_text_encoder,
    "latents": encode_corpus,
    "denoiser": make_denoiser,
    "decoder": make_decoder,
    "fast": make_fast,
}


def main() -> None:
    """Read the command line and run the stages it asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=[*STAGES, "all"], default="all")
    parser.add_argument(
        "--cache", type=Path, default=CACHE, help="where corpus and checkpoints lie"
    )
    parser.add_argument("--pictures", type=int, default=160_000)
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="NAME",
        help="leave a source of drawings out (%(choices)s)",
        choices=[*EMOJI_STYLES, *STAMPS],
    )
    parser.add_argument("--autoencoder-minutes", type=float, default=20)
    parser.add_argument("--text-minutes", type=float, default=15)
    parser.add_argument("--slot-minutes", type=float, default=9)
    parser.add_argument("--half-minutes", type=float, default=40)
    parser.add_argument("--denoiser-minutes", type=float, default=65)
    parser.add_argument("--decoder-minutes", type=float, default=40)
    parser.add_argument("--fast-minutes", type=float, default=20)
    parser.add_argument("--path-files", type=int, default=8, help=f"files of {PATHS} paths each")
    parser.add_argument(
        "--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads; more than free cores is slower"
    )
    options = parser.parse_args()
    if Workers.expected() > 1 and options.stage != "denoiser":
        parser.error("several workers train one stage only: --stage denoiser")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    try:
        for name, stage in STAGES.items():
            if options.stage in (name, "all"):
                stage(options)
    except MissingCorpus as missing:
        parser.exit(1, f"{missing}\n")


if __name__ == "__main__":
    main()
