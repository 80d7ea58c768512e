"""The benchmarks: their arithmetic, their shapes, and a quick run of the sleeping device."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lab.bench import checkpoints
from lab.bench.__main__ import main
from lab.bench.apart import script_apart
from lab.bench.builtin import builtin_stage
from lab.bench.crowd import LateVisitor, same_orders, varied
from lab.bench.effort import QUICK
from lab.bench.equality import psnr
from lab.bench.house import Watched
from lab.bench.roofline import count_operations
from lab.bench.sharing import mixed_steps
from lab.bench.stage import Stage
from lab.bench.stub import Sleeper, stub_stage
from lab.bench.table import Row, missing_row, print_part, ratio_row, write_rows
from lab.bench.timing import Samples, interleave, percentile, trend_of


def test_arms_run_in_turns_and_back() -> None:
    order: list[str] = []

    def arm(name: str) -> float:
        order.append(name)
        return float(len(order))

    taken = interleave({"a": lambda: arm("a"), "b": lambda: arm("b")}, rounds=2, warm_ups=1)
    assert "".join(order) == "ab" + "abba" * 2
    assert taken["a"].values == (3, 6, 7, 10)
    assert taken["a"].median == 6.5


def test_the_noise_is_what_an_arm_has_with_itself() -> None:
    assert Samples((2.0, 2.0, 2.0, 2.0)).noise == 1
    assert Samples((2.0, 3.0, 2.0, 3.0)).noise == 1.5
    row = ratio_row("x", Samples((2.1, 2.1)), Samples((2.0, 1.9)), goal=1.05)
    assert row.value == pytest.approx(2.1 / 1.95)
    assert (row.noise, row.verdict) == (pytest.approx(2.0 / 1.9), "within noise")


@pytest.mark.parametrize(
    ("value", "at_least", "verdict"),
    [
        (0.9, False, "yes"),
        (1.05, False, "within noise"),
        (1.2, False, "NO"),
        (1.1, True, "yes"),
        (0.95, True, "within noise"),
        (0.8, True, "NO"),
    ],
)
def test_a_goal_is_missed_only_beyond_the_noise(value: float, at_least: bool, verdict: str) -> None:
    row = Row(what="x", value=value, goal=1.0, at_least=at_least, slack=0.1)
    assert row.verdict == verdict


def test_what_was_not_measured_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = missing_row("graphs", "they need a GPU", goal=100)
    print_part("equality", [row])
    shown = capsys.readouterr().out
    assert "not measured" in shown and "they need a GPU" in shown and "<= 100 x" in shown
    write_rows(tmp_path / "new" / "bench.json", "equality", [row], "quick")
    kept = json.loads((tmp_path / "new" / "bench.json").read_text())["equality"]["rows"][0]
    assert (kept["value"], kept["reached"]) == (None, "not measured")


def test_parts_of_earlier_runs_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    for part in ("page", "sharing"):
        write_rows(path, part, [Row(what=part, value=1.0)], "full")
    kept = json.loads(path.read_text())
    assert {*kept} == {"page", "sharing"}
    assert kept["page"]["machine"]["versions"]["torch"] == torch.__version__


def test_percentiles_are_numpys() -> None:
    values = list(np.random.default_rng(0).random(23))
    assert percentile(values, 95) == pytest.approx(np.percentile(values, 95))
    assert percentile([3.0], 95) == 3.0


def test_a_leak_is_seen_through_the_noise_and_one_step_is_none() -> None:
    dice = np.random.default_rng(0)
    leaking = [100 + 0.5 * turn + dice.normal() for turn in range(100)]
    assert trend_of(leaking).growth == pytest.approx(50, abs=2)
    assert trend_of(leaking).spread < 8
    flat = trend_of([100.0] * 60 + [104.0] * 10 + [100.0] * 30)
    assert (flat.growth, flat.spread) == (0, 4)


def test_psnr_follows_its_formula() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    assert psnr(picture, picture) == float("inf")
    assert psnr(picture, picture + 1) == pytest.approx(48.13, abs=0.01)
    assert psnr(picture, picture + 255) == 0


def test_orders_are_different_pictures_of_one_shape() -> None:
    request = builtin_stage(QUICK).request
    orders = same_orders(request, users=3, each=50, start=7)
    asked = [one for own in orders.values() for one in own]
    assert (
        len({(one.prompt, one.seed) for one in asked}) == len({one.prompt for one in asked}) == 150
    )
    assert {replace(one, prompt="x", seed=0) for one in asked} == {
        replace(request, prompt="x", seed=0)
    }


@pytest.mark.parametrize("steps", [4, 20, 25])
def test_mixed_steps_are_as_much_work(steps: int) -> None:
    assert len(set(mixed_steps(steps))) == 3
    assert sum(mixed_steps(steps)) == 3 * steps


@pytest.mark.parametrize(
    ("pipeline_class", "millions"),
    [("StableDiffusionPipeline", 865.91), ("StableDiffusionXLPipeline", 2567.46)],
)
def test_the_shapes_have_as_many_weights_as_the_models(
    pipeline_class: str, millions: float
) -> None:
    unet = checkpoints.denoiser_on_meta(pipeline_class, toy=False)
    assert sum(one.numel() for one in unet.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_operations_of_a_picture_are_those_of_the_published_figures() -> None:
    """25 guided steps of SD-2 at 768 px: 38.04 T multiplications without those of attention
    (T-GATE, Zhang et al. 2024), which are 0.628 TFLOP a row and step; 5.75 TFLOP decode it."""
    with stub_stage(QUICK, Sleeper()) as stage:
        request = replace(stage.request, width=768, height=768, num_inference_steps=25)
        counted = count_operations(replace(stage, request=request), toy=False)
    assert counted == pytest.approx(2 * 38.04e12 + 50 * 0.628e12 + 5.75e12, rel=0.005)


def test_the_sleeper_takes_its_time_and_says_what_sharing_can_gain() -> None:
    sleeper = Sleeper(fixed_s=0.02, row_s=0.005)
    assert sleeper.seconds(2) == pytest.approx(0.03)
    assert sleeper.gain(4) == pytest.approx(4 * 0.03 / 0.06)
    sample = torch.ones(2, 4, 8, 8)
    taken = interleave(
        {"a": lambda: _seconds(sleeper, sample), "b": lambda: _seconds(sleeper, sample)}, 2
    )
    assert 0.03 <= taken["a"].median < 0.06


def _seconds(sleeper: Sleeper, sample: torch.Tensor) -> float:
    started = time.perf_counter()
    (output,) = sleeper(torch.nn.Identity(), (sample, 1), {"return_dict": False})
    assert output.shape == sample.shape
    return time.perf_counter() - started


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with stub_stage(QUICK, Sleeper(fixed_s=0.002, row_s=0.0001)) as stage:
        yield stage


def test_a_late_visitor_is_served_before_the_backlog(stage: Stage) -> None:
    with stage.open() as house:
        late = LateVisitor(house, stage.request, pause_s=0.01)
        waits = late.waits_behind(backlog=20, visits=1)
        assert len(waits) == 1
        assert len(house.studio.pictures("late", limit=99)) == 1
        assert len(house.studio.pictures("early", limit=99)) < 20
        assert not house.studio.jobs("early", active_only=True)


def test_without_previews_none_is_made(stage: Stage) -> None:
    seen: list[float | None] = []
    with stage.open() as house:
        longer = replace(stage.request, num_inference_steps=20)
        watch = house.watch

        def noting(*args: Any) -> Watched:
            watched = watch(*args)
            seen.append(watched.first_preview_s)
            return watched

        house.watch = noting  # type: ignore[method-assign]
        house.draw(longer)
        house.draw_unseen(varied(longer, 1))
        house.draw(varied(longer, 2))
        assert house.pixels(longer).shape == (64, 64, 3)
    assert seen[1] is None and None not in (seen[0], seen[2])


def test_the_script_draws_in_a_process_of_its_own(stage: Stage) -> None:
    with script_apart(stage) as script:
        assert multiprocessing.active_children()
        slept = stage.request.num_inference_steps * Sleeper(fixed_s=0.002, row_s=0.0001).seconds(2)
        assert script.time(stage.request) > slept
    assert not multiprocessing.active_children()


def test_a_picture_that_fails_ends_the_benchmark(stage: Stage) -> None:
    broken = replace(stage, settings=replace(stage.settings, model_paths={"sd2": Path("nowhere")}))
    with broken.open() as house, pytest.raises(RuntimeError, match="does not exist"):
        house.draw(stage.request)


def test_the_stub_runs_quickly_and_prints_its_goals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = ["stub-sharing", "stub-waiting"]
    path = tmp_path / "bench.json"
    assert main(["--quick", "--only", *parts, "--json", str(path)]) == 0
    kept = json.loads(path.read_text())
    assert {*kept} == {*parts}
    [waiting] = kept["stub-waiting"]["rows"]
    assert waiting["goal"] == 2.5 and waiting["value"] > 0
    [sharing] = kept["stub-sharing"]["rows"]
    assert sharing["value"] > 0 and "is the most there is" in sharing["remark"]
    assert "<= 2.5 x" in capsys.readouterr().out


def test_a_part_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--only", "nothing"]) == 2
    assert "There is no part nothing: stub-overhead" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_gpu_figures_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gpu"]) == 2
    assert "--toy" in capsys.readouterr().err


def test_the_toys_run_what_a_gpu_would(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    parts = ["sdxl-1024", "roofline"]
    assert main(["--gpu", "--toy", "--quick", "--only", *parts, "--json", str(path)]) == 0
    kept = json.loads(path.read_text())
    assert [row["goal"] for row in kept["sdxl-1024"]["rows"]] == [1.03, None, 1.05, None]
    assert kept["roofline"]["rows"][0]["value"] > 0
