"""Which patches bring a network under a limit on its RAM: those that cost the fewest operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from ..geometry.amounts import product, total_of
from ..geometry.cost import costs
from ..geometry.footprint import footprint
from ..geometry.patches import (
    AxisStep,
    Patches,
    calls_between,
    find_spans,
    patched,
    steps_along,
)
from ..geometry.rules import Map
from ..geometry.sizes import map_shapes
from ..geometry.spec import GraphSpec, LayerSpec
from ..shapes import InputShape
from ..text import align, format_bytes, format_shape

_MOST_ROWS = 6
"""Of a grid: every piece has records of its own in the interpreter."""
_MOST_EXTRA = 1.0
"""Operations besides, as a share of the network's own."""
_MOST_TRIES = 3
"""In a row that take no less RAM than others with the same end."""
_CLEARLY = 0.85
"""What is worth a row of its own in the table."""


@dataclass(frozen=True, slots=True)
class Region:
    """Where a network runs in patches.

    Attributes:
        patches: the grid, and where it begins and ends.
        end: the name of the layer that it reaches down to.
        end_shape: of the map of that.
    """

    patches: Patches
    end: str
    end_shape: Map

    def __str__(self) -> str:
        shape = format_shape(self.end_shape)
        return f'{format_shape(self.patches.grid_hw)} patches down to "{self.end}" ({shape})'


@dataclass(frozen=True, slots=True)
class Split:
    """What a network takes in patches, or as a whole.

    Attributes:
        regions: where it is in patches, in order; none is the whole network.
        ram_bytes: of the int8 file.
        macs: for one picture.
    """

    regions: tuple[Region, ...]
    ram_bytes: int
    macs: int

    @property
    def patches(self) -> tuple[Patches, ...]:
        """The grids alone."""
        return tuple(region.patches for region in self.regions)

    @property
    def short(self) -> str:
        """Without the names of layers, for a table."""
        grids = (
            f"{format_shape(region.patches.grid_hw)} to {format_shape(region.end_shape)}"
            for region in self.regions
        )
        return ", ".join(grids) or "none"

    def __str__(self) -> str:
        return ", then ".join(map(str, self.regions)) or "the whole network"


@dataclass(frozen=True, slots=True)
class PatchChoice:
    """How a limit on the RAM is met.

    Attributes:
        limit_bytes: the limit.
        whole: the network without patches.
        best: the split with the fewest operations that meets it, or else with the least RAM.
        splits: it among others, each with less RAM and more operations than the one before.
    """

    limit_bytes: int
    whole: Split
    best: Split
    splits: tuple[Split, ...]

    @property
    def is_met(self) -> bool:
        """Whether the limit is met."""
        return self.best.ram_bytes <= self.limit_bytes

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        regions = [
            {"grid_hw": list(region.patches.grid_hw), "end": region.end}
            for region in self.best.regions
        ]
        return {
            "limit_bytes": self.limit_bytes,
            "regions": regions,
            "ram_bytes": self.best.ram_bytes,
            "macs": self.best.macs,
            "whole_ram_bytes": self.whole.ram_bytes,
            "whole_macs": self.whole.macs,
        }

    def __str__(self) -> str:
        limit = f"RAM of at most {format_bytes(self.limit_bytes)}"
        if not self.best.regions:
            return f"{limit}: {self.best} meets it"
        rows = [["patches down to the map", "RAM", "more MACs", ""]]
        for split in self.splits:
            more = f"{100 * (split.macs / max(1, self.whole.macs) - 1):.1f} %"
            mark = "" if split is not self.best else "chosen" if self.is_met else "nearest"
            rows.append([split.short, format_bytes(split.ram_bytes), more, mark])
        ending = "" if self.is_met else ", which none meets"
        return "\n".join([f"{limit}{ending}:", *align(rows, left=1)])


