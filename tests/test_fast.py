"""The four-step variant: paths, what is learnt from them, and the LoRA that keeps it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from lab import paths, train_fast
from lab.fast_lora import extract_lora
from lab.networks import SCHEDULE
from tests.test_training import CPU, toy_latents, toy_unet


@pytest.fixture
def drawn() -> paths.Paths:
    return paths.draw_paths(toy_unet().eval(), toy_latents(), 6, seed=3, guidance=2.0)


def test_a_step_turns_as_ddim_does() -> None:
    scheduler = DDIMScheduler(
        **SCHEDULE, timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False
    )
    scheduler.set_timesteps(paths.STEPS)
    timesteps, begin, end = paths.step_angles()
    assert timesteps.tolist() == scheduler.timesteps.tolist()
    latents, velocity = torch.randn(2, 1, 4, 8, 8, generator=torch.manual_seed(0))
    for timestep, now, then in zip(timesteps, begin, end, strict=True):
        turn = then - now
        expected = scheduler.step(velocity, timestep, latents).prev_sample
        assert torch.allclose(turn.cos() * latents + turn.sin() * velocity, expected, atol=1e-4)


def test_the_pupils_steps_are_among_the_teachers() -> None:
    few, many = (paths.step_angles(n)[0] for n in (paths.STEPS, paths.STEPS * paths.SUBSTEPS))
    assert torch.equal(few, many[:: paths.SUBSTEPS])


def test_paths_are_the_same_for_the_same_seed(drawn: paths.Paths, tmp_path: Path) -> None:
    again = paths.draw_paths(toy_unet().eval(), toy_latents(), 6, seed=3, guidance=2.0)
    assert np.array_equal(drawn.points, again.points)
    paths.save_paths(drawn, tmp_path / "paths-000.npz")
    paths.save_paths(drawn, tmp_path / "paths-001.npz")
    assert len(paths.load_paths(tmp_path)) == 12


def test_the_pupil_comes_nearer_to_the_paths(drawn: paths.Paths) -> None:
    run = train_fast.start_run(toy_unet(), CPU)
    losses = [train_fast.train_step(run, toy_latents(), drawn, 0.0) for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_a_resumed_pupil_goes_on_as_if_never_stopped(drawn: paths.Paths, tmp_path: Path) -> None:
    run = train_fast.start_run(toy_unet(), CPU)
    train_fast.train_step(run, toy_latents(), drawn, 0.1)
    train_fast.save_run(run, tmp_path / "fast.safetensors")
    fresh = train_fast.start_run(toy_unet(), CPU)
    resumed = train_fast.load_run(fresh, tmp_path / "fast.safetensors")
    losses = [train_fast.train_step(one, toy_latents(), drawn, 0.1) for one in (run, resumed)]
    assert losses[0] == losses[1]


def test_a_lora_of_full_rank_is_the_whole_difference() -> None:
    teacher = toy_unet()
    pupil = deepcopy(teacher)
    torch.manual_seed(5)
    with torch.no_grad():
        for module in train_fast.matrices(pupil).values():
            module.weight += 0.01 * torch.randn_like(module.weight)
    tensors = extract_lora(teacher, pupil, rank=1000)
    for name, module in train_fast.matrices(pupil).items():
        down, up = (tensors[f"unet.{name}.lora_{part}.weight"].float() for part in "AB")
        change = (up.flatten(1) @ down.flatten(1)).reshape(module.weight.shape)
        difference = module.weight - train_fast.matrices(teacher)[name].weight
        assert torch.allclose(change, difference, atol=2e-4)
