"""What a visitor's words for a LoRA or an embedding mean: a file of the Hub, or an uploaded one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from studio.errors import InvalidRequest

HUB = "https://huggingface.co/"
SUFFIX = ".safetensors"
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")

_UPLOAD = re.compile(r"input-[0-9a-f]{64}")
_PART = r"[\w.-]+"
_REPOSITORY = re.compile(rf"(?P<repository>{_PART}/{_PART})(@(?P<commit>{_PART}))?(/(?P<file>.+))?")
_WORD = re.compile(r"<?[^\W_][\w.-]{0,58}>?")
_AS = " as "


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file of a repository on the Hub."""

    repository: str
    """"owner/name"."""
    file: str | None
    """Its path there; None is the one that fits best."""
    commit: str | None = None
    """None is the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFile:
    """A file that a visitor brought."""

    digest: str
    """SHA-256 of it, 64 hex digits."""


Source = HubFile | UploadedFile


def parse_source(text: str, what: str = "LoRA") -> Source:
    """Read "owner/name", "owner/name/file.safetensors", a Hub address or an uploaded file's id.

    Raises:
        InvalidRequest: it is a path, another site's address, or names a pickle file.
    """
    text = text.strip()
    if _UPLOAD.fullmatch(text):
        return UploadedFile(digest=text.removeprefix("input-"))
    plain = _without_address(text)
    if plain.lower().endswith(PICKLES):
        raise InvalidRequest(
            f"“{PurePosixPath(plain).name}” is a pickle file, which can run code when it is "
            f"opened. Croquis loads {SUFFIX} only: look for that file of the {what}, or convert it."
        )
    match = _REPOSITORY.fullmatch(plain)
    file = match["file"] if match else None
    if match is None or not _is_plain(plain) or (file and not file.endswith(SUFFIX)):
        raise InvalidRequest(
            f"“{text}” is no {what} that can be found: type owner/name or "
            f"owner/name/file{SUFFIX} as on the Hub, or upload the file."
        )
    return HubFile(repository=match["repository"], file=file, commit=match["commit"])


def _is_plain(path: str) -> bool:
    """Whether a name leads nowhere but into its repository."""
    return not any(part in path for part in ("..", "//", "\\")) and not path.endswith("/")


def split_word(text: str) -> tuple[str, str | None]:
    """The source of an embedding, and the word that the visitor gave it: "owner/name as moss".

    Raises:
        InvalidRequest: the word is no word.
    """
    source, separator, word = text.rpartition(_AS)
    if not separator:
        return text.strip(), None
    return source.strip(), check_word(word.strip())


def check_word(word: str) -> str:
    """Refuse what cannot be found again in a prompt; raises InvalidRequest."""
    if not _WORD.fullmatch(word):
        raise InvalidRequest(
            f"An embedding’s word has letters, digits, -, _ and dots, 60 at most; got “{word}”."
        )
    return word


def _without_address(text: str) -> str:
    """The path on the Hub of its page's address, such as .../blob/main/file.safetensors."""
    if not text.startswith(HUB):
        return text
    path = text.removeprefix(HUB).split("?")[0].strip("/")
    return re.sub(r"^([^/]+/[^/]+)/(blob|resolve|tree)/([^/]+)", _with_commit, path)


def _with_commit(match: re.Match[str]) -> str:
    commit = "" if match[3] == "main" else f"@{match[3]}"
    return match[1] + commit
