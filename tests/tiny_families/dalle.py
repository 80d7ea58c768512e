"""Tiny weights of DALL-E Mega in min-dalle's own files; a program, for that package changes torch.

python tests/tiny_families/dalle.py FOLDER
"""

from __future__ import annotations

import json
import string
import subprocess
import sys
from pathlib import Path

WIDE = 64
"""Numbers of a token, in one attention head."""


def save_tiny_dalle(folder: Path) -> Path:
    """Save encoder.pt, decoder.pt, detoker.pt, vocab.json and merges.txt, in another process."""
    subprocess.run([sys.executable, __file__, str(folder)], check=True)
    return folder


def _save(folder: Path) -> None:
    import torch
    from min_dalle import min_dalle

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    words = ["<s>", "<pad>", "</s>", "<unk>", "Ġ", *string.ascii_lowercase]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nĠ a\n")
    sizes = {
        "layer_count": 2,
        "embed_count": WIDE,
        "attention_head_count": 1,
        "glu_embed_count": 96,
        "device": "cpu",
    }
    encoder = min_dalle.DalleBartEncoder(text_vocab_count=len(words), text_token_count=64, **sizes)
    decoder = min_dalle.DalleBartDecoder(image_vocab_count=2**14 + 31, **sizes)
    # As if it had learnt something: the prompt moves the choice of tokens.
    decoder.lm_head.weight *= 20
    parts = {"encoder": encoder, "decoder": decoder, "detoker": min_dalle.VQGanDetokenizer()}
    for name, part in parts.items():
        torch.save(part.half().state_dict(), folder / f"{name}.pt")


if __name__ == "__main__":
    _save(Path(sys.argv[1]))
