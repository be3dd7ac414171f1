"""The layer tables of named networks, stored, so that they can be planned without a framework.

``tools/layer_tables.py`` reads them from Keras. Each line of the file is a network; the first one
holds the facts that a layer had when they were read.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import Any

from ..shapes import InputShape
from .spec import GraphSpec, LayerSpec

FILE = "layers.jsonl.xz"
"""In the package."""
_DEFAULTS = {field.name: field.default for field in fields(LayerSpec) if field.name != "answering"}


def stored_spec(name: str, *, top: bool) -> GraphSpec | None:
    """The graph of a named network at its native shape, with or without its own head.

    ``None`` where it is not stored, or was by a version of inshape that knew other facts.

    Example:
        >>> len(stored_spec("VGG16", top=False)), stored_spec("VGG17", top=False)
        (20, None)
    """
    line = _lines().get(_key(name, top))
    if line is None:
        return None
    record = json.loads(line)
    return GraphSpec(
        name=name,
        layers=tuple(
            LayerSpec(index=index, **{field: _frozen(value) for field, value in facts.items()})
            for index, facts in enumerate(record["layers"])
        ),
        outputs=tuple(record["outputs"]),
        input_shape=InputShape.of(record["input_shape"]),
        whole_numbers=record["whole_numbers"],
    )


def is_storable(spec: GraphSpec) -> bool:
    """Whether a graph is all plain values, with nothing before its first layer."""
    bare = spec.but(input_layers=GraphSpec("", (), (), spec.input_shape).input_layers) == spec
    return bare and not any(layer.answering or layer.resampling for layer in spec)


def packed(specs: Iterable[tuple[str, bool, GraphSpec]]) -> bytes:
    """The content of the file: networks by name, with or without their head."""
    lines = [json.dumps(sorted(_DEFAULTS))]
    for name, top, spec in specs:
        record = {
            "outputs": spec.outputs,
            "input_shape": str(spec.input_shape),
            "whole_numbers": spec.whole_numbers,
            "layers": [_facts(layer) for layer in spec],
        }
        lines.append(f"{_key(name, top)}\t{json.dumps(record, separators=(',', ':'))}")
    return lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME)


def _facts(layer: LayerSpec) -> dict[str, Any]:
    """What differs from a layer of no facts; its index is its place."""
    return {
        name: getattr(layer, name)
        for name, default in _DEFAULTS.items()
        if name != "index" and getattr(layer, name) != default
    }


def _key(name: str, top: bool) -> str:
    return f"{name} with top" if top else name


@cache
def _lines() -> Mapping[str, str]:
    content = files("inshape").joinpath(FILE).read_bytes()
    first, *lines = lzma.decompress(content).decode().split("\n")
    if json.loads(first) != sorted(_DEFAULTS):
        return {}
    return dict(line.split("\t", 1) for line in lines)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
