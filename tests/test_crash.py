"""A server that is killed while it draws loses no job and leaves no broken picture."""

import subprocess
import sys
from pathlib import Path

from tiny_checkpoint import save_tiny_checkpoint

ROOT = Path(__file__).resolve().parents[1]


def test_kill_9_while_drawing_loses_nothing(tmp_path: Path) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", vae_blocks=3)
    command = [sys.executable, "-m", "lab.crash", "--runs", "5", "--longest-s", "2.5"]
    ran = subprocess.run(
        [*command, "--model-path", str(checkpoint)], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "5 of 5 runs lost nothing" in ran.stdout
