"""A process of its own for DALL-E Mega: `python -m pipelines.families.dalle_worker`.

min-dalle turns autograd off and sets the number of threads for its whole process, asks the
network whenever it is built, even with all files at hand, and opens pickles. Here, where nothing
else lives, the network is closed before it is imported, and its constructor is never called.

    convert FROM TO              .pt files, opened as plain tensors, become safetensors; once
    draw FOLDER DEVICE DTYPE THREADS
        reads lines of JSON   {"prompt": "a cat", "seed": 7, "guidance": 16.0}
        writes lines of JSON  {"ready": true}, for each token {"token": 1, "preview": null or JPEG},
                              at the end {"picture": PNG, "notes": [...]} or {"failed": "memory"}
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipelines.device import is_out_of_memory

if TYPE_CHECKING:
    from min_dalle import min_dalle

Order = dict[str, Any]
Tell = Callable[[dict[str, Any]], None]

PARTS = ("encoder", "decoder", "detoker")
WEIGHTS = "model.safetensors"
WORDS = "tokenizer"
TOKENS = 256
"""Of a picture, 16 rows of 16."""
TOKENS_PER_PREVIEW = 32
PREVIEW_INTERVAL_S = 3.0
"""At least between two previews: on a CPU each takes as long as some tokens."""
HEAD = 64
"""Numbers in an attention head, in the large model and in the small one."""
MAX_TEXT_TOKENS = 64
CLOSED = ("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "telnetlib.", "poplib.", "imaplib.")


def close_network() -> None:
    """Refuse every connection of this process from now on; nothing can undo that."""

    def refuse(event: str, _arguments: object) -> None:
        if event.startswith(CLOSED):
            raise PermissionError(f"DALL-E Mega's process has no network: {event}")

    sys.addaudithook(refuse)


def convert(source: Path, target: Path) -> None:
    """Write what min-dalle's .pt files hold as safetensors, in a new folder for each part.

    Raises:
        pickle.UnpicklingError: a file holds anything but tensors, such as code.
    """
    from safetensors.torch import save_file

    unfinished = target.with_name(f"{target.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / WORDS).mkdir(parents=True)
    for part in PARTS:
        weights = torch.load(source / f"{part}.pt", map_location="cpu", weights_only=True)
        tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
        (unfinished / part).mkdir()
        save_file(tensors, unfinished / part / WEIGHTS)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(source / name, unfinished / WORDS / name)
    (unfinished / "model_index.json").write_text(json.dumps({"_class_name": "MinDalle"}))
    unfinished.replace(target)


def load(folder: Path, device: str, dtype: torch.dtype) -> min_dalle.MinDalle:
    """Build min-dalle without its constructor, from safetensors; sizes are read from the weights.

    Raises:
        KeyError, ValueError, OSError, SafetensorError: files are missing or damaged.
    """
    from min_dalle import min_dalle

    drawer = min_dalle.MinDalle.__new__(min_dalle.MinDalle)
    encoder, decoder, detoker = (_tensors(folder, part, device) for part in PARTS)
    vocabulary = json.loads((folder / WORDS / "vocab.json").read_text(encoding="utf-8"))
    merges = (folder / WORDS / "merges.txt").read_text(encoding="utf-8").split("\n")[1:-1]
    sizes = _sizes(encoder)
    with torch.device("meta"):
        reading = min_dalle.DalleBartEncoder(
            **sizes,
            text_vocab_count=len(encoder["embed_tokens.weight"]),
            text_token_count=MAX_TEXT_TOKENS,
            device=device,
        )
        tokens = len(decoder["embed_tokens.weight"]) - 1
        writing = min_dalle.DalleBartDecoder(**sizes, image_vocab_count=tokens, device=device)
        showing = min_dalle.VQGanDetokenizer()
    drawer.device, drawer.dtype, drawer.is_reusable = device, dtype, True
    drawer.text_token_count = MAX_TEXT_TOKENS
    drawer.layer_count, drawer.embed_count = sizes["layer_count"], sizes["embed_count"]
    drawer.tokenizer = min_dalle.TextTokenizer(vocabulary, merges)
    drawer.encoder = _filled(reading, encoder, dtype)
    drawer.decoder = _filled(writing, decoder, dtype)
    drawer.detokenizer = _filled(showing, detoker, torch.float32)
    return drawer


def _tensors(folder: Path, part: str, device: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / part / WEIGHTS, device=device)


def _sizes(encoder: dict[str, torch.Tensor]) -> dict[str, int]:
    embed_count = encoder["embed_tokens.weight"].shape[1]
    return {
        "layer_count": sum(name.endswith(".glu.fc0.weight") for name in encoder),
        "embed_count": embed_count,
        "attention_head_count": embed_count // HEAD,
        "glu_embed_count": len(encoder["layers.0.glu.fc0.weight"]),
    }


def _filled(
    module: torch.nn.Module, tensors: dict[str, torch.Tensor], dtype: torch.dtype
) -> torch.nn.Module:
    """Give a module its weights. What the files have too much of is left out, as min-dalle does."""
    cast = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    if missing := module.load_state_dict(cast, strict=False, assign=True).missing_keys:
        raise ValueError(f"{len(missing)} tensors are missing, such as {missing[0]}")
    return module.eval()


def draw(drawer: min_dalle.MinDalle, order: Order, tell: Tell) -> None:
    """Draw one picture, and tell of each token, of some previews and of the picture."""
    torch.manual_seed(order["seed"])  # min-dalle leaves the seed 0 to chance
    with _told(drawer, tell):
        *_, last = drawer.generate_raw_image_stream(
            order["prompt"],
            seed=0,
            grid_size=1,
            progressive_outputs=True,
            supercondition_factor=order["guidance"],
        )
    tell({"picture": _encoded(last, "PNG"), "notes": _notes(drawer, order["prompt"])})


@contextmanager
def _told(drawer: min_dalle.MinDalle, tell: Tell) -> Iterator[None]:
    """Inside the block, tell of each token; every 32nd brings a preview, but not too often."""
    sample, show = drawer.decoder.sample_tokens, drawer.image_grid_from_tokens
    token, last_preview = 0, -math.inf

    def on_token(**state: Any) -> Any:
        nonlocal token
        sampled = sample(**state)
        token += 1
        if token % TOKENS_PER_PREVIEW:
            tell({"token": token})
        return sampled

    def on_preview(**state: Any) -> torch.Tensor | None:
        nonlocal last_preview
        is_due = time.monotonic() - last_preview >= PREVIEW_INTERVAL_S
        pixels = show(**state) if is_due or token == TOKENS else None
        if is_due:
            last_preview = time.monotonic()
        tell({"token": token, "preview": _encoded(pixels, "JPEG") if is_due else None})
        return pixels

    drawer.decoder.sample_tokens, drawer.image_grid_from_tokens = on_token, on_preview
    try:
        yield
    finally:
        del drawer.decoder.sample_tokens, drawer.image_grid_from_tokens


def _encoded(pixels: torch.Tensor, kind: str) -> str:
    """A picture (H, W, 3), values in [0, 255], as a file of that kind in base64."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels.to(torch.uint8).cpu().numpy()).save(stream, kind)
    return base64.b64encode(stream.getvalue()).decode()


