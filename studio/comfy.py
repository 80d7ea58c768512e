"""The settings in a graph of ComfyUI: a sampler node and what leads to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from studio.found import Found

_FARTHEST = 64
"""Nodes to follow from the sampler, so that a graph with a loop comes to an end."""

_Inputs = Mapping[str, object]


def read_graph(graph: Mapping[str, object]) -> Found | None:
    """Read ComfyUI's `prompt` chunk, {node id: {class_type, inputs}}; None if it is not one."""
    nodes = {
        key: node["inputs"]
        for key, node in graph.items()
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
    }
    sampler = next((inputs for inputs in nodes.values() if _is_sampler(inputs)), None)
    if sampler is None:
        return None
    values: dict[str, object] = {
        "prompt": _first(nodes, sampler, "positive", ("text", "text_g", "string", "value")),
        "negative_prompt": _first(nodes, sampler, "negative", ("text", "text_g", "string")),
        "model": _first(nodes, sampler, "model", ("ckpt_name", "unet_name")),
        "width": _first(nodes, sampler, "latent_image", ("width",)),
        "height": _first(nodes, sampler, "latent_image", ("height",)),
        "seed": _value(nodes, sampler, "seed", "noise_seed"),
        "num_inference_steps": _value(nodes, sampler, "steps"),
        "guidance_scale": _value(nodes, sampler, "cfg"),
        "sampler": _value(nodes, sampler, "sampler_name"),
        "schedule": _value(nodes, sampler, "scheduler"),
    }
    used = {"seed", "noise_seed", "steps", "cfg", "sampler_name", "scheduler"}
    rest = {key: value for key, value in sampler.items() if key not in used}
    return Found("ComfyUI", values, rest)


def _is_sampler(inputs: _Inputs) -> bool:
    return "positive" in inputs and "steps" in inputs and "latent_image" in inputs


def _value(nodes: Mapping[str, _Inputs], inputs: _Inputs, *names: str) -> object:
    """An input by its name, or what a primitive node that is wired to it holds."""
    given = next((inputs[name] for name in names if name in inputs), None)
    source = _source(nodes, given)
    if source is None:
        return None if isinstance(given, list) else given
    return next((value for value in source.values() if not isinstance(value, list)), None)


def _first(
    nodes: Mapping[str, _Inputs], sampler: _Inputs, wire: str, names: tuple[str, ...]
) -> object:
    """The first plain value under one of the names, going upstream from one input."""
    for inputs in _upstream(nodes, sampler.get(wire)):
        for name in names:
            if name in inputs and not isinstance(inputs[name], (list, dict)):
                return inputs[name]
    return None


def _upstream(nodes: Mapping[str, _Inputs], wire: object) -> Iterator[_Inputs]:
    """The nodes that lead to a wire, nearest first."""
    wires = [wire]
    for _ in range(_FARTHEST):
        if not wires:
            return
        inputs = _source(nodes, wires.pop(0))
        if inputs is not None:
            yield inputs
            wires += [value for value in inputs.values() if isinstance(value, list)]


def _source(nodes: Mapping[str, _Inputs], wire: object) -> _Inputs | None:
    """The node at the other end of a wire, which is written [node id, output number]."""
    is_wire = isinstance(wire, list) and len(wire) == 2 and isinstance(wire[0], str)
    return nodes.get(wire[0]) if is_wire and isinstance(wire, list) else None
