"""How a model is held in the memory of a device, chosen before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from studio.specs import ModelSpec

Holding = Literal["full", "offload", "group", "none"]

DEVICE_SHARE = 0.9
"""Of a device's memory that a model and its work may take; the rest is the driver's."""
RAM_SHARE = 0.8
"""The same of the machine's memory, which other programs need too."""
GROUP_SHARE = 0.35
"""Of what model offload needs on the device: groups of layers come one after the other. A guess
until it was measured, on the safe side for the U-Nets of section 5 in models.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is to hold models in, in GB (10^9 bytes)."""

    kind: str
    """"cuda", "mps" or "cpu"."""
    device_gb: float
    """Memory of the device; on a CPU the machine's own."""
    ram_gb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a model is held, and what the visitor should know of that."""

    holding: Holding
    """"full": all of it on the device. "offload": the part that works is on the device, the
    others wait in the machine's memory. "group": only a few layers at a time. "none": it cannot
    be held at all."""
    needs_gb: float
    """Of the device's memory, about."""

    @property
    def label(self) -> str:
        """In a few words, for the page; "" where nothing need be said."""
        return {
            "full": "",
            "offload": "held part by part, slower",
            "group": "held layer by layer, much slower",
            "none": f"too large for this machine: needs about {self.needs_gb:.0f} GB",
        }[self.holding]


def pick_plan(spec: ModelSpec, machine: Machine) -> Plan:
    """Choose the fastest way that fits.

    A row states what a model takes in 16-bit numbers; a CPU draws in 32-bit ones, which take
    twice as much, but for what is built in, whose row says what was measured.
    """
    if machine.kind == "cpu":
        needs = spec.memory_gb * (2 if spec.download_gb else 1)
        fits = needs <= RAM_SHARE * machine.ram_gb
        return Plan(holding="full" if fits else "none", needs_gb=needs)
    room = DEVICE_SHARE * machine.device_gb
    if spec.memory_gb <= room:
        return Plan(holding="full", needs_gb=spec.memory_gb)
    part = spec.memory_offload_gb or spec.memory_gb
    waits = spec.memory_gb <= RAM_SHARE * machine.ram_gb and spec.can_offload
    if machine.kind == "cuda" and waits and part <= room:
        return Plan(holding="offload", needs_gb=part)
    if machine.kind == "cuda" and waits and part * GROUP_SHARE <= room:
        return Plan(holding="group", needs_gb=part * GROUP_SHARE)
    return Plan(holding="none", needs_gb=part)
