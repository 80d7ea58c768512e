"""LoRAs and embeddings: they change the picture that asks for them, and no other by one bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import HubServer
from safetensors.torch import load_file, save_file
from tiny_adapters import (
    ANNA,
    BERT,
    House,
    Listener,
    lora_pairs,
    open_house,
    save_embedding,
    save_kohya,
    save_lora,
    save_plain,
)
from tiny_families.house import family_request, row_of

from pipelines.loader import LoadedModel
from pipelines.sources import pick_file
from studio.adapters import HubFile, UploadedFile, parse_source, split_word
from studio.errors import Cancelled, InvalidRequest, ModelUnavailable, NotFound
from studio.ingredients import Lora
from studio.settings import ROOT
from studio.weights import SDXL_PAIRS, Weights, check_fits, read_weights

MODELS = ("sd15", "sdxl")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return open_house(tmp_path_factory.mktemp("house"), *MODELS)


@pytest.fixture(scope="module")
def loras(house: House, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Two uploaded LoRAs of each model."""
    folder, kept = tmp_path_factory.mktemp("loras"), {}
    for key in MODELS:
        with house.manager.borrow(key) as loaded:
            paths = [save_lora(loaded, folder / f"{key}-{n}.safetensors", n) for n in range(2)]
        kept[key] = [house.keep(path) for path in paths]
    return kept


def with_loras(key: str, *loras: tuple[str, float], **changes: object):  # noqa: ANN201
    named = tuple(Lora(source=source, weight=weight) for source, weight in loras)
    return family_request(key, loras=named, **changes)


def structure(loaded: LoadedModel) -> list[tuple[object, ...]]:
    """All that drawing depends on: modules, where each weight lies, what it is, the words."""
    parts = sorted(loaded.pipeline.components.items())
    seen: list[tuple[object, ...]] = []
    for name, part in parts:
        if isinstance(part, torch.nn.Module):
            seen += [(name, key, type(one)) for key, one in part.named_modules()]
            seen += [
                (name, key, one.data_ptr(), one._version, one.requires_grad)
                for key, one in part.state_dict(keep_vars=True).items()
            ]
        elif hasattr(part, "get_vocab"):
            seen.append((name, len(part), json.dumps(part.get_vocab(), sort_keys=True)))
    return seen


@pytest.mark.parametrize("key", MODELS)
def test_a_lora_changes_its_picture_and_leaves_the_model_as_it_was(
    house: House, loras: dict[str, list[str]], key: str
) -> None:
    with house.manager.borrow(key) as loaded:
        before = structure(loaded)
    plain = house.draw(family_request(key))
    changed = house.draw(with_loras(key, (loras[key][0], 1.0)))
    assert not np.array_equal(plain, changed)
    np.testing.assert_array_equal(plain, house.draw(family_request(key)))
    np.testing.assert_array_equal(changed, house.draw(with_loras(key, (loras[key][0], 1.0))))
    with house.manager.borrow(key) as loaded:
        assert structure(loaded) == before


def test_two_loras_differ_from_each_alone_and_their_order_does_not_matter(
    house: House, loras: dict[str, list[str]]
) -> None:
    one, two = loras["sd15"]
    drawn = [
        house.draw(with_loras("sd15", *chosen)).tobytes()
        for chosen in ([(one, 1.0)], [(two, 0.5)], [(one, 1.0), (two, 0.5)])
    ]
    assert len(set(drawn)) == 3
    assert house.draw(with_loras("sd15", (two, 0.5), (one, 1.0))).tobytes() == drawn[2]


def test_the_weight_counts_and_none_is_no_lora(house: House, loras: dict[str, list[str]]) -> None:
    one, two = loras["sd15"]
    drawn = {w: house.draw(with_loras("sd15", (one, w))) for w in (0.0, 0.5, 1.0, -1.0)}
    assert len({picture.tobytes() for picture in drawn.values()}) == 4
    np.testing.assert_array_equal(drawn[0.0], house.draw(family_request("sd15")))
    with_none = house.draw(with_loras("sd15", (one, 0.5), (two, 0.0)))
    np.testing.assert_array_equal(drawn[0.5], with_none)


