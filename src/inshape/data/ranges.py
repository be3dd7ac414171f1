"""Which stored values are black and white in pictures of more than 8 bits.

A 12-bit sensor fills a sixteenth of its 16-bit files, a CT goes below zero, and a reflectance is a
float from 0 to 1 or a number up to 10,000; none of their files has to say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..text import join_some, plural, write_ends
from .colour import Picture
from .prepare import SLACK, FullScale, is_plain, is_present

_DEPTHS = sorted([*(2.0**bits - 1 for bits in range(1, 17)), 10_000.0])
"""The greatest values that whole numbers usually have: those of every depth, and a reflectance's
ten thousandths. A sample seldom holds the very greatest value of its set."""
_BYTES = 127.5
"""Floats beyond it are in [0, 255] already, as long as none is beyond that."""
_SENTINELS = (-999.0, -9999.0, -99999.0, -32767.0, -32768.0)
_GREATEST = (32767.0, 65535.0, 2.0**31 - 1, 2.0**32 - 1)
_LEAST_GAP = 0.2
_LEAST_SHARE = 1e-3
_LEAST_LEVELS = 16
_NARROW = 0.8
_TYPICAL = 99.9
_OUTLYING = 4.0
_MOST_LOOKED_AT = 65536
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one picture says about the range of its set."""

    type: str
    is_plain: bool
    """Whether it is of 8 bits, so that it says no more than what is missing."""
    declared: FullScale | None
    """The range by the file's tags."""
    no_data: float | None
    """What its tags declare to be missing, if that occurs."""
    has_gaps: bool
    """Whether NaN, infinity or a number that only fills the place stands in it."""
    low: float
    high: float
    second: tuple[float, float]
    """The least and the greatest value but one."""
    at_end: tuple[float, float]
    """Which share of the values is the least, and which the greatest."""
    levels: int
    """How many values differ, in a part of the picture."""
    typical: float
    """What 99.9 % of the values do not exceed."""

    @classmethod
    def of(cls, picture: Picture) -> Evidence | None:
        """Look at a decoded picture; ``None`` if it has no values that count."""
        array = picture.colours
        plain = is_plain(array.dtype)
        if array.dtype.kind not in "buif" or (plain and picture.no_data is None):
            return None
        no_data = None
        if picture.no_data is None:
            values = array.reshape(-1)
        else:
            present = ~np.broadcast_to(picture.missing[..., : array.shape[-1]], array.shape)
            no_data = None if present.all() else picture.no_data
            values = array[present]
        count = len(values)
        if array.dtype.kind == "f":
            values = values[is_present(values)]
        has_gaps = len(values) < count
        if not len(values):
            return None
        low, high = values.min(), values.max()
        above, below = values[values > low], values[values < high]
        part = values[:: -(-len(values) // _MOST_LOOKED_AT)]
        return cls(
            type=array.dtype.name,
            is_plain=plain,
            declared=picture.declared,
            no_data=no_data,
            has_gaps=has_gaps,
            low=float(low),
            high=float(high),
            second=(above.min(initial=high).item(), below.max(initial=low).item()),
            at_end=(1 - len(above) / len(values), 1 - len(below) / len(values)),
            levels=len(np.unique(part)),
            typical=float(np.percentile(part, _TYPICAL)),
        )


@dataclass(frozen=True, slots=True)
class FoundRange:
    """The range of a set of pictures."""

    full_scale: FullScale | None
    """``None`` where all are of 8 bits."""
    message: str
    """What was taken and why, in one line."""


def find_range(evidence: Iterable[Evidence | None]) -> FoundRange | None:
    """The one range that suits pictures, by what their tags declare or else by their values.

    ``None`` if they are of 8 bits, floats in [0, 255], or hold nothing to go by.

    Raises:
        DataError: if some hold floats and others whole numbers.

    Example:
        >>> frame = Picture(np.array([[[0], [1733], [4090]]], np.uint16), "grey")
        >>> find_range([Evidence.of(frame)]).full_scale
        (0.0, 4095.0)
    """
    every = [one for one in evidence if one is not None]
    pictures = [one for one in every if not one.is_plain]
    if not pictures:
        gaps = _on_gaps(every, None)
        return FoundRange(None, f"pictures of 8 bits are read as they are{gaps}") if gaps else None
    return _range_of(pictures, every)


def _range_of(pictures: Sequence[Evidence], every: Sequence[Evidence]) -> FoundRange | None:
    """The range of those pictures of all that are not of 8 bits."""
    types = join_some(sorted({one.type for one in pictures}), _NAMED)
    low, high, under, over = _extremes(pictures)
    suiting = (_rounded_floats if _are_floats(pictures, types) else _rounded)(low, high)
    found = _declared(pictures, low, high) or suiting
    if found is None and not any(one.has_gaps for one in pictures):
        return None
    full_scale = found or (0.0, 255.0)
    count = plural(len(pictures), "picture that was looked at", "pictures that were looked at")
    reason = (
        "as their TIFF tags say"
        if found is not suiting
        else f"since their values are {_number(low)} to {_number(high)} in {count}"
    )
    message = (
        f"pictures of {types} are read with full_scale {write_ends(full_scale)}, {reason}"
        f"{_on_gaps(every, under)}{_on_outliers(pictures, full_scale, over)}; "
        "set full_scale to LOW:HIGH to read them otherwise"
    )
    return FoundRange(full_scale, message)


def _are_floats(pictures: Sequence[Evidence], types: str) -> bool:
    """Whether the values are floats, where all are of one kind."""
    kinds = {one.type.startswith("float") for one in pictures}
    if len(kinds) > 1:
        raise DataError(
            f"pictures of {types}; expected whole numbers alone or floats alone, which one range "
            "suits; convert some, or set full_scale to LOW:HIGH"
        )
    return kinds == {True}


def _extremes(pictures: Sequence[Evidence]) -> tuple[float, float, float | None, float | None]:
    """The least and the greatest value, and those beyond that only mark missing pixels.

    Such a value is far from all others and frequent, or a usual one; above, the type's greatest.
    """
    low, above, is_frequent = _end(pictures, 0)
    high, below, are_many_high = _end(pictures, 1)
    under = over = None
    is_usual = low in _SENTINELS and above - low >= -low / 2
    is_apart = is_frequent and above - low >= _LEAST_GAP * (high - above)
    if low < 0 and above > low and (is_usual or is_apart):
        low, under = above, low
    if high in _GREATEST and are_many_high and high - below > below - low:
        high, over = below, high
    return low, high, under, over


def _end(pictures: Sequence[Evidence], side: int) -> tuple[float, float, bool]:
    """The least value (side 0) or the greatest (side 1), the next to it, and if it is frequent.

    In pictures of few levels every value is.
    """
    outermost = (min, max)[side]
    ends = [(one.low, one.high)[side] for one in pictures]
    end = outermost(ends)
    others = {*ends, *(one.second[side] for one in pictures)} - {end}
    shares = [one.at_end[side] for one, at in zip(pictures, ends, strict=True) if at == end]
    has_levels = max(one.levels for one in pictures) >= _LEAST_LEVELS
    is_frequent = has_levels and sum(shares) / len(pictures) >= _LEAST_SHARE
    return end, outermost(others, default=end), is_frequent


def _declared(pictures: Sequence[Evidence], low: float, high: float) -> FullScale | None:
    """The range that all declare; a tag that differs from file to file is a statistic of each."""
    (declared, count), *_ = Counter(one.declared for one in pictures).most_common(1)
    if declared is None or count < len(pictures):
        return None
    return declared if declared[0] <= low and high <= declared[1] else None


def _rounded(low: float, high: float) -> FullScale | None:
    """The range that whole numbers come from; ``None`` where there is nothing but zeros."""
    if high <= low <= 0:
        return None
    if _is_part(low, high):
        return low, high
    return 0.0, next((depth for depth in _DEPTHS if high <= depth), high)


def _rounded_floats(low: float, high: float) -> FullScale | None:
    """The range that floats come from; ``None`` where it is known or cannot be told."""
    if high <= low <= 0 or (-SLACK <= low and _BYTES < high <= 255 + SLACK):
        return None
    if high <= 1 and low >= -1:
        return (-1.0, 1.0) if low < 0 else (0.0, 1.0 if high > 0.5 else high)
    if high <= _BYTES and not _is_part(low, high):
        return 0.0, high
    return _rounded(low, high)


def _is_part(low: float, high: float) -> bool:
    """Whether values lie far from zero, as those of a camera that measures heat do, or below."""
    return low < 0 or _NARROW * high < low < high


def _on_gaps(pictures: Sequence[Evidence], under: float | None) -> str:
    values = {under, *(one.no_data for one in pictures)}
    names = [_number(value) for value in sorted(v for v in values if v is not None)]
    if any(one.has_gaps for one in pictures):
        names.append("NaN")
    if not names:
        return ""
    verb = "stands" if len(names) == 1 else "stand"
    return f"; {join_some(names, _NAMED)} {verb} for missing pixels, which become black"


def _on_outliers(pictures: Sequence[Evidence], full_scale: FullScale, over: float | None) -> str:
    if over is not None:
        return f"; {_number(over)}, far above, becomes white; if it marks missing pixels, make it 0"
    low, high = full_scale
    typical = float(np.median([one.typical for one in pictures]))
    if low < typical and _OUTLYING * (typical - low) < high - low:
        return f"; yet {_TYPICAL} % of the values in most are up to {_number(typical)} only"
    return ""


def _number(value: float) -> str:
    return f"{value:.6g}"