def choose_patches(spec: GraphSpec, shape: InputShape, limit_bytes: int) -> PatchChoice | None:
    """Choose the patches that meet a limit with the fewest operations.

    They are in one region of the network, or in more where one is not enough. ``None`` if the RAM
    or the operations of the network are not known.
    """
    ram = footprint(spec, shape).ram_bytes
    macs = total_of(cost.macs for cost in costs(spec, shape))
    if ram is None or macs is None:
        return None
    whole = best = Split((), ram, macs)
    splits = [whole]
    if ram > limit_bytes:
        search = _Search(spec, shape)
        while best.ram_bytes > limit_bytes:
            before = best
            best = search.improved(before, limit_bytes)
            splits += [best, *search.others(before)]
            if best is before:
                break
    return PatchChoice(limit_bytes, whole, best, _pareto_front(splits))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A region before its RAM is known."""

    patches: Patches
    extra_macs: int
    least_bytes: int
    """What one of its layers reads and puts out, which is the least that it can take."""


class _Search:
    """Tries regions beside others."""

    def __init__(self, spec: GraphSpec, shape: InputShape) -> None:
        self.spec, self.shape = spec, shape
        self.shapes = map_shapes(spec, shape)
        self._macs = [cost.macs or 0 for cost in costs(spec, shape)]
        self._values = [product(s) or 0 for s in self.shapes]
        self._windows = {
            x.index: self._values[x.inputs[0]] + self._values[x.index] for x in spec if x.is_window
        }
        self._candidates = sorted(self._all(), key=lambda c: c.extra_macs)
        self._extra = {c.patches: c.extra_macs for c in self._candidates}
        self._known: dict[tuple[Region, ...], Split] = {}

    def improved(self, split: Split, limit_bytes: int) -> Split:
        """A split with one more region: the first that meets a limit, or else the smallest."""
        bounds = [(max(c.least_bytes, self._outside(split, c)), c) for c in self._candidates]
        bounds.sort(key=lambda pair: pair[0] > limit_bytes)  # first what may meet the limit
        tries, least, best = Counter[int](), dict[int, int](), split
        for bound, c in bounds:
            # More pieces down to one layer bring no more at some point, which those behind it set.
            end = c.patches.end
            if bound >= best.ram_bytes or tries[end] >= _MOST_TRIES:
                continue
            found = self._with(split, c)
            is_less = found.ram_bytes < least.get(end, split.ram_bytes)
            tries[end] = 0 if is_less else tries[end] + 1
            least[end] = min(found.ram_bytes, least.get(end, found.ram_bytes))
            best = min(best, found, key=lambda s: (s.ram_bytes, s.macs))
            if found.ram_bytes <= limit_bytes:
                break
        return best

    def others(self, split: Split) -> list[Split]:
        """Ways to go on from a split, with ever more operations and clearly less memory."""
        ram, chosen = split.ram_bytes, list[_Candidate]()
        for candidate in self._candidates:
            bound = max(candidate.least_bytes, self._outside(split, candidate))
            if bound < ram * _CLEARLY:
                chosen.append(candidate)
                ram = bound
        return [self._with(split, candidate) for candidate in chosen]

    def _kept(self, split: Split, candidate: _Candidate) -> list[Region]:
        """The regions of a split that a candidate does not meet."""
        start, end = candidate.patches.start, candidate.patches.end
        return [r for r in split.regions if end <= r.patches.start or r.patches.end <= start]

    def _outside(self, split: Split, candidate: _Candidate) -> int:
        """The most that a layer outside of the regions reads and puts out."""
        regions = [candidate.patches, *(r.patches for r in self._kept(split, candidate))]
        inside = {i for patches in regions for i in range(patches.start + 1, patches.end + 1)}
        return max((n for i, n in self._windows.items() if i not in inside), default=0)

    def _with(self, split: Split, candidate: _Candidate) -> Split:
        """The split with one more region, in the place of those that it meets."""
        end = candidate.patches.end
        regions = [Region(candidate.patches, self.spec[end].name, self.shapes[end])]
        regions += self._kept(split, candidate)
        regions = tuple(sorted(regions, key=lambda region: region.patches.end))
        if regions not in self._known:
            grids = [region.patches for region in regions]
            ram = footprint(patched(self.spec, self.shape, grids), self.shape).ram_bytes
            assert ram is not None  # that of the whole network is known
            extra = sum(self._extra[grid] for grid in grids)
            self._known[regions] = Split(regions, ram, sum(self._macs) + extra)
        return self._known[regions]

    def _all(self) -> Iterator[_Candidate]:
        """Every region that may be worth it."""
        for span in find_spans(self.spec, self.shapes):
            smallest = max(self._values)
            for end in span.ends:
                # It is put together beside its pieces: no larger than what came before.
                if self._values[end] <= smallest:
                    smallest = self._values[end]
                    yield from self._down_to(span.start, end)

    def _down_to(self, start: int, end: int) -> Iterator[_Candidate]:
        height, width, _ = (n or 0 for n in self.shapes[end])
        by_count = {
            (axis, count): steps_along(self.spec, self.shapes, start, end, (axis, count))
            for axis in (0, 1)
            for count in range(1, _MOST_ROWS + 1)
        }
        for grid_hw in _grids(is_tall=height >= width):
            rows, columns = (by_count[axis, count] for axis, count in enumerate(grid_hw))
            if rows is None or columns is None:
                continue
            candidate = self._candidate(Patches(grid_hw, start, end), (rows, columns))
            if candidate.extra_macs <= _MOST_EXTRA * sum(self._macs):
                yield candidate

    def _candidate(
        self, patches: Patches, steps: Sequence[Sequence[Sequence[AxisStep]]]
    ) -> _Candidate:
        needs = [
            self._needs(call, [_lengths(s[number] for s in axis) for axis in steps])
            for number, call in enumerate(calls_between(self.spec, patches.start, patches.end))
        ]
        least = max((size for _, size in needs), default=0)
        return _Candidate(patches, sum(macs for macs, _ in needs), least)

    def _needs(
        self, call: LayerSpec, pairs: Sequence[Sequence[tuple[int, int]]]
    ) -> tuple[int, int]:
        """Operations that a call takes besides, and what it reads and puts out as a window."""
        macs = self._macs[call.index]
        channels = self.shapes[call.index][-1] or 1
        places = self._values[call.index] // channels
        computed = prod(sum(n for _, n in lengths) for lengths in pairs)
        extra = macs * computed // places - macs
        if not call.is_window:
            return extra, 0
        (read_h, height_px), (read_w, width_px) = map(max, pairs)
        read = read_h * read_w * (self.shapes[call.inputs[0]][-1] or 1)
        return extra, read + height_px * width_px * channels


def _grids(*, is_tall: bool) -> Iterator[tuple[int, int]]:
    """Rows and columns, no fewer along the longer side."""
    for long in range(2, _MOST_ROWS + 1):
        for short in range(1, long + 1):
            yield (long, short) if is_tall else (short, long)


def _lengths(steps: Iterable[AxisStep]) -> list[tuple[int, int]]:
    """How many places the pieces read along an axis, and how many they compute."""
    return [(stop - first, high - low) for (low, high), (first, stop), _ in steps]


def _pareto_front(splits: Sequence[Split]) -> tuple[Split, ...]:
    """Those that no other has less RAM and no more operations than, the cheapest first."""
    front: list[Split] = []
    for split in sorted(splits, key=lambda s: (s.macs, s.ram_bytes)):
        if not front or split.ram_bytes < front[-1].ram_bytes:
            front.append(split)
    return tuple(front)