def test_the_recipe_names_the_very_files_that_were_added(
    house: House, loras: dict[str, list[str]]
) -> None:
    named = []
    for chosen in ([0], [1], [0, 1], [0], []):
        request = with_loras("sd15", *((loras["sd15"][place], 1.0) for place in chosen))
        with (
            house.manager.borrow("sd15") as loaded,
            house.adapters.applied(loaded, request, {}, ANNA, Listener()) as adapted,
        ):
            named.append(adapted.loaded.revision)
            assert named[-1].startswith(loaded.revision)
    assert named[0] == named[3]
    assert len(set(named)) == 4


def test_a_set_is_loaded_once_and_goes_with_its_model(
    tmp_path: Path, loras: dict[str, list[str]]
) -> None:
    house = open_house(tmp_path, "sd15")
    with house.manager.borrow("sd15") as loaded:
        source = house.keep(save_lora(loaded, tmp_path / "one.safetensors"))
    watcher, request = Listener(), with_loras("sd15", (source, 1.0))
    for wanted in (request, family_request("sd15"), request):
        house.draw(wanted, watcher)
    assert watcher.messages == ["Adding one.safetensors"]
    with house.manager.borrow("sd15") as loaded:
        gone = weakref.ref(loaded)
    del loaded
    assert house.manager.evict("sd15") and gone() is None
    assert not house.adapters._last


def test_the_set_that_stays_counts_against_the_budget(tmp_path: Path) -> None:
    house = open_house(tmp_path, "sd15")
    with house.manager.borrow("sd15") as loaded:
        small = house.keep(save_lora(loaded, tmp_path / "small.safetensors", rank=2))
        large = house.keep(save_lora(loaded, tmp_path / "large.safetensors", rank=8))
    plain, counted = house.manager.nbytes, []
    for source in (small, large, small, None):
        changes = [(source, 1.0)] if source else []
        house.draw(with_loras("sd15", *changes))
        counted.append(house.manager.nbytes - plain)
    assert counted[0] > 0 and counted == [counted[0], 4 * counted[0], counted[0], counted[0]]
    assert house.manager.evict("sd15") and house.manager.nbytes == 0


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_both_formats_of_the_web_draw_the_same(house: House, tmp_path: Path, scale: float) -> None:
    with house.manager.borrow("sd15") as loaded:
        pairs = lora_pairs(loaded, rank=2)
    plain = house.keep(save_plain(pairs, tmp_path / "plain.safetensors"))
    kohya = house.keep(save_kohya(pairs, tmp_path / "kohya.safetensors", alpha=2 * scale))
    expected = house.draw(with_loras("sd15", (plain, scale)))
    np.testing.assert_array_equal(expected, house.draw(with_loras("sd15", (kohya, 1.0))))
    assert not np.array_equal(expected, house.draw(family_request("sd15")))


def test_a_cancel_in_mid_run_leaves_the_model_as_it_was(
    house: House, loras: dict[str, list[str]]
) -> None:
    plain = house.draw(family_request("sdxl"))
    with house.manager.borrow("sdxl") as loaded:
        before = structure(loaded)
    with pytest.raises(Cancelled):
        house.draw(with_loras("sdxl", (loras["sdxl"][1], 1.0)), Listener(cancel_at=1))
    with house.manager.borrow("sdxl") as loaded:
        assert structure(loaded) == before
    np.testing.assert_array_equal(plain, house.draw(family_request("sdxl")))


def rename_a_layer(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("down_blocks.0", "down_blocks.7"): t for name, t in tensors.items()}


def rename_all(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("unet.", "other."): tensor for name, tensor in tensors.items()}


def cut(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor[:, :3].contiguous() for name, tensor in tensors.items()}


@pytest.mark.parametrize("spoil", [rename_a_layer, rename_all, cut])
def test_tensors_without_a_place_are_an_error(
    house: House, tmp_path: Path, spoil: Callable[..., dict[str, torch.Tensor]]
) -> None:
    with house.manager.borrow("sd15") as loaded:
        before = structure(loaded)
        path = save_plain(lora_pairs(loaded), tmp_path / "good.safetensors")
    save_file(spoil(load_file(path)), tmp_path / "spoilt.safetensors")
    source = house.keep(tmp_path / "spoilt.safetensors")
    plain = house.draw(family_request("sd15"))
    with pytest.raises(InvalidRequest, match="“spoilt.safetensors” does not fit Stable Diffusion"):
        house.draw(with_loras("sd15", (source, 1.0)))
    with house.manager.borrow("sd15") as loaded:
        assert structure(loaded) == before
    np.testing.assert_array_equal(plain, house.draw(family_request("sd15")))


