"""The form's values: from what the page sends to a request, and how they follow a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from studio.catalogue import Catalogue
from studio.errors import InvalidRequest
from studio.prompt_syntax import SYNTAXES, is_read_by
from studio.request import RANDOM_SEED, GenerationRequest
from studio.specs import ModelSpec

from ui import sizes, words
from ui.adapters import ADAPTER_FIELDS, adapter_defaults, from_adapters, to_adapters
from ui.passes import PASS_FIELDS, from_passes, pass_defaults, to_passes
from ui.starting import START_FIELDS, from_start, start_defaults, tasks_of, to_start

Values = dict[str, object]
"""Field of a GenerationRequest -> value in the form."""

FIELDS = (
    "prompt",
    "negative_prompt",
    "model",
    "scheduler",
    "num_inference_steps",
    "guidance_scale",
    "width",
    "height",
    "seed",
    "num_images",
    "upscale",
    "tiling",
    "prompt_syntax",
    "exact",
    *PASS_FIELDS,
    *START_FIELDS,
    *ADAPTER_FIELDS,
)
"""The words and numbers of a request and of its start, each with a control of its own."""
PART_FIELDS = (*PASS_FIELDS, *START_FIELDS, *ADAPTER_FIELDS)
"""Those of them that stand for parts of a request."""
FOLLOWING = (
    "scheduler",
    "num_inference_steps",
    "guidance_scale",
    "num_images",
    "upscale",
    "tiling",
)
"""Settings that change with the model while the visitor has not touched them; size too."""
HIDEABLE = (
    "upscale",
    "tiling",
    "negative_prompt",
    "guidance_scale",
    "scheduler",
    "prompt_syntax",
    "second_scale",
    "refiner",
)
"""Fields that hide where a model has no choice; a value that it cannot do must not stay behind."""


def defaults_of(model: ModelSpec) -> Values:
    """What a fresh form holds for a model."""
    own = model.defaults
    return {
        "prompt": "",
        "negative_prompt": "",
        "model": model.key,
        "scheduler": own.scheduler,
        "num_inference_steps": own.num_inference_steps,
        "guidance_scale": own.guidance_scale,
        "width": own.width,
        "height": own.height,
        "seed": "",
        "num_images": 1,
        "upscale": own.upscale,
        "tiling": "none",
        "prompt_syntax": "a1111",
        "exact": False,
    } | (pass_defaults() | start_defaults() | adapter_defaults())


def without_choice(model: ModelSpec) -> set[str]:
    """Which of HIDEABLE a model leaves no choice in."""
    has_choice = {
        "upscale": len(model.upscale_choices) > 1,
        "tiling": len(model.tiling_choices) > 1,
        "negative_prompt": model.negative_prompt,
        "guidance_scale": model.guidance != "none",
        "scheduler": len(model.schedulers) > 1,
        "prompt_syntax": is_read_by(model),
        "second_scale": model.image_to_image_class is not None,
        "refiner": model.refiner is not None,
    }
    return {name for name, has in has_choice.items() if not has}


def shown_of(model: ModelSpec, values: Mapping[str, object]) -> Values:
    """The form's values, those behind hidden controls as the model sets them."""
    own = defaults_of(model) | {"prompt_syntax": "plain"}
    return dict(values) | {name: own[name] for name in without_choice(model)}


def to_request(values: Mapping[str, object]) -> GenerationRequest:
    """Build the request that the form stands for.

    Raises:
        InvalidRequest: a value breaks its rule, or is not a number at all.
    """
    given = {name: _number(values[name]) for name in FIELDS if name not in PART_FIELDS}
    for name in ("prompt", "negative_prompt"):
        given[name] = values[name] or ""
    given["seed"] = _seed(values["seed"])
    for name, value in given.items():
        if value is None:
            raise InvalidRequest(f"`{name}` is empty: write a number, or choose the model again.")
    start = to_start(values)
    if start is not None:
        left, top, right, bottom = start.margins
        given["width"] = _sum(given["width"], left, right)
        given["height"] = _sum(given["height"], top, bottom)
    parts = to_passes(values) | to_adapters(values)
    return GenerationRequest(**given, start=start, **parts)  # type: ignore[arg-type]


def from_request(request: GenerationRequest) -> Values:
    """Form values that draw the same picture again."""
    values: Values = {name: getattr(request, name) for name in FIELDS if name not in PART_FIELDS}
    values["seed"] = "" if request.seed == RANDOM_SEED else str(request.seed)
    return values | from_passes(request) | from_start(request) | from_adapters(request)


@dataclass(frozen=True, slots=True)
class Followed:
    """The form after a change of model, and one sentence on what that changed."""

    values: Values
    sentence: str


