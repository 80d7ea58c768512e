"""The packages whose drawings the corpus is made of, and how one is fetched."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path


class MissingCorpus(RuntimeError):
    """A part of the corpus is absent and the text says how to get it."""


@dataclass(frozen=True, slots=True)
class Source:
    """One version of one package; authors and licence are in assets/ATTRIBUTION.md."""

    package: str
    version: str
    part: str = ""
    """What `--without` calls it; "" where nothing goes without it."""
    program: str = "npm"
    """What fetches it: npm or apt-get."""

    @property
    def tarball(self) -> str:
        """File name that the program gives to the package."""
        if self.program == "npm":
            return f"{self.package.lstrip('@').replace('/', '-')}-{self.version}.tgz"
        return f"{self.package}_{self.version.replace(':', '%3a')}_all.deb"

    @property
    def command(self) -> str:
        """The command that fetches the package into the working folder."""
        if self.program == "npm":
            return f"npm pack {self.package}@{self.version}"
        return f"apt-get download {self.package}={self.version}"


def icon_set(name: str, version: str) -> Source:
    """Return the package of one icon set."""
    return Source(f"@iconify-json/{name}", version, name)


EMOJI_STYLES = {
    "noto": icon_set("noto", "1.2.9"),
    "fluent-emoji": icon_set("fluent-emoji", "1.2.7"),
    "fluent-emoji-flat": icon_set("fluent-emoji-flat", "1.2.6"),
    "fluent-3d": Source("@lobehub/fluent-emoji-3d", "1.1.0", "fluent-3d"),
    "twemoji": icon_set("twemoji", "1.2.5"),
    "emojione": icon_set("emojione", "1.2.3"),
    "noto-v1": icon_set("noto-v1", "1.2.5"),
    "fxemoji": icon_set("fxemoji", "1.2.2"),
    "streamline-emojis": icon_set("streamline-emojis", "1.2.4"),
}
"""Style of a drawing -> the package that has it."""

SILHOUETTES = Source("@iconify-json/game-icons", "1.2.4", "silhouette")
TILES = Source("hero-patterns", "2.1.0", "tile")
COLOUR_ICONS = {
    name: Source(f"@iconify-json/{name}", version, "icon")
    for name, version in (
        ("flat-color-icons", "1.2.3"),
        ("streamline-kameleon-color", "1.2.2"),
        ("streamline-stickies-color", "1.2.2"),
    )
}
CLIP_ART = Source("openclipart-svg", "1:0.18+dfsg-19", "clipart", "apt-get")
FURNITURE = Source("sweethome3d-furniture", "1.8-1", "furniture", "apt-get")


def fetch(folder: Path, source: Source) -> Path:
    """Return the file of a package, fetched into `folder` on the first call.

    Raises:
        MissingCorpus: if npm or apt-get is absent or cannot fetch it; the text names the command.
    """
    tarball = folder / source.tarball
    if tarball.exists():
        return tarball
    folder.mkdir(parents=True, exist_ok=True)
    _run(source, folder)
    if not tarball.exists():
        raise _missing(source, folder, f"it gave no `{source.tarball}`")
    return tarball


def _run(source: Source, folder: Path) -> None:
    """Run the command of a source."""
    if shutil.which(source.program) is None:
        raise _missing(source, folder, f"`{source.program}` is not on the path")
    ran = subprocess.run(source.command.split(), cwd=folder, capture_output=True, text=True)
    if ran.returncode:
        raise _missing(source, folder, ran.stderr.strip()[-300:])


def _missing(source: Source, folder: Path, why: str) -> MissingCorpus:
    """Return the error that names the command."""
    instead = f", or leave it out with `--without {source.part}`" if source.part else ""
    return MissingCorpus(
        f"`{source.program}` is needed to fetch `{source.package}`: {why}. "
        f"Run `{source.command}` in `{folder}`{instead}."
    )


def read_icons(folder: Path, source: Source) -> dict:
    """Return an icon set: `icons` by name, each with its SVG `body`, and `aliases`."""
    return read_json(fetch(folder, source), "package/icons.json")


def read_json(tarball: Path, member: str) -> dict:
    """Return one JSON file out of a package."""
    with tarfile.open(tarball) as packed:
        return json.load(packed.extractfile(member))


def read_debian(folder: Path, source: Source, ending: str) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every plain file of a Debian package that ends in `ending`."""
    package = fetch(folder, source)
    if shutil.which("dpkg-deb") is None:
        raise _missing(source, folder, "`dpkg-deb`, which unpacks it, is not on the path")
    unpacked = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", str(package)], capture_output=True, check=True
    )
    with tarfile.open(fileobj=BytesIO(unpacked.stdout)) as packed:
        for member in packed:
            if member.isfile() and member.name.endswith(ending):
                yield member.name, packed.extractfile(member).read()