def test_a_lora_of_another_base_is_refused_before_anything_is_loaded(
    house: House, tmp_path: Path
) -> None:
    names = ["lora_A", "lora_B"]
    shapes = [(1, 2048), (640, 1)]
    layer = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {f"{layer}.{n}.weight": torch.zeros(s) for n, s in zip(names, shapes, strict=True)}
    save_file(tensors, tmp_path / "style.safetensors")
    source, watcher = house.keep(tmp_path / "style.safetensors"), Listener()
    with pytest.raises(InvalidRequest) as refusal:
        house.draw(with_loras("sd15", (source, 1.0)), watcher)
    assert "“style.safetensors” is for SDXL, but Stable Diffusion 1.5 is" in str(refusal.value)
    assert not watcher.messages and not watcher.steps
    with pytest.raises(InvalidRequest, match="is for SDXL"):
        house.files.check(row_of("sd15"), with_loras("sd15", (source, 1.0)), ANNA)


def test_a_dora_is_refused(house: House, tmp_path: Path) -> None:
    with house.manager.borrow("sd15") as loaded:
        path = save_kohya(lora_pairs(loaded), tmp_path / "dora.safetensors", alpha=2)
    tensors = load_file(path)
    first = next(iter(tensors)).partition(".")[0]
    save_file(tensors | {f"{first}.dora_scale": torch.ones(8, 1)}, path)
    with pytest.raises(InvalidRequest, match="is a DoRA"):
        house.draw(with_loras("sd15", (house.keep(path), 1.0)))


# Embeddings


