"""The README cannot rot: what it names exists, and what exists it names."""

import re
import sys
from pathlib import Path

import pytest

from studio.settings import SETTINGS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def front_matter() -> dict[str, str]:
    block = README.split("---")[1]
    return dict(line.split(": ", 1) for line in block.strip().splitlines())


def test_space_runs_the_gradio_that_was_tested() -> None:
    pinned = re.search(r"^gradio==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned and front_matter()["sdk_version"] == pinned[1]


def test_space_front_matter_points_at_the_app() -> None:
    fields = front_matter()
    assert fields["sdk"] == "gradio"
    assert (ROOT / fields["app_file"]).is_file()


@pytest.mark.parametrize("table", ["models", "schedulers"])
def test_readme_names_every_row(table: str) -> None:
    rows = tomllib.loads((ROOT / f"assets/{table}.toml").read_text(encoding="utf-8"))
    titles = [row.get("title") or row["label"] for row in rows.values()]
    assert [title for title in titles if title not in README] == []


def test_readme_names_every_setting() -> None:
    assert [setting.name for setting in SETTINGS if f"`{setting.name}`" not in README] == []


def test_every_make_target_in_the_docs_exists() -> None:
    docs = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z-]+)", docs)) | set(
        re.findall(r"^make ([a-z-]+)", docs, re.M)
    )
    assert named <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))


def test_every_command_in_the_readme_exists() -> None:
    modules = set(re.findall(r"python -m (lab\.[a-z_]+)", README))
    assert modules and all((ROOT / f"{name.replace('.', '/')}.py").is_file() for name in modules)


def test_every_file_the_readme_links_to_exists() -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert targets and [target for target in targets if not (ROOT / target).exists()] == []
