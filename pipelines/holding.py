"""Puts a pipeline's modules where the plan wants them, and gives the device's memory back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import torch
from diffusers import DiffusionPipeline

from pipelines.device import usable_bytes
from studio.plans import Machine, Plan, pick_plan

if TYPE_CHECKING:
    from studio.plans import Holding
    from studio.specs import ModelSpec

WORK_SHARE = 1.2
"""Weights and what is computed with them, over the weights alone. A guess; rows state better."""


def machine_of(device: str) -> Machine:
    """What there is to hold models in: what is free, and what this process has, but could free."""
    own = psutil.Process().memory_info().rss
    free = psutil.virtual_memory().available + own
    ram_gb = min(usable_bytes(), free) / 1e9
    device_gb = ram_gb
    if device.startswith("cuda"):
        free_there = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
        device_gb = free_there / 1e9
    return Machine(kind=device.partition(":")[0], device_gb=device_gb, ram_gb=ram_gb)


def plan_for(spec: ModelSpec, nbytes: int, device: str) -> Plan:
    """Choose how to hold a checkpoint whose weights were counted: rows tell only about them."""
    counted = WORK_SHARE * nbytes / 1e9
    return pick_plan(spec.with_memory(counted), machine_of(device))


def place(pipeline: DiffusionPipeline, holding: Holding, device: str) -> DiffusionPipeline:
    """Put a pipeline's modules where they wait, or work; the hooks stay on the modules."""
    if holding == "offload":
        pipeline.enable_model_cpu_offload(device=device)
    elif holding == "group":
        pipeline.enable_group_offload(
            onload_device=torch.device(device),
            offload_type="leaf_level",
            use_stream=device.startswith("cuda"),
        )
    else:
        pipeline.to(device)
    return pipeline
