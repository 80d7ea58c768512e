"""The house plan, enforced: who may import whom, and what the page may load."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"studio", "pipelines", "ui", "api", "lab"}
MAY_IMPORT = {
    "studio": {"studio"},
    "pipelines": {"pipelines", "studio"},
    "ui": {"ui", "studio"},
    "api": {"api", "studio"},
    "lab": {"lab", "studio", "pipelines"},
    "app.py": ROOMS - {"lab"},
}
# api/server.py mounts the page beside its routes: the one place where api meets ui.
ALLOWED_BESIDES = {("api/server.py", "ui")}
HEAVY = {"torch", "diffusers", "transformers"}
NO_HEAVY = {"studio", "ui", "api"}
BANNED_WORDS = {"util", "utils", "helper", "helpers", "common", "misc", "data", "info"}
BANNED_WORDS |= {"handle", "process", "manager"}
# Names of others that ours must follow, and DESIGN's one exception.
ALLOWED_NAMES = {
    *("process_bind_param", "process_result_value"),  # SQLAlchemy's TypeDecorator
    *("data_dir", "PipelineManager", "manager", "_manager"),
}


def source_files() -> list[Path]:
    rooms = [path for room in sorted(ROOMS) for path in sorted((ROOT / room).rglob("*.py"))]
    return [ROOT / "app.py", *rooms]


def imported_packages(path: Path) -> set[str]:
    """Top-level names that a file imports, inside functions and for typing included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", source_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_import_only_what_the_plan_allows(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    room = name.split("/")[0]
    besides = {other for place, other in ALLOWED_BESIDES if place == name}
    imported = imported_packages(path)
    assert imported & ROOMS <= MAY_IMPORT[room] | besides
    if room in NO_HEAVY:
        assert not imported & HEAVY
    if room in {"studio", "pipelines"}:
        assert "gradio" not in imported


def test_the_import_rule_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    import torch\n    from pipelines.engine import Engine\n")
    assert imported_packages(bad) == {"torch", "pipelines"}


def test_page_loads_without_torch() -> None:
    code = (
        "import sys, ui.blocks, api.server\n"
        "loaded = {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_importing_a_module_reads_no_environment_and_loads_no_model() -> None:
    for path in source_files():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for statement in tree.body:
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If)):
                continue
            touched = {node.attr for node in ast.walk(statement) if isinstance(node, ast.Attribute)}
            assert not touched & {"environ", "getenv", "from_pretrained"}, f"{path}: {touched}"


def names_given(path: Path) -> set[str]:
    """Names that a file gives to modules, functions, classes, arguments and variables."""
    names = {path.stem}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@pytest.mark.parametrize("path", source_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_names_say_what_they_mean(path: Path) -> None:
    for name in sorted(names_given(path) - ALLOWED_NAMES):
        words = re.findall(r"[a-z]+", re.sub(r"([A-Z])", r"_\1", name).lower())
        assert not set(words) & BANNED_WORDS, f"{path}: {name}"


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def test_repository_stays_small() -> None:
    sizes = {path: path.stat().st_size for path in tracked_files() if path.is_file()}
    assert sum(sizes.values()) < 56 * 2**20
    builtin = sum(size for path, size in sizes.items() if ROOT / "assets/builtin" in path.parents)
    assert builtin <= 46 * 2**20


def test_no_pickle_is_tracked() -> None:
    pickles = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt"}
    assert not [path for path in tracked_files() if path.suffix in pickles]