def vectors(count: int, width: int = 16, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("where", ["prompt", "negative_prompt"])
def test_a_word_has_its_effect_in_either_prompt(house: House, tmp_path: Path, where: str) -> None:
    source = house.keep(save_embedding(tmp_path / "moss.safetensors", {"emb_params": vectors(2)}))
    texts = {"prompt": "a red fox", "negative_prompt": "dull", where: "a Moss, wet"}
    plain = house.draw(family_request("sd15", **texts))
    with house.manager.borrow("sd15") as loaded:
        before = structure(loaded)
    taught = house.draw(family_request("sd15", embeddings=(source,), **texts))
    assert not np.array_equal(plain, taught)
    np.testing.assert_array_equal(plain, house.draw(family_request("sd15", **texts)))
    with house.manager.borrow("sd15") as loaded:
        assert structure(loaded) == before


def test_a_word_inside_another_is_not_it_and_the_visitor_hears_that(
    house: House, tmp_path: Path
) -> None:
    source = house.keep(save_embedding(tmp_path / "art.safetensors", {"emb_params": vectors(1)}))
    watcher, prompt = Listener(), "a party, art_deco"
    taught = house.draw(family_request("sd15", prompt=prompt, embeddings=(source,)), watcher)
    np.testing.assert_array_equal(house.draw(family_request("sd15", prompt=prompt)), taught)
    assert watcher.notes == ["The word “art” of an embedding is in neither prompt: no effect."]


def test_a_word_may_be_weighed(house: House, tmp_path: Path) -> None:
    source = house.keep(save_embedding(tmp_path / "moss.safetensors", {"emb_params": vectors(2)}))
    drawn = [
        house.draw(
            family_request("sd15", prompt=prompt, prompt_syntax="a1111", embeddings=(source,))
        ).tobytes()
        for prompt in ("a moss", "a (moss:1.4)", "a (moss:1.0)")
    ]
    assert drawn[0] == drawn[2] != drawn[1]


def test_the_visitor_may_choose_the_word_and_each_vector_counts(
    house: House, tmp_path: Path
) -> None:
    both = save_embedding(tmp_path / "x.safetensors", {"<toy>": vectors(2)})
    first = save_embedding(tmp_path / "y.safetensors", {"<toy>": vectors(2)[0]})
    named = house.keep(both), f"{house.keep(both)} as lego", house.keep(first)
    prompts = "a <toy>", "a lego", "a <toy>"
    drawn = [
        house.draw(family_request("sd15", prompt=prompt, embeddings=(source,))).tobytes()
        for source, prompt in zip(named, prompts, strict=True)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("names", SDXL_PAIRS)
def test_sdxl_reads_a_word_with_both_encoders_and_sums_up_at_the_end(
    house: House, tmp_path: Path, names: tuple[str, str]
) -> None:
    tensors = {name: vectors(1, seed=seed) for seed, name in enumerate(names)}
    source = house.keep(save_embedding(tmp_path / "moss.safetensors", tensors))
    request = family_request("sdxl", prompt="a moss", embeddings=(source,))
    drawn = house.draw(request)
    assert not np.array_equal(drawn, house.draw(replace(request, embeddings=())))
    other = {**tensors, names[1]: vectors(1, seed=3)}
    second = house.keep(save_embedding(tmp_path / "other.safetensors", other))
    changed = house.draw(replace(request, embeddings=(f"{second} as moss",)))
    assert not np.array_equal(drawn, changed)

    old = open_house(tmp_path, "sdxl")
    old.keep(tmp_path / "moss.safetensors")
    with old.manager.borrow("sdxl") as loaded:
        for encoder in (loaded.pipeline.text_encoder, loaded.pipeline.text_encoder_2):
            getattr(encoder, "text_model", encoder).eos_token_id = 2
    np.testing.assert_array_equal(drawn, old.draw(request))


def test_an_embedding_of_another_model_is_refused(house: House, tmp_path: Path) -> None:
    wide = house.keep(save_embedding(tmp_path / "wide.safetensors", {"emb_params": vectors(1, 24)}))
    with pytest.raises(
        InvalidRequest, match="vectors of 24 numbers, Stable Diffusion 1.5 reads 16"
    ):
        house.draw(family_request("sd15", embeddings=(wide,)))
    tensors = {"clip_l": vectors(1, 768), "clip_g": vectors(1, 1280)}
    sdxl = house.keep(save_embedding(tmp_path / "sdxl.safetensors", tensors))
    with pytest.raises(InvalidRequest, match="“sdxl.safetensors” is for SDXL"):
        house.draw(family_request("sd15", embeddings=(sdxl,)))


def test_words_and_loras_go_together(
    house: House, tmp_path: Path, loras: dict[str, list[str]]
) -> None:
    source = house.keep(save_embedding(tmp_path / "moss.safetensors", {"emb_params": vectors(1)}))
    request = family_request("sd15", prompt="a moss")
    lora = (Lora(source=loras["sd15"][0]),)
    drawn = [
        house.draw(replace(request, **changes)).tobytes()
        for changes in (
            {"loras": lora},
            {"embeddings": (source,)},
            {"loras": lora, "embeddings": (source,)},
        )
    ]
    assert len(set(drawn)) == 3


# Files and names


def test_files_of_other_visitors_are_not_found(house: House, loras: dict[str, list[str]]) -> None:
    request = with_loras("sd15", (loras["sd15"][0], 1.0))
    with pytest.raises(NotFound):
        house.draw(request, owner=BERT)
    with pytest.raises(NotFound):
        house.files.check(row_of("sd15"), request, BERT)
    assert not house.files.all_of(BERT)
    assert {one.source for one in house.files.all_of(ANNA)} >= set(loras["sd15"])


def test_what_cannot_be_kept_says_why(house: House, tmp_path: Path) -> None:
    pickle = tmp_path / "style.pt"
    torch.save({"a": torch.ones(2)}, pickle)
    with pytest.raises(InvalidRequest, match="pickle file.*Croquis loads .safetensors only"):
        house.keep(pickle)
    renamed = pickle.rename(tmp_path / "renamed.safetensors")
    with pytest.raises(InvalidRequest, match="“renamed.safetensors” is no whole safetensors file"):
        house.keep(renamed)
    whole = {f"model.diffusion_model.{index}": torch.ones(2) for index in range(30)}
    save_file(whole, tmp_path / "model.safetensors")
    with pytest.raises(InvalidRequest, match="is a whole model, neither a LoRA nor an embedding"):
        house.keep(tmp_path / "model.safetensors")
    good = save_embedding(tmp_path / "good.safetensors", {"emb_params": vectors(1)})
    (tmp_path / "short.safetensors").write_bytes(good.read_bytes()[:-8])
    with pytest.raises(InvalidRequest, match="no whole safetensors file"):
        house.keep(tmp_path / "short.safetensors")


def test_a_name_from_outside_never_becomes_a_path(house: House, tmp_path: Path) -> None:
    path = save_embedding(tmp_path / "good.safetensors", {"emb_params": vectors(1, seed=9)})
    kept = house.files.keep(path, "../../..\\evil/moss.safetensors", BERT)
    assert kept.name == "moss.safetensors"
    found, name = house.files.find(UploadedFile(digest=kept.source.removeprefix("input-")), BERT)
    assert found.parent.name == BERT and name == "moss.safetensors"
    assert house.files.keep(path, "again.safetensors", BERT).source == kept.source


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("owner/name", HubFile(repository="owner/name", file=None)),
        (" owner/na.me_1 ", HubFile(repository="owner/na.me_1", file=None)),
        ("a/b/sub/c.safetensors", HubFile(repository="a/b", file="sub/c.safetensors")),
        ("a/b@v2/c.safetensors", HubFile(repository="a/b", file="c.safetensors", commit="v2")),
        (
            "https://huggingface.co/a/b/blob/main/c.safetensors",
            HubFile(repository="a/b", file="c.safetensors"),
        ),
        (
            "https://huggingface.co/a/b/resolve/0f1e/c.safetensors?download=true",
            HubFile(repository="a/b", file="c.safetensors", commit="0f1e"),
        ),
        ("https://huggingface.co/a/b", HubFile(repository="a/b", file=None)),
        (f"input-{'0' * 64}", UploadedFile(digest="0" * 64)),
    ],
)
def test_what_a_visitor_may_type(text: str, meant: object) -> None:
    assert parse_source(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "/etc/passwd",
        "../up/two",
        "a/b/../../c.safetensors",
        "C:\\lora.safetensors",
        "file.safetensors",
        "https://example.org/a/b",
        "a/b/readme.md",
        "~/lora/x",
        f"input-{'0' * 63}",
    ],
)
def test_what_is_no_source_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="no LoRA that can be found"):
        parse_source(text)


