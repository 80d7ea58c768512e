"""Checkpoints: tensors as safetensors and everything else as JSON, replaced in one stroke."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class Run(Protocol):
    """A training run: how far it is, and what its optimizer remembers."""

    optimizer: torch.optim.AdamW
    step: int
    spent_s: float


class CorruptCheckpoint(RuntimeError):
    """A checkpoint cannot be read; the text names it and says what to do."""


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict) -> None:
    """Write tensors and state to the one file `path`, or leave the old file as it was."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, fresh, metadata={"state": json.dumps(state)})
    os.replace(fresh, path)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Return the tensors and the state of a checkpoint.

    Raises:
        CorruptCheckpoint: if the file is cut short or is no checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stored:
            state = json.loads(stored.metadata()["state"])
            return {name: stored.get_tensor(name) for name in stored.keys()}, state  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CorruptCheckpoint(
            f"`{path}` is not a whole checkpoint ({error}); delete it to start that stage again."
        ) from error


def save_training(path: Path, run: Run, module: Module, average: Module | None = None) -> None:
    """Write a run to one file: weights, averaged weights if there are any, and moments."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        tensors[f"parts.{name}"] = parameter
        if parameter.requires_grad:
            moments = run.optimizer.state[parameter]
            tensors[f"first.{name}"] = moments["exp_avg"]
            tensors[f"second.{name}"] = moments["exp_avg_sq"]
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.named_parameters()}
    save_checkpoint(path, tensors, {"step": run.step, "spent_s": run.spent_s})


@torch.no_grad()
def load_training(path: Path, run: Run, module: Module, average: Module | None = None) -> None:
    """Bring a fresh run to where `save_training` left it.

    Raises:
        CorruptCheckpoint: if the file is cut short or is no checkpoint.
    """
    tensors, state = load_checkpoint(path)
    for name, parameter in module.named_parameters():
        parameter.copy_(tensors[f"parts.{name}"])
        if parameter.requires_grad:
            run.optimizer.state[parameter] = {
                "step": torch.tensor(float(state["step"]), device=parameter.device),
                "exp_avg": tensors[f"first.{name}"].to(parameter.device),
                "exp_avg_sq": tensors[f"second.{name}"].to(parameter.device),
            }
    if average is not None:
        for name, parameter in average.named_parameters():
            parameter.copy_(tensors[f"average.{name}"])
    run.step, run.spent_s = state["step"], state["spent_s"]
