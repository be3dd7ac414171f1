"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

NONE = "–"
"""What stands where nothing is known."""


def number(value: float | None, digits: int = 3) -> str:
    """A number with a fixed count of digits after the point.

    Args:
        value: may be unknown or NaN.
        digits: after the point.

    Example:
        >>> number(0.81239), number(None), number(float("nan"))
        ('0.812', '–', '–')
    """
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    r"""A share in percent.

    Args:
        value: in [0, 1], or unknown.
        digits: after the point.

    Example:
        >>> percent(0.813), percent(None)
        ('81.3\xa0%', '–')
    """
    return (
        NONE
        if value is None or not math.isfinite(value)
        else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"
    )


def interval(score: Mapping[str, float | None] | None, digits: int = 1) -> str:
    r"""The interval of a score.

    Args:
        score: ``low`` and ``high``, both shares; or unknown.
        digits: after the point.

    Example:
        >>> interval({"value": 0.5, "low": 0.4, "high": 0.6}), interval(None)
        ('40.0 to 60.0\xa0%', '–')
    """
    if score is None or score.get("low") is None or score.get("high") is None:
        return NONE
    return f"{number(100 * (score['low'] or 0.0), digits)} to {percent(score['high'], digits)}"


def points(value: float | None) -> str:
    """A difference of two shares in points of percent, with its sign.

    Example:
        >>> points(-0.0125), points(0.0), points(None)
        ('-1.2', '+0.0', '–')
    """
    return NONE if value is None else f"{100 * value:+.1f}"


def millis(value: float | None) -> str:
    """Milliseconds with three digits that count.

    Example:
        >>> millis(1.2345), millis(123.4), millis(None)
        ('1.23 ms', '123 ms', '–')
    """
    if value is None:
        return NONE
    return f"{value:.{max(0, 2 - int(math.log10(max(value, 1.0))))}f} ms"


def seconds(value: float) -> str:
    """A time as people say it.

    Example:
        >>> seconds(0.94), seconds(75.4), seconds(7300)
        ('0.9 s', '1 min 15 s', '2 h 1 min')
    """
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def millions(value: float | None) -> str:
    """A count in millions.

    Example:
        >>> millions(41_234_567), millions(345), millions(None)
        ('41.2 M', '345', '–')
    """
    if value is None:
        return NONE
    return f"{value / 1e6:.1f} M" if value >= 1e5 else f"{value:,.0f}"


def megabytes(value: float | None) -> str:
    """Bytes in units of 1000.

    Example:
        >>> megabytes(3_948_688), megabytes(91_234), megabytes(None)
        ('3.95 MB', '91 kB', '–')
    """
    if value is None:
        return NONE
    return f"{value / 1e6:.2f} MB" if value >= 1e6 else f"{value / 1e3:.0f} kB"


def plain(value: Any) -> str:
    """Any value of a record, as it would be written by hand.

    Example:
        >>> plain(None), plain(True), plain([96, 64]), plain({"pool": "avg"}), plain(0.001)
        ('none', 'yes', '96, 64', 'pool avg', '0.001')
    """
    if value is None or value == {} or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


FILTERS: dict[str, Callable[..., str]] = {
    f.__name__: f
    for f in (number, percent, interval, points, millis, seconds, millions, megabytes, plain)
}
"""What templates know them by."""
