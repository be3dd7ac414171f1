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
        rows = [["computed as", "RAM", "MACs", "more"]]
        for split in self.splits:
            more = f"{100 * (split.macs / max(1, self.whole.macs) - 1):.1f} %"
            rows += [[str(split), format_bytes(split.ram_bytes), format_macs(split.macs), more]]
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
        self.candidates = sorted(self._all(), key=lambda c: c.extra_macs)
        self._known: dict[tuple[Patches, ...], Split] = {}

    def improved(self, split: Split, limit_bytes: int) -> Split:
        """A split with one more region: the first that meets a limit, or else the smallest."""
        free = self._free(split)
        possible = [c for c in free if c.least_bytes <= limit_bytes]
        others = [c for c in free if c.least_bytes > limit_bytes]
        tries, least, best = Counter[int](), dict[int, int](), split
        for c in [*possible, *sorted(others, key=lambda c: c.least_bytes)]:
            # More pieces down to one layer bring no more at some point, which those behind it set.
            end = c.patches.end
            if c.least_bytes >= best.ram_bytes or tries[end] >= _MOST_TRIES:
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
        for candidate in self._free(split):
            if candidate.least_bytes < ram * _CLEARLY:
                chosen.append(candidate)
                ram = candidate.least_bytes
        return [self._with(split, candidate) for candidate in chosen]

    def _free(self, split: Split) -> list[_Candidate]:
        """The candidates that lie before or behind the regions that there are."""
        return [
            c
            for c in self.candidates
            if all(
                c.patches.end <= other.start or c.patches.start >= other.end
                for other in split.patches
            )
        ]

    def _with(self, split: Split, candidate: _Candidate) -> Split:
        end = candidate.patches.end
        region = Region(candidate.patches, self.spec[end].name, self.shapes[end])
        regions = tuple(sorted((*split.regions, region), key=lambda r: r.patches.end))
        patches = tuple(r.patches for r in regions)
        if patches not in self._known:
            ram = footprint(patched(self.spec, self.shape, patches), self.shape).ram_bytes
            assert ram is not None  # that of the whole network is known
            self._known[patches] = Split(regions, ram, split.macs + candidate.extra_macs)
        return self._known[patches]

    def _all(self) -> Iterator[_Candidate]:
        """Every region that may be worth it."""
        spec, shapes = self.spec, self.shapes
        macs = [cost.macs or 0 for cost in costs(spec, self.shape)]
        values = [product(s) or 0 for s in shapes]
        for span in find_spans(spec, shapes):
            smallest = max(values)
            for end in span.ends:
                # It is put together beside its pieces: no larger than what came before.
                if values[end] <= smallest:
                    smallest = values[end]
                    yield from self._down_to(span.start, end, macs, values)

    def _down_to(
        self, start: int, end: int, macs: Sequence[int], values: Sequence[int]
    ) -> Iterator[_Candidate]:
        calls = calls_between(self.spec, start, end)
        height, width, _ = (n or 0 for n in self.shapes[end])
        by_count = {
            (axis, count): steps_along(self.spec, self.shapes, start, end, (axis, count))
            for axis in (0, 1)
            for count in range(1, _MOST_ROWS + 1)
        }
        for long in range(2, _MOST_ROWS + 1):
            for short in range(1, long + 1):
                grid_hw = (long, short) if height >= width else (short, long)
                rows, columns = by_count[0, grid_hw[0]], by_count[1, grid_hw[1]]
                if rows is None or columns is None:
                    continue
                extra = least = 0
                for number, call in enumerate(calls):
                    pairs = [_lengths(steps[number] for steps in axis) for axis in (rows, columns)]
                    channels = self.shapes[call.index][-1] or 1
                    places = values[call.index] // channels
                    computed = prod(sum(n for _, n in lengths) for lengths in pairs)
                    extra += macs[call.index] * computed // places - macs[call.index]
                    if call.is_window:
                        (read_h, height_px), (read_w, width_px) = map(max, pairs)
                        read = read_h * read_w * (self.shapes[call.inputs[0]][-1] or 1)
                        least = max(least, read + height_px * width_px * channels)
                if extra <= _MOST_EXTRA * sum(macs):
                    yield _Candidate(Patches(grid_hw, start, end), extra, least)


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
