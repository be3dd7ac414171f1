"""Which patches bring a network under a limit on its RAM: those that cost the fewest operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

from ..geometry.amounts import product, total_of
from ..geometry.cost import costs
from ..geometry.footprint import footprint
from ..geometry.patches import (
    AxisStep,
    Patches,
    Span,
    calls_between,
    find_span,
    patched,
    steps_along,
)
from ..geometry.rules import Map
from ..geometry.sizes import map_shapes
from ..geometry.spec import GraphSpec
from ..shapes import InputShape
from ..text import align, format_bytes, format_macs, format_shape

_MOST_ROWS = 6
"""Of a grid: every piece has records of its own in the interpreter."""
_MOST_EXTRA = 1.0
"""Operations besides, as a share of the network's own."""
_MOST_TRIES = 3
"""In a row that take no less RAM than others with the same end."""
_CLEARLY = 0.85
"""What is worth a row of its own in the table."""


@dataclass(frozen=True, slots=True)
class Split:
    """What a network takes in patches, or as a whole.

    Attributes:
        patches: where it is cut; ``None`` for the whole network.
        end: the name of the layer that the patches reach down to.
        end_shape: of its map.
        ram_bytes: of the int8 file.
        macs: for one picture.
    """

    patches: Patches | None
    end: str
    end_shape: Map
    ram_bytes: int
    macs: int

    def __str__(self) -> str:
        if self.patches is None:
            return "the whole network"
        rows, columns = self.patches.grid_hw
        return f'{rows}x{columns} patches down to "{self.end}" ({format_shape(self.end_shape)})'


@dataclass(frozen=True, slots=True)
class PatchChoice:
    """How a limit on the RAM is met.

    Attributes:
        limit_bytes: the limit.
        whole: the network without patches.
        best: the split with the fewest operations that meets it, or else with the least RAM.
        splits: it among others, each with less RAM and more operations than the one before.
        span: where patches can be.
    """

    limit_bytes: int
    whole: Split
    best: Split
    splits: tuple[Split, ...]
    span: Span

    @property
    def is_met(self) -> bool:
        """Whether the limit is met."""
        return self.best.ram_bytes <= self.limit_bytes

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        patches = self.best.patches
        return {
            "limit_bytes": self.limit_bytes,
            "grid_hw": None if patches is None else list(patches.grid_hw),
            "end": None if patches is None else self.best.end,
            "ram_bytes": self.best.ram_bytes,
            "macs": self.best.macs,
            "whole_ram_bytes": self.whole.ram_bytes,
            "whole_macs": self.whole.macs,
        }

    def __str__(self) -> str:
        limit = f"RAM of at most {format_bytes(self.limit_bytes)}"
        if self.best.patches is None:
            return f"{limit}: {self.best} meets it"
        rows = [["computed as", "RAM", "MACs", "more"]]
        for split in self.splits:
            more = f"{100 * (split.macs / max(1, self.whole.macs) - 1):.1f} %"
            rows += [[str(split), format_bytes(split.ram_bytes), format_macs(split.macs), more]]
        ending = "" if self.is_met else ", which none meets"
        return "\n".join([f"{limit}{ending}:", *align(rows, left=1)])


