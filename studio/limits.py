"""What a model can do: a request is held against its row, once, when it is submitted."""

from __future__ import annotations

from studio.errors import InvalidRequest
from studio.request import GenerationRequest, check_kept_size
from studio.specs import ModelSpec


def check_limits(spec: ModelSpec, request: GenerationRequest) -> None:
    """Hold a request against the limits of its model, its scheduler left out.

    Raises:
        InvalidRequest: a size, a number, an enlargement, a tiling or a part is outside them.
    """
    _check_sizes(spec, request)
    if request.num_images > spec.max_images:
        raise InvalidRequest(
            f"`num_images` must be at most {spec.max_images} for {spec.title}, "
            f"got {request.num_images}."
        )
    if request.upscale not in spec.upscale_choices:
        choices = " or ".join(map(str, spec.upscale_choices))
        raise InvalidRequest(
            f"`upscale` must be {choices} for {spec.title}, got {request.upscale}."
        )
    if request.tiling not in spec.tiling_choices:
        raise InvalidRequest(f"`tiling` must be none for {spec.title}, got {request.tiling}.")
    _check_steps(spec, request.num_inference_steps)
    _check_parts(spec, request)


def _check_sizes(spec: ModelSpec, request: GenerationRequest) -> None:
    for name in ("width", "height"):
        _check_side(spec, name, getattr(request, name))
    if spec.square and request.width != request.height:
        raise InvalidRequest(
            f"{spec.title} draws squares: `width` and `height` must be the same, got "
            f"{request.width} and {request.height}."
        )
    check_kept_size(request.width * request.upscale, request.height * request.upscale)


def _check_side(spec: ModelSpec, name: str, value: int) -> None:
    if not spec.min_side <= value <= spec.max_side or value % spec.multiple_of:
        raise InvalidRequest(
            f"`{name}` must be a multiple of {spec.multiple_of} between {spec.min_side} and "
            f"{spec.max_side} for {spec.title}, got {value}."
        )


def _check_steps(spec: ModelSpec, steps: int) -> None:
    if not spec.min_steps <= steps <= spec.max_steps:
        raise InvalidRequest(
            f"`num_inference_steps` must be between {spec.min_steps} and {spec.max_steps} for "
            f"{spec.title}, got {steps}."
        )


def _check_refiner(request: GenerationRequest) -> None:
    if request.refiner and (request.start or request.second_pass):
        raise InvalidRequest(
            "The refiner draws the end of a picture from words alone: leave out `refiner`, or the "
            "picture to start from and the second drawing."
        )


def _check_parts(spec: ModelSpec, request: GenerationRequest) -> None:
    """Refuse what this model cannot start from, or be changed by."""
    task = request.start.task if request.start else _task_from_text(spec)
    if task not in spec.tasks:
        raise InvalidRequest(_cannot(spec, task))
    if request.negative_prompt and not spec.negative_prompt:
        raise InvalidRequest(f"{spec.title} knows no `negative_prompt`: leave it empty.")
    own = spec.defaults.guidance_scale
    if spec.guidance == "none" and request.guidance_scale != own:
        raise InvalidRequest(
            f"`guidance_scale` must be {own:g} for {spec.title}, which has its guidance built in."
        )
    _check_second_pass(spec, request)
    offered = {
        "loras": spec.lora,
        "embeddings": spec.textual_inversion,
        "refiner": spec.refiner is not None,
        "second_pass": spec.image_to_image_class is not None,
    }
    for name, is_offered in offered.items():
        if getattr(request, name) and not is_offered:
            raise InvalidRequest(f"{spec.title} takes no `{name}`: leave it out.")
    _check_refiner(request)


def _check_second_pass(spec: ModelSpec, request: GenerationRequest) -> None:
    scale = request.second_pass.scale if request.second_pass else 1.0
    longest = round(scale * max(request.width, request.height))
    if longest > max(spec.max_side, request.width, request.height):
        raise InvalidRequest(
            f"The second drawing would be {longest} px long; {spec.title} draws at most "
            f"{spec.max_side}. Choose a smaller size, or a smaller scale."
        )
    larger = scale * request.upscale
    check_kept_size(round(request.width * larger), round(request.height * larger))


def _task_from_text(spec: ModelSpec) -> str:
    return "text_to_3d" if "text_to_3d" in spec.tasks else "text_to_image"


def _cannot(spec: ModelSpec, task: str) -> str:
    if task.startswith("text_"):
        return f"{spec.title} starts from a picture: choose one, or another model."
    can = ", ".join(one.replace("_", " ") for one in spec.tasks)
    return f"{spec.title} cannot do {task.replace('_', ' ')}, only {can}. Choose another model."
