"""Remembering: a prompt is encoded once, and nothing else comes of that."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_families.house import family_catalogue, family_request, family_settings
from tiny_house import RecordingWatcher
from transformers import CLIPTextModel

from pipelines.company import Company
from pipelines.drawing import draw
from pipelines.knees import Knees
from pipelines.loader import LoadedModel, Loader
from pipelines.remembering import ENCODERS, Remembering
from pipelines.shells import build_shell
from pipelines.stepping import Stepper, call_plainly
from pipelines.twins import twin_of

KEYS = ("sd14", "sdxl")
SETTINGS = family_settings(*KEYS)
CATALOGUE = family_catalogue(SETTINGS)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def models() -> dict[str, LoadedModel]:
    loader = Loader(SETTINGS)
    rows = {key: CATALOGUE.get_model(key) for key in KEYS}
    return {key: loader.load(loader.find(row, print)) for key, row in rows.items()}


@pytest.fixture
def company(tmp_path: Path) -> Company:
    return Company(Stepper(call_plainly, Knees(tmp_path / "knees.json")))


def pixels(
    loaded: LoadedModel, company: Company | None = None, **changes: object
) -> list[np.ndarray]:
    """The pictures of a request, drawn as the engine does, or one after the other without it."""
    request = family_request(loaded.spec.key, num_inference_steps=1, **changes)
    scheduler = CATALOGUE.get_scheduler(request.scheduler)
    each = draw(loaded, scheduler, request, [0], RecordingWatcher(), company=company)
    return [np.asarray(drawn.image) for drawn in each]


class Count:
    """Counts how often text encoders run."""

    def __init__(self, *encoders: torch.nn.Module) -> None:
        self.calls = 0
        for one in encoders:
            one.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.calls += 1

    def of(self, work: Callable[[], object]) -> int:
        """How often they run in some work."""
        before = self.calls
        work()
        return self.calls - before


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("syntax", ["plain", "a1111"])
def test_pictures_have_the_same_bits_and_a_prompt_is_encoded_once(
    models: dict[str, LoadedModel], company: Company, key: str, syntax: str
) -> None:
    loaded = models[key]
    wishes = [
        {"prompt": "a (red:1.3) fox", "negative_prompt": "snow", "prompt_syntax": syntax},
        {"prompt": "a fox", "negative_prompt": "snow", "prompt_syntax": syntax},
        {"prompt": "a fox", "negative_prompt": "", "prompt_syntax": syntax},
    ]
    alone = [pixels(loaded, **wish) for wish in wishes]
    parts = loaded.pipeline.components
    count = Count(*(parts[name] for name in ENCODERS if parts.get(name) is not None))
    for _ in range(2):
        for wish, expected in zip(wishes, alone, strict=True):
            assert np.array_equal(pixels(loaded, company, **wish), expected)
    first_round = count.calls
    assert all(np.array_equal(pixels(loaded, company, **wishes[0]), alone[0]) for _ in range(3))
    assert count.calls == first_round
    assert not np.array_equal(alone[0], alone[1]) and not np.array_equal(alone[1], alone[2])


def encoder() -> CLIPTextModel:
    from transformers import CLIPTextConfig

    torch.manual_seed(5)
    config = CLIPTextConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=8, bos_token_id=0, eos_token_id=49,
    )  # fmt: skip
    return CLIPTextModel(config).eval()


def ids(*numbers: int) -> torch.Tensor:
    return torch.tensor([[0, *numbers, 49]])


def test_options_of_the_call_are_part_of_the_question() -> None:
    model = encoder()
    count, asked = Count(model), Remembering().stand_in(model)
    questions = [
        lambda: asked(ids(1, 2), output_hidden_states=True),
        lambda: asked(ids(1, 2)),
        lambda: asked(ids(2, 1)),
        lambda: asked(ids(1, 2), attention_mask=torch.tensor([[1, 1, 1, 0]])),
        lambda: asked(ids(1, 2).int()),
    ]
    assert [count.of(question) for question in questions] == [1] * len(questions)
    assert [count.of(question) for question in questions] == [0] * len(questions)
    states = asked(ids(1, 2), output_hidden_states=True).hidden_states
    assert all(map(torch.equal, states, model(ids(1, 2), output_hidden_states=True).hidden_states))
    assert asked(ids(1, 2)).hidden_states is None


def test_who_writes_into_what_he_was_told_changes_it_for_nobody_else() -> None:
    model = encoder()
    asked = Remembering().stand_in(model)
    expected = model(ids(3))[0].clone()
    for _ in range(3):
        said = asked(ids(3))
        assert torch.equal(said[0], expected)
        said[0].zero_()


@pytest.mark.parametrize("change", ["weight", "scale", "part"])
def test_a_changed_encoder_is_asked_anew(change: str) -> None:
    model = encoder()
    count, asked = Count(model), Remembering().stand_in(model)
    before = asked(ids(4))[0]
    layer = next(one for one in model.modules() if isinstance(one, torch.nn.LayerNorm))
    if change == "weight":
        layer.weight = torch.nn.Parameter(2 * layer.weight)
    elif change == "scale":
        next(one for one in model.modules() if hasattr(one, "scale")).scale = 0.01
    else:
        model.set_input_embeddings(torch.nn.Embedding(50, 16))
    assert count.of(lambda: asked(ids(4))) == 1
    assert not torch.equal(asked(ids(4))[0], before)


def test_a_twin_has_a_memory_of_its_own() -> None:
    remembering, model = Remembering(), encoder()
    other = twin_of(model)
    other.set_input_embeddings(torch.nn.Embedding(60, 16))
    first, second = remembering.stand_in(model), remembering.stand_in(other)
    assert not torch.equal(first(ids(5))[0], second(ids(5))[0])
    assert torch.equal(first(ids(5))[0], model(ids(5))[0])


def test_what_was_asked_for_longest_ago_goes_and_all_goes_with_the_encoder() -> None:
    model = encoder()
    one = sum(tensor.nbytes for tensor in model(ids(1)).values())
    count, remembering = Count(model), Remembering(3 * one)
    asked = remembering.stand_in(model)
    for number in (1, 2, 3, 1, 4):
        asked(ids(number))
    assert remembering.nbytes == 3 * one
    assert [count.of(functools.partial(asked, ids(number))) for number in (1, 2)] == [0, 1]
    del asked, model
    gc.collect()
    assert remembering.nbytes == 0


def test_what_may_depend_on_more_is_never_remembered() -> None:
    remembering, model = Remembering(), encoder()
    asked = remembering.stand_in(model)
    with torch.enable_grad():
        asked(ids(1))
    asked(ids(1), return_dict=object())
    model.train()
    remembering.stand_in(model)(ids(1))
    assert remembering.nbytes == 0


def test_a_shell_of_a_shell_asks_once(models: dict[str, LoadedModel]) -> None:
    loaded, remembering = models["sd14"], Remembering()
    count = Count(loaded.pipeline.text_encoder)
    shell = build_shell(loaded, parts=remembering.stand_ins(loaded.pipeline))
    again = remembering.stand_ins(shell)
    assert again == {"text_encoder": shell.text_encoder}
    second = build_shell(replace(loaded, pipeline=shell), parts=again)
    assert second.text_encoder is shell.text_encoder
    assert count.of(lambda: second.text_encoder(ids(1))) == 1
    assert count.of(lambda: second.text_encoder(ids(1))) == 0
