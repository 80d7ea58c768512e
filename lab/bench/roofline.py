"""How much of the device's measured matrix product the pictures use."""

from __future__ import annotations

import itertools
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lab.bench.checkpoints import MAX_TOKENS, decoder_on_meta, denoiser_on_meta
from lab.bench.crowd import draw_together, same_orders
from lab.bench.effort import Effort
from lab.bench.stage import Stage, synchronize
from lab.bench.table import Row
from lab.bench.timing import Samples, interleave, noise_of

CROWDS = (1, 2, 4, 8, 16)
SIDE, TOY_SIDE = 8192, 256
"""Of the square matrices."""
PRODUCTS = 10
ROWS = 2
"""Of a guided picture."""


def measure_roofline(stage: Stage, effort: Effort, goal: float, *, toy: bool) -> list[Row]:
    """Operations per second of the best crowd, over those of a matrix product in between."""
    starts = itertools.count(step=max(CROWDS))
    operations = count_operations(stage, toy=toy)
    crowds = [users for users in CROWDS if users <= effort.users]

    with stage.open() as house:

        def seconds_each(users: int) -> float:
            return draw_together(house, same_orders(stage.request, users, 1, next(starts))) / users

        arms = {str(users): lambda users=users: seconds_each(users) for users in crowds}
        arms["product"] = lambda: 1 / product_rate(stage, TOY_SIDE if toy else SIDE)
        taken = interleave(arms, effort.long_rounds, effort.warm_ups)
    product = taken.pop("product")
    return [_row(stage, taken, product, operations, goal)]


def count_operations(stage: Stage, *, toy: bool) -> float:
    """Of one picture: two for each multiplication of the denoiser and the decoder.

    Counted without computing, on modules that have shapes only; the text encoder is left out.
    """
    request, spec = stage.request, stage.catalogue.get_model(stage.request.model)
    height, width = request.height // 8, request.width // 8
    unet = denoiser_on_meta(spec.pipeline_class, toy=toy)
    with torch.device("meta"), torch.no_grad():
        latents = torch.empty(ROWS, 4, height, width)
        text = torch.empty(ROWS, MAX_TOKENS, unet.config.cross_attention_dim)
        added = _added(unet)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as step:
            unet(latents, torch.ones(()), text, added_cond_kwargs=added)
        decoder = decoder_on_meta(toy=toy)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as decoding:
            decoder.decode(latents[:1])
    steps = request.num_inference_steps
    return float(steps * step.get_total_flops() + decoding.get_total_flops())


def product_rate(stage: Stage, side: int) -> float:
    """Operations per second of a product of two square matrices, as a GPU multiplies best."""
    dtype = torch.float32 if stage.device == "cpu" else torch.bfloat16
    left, right = (torch.randn(side, side, device=stage.device).to(dtype) for _ in range(2))
    left @ right
    synchronize()
    started = time.perf_counter()
    for _ in range(PRODUCTS):
        left @ right
    synchronize()
    return PRODUCTS * 2 * side**3 / (time.perf_counter() - started)


def _added(unet: torch.nn.Module) -> dict[str, torch.Tensor] | None:
    """What SDXL is told of the size and of the whole text."""
    if unet.config.addition_embed_type != "text_time":
        return None
    times = 6 * unet.config.addition_time_embed_dim
    width = unet.config.projection_class_embeddings_input_dim - times
    return {"text_embeds": torch.empty(ROWS, width), "time_ids": torch.empty(ROWS, 6)}


def _row(
    stage: Stage, taken: dict[str, Samples], product: Samples, operations: float, goal: float
) -> Row:
    users = min(taken, key=lambda name: taken[name].median)
    best = taken[users]
    share = operations / best.median * product.median
    noise = noise_of(best, product)
    rates = ", ".join(f"{name}: {1 / one.median:.3g}" for name, one in taken.items())
    return Row(
        what=f"{stage.title}: best crowd, share of the measured product's rate",
        value=share,
        unit="",
        goal=goal,
        at_least=True,
        slack=goal * (noise - 1),
        noise=noise,
        remark=f"{operations / 1e12:.3g} TFLOP a picture, product "
        f"{1e-12 / product.median:.3g} TFLOP/s, pictures per second by users {rates}",
    )
