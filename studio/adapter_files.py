"""LoRAs and embeddings that visitors bring.

    data/adapters/<owner>/<SHA-256 of the file>.safetensors
    data/adapters/<owner>/<SHA-256 of the file>.txt         what the visitor called it

Each visitor finds only their own; a request names one by "input-" and the SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from studio.adapters import PICKLES, SUFFIX, UploadedFile, parse_source, split_word
from studio.errors import InvalidRequest, NotFound
from studio.files import disk_errors, write_atomically
from studio.request import GenerationRequest
from studio.specs import ModelSpec
from studio.weights import KINDS, Weights, check_fits, read_weights

PREFIX = "input-"
MOST_BYTES = 5_000_000_000
"""Of all files of one visitor."""
MAX_NAME = 100

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAdapter:
    """A file that was kept."""

    source: str
    """What a request names it by."""
    name: str
    weights: Weights


class AdapterFiles:
    """Keeps and finds files. Thread-safe: a file is there as a whole, and never changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, path: Path, name: str, owner: str) -> KeptAdapter:
        """Keep a copy of a file that a visitor brings.

        Args:
            name: what the visitor calls it; it never becomes a path.

        Raises:
            InvalidRequest: it is a pickle, no LoRA and no embedding, damaged, or too much.
            StorageFailed: the disk did not take it.
        """
        name = Path(name.replace("\\", "/")).name[-MAX_NAME:]
        if name.lower().endswith(PICKLES):
            parse_source(name)  # says what to do
        weights = read_weights(path, name)
        if weights.kind not in ("lora", "embedding"):
            raise InvalidRequest(
                f"“{name}” is {KINDS[weights.kind]}, neither {KINDS['lora']} nor "
                f"{KINDS['embedding']}."
            )
        self._check_room(path, owner)
        with disk_errors():
            digest = self._copy(path, owner)
            write_atomically(self._path(digest, owner, ".txt"), name.encode())
        return KeptAdapter(source=PREFIX + digest, name=name, weights=weights)

    def find(self, file: UploadedFile, owner: str) -> tuple[Path, str]:
        """The path of a kept file, and what it was called; raises NotFound."""
        path = self._path(file.digest, owner, SUFFIX)
        if not path.is_file():
            raise NotFound("A LoRA or embedding that this names was not uploaded here by you.")
        label = self._path(file.digest, owner, ".txt")
        return path, label.read_text() if label.is_file() else path.name

    def all_of(self, owner: str) -> list[KeptAdapter]:
        """A visitor's files, by name."""
        kept = []
        for path in (self._folder / owner).glob(f"*{SUFFIX}"):
            name = self.find(UploadedFile(digest=path.stem), owner)[1]
            weights = read_weights(path, name)
            kept.append(KeptAdapter(source=PREFIX + path.stem, name=name, weights=weights))
        return sorted(kept, key=lambda one: (one.name, one.source))

    def check(self, spec: ModelSpec, request: GenerationRequest, owner: str) -> None:
        """Refuse what cannot be meant, is not this visitor's, or is for another base.

        What the Hub has is looked at when it is there.

        Raises:
            InvalidRequest, NotFound: says which file and why.
        """
        named = [("lora", lora.source) for lora in request.loras]
        named += [("embedding", split_word(text)[0]) for text in request.embeddings]
        for kind, text in named:
            source = parse_source(text, "LoRA" if kind == "lora" else kind)
            if isinstance(source, UploadedFile):
                path, name = self.find(source, owner)
                check_fits(read_weights(path, name), kind, name, spec.base, spec.title)

    def _check_room(self, path: Path, owner: str) -> None:
        kept = sum(one.stat().st_size for one in (self._folder / owner).glob("*"))
        if kept + path.stat().st_size > MOST_BYTES:
            raise InvalidRequest(
                f"Your LoRAs and embeddings would take more than {MOST_BYTES / 1e9:g} GB here."
            )

    def _copy(self, path: Path, owner: str) -> str:
        """Copy a file to the place that its SHA-256 names, and return that."""
        part = self._folder / owner / f"{uuid4().hex}.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, part)
            digest = _sha256(part)
            os.replace(part, self._path(digest, owner, SUFFIX))
        finally:
            with suppress(OSError):
                part.unlink()
        return digest

    def _path(self, digest: str, owner: str, suffix: str) -> Path:
        return self._folder / owner / f"{digest}{suffix}"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
