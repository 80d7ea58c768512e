"""Finds the files of a model: in a folder of the host, or on the Hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipelines import encoder, hub
from pipelines.checkpoints import (
    Checkpoint,
    OnMessage,
    check_folder,
    count_elements,
    damage_reported,
    revision_of,
)
from pipelines.families import dalle_mega
from pipelines.holding import plan_for
from studio.errors import OutOfMemory
from studio.hosting import provider_of
from studio.specs import TEXT_ENCODER

if TYPE_CHECKING:
    from studio.plans import Holding
    from studio.settings import Settings
    from studio.specs import ModelSpec


class Finder:
    """Finds checkpoints for one device and dtype."""

    def __init__(self, settings: Settings, device: str, dtype: torch.dtype) -> None:
        self._settings = settings
        self._device = device
        self._dtype = dtype
        self._encoders: dict[str, Checkpoint] = {}

    def find(self, spec: ModelSpec, on_message: OnMessage) -> Checkpoint:
        """Find the checkpoint's files, and download them if they are not here.

        Raises:
            ModelUnavailable: no folder and no source has it, or only in pickle files.
        """
        if spec.backend == "hosted":
            provider = provider_of(self._settings)
            at = f"{spec.sources[0]}@hosted"
            return Checkpoint(spec, Path(), at, variant=None, nbytes=0, provider=provider)
        local = spec.local_path(self._settings)
        if local is not None:
            folder, revision = local, None
        else:
            folder, revision = hub.fetch(spec, self._settings, on_message)
        if spec.backend == "min_dalle":
            kept = self._settings.data_dir / "converted"
            folder = dalle_mega.converted(spec, folder, kept, on_message)
        check_folder(spec, folder)
        prior = self._find_prior(spec, folder, on_message)
        lora = self._find_lora(spec, folder, on_message)
        weights = hub.weight_files(folder, spec.variant)
        if not spec.reads_itself:
            weights = [path for path in weights if path.parent.name != TEXT_ENCODER]
        variant = spec.variant if any(hub.is_of(path, spec.variant) for path in weights) else None
        weights += hub.weight_files(prior, variant) if prior else []
        staying = [
            one for one in weights if not spec.text_encoder or one.parent.name != TEXT_ENCODER
        ]
        with damage_reported(spec, folder):
            nbytes = sum(count_elements(path) for path in staying) * self._dtype.itemsize
            return Checkpoint(
                spec=spec,
                folder=folder,
                revision=revision_of(revision, weights, lora),
                variant=variant,
                nbytes=nbytes,
                prior=prior,
                lora=lora,
                holding=self._holding(spec, nbytes),
            )

    def _holding(self, spec: ModelSpec, nbytes: int) -> Holding:
        """Raises OutOfMemory before anything is loaded that would take the machine down."""
        plan = plan_for(spec, nbytes, self._device)
        if plan.holding == "none":
            raise OutOfMemory(f"{spec.title} is {plan.label}. Choose a smaller model.")
        return plan.holding

    def find_encoder(self, spec: ModelSpec, on_message: OnMessage) -> Checkpoint:
        """The same as `find` for the text encoder alone: `nbytes` are its own.

        It comes and goes with every new prompt: a folder's weights are not hashed each time.

        Raises:
            ModelUnavailable: the checkpoint cannot be had.
        """
        if spec.key in self._encoders:
            return self._encoders[spec.key]
        checkpoint = self.find(spec, on_message)
        weights = hub.part_weights(checkpoint.folder / TEXT_ENCODER, checkpoint.variant)
        each = encoder.bytes_per_weight(self._device, self._dtype)
        with damage_reported(spec, checkpoint.folder):
            nbytes = sum(count_elements(path) for path in weights) * each
        self._encoders[spec.key] = replace(checkpoint, nbytes=nbytes)
        return self._encoders[spec.key]

    def _find_prior(self, spec: ModelSpec, folder: Path, on_message: OnMessage) -> Path | None:
        """The second checkpoint: in the folder of the first, or from sources of its own."""
        if not spec.prior_sources:
            return None
        prior = folder / "prior"
        if not (prior / "model_index.json").is_file():
            prior, _ = hub.fetch(
                replace(spec, sources=spec.prior_sources), self._settings, on_message
            )
        check_folder(spec, prior)
        return prior

    def _find_lora(self, spec: ModelSpec, folder: Path, on_message: OnMessage) -> Path | None:
        """The LoRA that makes a variant: of this repository, beside the checkpoint, of the Hub."""
        if spec.hub_lora is None:
            return spec.lora_file
        source, name = hub.split_file(spec.hub_lora)
        beside = folder / Path(name).name
        if beside.is_file():
            return beside
        return hub.fetch_file(source, name, spec.title, self._settings, on_message)
