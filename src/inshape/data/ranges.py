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
from ..text import join_some, plural
from .colour import Picture
from .prepare import SLACK, FullScale, is_plain, is_present, write_full_scale

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
    types = sorted({one.type for one in pictures})
    is_float = [kind.startswith("float") for kind in types]
    if any(is_float) and not all(is_float):
        raise DataError(
            f"pictures of {join_some(types, _NAMED)}; expected whole numbers alone or floats alone,"
            " which one range suits; convert some, or set full_scale to LOW:HIGH"
        )
    low, high, under, over = _extremes(pictures)
    looked_at = plural(len(pictures), "picture that was looked at", "pictures that were looked at")
    declared = _agreed(pictures)
    if declared is not None and declared[0] <= low and high <= declared[1]:
        full_scale, reason = declared, "as their TIFF tags say"
    else:
        full_scale = _rounded(low, high, all(is_float))
        reason = f"since their values are {_number(low)} to {_number(high)} in {looked_at}"
    if full_scale is None and any(one.has_gaps for one in pictures):
        full_scale = 0.0, 255.0
    if full_scale is None:
        return None
    message = (
        f"pictures of {join_some(types, _NAMED)} are read with full_scale "
        f"{write_full_scale(full_scale)}, {reason}"
        f"{_on_gaps(every, under)}{_on_outliers(pictures, full_scale, over)}; "
        "set full_scale to LOW:HIGH to read them otherwise"
    )
    return FoundRange(full_scale, message)


def _extremes(pictures: Sequence[Evidence]) -> tuple[float, float, float | None, float | None]:
    """The least and the greatest value, and those beyond that only mark missing pixels.

    Such a value is far from all others and frequent, or a usual one; above, the type's greatest.
    """
    low, under = _least(pictures, max(one.high for one in pictures))
    high, over = _greatest(pictures, low)
    return low, high, under, over


def _least(pictures: Sequence[Evidence], high: float) -> tuple[float, float | None]:
    """The least value, and one below it that only marks missing pixels."""
    low = min(one.low for one in pictures)
    lows = [value for one in pictures for value in (one.low, one.second[0])]
    above = min((value for value in lows if value > low), default=low)
    share = sum(one.at_end[0] for one in pictures if one.low == low) / len(pictures)
    is_frequent = _has_levels(pictures) and share >= _LEAST_SHARE
    is_usual = low in _SENTINELS and above - low >= -low / 2
    is_mark = is_usual or (is_frequent and above - low >= _LEAST_GAP * (high - above))
    return (above, low) if low < 0 and above > low and is_mark else (low, None)


def _greatest(pictures: Sequence[Evidence], low: float) -> tuple[float, float | None]:
    """The greatest value, and one above it that only marks missing pixels."""
    high = max(one.high for one in pictures)
    highs = [value for one in pictures for value in (one.high, one.second[1])]
    below = max((value for value in highs if value < high), default=high)
    share = sum(one.at_end[1] for one in pictures if one.high == high) / len(pictures)
    is_frequent = _has_levels(pictures) and share >= _LEAST_SHARE
    is_mark = high in _GREATEST and is_frequent and high - below > below - low
    return (below, high) if is_mark else (high, None)


def _has_levels(pictures: Sequence[Evidence]) -> bool:
    return max(one.levels for one in pictures) >= _LEAST_LEVELS


def _agreed(pictures: Sequence[Evidence]) -> FullScale | None:
    """The range that all declare; a tag that differs from file to file is a statistic of each."""
    (declared, count), *_ = Counter(one.declared for one in pictures).most_common(1)
    return declared if count == len(pictures) else None


def _rounded(low: float, high: float, is_float: bool) -> FullScale | None:
    """The range that values come from; ``None`` where it is known or cannot be told."""
    if high <= low and low <= 0:
        return None
    if is_float and -SLACK <= low and _BYTES < high <= 255 + SLACK:
        return None
    if is_float and high <= 1 and low >= -1:
        return (-1.0, 1.0) if low < 0 else (0.0, 1.0 if high > 0.5 else high)
    # A camera that measures heat uses a narrow part, far from zero.
    if low < 0 or _NARROW * high < low < high:
        return low, high
    if is_float and high <= _BYTES:
        return 0.0, high
    return 0.0, next((depth for depth in _DEPTHS if high <= depth), high)


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
