"""The main path through a graph, and which stage of it every call belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from .receptive import AxisPair, ReceptiveField
from .spec import GraphSpec


def main_path(spec: GraphSpec, fields: Sequence[ReceptiveField]) -> tuple[int, ...]:
    """The longest chain of calls from the picture to an output.

    Where a map meets a value without a place (squeeze-and-excite), the chain follows the map.

    Args:
        spec: the graph.
        fields: the receptive field of every call.

    Returns:
        Positions, the picture's first.
    """
    depth: list[int] = []
    for layer in spec:
        depth.append(
            1 + max((depth[i] for i in _path_inputs(spec, layer.index, fields)), default=0)
        )
    at = max(spec.outputs, key=lambda i: (depth[i], i))
    path = [at]
    while sources := _path_inputs(spec, at, fields):
        at = max(sources, key=lambda i: (depth[i], i))
        path.append(at)
    return tuple(reversed(path))


def final_call(spec: GraphSpec, fields: Sequence[ReceptiveField]) -> int:
    """The call that puts out the last map of the main path before the head.

    Args:
        spec: the graph.
        fields: the receptive field of every call.

    Returns:
        Its position; adaptive pools, paddings and identities behind the map are passed over.
    """
    placed = [i for i in main_path(spec, fields) if not fields[i].whole]
    passed = ("adaptive_pool", "pad", "crop", "identity")
    return next((i for i in reversed(placed) if spec[i].op not in passed), placed[0])


def _path_inputs(spec: GraphSpec, index: int, fields: Sequence[ReceptiveField]) -> list[int]:
    """The inputs that the main path may come from."""
    inputs = spec[index].inputs
    placed = [i for i in inputs if not fields[i].whole]
    return placed or list(inputs)


def stage_groups(
    spec: GraphSpec, path: Sequence[int], fields: Sequence[ReceptiveField]
) -> tuple[tuple[int, ...], ...]:
    """The main path cut where its cumulative stride changes.

    Args:
        spec: the graph.
        path: the main path.
        fields: the receptive field of every call.

    Returns:
        Runs of positions; a zero-padding goes with the layer that it pads.
    """
    keys: list[tuple[bool, AxisPair]] = []
    for index in reversed(path):
        goes_on = keys and spec[index].op == "pad"
        keys.append(keys[-1] if goes_on else _stride_key(fields[index]))
    keyed = zip(reversed(keys), path, strict=True)
    return tuple(tuple(i for _, i in run) for _, run in groupby(keyed, key=lambda pair: pair[0]))


def _stride_key(field: ReceptiveField) -> tuple[bool, AxisPair]:
    return field.whole, field.stride_hw


def stage_members(
    spec: GraphSpec, groups: Sequence[Sequence[int]], fields: Sequence[ReceptiveField]
) -> tuple[tuple[int, ...], ...]:
    """The calls of each stage, side branches included.

    A branch's call goes to the stage of its own stride between where the branch leaves the main
    path and where it comes back, else to the one where it comes back.

    Args:
        spec: the graph.
        groups: the main path's runs, one for each stage.
        fields: the receptive field of every call.

    Returns:
        Positions for each stage; every call that an output needs is in exactly one.
    """
    needed = spec.needed()
    stage_of = {i: number for number, group in enumerate(groups) for i in group}
    joins = dict(stage_of)
    for layer in reversed(spec.layers):
        for source in layer.inputs if layer.index in joins else ():
            if source not in stage_of:
                joins[source] = min(joins.get(source, len(groups)), joins[layer.index])
    keys = [_stride_key(fields[group[-1]]) for group in groups]
    for layer in spec:
        if layer.index in stage_of or layer.index not in needed:
            continue
        left = max((stage_of[i] for i in layer.inputs), default=0)
        joined = joins.get(layer.index, len(groups) - 1)
        same = [n for n in range(left, joined + 1) if keys[n] == _stride_key(fields[layer.index])]
        stage_of[layer.index] = same[0] if same else max(left, joins.get(layer.index, left))
    calls: list[list[int]] = [[] for _ in groups]
    for index, number in sorted(stage_of.items()):
        calls[number].append(index)
    return tuple(tuple(c) for c in calls)
