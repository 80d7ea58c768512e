"""How much of what a model reads at once a prompt takes, told from the model's tokenizer file."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studio.model_store import find_folder
from studio.prompt_syntax import is_read_by, parse_prompt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from studio.settings import Settings
    from studio.specs import ModelSpec

CLIP_FOLDERS = ("tokenizer", "tokenizer_2", "prior_tokenizer")
LONG_FOLDERS = ("tokenizer_3", "tokenizer_2", "tokenizer")
"""Where the tokenizer is that reads most; beside a T5 there may be a CLIP that reads less."""
LOOKED_AT_STEPS = 20
"""Steps over which the longest of what a changing prompt says is sought."""

# CLIP's tokenizer where a checkpoint has its words and merges alone (transformers' CLIPTokenizer).
_CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


@dataclass(frozen=True, slots=True)
class TokenCount:
    """The length of a prompt, for one model."""

    tokens: int
    """Of its words; brackets and weights are none."""
    room: int
    """Tokens that the model reads at once."""
    is_cut: bool
    """Whether those beyond `room` are left out; else they are read in a piece of their own."""


@dataclass(frozen=True, slots=True)
class _Reader:
    tokenizer: Tokenizer
    room: int


class TokenCounter:
    """Counts for models that are on this machine. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._readers: dict[tuple[Path, str, int], _Reader | None] = {}
        self._lock = threading.Lock()

    def count(self, text: str, spec: ModelSpec, syntax: str) -> TokenCount | None:
        """Count the tokens of a prompt; None if the model's tokenizer is not here."""
        reader = self._reader(spec)
        if reader is None:
            return None
        is_weighed = syntax == "a1111" and is_read_by(spec)
        tokens = max(
            sum(len(reader.tokenizer.encode(part, add_special_tokens=False).ids) for part in said)
            for said in (_versions(text) if is_weighed else [[text]])
        )
        return TokenCount(tokens, reader.room, tokens > reader.room and not is_weighed)

    def _reader(self, spec: ModelSpec) -> _Reader | None:
        """The tokenizer of a model, read once."""
        folder = self._folder(spec)
        if folder is None:
            return None
        key = folder, spec.prompt_encoder, spec.max_tokens
        with self._lock:
            if key not in self._readers:
                self._readers[key] = _load(folder, spec)
            return self._readers[key]

    def _folder(self, spec: ModelSpec) -> Path | None:
        own = spec.local_path(self._settings)
        found = None if own else find_folder(spec)
        whole = own or (found[1] if found else None)
        names = CLIP_FOLDERS if spec.prompt_encoder == "clip" else LONG_FOLDERS
        folders = [whole / name for name in names] if whole else []
        return next((folder for folder in folders if folder.is_dir()), None)


def _versions(text: str) -> list[list[str]]:
    """The words of all that a prompt says on its way."""
    return [
        [fragment.text for section in version for fragment in section]
        for version in parse_prompt(text).versions(LOOKED_AT_STEPS)
    ]


def _load(folder: Path, spec: ModelSpec) -> _Reader | None:
    """Read a tokenizer; None if this is none that can be counted with."""
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        tokenizer = _tokenizer(folder)
    except Exception:  # the Rust library raises nothing more exact
        return None
    if tokenizer is None:
        return None
    is_clip = spec.prompt_encoder == "clip"
    limit = min(int(config.get("model_max_length", 77)), 77) if is_clip else spec.max_tokens
    marks = 2 if is_clip else tokenizer.num_special_tokens_to_add(False)
    return _Reader(tokenizer, limit - marks)


def _tokenizer(folder: Path) -> Tokenizer | None:
    from tokenizers import Tokenizer

    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
    words, merges = folder / "vocab.json", folder / "merges.txt"
    return _clip_tokenizer(words, merges) if words.is_file() and merges.is_file() else None


def _clip_tokenizer(words: Path, merges: Path) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(
        models.BPE.from_file(
            str(words), str(merges), unk_token="<|endoftext|>", end_of_word_suffix="</w>"
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return tokenizer