def follow_model(
    catalogue: Catalogue, old: ModelSpec, new: ModelSpec, values: Mapping[str, object]
) -> Followed:
    """Take over the new model's defaults wherever the visitor had the old model's.

    A value that the visitor chose stays, unless the new model cannot do it.
    """
    before, after = defaults_of(old), defaults_of(new)
    result = dict(values) | {"model": new.key}
    for name in FOLLOWING:
        touched = values.get(name) != before[name]
        if not touched or not _works(catalogue, new, name, values.get(name)):
            result[name] = after[name]
    result |= _follow_size(old, new, values)
    if values.get("start_task") not in tasks_of(new) and tasks_of(new):
        result["start_task"] = tasks_of(new)[0]
    changed = [name for name in FOLLOWING if result[name] != values.get(name)]
    kept = [
        name
        for name in FOLLOWING
        if name not in changed and values.get(name) not in (before[name], after[name])
    ]
    return Followed(result, _say(catalogue, new, values, result, changed, kept))


def fill(catalogue: Catalogue, values: Mapping[str, object], found: Mapping[str, object]) -> Values:
    """What the form takes over from a picture, and nothing else.

    Settings of another model that were not found become that model's defaults.
    """
    result: Values = {}
    key = found.get("model")
    if isinstance(key, str) and key in catalogue.models and key != values["model"]:
        own = defaults_of(catalogue.models[key])
        kept = ("prompt", "negative_prompt", *START_FIELDS)
        result = {name: own[name] for name in own if name not in kept}
    result |= {name: value for name, value in found.items() if name in FIELDS}
    form = {**values, **result}
    model = catalogue.models.get(str(form["model"]))
    for name in HIDEABLE:
        if model is not None and not _works(catalogue, model, name, form[name]):
            result[name] = defaults_of(model)[name]
    if "seed" in result:
        result["seed"] = "" if result["seed"] == RANDOM_SEED else str(result["seed"])
    return result


def _follow_size(old: ModelSpec, new: ModelSpec, values: Mapping[str, object]) -> Values:
    width, height = values.get("width"), values.get("height")
    if (width, height) == (old.defaults.width, old.defaults.height):
        return {"width": new.defaults.width, "height": new.defaults.height}
    if sizes.fits(new, width) and sizes.fits(new, height):
        return {"width": width, "height": height}
    size = sizes.nearest(new, width, height)
    return {"width": size.width, "height": size.height}


def _works(catalogue: Catalogue, model: ModelSpec, name: str, value: object) -> bool:
    if name == "scheduler":
        return value in [*catalogue.schedulers_of(model.key)]
    if name == "upscale":
        return value in model.upscale_choices
    if name == "tiling":
        return value in model.tiling_choices
    if name == "prompt_syntax":
        return value in SYNTAXES
    if name in HIDEABLE and name in without_choice(model):
        return value == defaults_of(model)[name]
    if name == "num_images":
        return isinstance(value, int) and value <= model.max_images
    return value is not None


def _say(
    catalogue: Catalogue,
    model: ModelSpec,
    before: Mapping[str, object],
    after: Mapping[str, object],
    changed: list[str],
    kept: list[str],
) -> str:
    news = [
        f"{words.LABELS[name].lower()} {_shown(catalogue, name, after[name])}" for name in changed
    ]
    if (before["width"], before["height"]) != (after["width"], after["height"]):
        news.append(f"size {after['width']} × {after['height']}")
    yours = [
        f"{words.LABELS[name].lower()} {_shown(catalogue, name, after[name])}" for name in kept
    ]
    said = f"{model.title} now sets {_listed(news)}." if news else f"{model.title} is chosen."
    return f"{said} Yours stay: {_listed(yours)}." if yours else said


def _shown(catalogue: Catalogue, name: str, value: object) -> str:
    if name == "scheduler" and value in catalogue.schedulers:
        return catalogue.schedulers[str(value)].label
    if name == "upscale":
        return "off" if value == 1 else f"{value} times"
    if name == "tiling":
        return words.TILINGS.get(str(value), str(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _number(value: object) -> object:
    """A whole float as the int that it is; the browser makes no difference between them."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _sum(side: object, *margins: int) -> object:
    """A side of the drawing with what is added to it; what is no number stays, to be refused."""
    return side + sum(margins) if isinstance(side, int) else side


def _seed(value: object) -> object:
    """The seed field is text: empty is random, digits are a number, else it is refused."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return RANDOM_SEED
    if isinstance(value, str):
        try:
            return int(value.strip())
        except ValueError:
            return value.strip()[:40]
    return _number(value)


def restore(catalogue: Catalogue, saved: object, model_key: str) -> Values:
    """The form that the browser kept; whatever in it is unusable becomes the default."""
    kept: Mapping[str, object] = saved if isinstance(saved, dict) else {}
    key = kept.get("model")
    model = catalogue.models.get(key if isinstance(key, str) else "")
    values = defaults_of(model or catalogue.get_model(model_key))
    if model is None:
        kept = {name: kept.get(name) for name in ("prompt", "negative_prompt")}
    for name, default in values.items():
        value = kept.get(name)
        wanted = (int, float) if isinstance(default, (int, float)) else str
        if isinstance(value, wanted) and isinstance(value, bool) == isinstance(default, bool):
            values[name] = value
    for name in ("scheduler", "upscale", "tiling", "prompt_syntax"):
        if model is not None and not _works(catalogue, model, name, values[name]):
            values[name] = defaults_of(model)[name]
    return values
