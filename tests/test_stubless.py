"""Gradio is imported whole, and its folder is left as it is."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMPONENT = """
import gradio as gr

class Plain(gr.Textbox):
    pass
"""
CHECK = """
import sys
from ui.stubless import import_gradio

gr = import_gradio()
assert import_gradio() is gr and sys.modules["gradio"] is gr
assert not [finder for finder in sys.meta_path if type(finder).__module__ == "ui.stubless"]
sys.path.insert(0, sys.argv[1])
from plain import Plain

with gr.Blocks() as page:
    box = Plain(label="Prompt")
    box.change(lambda words: words, box, box)
assert len(page.fns) == 1
"""


def write_component(folder: Path) -> Path:
    (folder / "plain.py").write_text(COMPONENT)
    return folder / "plain.pyi"


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_components_work_and_no_stub_is_written(tmp_path: Path) -> None:
    stub = write_component(tmp_path)
    ran = run(CHECK, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert not stub.exists()


def test_gradio_by_itself_writes_stubs(tmp_path: Path) -> None:
    """If this fails, Gradio has mended itself, and `ui/stubless.py` can go."""
    stub = write_component(tmp_path)
    plain = "import sys, gradio\nsys.path.insert(0, sys.argv[1])\nimport plain"
    assert run(plain, tmp_path).returncode == 0
    assert stub.exists()
