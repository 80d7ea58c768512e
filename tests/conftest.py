"""What holds for every test: no network, no analytics, one torch thread, GPU tests on a GPU."""

import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("OMP_NUM_THREADS", "1")


LONGEST = (
    "test_bench",
    "test_page_adapters",
    "test_dalle_mega",
    "test_shutdown",
    "test_acceleration",
    "test_hub",
    "test_graphs",
    "test_models_tab",
    "test_switching",
    "test_page_modify",
    "test_page_live",
    "test_seamless",
    "test_page_visits",
    "test_corpus",
    "test_page_cascade",
    "test_app",
    "test_studio",
    "test_crash",
)
"""Files that take more than 20 s, longest first: begun last, one core would wait for the other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))
    if not any(item.get_closest_marker("gpu") for item in items):
        return
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device; this machine has none"))