def test_pickles_of_the_hub_are_refused_with_what_to_do() -> None:
    with pytest.raises(InvalidRequest, match="pickle file.*or convert it"):
        parse_source("owner/name/pytorch_lora_weights.bin")
    with pytest.raises(InvalidRequest, match="has no .safetensors file"):
        pick_file(["weights.bin", "README.md"], "owner/name")
    several = ["steps/1.safetensors", "steps/2.safetensors"]
    with pytest.raises(InvalidRequest, match="has 2 files. Choose one, such as o/n/steps/1"):
        pick_file(several, "o/n")
    assert pick_file(several[:1], "o/n") == several[0]
    usual = "pytorch_lora_weights.safetensors"
    assert pick_file([*several, usual], "o/n") == usual


def test_what_the_hub_cannot_give_is_a_clear_error(house: House) -> None:
    with pytest.raises(ModelUnavailable, match="nobody/nothing"):
        house.draw(with_loras("sd15", ("nobody/nothing", 1.0)))


FETCH = """
import json, sys
from pathlib import Path
from pipelines.sources import AdapterSources
from studio.adapter_files import AdapterFiles
from studio.adapters import parse_source
from studio.errors import CroquisError
from studio.settings import Settings

messages = []
sources = AdapterSources(AdapterFiles(Path(sys.argv[1])), Settings(offline=sys.argv[2] == "off"))
for text in sys.argv[3:]:
    try:
        path = sources.fetched(parse_source(text), messages.append)
        print(json.dumps({"name": path.name, "nbytes": path.stat().st_size}))
    except CroquisError as exc:
        print(json.dumps({"error": type(exc).__name__ + ": " + str(exc)}))
"""