def _notes(drawer: min_dalle.MinDalle, prompt: str) -> list[str]:
    """What of the prompt the model did not read."""
    notes = []
    if len(drawer.tokenizer.tokenize(prompt)) > MAX_TEXT_TOKENS:
        notes.append(
            f"The prompt is longer than the {MAX_TEXT_TOKENS - 2} tokens that this model reads; "
            "its end was left out."
        )
    unread = "".join(dict.fromkeys(one for one in prompt if one.isalpha() and not one.isascii()))
    if unread:
        notes.append(f"This model reads English letters only. Left out: {unread[:40]}")
    return notes


def serve(folder: Path, device: str, dtype: torch.dtype, threads: int, tell: Tell) -> None:
    """Draw what is ordered on the standard input until that ends."""
    from safetensors import SafetensorError

    try:
        drawer = load(folder, device, dtype)
        torch.set_num_threads(threads)
        tell({"ready": True})
        for line in sys.stdin:
            draw(drawer, json.loads(line), tell)
    except (RuntimeError, OSError, ValueError, KeyError, SafetensorError) as exc:
        is_full = is_out_of_memory(exc) or isinstance(exc, MemoryError)
        tell({"failed": "memory" if is_full else f"{type(exc).__name__}: {exc}"})
        raise


def main(arguments: list[str]) -> None:
    """Convert, or draw; all that others print goes to the log."""
    close_network()
    warnings.simplefilter("ignore")  # min-dalle calls autocast in a way that torch outgrew
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    match arguments:
        case ["convert", source, target]:
            convert(Path(source), Path(target))
        case ["draw", folder, device, dtype, threads]:
            serve(Path(folder), device, getattr(torch, dtype), int(threads), tell)


if __name__ == "__main__":
    main(sys.argv[1:])
