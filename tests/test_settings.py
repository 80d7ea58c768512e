"""Settings: one table, read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.errors import InvalidRequest
from studio.settings import ROOT, SETTINGS, Settings


def test_nothing_set_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()
    assert Settings().data_dir == ROOT / "data"


def test_an_empty_variable_keeps_its_default() -> None:
    assert Settings.from_environment({"CROQUIS_PORT": " "}).port == 7860


def test_every_value_is_read() -> None:
    settings = Settings.from_environment(
        {
            "CROQUIS_DATA_DIR": "/srv/croquis",
            "CROQUIS_PORT": "80",
            "CROQUIS_DEVICE": "cuda:1",
            "CROQUIS_MEMORY_BUDGET_GB": "5.5",
            "CROQUIS_MODEL_PATHS": "sd2=/models/sd2; builtin=/other",
            "CROQUIS_OFFLINE": "1",
            "CROQUIS_CPU_THREADS": "2",
            "CROQUIS_ACCELERATION": "compile",
            "CROQUIS_TF32": "1",
        }
    )
    assert settings.data_dir == Path("/srv/croquis")
    assert settings.port == 80
    assert settings.device == "cuda:1"
    assert settings.memory_budget_gb == 5.5
    assert settings.model_paths == {"sd2": Path("/models/sd2"), "builtin": Path("/other")}
    assert settings.offline is True
    assert settings.cpu_threads == 2
    assert settings.acceleration == "compile"
    assert settings.tf32 is True


def test_a_relative_folder_starts_at_the_repository() -> None:
    assert Settings.from_environment({"CROQUIS_DATA_DIR": "here"}).data_dir == ROOT / "here"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CROQUIS_PORT", "eighty"),
        ("CROQUIS_PORT", "70000"),
        ("CROQUIS_QUEUE_LIMIT", "0"),
        ("CROQUIS_MEMORY_BUDGET_GB", "nan"),
        ("CROQUIS_MEMORY_BUDGET_GB", "-1"),
        ("CROQUIS_OFFLINE", "perhaps"),
        ("CROQUIS_DEVICE", "tpu"),
        ("CROQUIS_DEVICE", "cuda:x"),
        ("CROQUIS_DTYPE", "cuda:0"),
        ("CROQUIS_DTYPE", "int8"),
        ("CROQUIS_ACCELERATION", "tensorrt"),
        ("CROQUIS_TF32", "yes"),
        ("CROQUIS_MODEL_PATHS", "sd2"),
    ],
)
def test_a_wrong_value_names_the_variable_and_the_value(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=name) as caught:
        Settings.from_environment({name: value})
    assert repr(value) in str(caught.value)
    assert "None" not in str(caught.value)


def test_the_token_is_never_shown() -> None:
    settings = Settings.from_environment({"CROQUIS_HF_TOKEN": "hf_secret"})
    assert settings.hf_token == "hf_secret"
    assert "hf_secret" not in repr(settings)


def test_the_table_names_every_field_once() -> None:
    assert len({row.name for row in SETTINGS}) == len(SETTINGS)
    assert all(row.name.startswith("CROQUIS_") and row.help for row in SETTINGS)


def test_the_defaults_in_the_table_can_be_written_into_the_variables() -> None:
    written = {row.name: row.default for row in SETTINGS}
    assert Settings.from_environment(written) == Settings()


def test_settings_do_not_share_their_dictionary() -> None:
    assert Settings().model_paths is not Settings().model_paths
