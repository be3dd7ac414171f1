"""How a reshape groups axes, and which of its lengths are constant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from ..geometry.spec import GraphSpec

Lengths: TypeAlias = tuple[int, ...]
Place: TypeAlias = tuple[int, int, int, int]
"""Axes before, axes behind, which of those behind, and its length."""


@dataclass(frozen=True, slots=True)
class Run:
    """Axes that a reshape makes of others, which hold the same values.

    Attributes:
        axes: which ones are read.
        old: their lengths as the network was read.
        made: what is made of them.
        is_of_map: whether it is an axis of a map that is read.
    """

    axes: Lengths
    old: Lengths
    made: Lengths
    is_of_map: bool = False


def runs(old: Sequence[int | None], made: Sequence[int | None]) -> list[Run]:
    """The shortest runs of axes that hold the same values.

    Example:
        >>> [(run.old, run.made) for run in runs((32, 24, 8), (768, 2, 4))]
        [((32, 24), (768,)), ((8,), (2, 4))]
    """
    before, behind = [n or 0 for n in old], [n or 0 for n in made]
    found: list[Run] = []
    i = j = 0
    while i < len(before) or j < len(behind):
        stop_i, stop_j = _end_of_run(before, behind, i, j)
        axes = tuple(range(i, stop_i))
        found.append(Run(axes, tuple(before[i:stop_i]), tuple(behind[j:stop_j])))
        i, j = stop_i, stop_j
    return found


def _end_of_run(before: list[int], behind: list[int], i: int, j: int) -> tuple[int, int]:
    stop_i, stop_j = min(i + 1, len(before)), min(j + 1, len(behind))
    while prod(before[i:stop_i]) != prod(behind[j:stop_j]):
        grows_before = prod(before[i:stop_i]) < prod(behind[j:stop_j])
        if grows_before and stop_i < len(before):
            stop_i += 1
        elif stop_j < len(behind):
            stop_j += 1
        else:
            return len(before), len(behind)
    return stop_i, stop_j


def constant_places(spec: GraphSpec) -> frozenset[Place]:
    """Lengths that stay, whatever the length is that they are split off, and where they stand.

    A window of 7 is taken out of maps of 56, 28 and 14 places alike: that is how it is told from
    the number of windows.
    """
    totals: dict[Place, set[int]] = {}
    seen: set[tuple[Lengths, Lengths]] = set()
    for run in _all_runs(spec):
        # What only undoes an earlier run says nothing of what is constant.
        is_undoing = (run.made, run.old) in seen and not run.is_of_map
        for place in () if is_undoing or len(run.made) == 1 else _places(run.old, run.made):
            totals.setdefault(place, set()).add(prod(run.made))
        seen.add((run.old, run.made))
    return frozenset(place for place, found in totals.items() if len(found) > 1)


def split(total: int, old: Lengths, made: Lengths, constant: frozenset[Place]) -> set[Lengths]:
    """What a run becomes if one of its lengths grows and the others stay.

    Example:
        >>> sorted(split(48, (32,), (8, 4), frozenset()))
        [(8, 6), (12, 4)]
        >>> split(48, (32,), (8, 4), frozenset([(1, 2, 1, 4)]))
        {(12, 4)}
    """
    places = _places(old, made)
    growing = [axis for axis, n in enumerate(made) if n and total % (prod(made) // n) == 0]
    settled = [
        axis
        for axis in growing
        if places[axis] not in constant and constant.issuperset(places[:axis] + places[axis + 1 :])
    ]
    return {
        (*made[:axis], total * made[axis] // prod(made), *made[axis + 1 :])
        for axis in settled or growing
    }


def _all_runs(spec: GraphSpec) -> Iterator[Run]:
    for layer in spec:
        if layer.op != "reshape":
            continue
        source = spec[layer.inputs[0]]
        is_map = len(source.native_shape) == 3 and not source.holds_rows
        for run in runs(source.native_shape, layer.native_shape):
            yield Run(run.axes, run.old, run.made, is_of_map=is_map and len(run.old) == 1)


def _places(old: Lengths, made: Lengths) -> list[Place]:
    return [(len(old), len(made), axis, length) for axis, length in enumerate(made)]
