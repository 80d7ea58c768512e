"""Weights from files: only tensors are accepted, and what is cut short is named."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch

from lab.metrics.errors import MissingPackage
from lab.store import CorruptCheckpoint


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a file of tensors; one with anything else in it is refused, never run.

    Raises:
        MissingPackage: if there is no such file.
        CorruptCheckpoint: if it is cut short or no checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise MissingPackage(f"There is no file of weights `{path}`.") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, UnpicklingError) as error:
        raise CorruptCheckpoint(f"`{path}` is no whole checkpoint: {error}") from error


def fill(network: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Put weights into a network and make it ready to look.

    Raises:
        CorruptCheckpoint: if they are weights of another network.
    """
    try:
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CorruptCheckpoint(f"`{path}` holds other weights than needed: {error}") from error
    network.eval().requires_grad_(False)
