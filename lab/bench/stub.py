"""A device that sleeps: everything is real but the denoiser, whose steps take exact times."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import nn

from lab.bench.checkpoints import save_sd2
from lab.bench.effort import Effort
from lab.bench.stage import Stage
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.settings import Settings

SIDE = 64
STEPS = 20


@dataclass(frozen=True, slots=True)
class Sleeper:
    """A `Denoise` that takes `fixed_s` and `row_s` for each row, and predicts zeros.

    The defaults are about what Stable Diffusion 2 takes at 512 px on a large GPU without graphs:
    most of a call is spent on launching it.
    """

    fixed_s: float = 0.016
    row_s: float = 0.001

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        end = time.perf_counter()
        sample = args[0] if args else kwargs["sample"]
        end += self.seconds(len(sample))
        output = torch.zeros_like(sample)
        time.sleep(max(0.0, end - time.perf_counter()))
        return UNet2DConditionOutput(output) if kwargs.get("return_dict", True) else (output,)

    def seconds(self, rows: int) -> float:
        """Of one call."""
        return self.fixed_s + rows * self.row_s

    def gain(self, users: int) -> float:
        """Pictures per second of so many users, of two rows each, over one's: the most there is."""
        return users * self.seconds(2) / self.seconds(2 * users)

    def put_into(self, pipeline: Any) -> None:
        """Let a pipeline that is called directly sleep as well."""
        unet = pipeline.unet
        unet.forward = lambda *args, **kwargs: self(unet, args, kwargs)


@contextmanager
def stub_stage(effort: Effort, sleeper: Sleeper) -> Iterator[Stage]:
    """A toy of Stable Diffusion 2 whose steps are slept; its files are there inside the block."""
    with TemporaryDirectory(prefix="croquis-stub-") as folder:
        made = (torch.device("cpu"), torch.float32)
        path = save_sd2(Path(folder) / "toy", made, toy=True)
        settings = Settings(device="cpu", cpu_threads=1, offline=True, model_paths={"sd2": path})
        catalogue = small_catalogue(settings)
        request = replace(
            catalogue.default_request("sd2", "a cup"),
            width=SIDE,
            height=SIDE,
            num_inference_steps=effort.steps or STEPS,
            prompt_syntax="plain",
        )
        yield Stage(
            title="stub",
            settings=settings,
            catalogue=catalogue,
            request=request,
            other=request,
            denoise=sleeper,
            prepare=sleeper.put_into,
        )


def small_catalogue(settings: Settings, copies: Mapping[str, str] | None = None) -> Catalogue:
    """The catalogue, its models free to draw small pictures.

    Args:
        copies: further rows by their keys, each with the row that it is a copy of.
    """
    full = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, Settings())
    rows = {key: full.get_model(key) for key in ("sd2", "sdxl")}
    rows |= {key: replace(rows[row], key=key) for key, row in (copies or {}).items()}
    models = {key: replace(row, min_side=SIDE) for key, row in rows.items()}
    return Catalogue(models, full.schedulers, settings)
