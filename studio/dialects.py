"""The dialects in which programs write the settings of a picture into its PNG.

Each is one function from the text chunks to what it found, in our words. Nothing is judged
here: `readback` maps it onto a GenerationRequest, the same way for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from studio.comfy import read_graph
from studio.found import Found, parse_json
from studio.infotext import parse_infotext
from studio.request import GenerationRequest

Chunks = Mapping[str, str]

_TILINGS = {(False, False): "none", (True, False): "x", (False, True): "y", (True, True): "both"}
"""Our word for whether a picture wraps (sideways, up and down)."""


def find_settings(chunks: Chunks) -> Found | None:
    """What the first dialect that knows the text chunks makes of them; ours is the first."""
    readers = (_croquis, _swarm, _fooocus, _invoke, _comfy, _novel, _a1111)
    return next((found for read in readers if (found := read(chunks))), None)


def _croquis(chunks: Chunks) -> Found | None:
    recipe = parse_json(chunks.get("croquis"))
    request = recipe.pop("request", None)
    if not isinstance(request, dict):
        return None
    known = {spec.name for spec in fields(GenerationRequest)}
    rest = {**{key: value for key, value in request.items() if key not in known}, **recipe}
    own = {"tiling": "none", "prompt_syntax": "plain"} | {
        key: value for key, value in request.items() if key in known
    }
    return Found("Croquis", own, rest)


def _swarm(chunks: Chunks) -> Found | None:
    found = parse_json(chunks.get("parameters")).get("sui_image_params")
    if isinstance(found, dict) and "seamlesstileable" in found:
        tiling = str(found.pop("seamlesstileable")).lower()
        found["tiling"] = {"true": "both", "x-only": "x", "y-only": "y"}.get(tiling, "none")
    names = {
        "prompt": "prompt",
        "negativeprompt": "negative_prompt",
        "model": "model",
        "seed": "seed",
        "steps": "num_inference_steps",
        "cfgscale": "guidance_scale",
        "width": "width",
        "height": "height",
        "tiling": "tiling",
        "sampler": "sampler",
        "scheduler": "schedule",
    }
    return Found.renamed("SwarmUI", found, names) if isinstance(found, dict) else None


def _fooocus(chunks: Chunks) -> Found | None:
    found = parse_json(chunks.get("parameters"))
    if "fooocus_scheme" not in chunks and found.get("metadata_scheme") != "fooocus":
        return None
    names = {
        "prompt": "prompt",
        "negative_prompt": "negative_prompt",
        "base_model": "model",
        "seed": "seed",
        "steps": "num_inference_steps",
        "guidance_scale": "guidance_scale",
        "resolution": "size",
        "sampler": "sampler",
        "scheduler": "schedule",
    }
    return Found.renamed("Fooocus", found, names) if found else None


def _invoke(chunks: Chunks) -> Found | None:
    found = parse_json(chunks.get("invokeai_metadata"))
    model = found.get("model")
    if isinstance(model, dict):
        found["model"] = model.get("name") or model.get("model_name")
    if {"seamless_x", "seamless_y"} & set(found):
        wrapped = found.pop("seamless_x", False) is True, found.pop("seamless_y", False) is True
        found["tiling"] = _TILINGS[wrapped]
    names = {
        "positive_prompt": "prompt",
        "negative_prompt": "negative_prompt",
        "model": "model",
        "seed": "seed",
        "steps": "num_inference_steps",
        "cfg_scale": "guidance_scale",
        "width": "width",
        "height": "height",
        "tiling": "tiling",
        "scheduler": "sampler",
    }
    return Found.renamed("InvokeAI", found, names) if found else None


def _comfy(chunks: Chunks) -> Found | None:
    return read_graph(parse_json(chunks.get("prompt")))


def _novel(chunks: Chunks) -> Found | None:
    found = parse_json(chunks.get("Comment"))
    if "NovelAI" not in chunks.get("Software", "") or not found:
        return None
    found.setdefault("prompt", chunks.get("Description", ""))
    names = {
        "prompt": "prompt",
        "uc": "negative_prompt",
        "seed": "seed",
        "steps": "num_inference_steps",
        "scale": "guidance_scale",
        "width": "width",
        "height": "height",
        "sampler": "sampler",
        "noise_schedule": "schedule",
    }
    return Found.renamed("NovelAI", found, names)


def _a1111(chunks: Chunks) -> Found | None:
    text = chunks.get("parameters", "")
    if not text.strip() or parse_json(text):
        return None
    parts = parse_infotext(text)
    names = {
        "Model": "model",
        "Seed": "seed",
        "Steps": "num_inference_steps",
        "CFG scale": "guidance_scale",
        "Size": "size",
        "Sampler": "sampler",
        "Schedule type": "schedule",
        "Hires upscale": "upscale",
        "Tiling axis": "tiling",
        "Prompt syntax": "prompt_syntax",
    }
    pairs = dict(parts.pairs)
    if pairs.get("App") == "Croquis":
        pairs["Model"] = pairs.get("Model id", "")
    if pairs:
        whole = "both" if pairs.pop("Tiling", "") == "True" else "none"
        pairs["Tiling axis"] = pairs.get("Tiling axis", whole)
        pairs.setdefault("Prompt syntax", "plain" if pairs.get("App") == "Croquis" else "a1111")
    found = Found.renamed("AUTOMATIC1111", pairs, names)
    found.values.update(prompt=parts.prompt, negative_prompt=parts.negative_prompt)
    return found
