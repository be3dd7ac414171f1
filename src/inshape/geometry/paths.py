"""The main path through a graph, and which stage of it every call belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from .receptive import AxisPair, ReceptiveField
from .spec import GraphSpec


def main_path(spec: GraphSpec, fields: Sequence[ReceptiveField]) -> tuple[int, ...]:
    """The longest chain of calls from the picture to an output.

    Where a map meets a value without a place (squeeze-and-excite), the chain follows the map.
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
    """The call that puts out the last map of the main path before the head."""
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
    """The main path cut where its cumulative stride changes."""
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
    """
    stage_of = {i: number for number, group in enumerate(groups) for i in group}
    joins = _joins(spec, stage_of)
    keys = [_stride_key(fields[group[-1]]) for group in groups]
    needed = spec.needed()
    for layer in spec:
        if layer.index not in stage_of and layer.index in needed:
            first = max((stage_of[i] for i in layer.inputs), default=0)
            join = joins.get(layer.index)
            own = _stride_key(fields[layer.index])
            stage_of[layer.index] = _stage_between(keys, own, first, join)
    members: list[list[int]] = [[] for _ in groups]
    for index in sorted(stage_of):
        members[stage_of[index]].append(index)
    return tuple(map(tuple, members))


def _stage_between(
    keys: Sequence[tuple[bool, AxisPair]], own: tuple[bool, AxisPair], first: int, join: int | None
) -> int:
    last = len(keys) - 1 if join is None else join
    alike = (n for n in range(first, last + 1) if keys[n] == own)
    return next(alike, first if join is None else max(first, join))


def _joins(spec: GraphSpec, stage_of: Mapping[int, int]) -> dict[int, int]:
    """The stage in which a call, or the branch that it begins, first meets the main path."""
    joins = dict(stage_of)
    for layer in reversed(spec.layers):
        if layer.index not in joins:
            continue
        for source in layer.inputs:
            if source not in stage_of:
                joins[source] = min(joins.get(source, len(spec)), joins[layer.index])
    return joins
