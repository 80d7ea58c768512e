"""Several processes that train one network keep the same weights."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import torch

from lab.workers import Workers

TWO_STEPS_OF_ONE, ONE_OF_THE_OTHER = 3.0, 9.0
WORKER = f"""
import torch
from lab.workers import Workers

workers = Workers(round_s=0.0)
layer = torch.nn.Linear(1, 1, bias=False)
with torch.no_grad():
    layer.weight.fill_(({TWO_STEPS_OF_ONE}, {ONE_OF_THE_OTHER})[workers.rank])
workers._steps = (1, 0)[workers.rank]
stopped = workers.after_step(layer, done=workers.rank == 1)
print(layer.weight.item(), stopped, workers.leads)
"""


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Workers:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return Workers(round_s=0.0)


def test_a_worker_alone_keeps_its_weights_and_stops_when_it_is_done(alone: Workers) -> None:
    layer = torch.nn.Linear(2, 2)
    before = layer.weight.clone()
    assert not alone.after_step(layer, done=False)
    assert alone.after_step(layer, done=True)
    assert torch.equal(layer.weight, before)
    assert alone.leads


def test_two_workers_take_the_mean_by_steps_and_stop_together() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    about = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=os.environ | about | {"RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        told = [worker.communicate(timeout=120)[0].split() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    mean = (2 * TWO_STEPS_OF_ONE + ONE_OF_THE_OTHER) / 3
    assert told == [[str(mean), "True", "True"], [str(mean), "True", "False"]]