def choose_patches(spec: GraphSpec, shape: InputShape, limit_bytes: int) -> PatchChoice | None:
    """Choose the patches that meet a limit with the fewest operations.

    ``None`` if the RAM or the operations of the network are not known.
    """
    ram, shapes = footprint(spec, shape).ram_bytes, map_shapes(spec, shape)
    by_call = [cost.macs for cost in costs(spec, shape)]
    macs = total_of(by_call)
    if ram is None or macs is None:
        return None
    span = find_span(spec, shapes)
    whole = best = Split(None, "", (), ram, macs)
    if ram <= limit_bytes:
        return PatchChoice(limit_bytes, whole, best, (whole,), span)

    @cache
    def split(candidate: _Candidate) -> Split:
        patches = candidate.patches
        ram = footprint(patched(spec, shape, patches), shape).ram_bytes
        assert ram is not None  # that of the whole network is known
        end = patches.end
        return Split(patches, spec[end].name, shapes[end], ram, whole.macs + candidate.extra_macs)

    candidates = sorted(_candidates(spec, shape, shapes, span), key=lambda c: c.extra_macs)
    possible = [c for c in candidates if c.least_bytes <= limit_bytes]
    others = [c for c in candidates if c.least_bytes > limit_bytes]
    tries, least = Counter[int](), dict[int, int]()
    for c in [*possible, *sorted(others, key=lambda c: c.least_bytes)]:
        # More pieces down to one layer bring no more at some point, which those behind it set.
        end = c.patches.end
        if c.least_bytes >= best.ram_bytes or tries[end] >= _MOST_TRIES:
            continue
        ram = split(c).ram_bytes
        tries[end] = 0 if ram < least.get(end, whole.ram_bytes) else tries[end] + 1
        least[end] = min(ram, least.get(end, ram))
        best = min(best, split(c), key=lambda s: (s.ram_bytes, s.macs))
        if ram <= limit_bytes:
            break
    rows = [split(c) for c in _spread(candidates, whole.ram_bytes)]
    return PatchChoice(limit_bytes, whole, best, _pareto_front([whole, best, *rows]), span)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A split before its RAM is known."""

    patches: Patches
    extra_macs: int
    least_bytes: int
    """What one of its layers reads and puts out, which is the least that it can take."""


def _candidates(
    spec: GraphSpec, shape: InputShape, shapes: tuple[Map, ...], span: Span
) -> Iterator[_Candidate]:
    """Every split that may be worth it."""
    macs = [cost.macs or 0 for cost in costs(spec, shape)]
    values = [product(s) or 0 for s in shapes]
    smallest = max(values)
    for end in span.ends:
        # It is put together beside its pieces: no larger than what came before.
        if values[end] > smallest:
            continue
        smallest = values[end]
        windows = [x for x in spec.layers[end + 1 :] if x.is_window]
        behind = [values[x.inputs[0]] + values[x.index] for x in windows]
        calls = calls_between(spec, span.start, end)
        height, width, _ = (n or 0 for n in shapes[end])
        by_count = {
            (axis, count): steps_along(spec, shapes, span.start, end, (axis, count))
            for axis in (0, 1)
            for count in range(1, _MOST_ROWS + 1)
        }
        for long in range(2, _MOST_ROWS + 1):
            for short in range(1, long + 1):
                grid_hw = (long, short) if height >= width else (short, long)
                rows, columns = by_count[0, grid_hw[0]], by_count[1, grid_hw[1]]
                if rows is None or columns is None:
                    continue
                extra, least = 0, max(behind, default=0)
                for number, call in enumerate(calls):
                    pairs = [_lengths(steps[number] for steps in axis) for axis in (rows, columns)]
                    channels = shapes[call.index][-1] or 1
                    places = values[call.index] // channels
                    computed = prod(sum(n for _, n in lengths) for lengths in pairs)
                    extra += macs[call.index] * computed // places - macs[call.index]
                    if call.is_window:
                        (read_h, height_px), (read_w, width_px) = map(max, pairs)
                        read = read_h * read_w * (shapes[call.inputs[0]][-1] or 1)
                        least = max(least, read + height_px * width_px * channels)
                if extra <= _MOST_EXTRA * sum(macs):
                    yield _Candidate(Patches(grid_hw, span.start, end), extra, least)


def _lengths(steps: Iterable[AxisStep]) -> list[tuple[int, int]]:
    """How many places the pieces read along an axis, and how many they compute."""
    return [(stop - first, high - low) for (low, high), (first, stop), _ in steps]


def _spread(candidates: Sequence[_Candidate], ram_bytes: int) -> list[_Candidate]:
    """Of candidates with ever more operations, a few with clearly less memory than any before."""
    chosen: list[_Candidate] = []
    for candidate in candidates:
        if candidate.least_bytes < ram_bytes * _CLEARLY:
            chosen.append(candidate)
            ram_bytes = candidate.least_bytes
    return chosen


def _pareto_front(splits: Sequence[Split]) -> tuple[Split, ...]:
    """Those that no other has less RAM and no more operations than, the cheapest first."""
    front: list[Split] = []
    for split in sorted(splits, key=lambda s: (s.macs, s.ram_bytes)):
        if not front or split.ram_bytes < front[-1].ram_bytes:
            front.append(split)
    return tuple(front)
