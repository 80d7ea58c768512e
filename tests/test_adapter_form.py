"""The form's values of LoRAs, embeddings and pictures to follow, and what they ask for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_studio import make_catalogue, make_request

from studio.adapter_files import KeptAdapter
from studio.errors import InvalidRequest
from studio.ingredients import CONTROLS, Control, Lora, Reference
from studio.weights import Weights
from ui.adapter_parts import fit_adapters
from ui.adapters import (
    ROWS,
    adapter_defaults,
    added,
    removed,
    to_adapters,
    told_of,
    without_adapters,
)
from ui.form import defaults_of, from_request, restore, to_request

BUILTIN = make_catalogue().get_model("builtin")
UPLOAD = "input-" + "4f" * 32
PICTURE = "0" * 32


def kept(kind: str = "lora") -> KeptAdapter:
    shape = {"a.lora_down.weight": (4, 8)} if kind == "lora" else {"emb_params": (2, 768)}
    return KeptAdapter(
        source=UPLOAD, name="moss.safetensors", weights=Weights(shapes=shape, metadata={})
    )


def test_a_request_comes_back_from_the_form() -> None:
    request = make_request(
        loras=(Lora(source="a/b", weight=0.5), Lora(source=UPLOAD)),
        embeddings=("a/b as moss", UPLOAD),
        control=Control(kind="line", picture=PICTURE, weight=0.7, is_ready=True),
        reference=Reference(picture=PICTURE, weight=0.2),
    )
    values = defaults_of(BUILTIN) | from_request(request)
    assert to_request(values) == request
    assert to_request(defaults_of(BUILTIN) | {"prompt": "a fox"}).loras == ()
    told = dict(told_of(request))
    assert told["LoRA"] == "a/b at 0.5, your file 4f4f4f4f at 1"
    assert told["Follows"] == "lines, strength 0.7"
    assert all(not text for _, text in told_of(make_request()))


def test_a_lora_that_is_off_is_not_asked_for() -> None:
    values = adapter_defaults() | {"lora_1": "a/b", "lora_2": "c/d", "lora_1_on": False}
    assert [lora.source for lora in to_adapters(values)["loras"]] == ["c/d"]
    with pytest.raises(InvalidRequest, match="`lora_2_weight` is empty"):
        to_adapters(values | {"lora_2_weight": None})


def test_what_is_hidden_for_a_model_is_never_asked_for() -> None:
    values = adapter_defaults() | {"lora_1": "a/b", "embeddings": "c/d", "control_picture": PICTURE}
    hidden = values | without_adapters(BUILTIN, ())
    assert to_adapters(hidden).keys() == {"loras", "embeddings"}
    assert [lora.source for lora in to_adapters(hidden)["loras"]] == ["a/b"]
    plain = replace(BUILTIN, lora=False, textual_inversion=False)
    assert to_adapters(values | without_adapters(plain, ())) == {"loras": (), "embeddings": ()}
    offered = (*CONTROLS, "reference")
    assert without_adapters(BUILTIN, offered) == {}


def test_a_brought_file_takes_the_first_free_place() -> None:
    values = adapter_defaults() | {"lora_1": "a/b"}
    taken = values | added(kept(), values)
    assert taken["lora_2"] == f"moss.safetensors ({UPLOAD})"
    assert [lora.source for lora in to_adapters(taken)["loras"]] == ["a/b", UPLOAD]
    worded = values | added(kept("embedding"), values | {"embeddings": "c/d"})
    assert to_adapters(worded)["embeddings"] == ("c/d", UPLOAD)
    renamed = values | {"embeddings": f"moss.safetensors ({UPLOAD}) as fern"}
    assert to_adapters(renamed)["embeddings"] == (f"{UPLOAD} as fern",)
    full = values | dict.fromkeys(ROWS, "a/b")
    with pytest.raises(InvalidRequest, match="takes 5 LoRAs. Remove one first"):
        added(kept(), full)


def test_rows_below_a_removed_one_move_up() -> None:
    values = adapter_defaults() | {"lora_1": "a/b", "lora_2": "c/d", "lora_2_weight": 0.3}
    left = values | removed("lora_1", values)
    assert (left["lora_1"], left["lora_1_weight"], left["lora_2"]) == ("c/d", 0.3, "")
    with pytest.raises(InvalidRequest, match="no such LoRA"):
        removed("prompt", values)


def hides(values: dict[str, object], offered: tuple[str, ...] = ()) -> set[str]:
    note = fit_adapters(BUILTIN, offered, values)["adapters_note"]["value"]
    return set(note.partition('data-hides="')[2].partition('"')[0].split())


def test_one_empty_row_is_shown_and_only_what_the_model_can() -> None:
    values = adapter_defaults()
    assert {"lora-2-box", "control", "reference"} <= hides(values)
    assert not {"lora-1-box", "loras", "embeddings"} & hides(values)
    assert not {"lora-2-box"} & hides(values | {"lora_1": "a/b"})
    assert {"lora-3-box"} <= hides(values | {"lora_1": "a/b"})
    followed = hides(values | {"control_picture": PICTURE}, ("line",))
    assert not {"control", "control-chosen"} & followed and "reference" in followed
    said = fit_adapters(BUILTIN, ("line",), values)
    assert said["control_kind"]["choices"] == [("Lines", "line")]
    assert "no network to follow a reference picture" in said["adapters_note"]["value"]


def test_the_kept_form_remembers_what_was_off() -> None:
    saved = defaults_of(BUILTIN) | {"lora_1": "a/b", "lora_1_on": False, "lora_2_on": "no"}
    values = restore(make_catalogue(), saved, "builtin")
    assert (values["lora_1"], values["lora_1_on"], values["lora_2_on"]) == ("a/b", False, True)


def test_a_reference_that_cannot_be_had_is_not_sent() -> None:
    values = adapter_defaults() | {"reference_picture": PICTURE}
    assert "reference" in to_adapters(values)
    assert "reference" not in to_adapters(values | without_adapters(BUILTIN, ("canny",)))