def test_a_lora_of_the_hub_is_fetched_once_by_its_name(house: House, tmp_path: Path) -> None:
    """In a process of its own: the Hub's client reads its address when it is imported."""
    repositories = tmp_path / "hub"
    for name in ("anna/moss", "anna/pickled", "anna/steps", "anna/gated"):
        (repositories / name).mkdir(parents=True)
    with house.manager.borrow("sd15") as loaded:
        lora = save_lora(loaded, repositories / "anna/moss/moss.safetensors")
    (repositories / "anna/pickled/weights.bin").write_bytes(b"pickle")
    for place in ("steps/1", "steps/2", "gated/moss"):
        (repositories / f"anna/{place}.safetensors").write_bytes(lora.read_bytes())
    (repositories / "anna/gated/.hub.json").write_text('{"gated": true}')
    server = HubServer(0, repositories, tmp_path / "log")
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def fetch(*texts: str, mode: str = "on") -> list[dict[str, object]]:
        env = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "cache")}
        env |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", FETCH, str(tmp_path), mode, *texts]
        ran = subprocess.run(
            command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert ran.returncode == 0, ran.stderr
        return [json.loads(line) for line in ran.stdout.splitlines()]

    whole = {"name": "moss.safetensors", "nbytes": lora.stat().st_size}
    by_name, by_file, *refused = fetch(
        "anna/moss",
        "anna/moss/moss.safetensors",
        "anna/moss/other.safetensors",
        "anna/pickled",
        "anna/steps",
        "anna/gated",
        "anna/gone",
    )
    assert by_name == by_file == whole
    expected = ("no file “other", "no .safetensors", "has 2 files", "accept", "removed")
    for answer, words in zip(refused, expected, strict=True):
        assert words in str(answer["error"]), answer
    server.shutdown()
    assert fetch("anna/moss", mode="off") == [whole]


def test_a_word_is_checked() -> None:
    assert split_word("a/b as <cat-toy>") == ("a/b", "<cat-toy>")
    assert split_word("a/b") == ("a/b", None)
    with pytest.raises(InvalidRequest, match="letters, digits"):
        split_word("a/b as two words")


def lora_of(layer: str, width: int, form: str = "lora_down") -> dict[str, tuple[int, ...]]:
    return {f"{layer}.{form}.weight": (4, width)}


ATTENTION = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"


@pytest.mark.parametrize(
    ("shapes", "base"),
    [
        (lora_of(ATTENTION, 768), "sd1"),
        (lora_of(ATTENTION, 1024), "sd2"),
        (lora_of(ATTENTION, 2048), "sdxl"),
        (lora_of(ATTENTION, 256), "croquis"),
        (
            lora_of("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v", 768, "lora_A"),
            "sd1",
        ),
        (lora_of("unet.x.attn2.processor.to_k_lora", 1024, "down"), "sd2"),
        (lora_of("unet.x.attn2.to_k", 320, "lora_A"), None),
        (lora_of("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 1024), "sd2"),
        (lora_of("lora_te2_text_model_encoder_layers_0_self_attn_q_proj", 1280), "sdxl"),
        (lora_of("transformer.single_transformer_blocks.0.proj_mlp", 3072, "lora_A"), "flux1"),
        (lora_of("transformer.transformer_blocks.0.attn.add_k_proj", 1536, "lora_A"), "sd3"),
        (lora_of("transformer.transformer_blocks.0.img_mlp.net.2", 3072, "lora_A"), "qwen_image"),
        ({"clip_l": (3, 768), "clip_g": (3, 1280)}, "sdxl"),
        ({"emb_params": (3, 1024)}, "sd2"),
    ],
)
def test_the_base_is_told_by_shapes_and_names(
    shapes: dict[str, tuple[int, ...]], base: str | None
) -> None:
    assert Weights(shapes=shapes, metadata={}).base == base


@pytest.mark.parametrize(
    ("metadata", "base"),
    [
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "sdxl"),
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, "sd1"),
        ({"ss_base_model_version": "sd_v2_768_v"}, "sd2"),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "sdxl"),
        ({"modelspec.architecture": "Flux.1-dev/lora"}, "flux1"),
        ({}, None),
    ],
)
def test_the_base_is_told_by_metadata_where_shapes_do_not(
    metadata: dict[str, str], base: str | None
) -> None:
    shapes = {"lora_unet_conv_in.lora_down.weight": (4, 4, 3, 3)}
    assert Weights(shapes=shapes, metadata=metadata).base == base


def test_rank_and_trigger_words_are_read(tmp_path: Path) -> None:
    tags = {"10_moss": {"moss man": 12, "outdoors": 3}, "2_more": {"outdoors": 2}}
    path = tmp_path / "moss.safetensors"
    tensors = {f"{ATTENTION}.lora_down.weight": torch.zeros(4, 768)}
    save_file(tensors, path, metadata={"ss_tag_frequency": json.dumps(tags)})
    weights = read_weights(path, "moss")
    assert (weights.kind, weights.rank, weights.triggers) == ("lora", 4, ("moss man", "outdoors"))
    save_file(tensors, path, metadata={"modelspec.trigger_phrase": "mss, mossy "})
    assert read_weights(path, "moss").triggers == ("mss", "mossy")


def test_another_kind_of_file_is_named() -> None:
    ip = Weights(shapes={"ip_adapter.1.to_k_ip.weight": (2, 2)}, metadata={})
    with pytest.raises(InvalidRequest, match="“x” is an IP-Adapter, not a LoRA"):
        check_fits(ip, "lora", "x", "sd1", "Stable Diffusion 1.5")
