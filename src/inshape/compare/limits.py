"""What a device allows, and the amounts in which people say it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import RequestError

if TYPE_CHECKING:
    from .comparison import Candidate

_TIMES = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "": 1.0}
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_BYTES = {
    "": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_UNITS = {"latency_ms": _TIMES, "macs": _COUNTS, "size_bytes": _BYTES, "ram_bytes": _BYTES}
COMPUTED = ("macs", "size_bytes", "ram_bytes")
"""The limits on what is known as soon as a candidate is built."""

TIMED = (*COMPUTED, "latency_ms")
"""Those, and the one on what is known once it is timed."""

_ALL = (*TIMED, "accuracy")
_WORDS = {
    "latency_ms": "latency", "macs": "number of MACs", "size_bytes": "file size",
    "ram_bytes": "memory", "accuracy": "accuracy",
}  # fmt: skip
_STEPS = {
    "latency_ms": ((1.0, "ms"),),
    "macs": ((1e6, "MMACs"), (1e3, "kMACs"), (1.0, "MACs")),
    "size_bytes": ((1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "ram_bytes": ((1e6, "MB"), (1e3, "kB"), (1.0, "B")),
}
_MOST_DIGITS = 17
_SHOWN = {
    "latency_ms": ("--max-latency", "5ms"),
    "macs": ("--max-macs", "30M"),
    "size_bytes": ("--max-size", "1MB"),
    "ram_bytes": ("--max-ram", "256KB"),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a candidate may take, and the least that it must reach; ``None`` is no limit.

    Attributes:
        latency_ms: for one picture on this machine, one thread, float32 LiteRT.
        macs: multiply-accumulate operations.
        size_bytes: of an int8 file, estimated.
        ram_bytes: peak memory of int8 activations, estimated, without an interpreter's own records.
        accuracy: of the probe, in [0, 1].
    """

    latency_ms: float | None = None
    macs: float | None = None
    size_bytes: float | None = None
    ram_bytes: float | None = None
    accuracy: float | None = None

    @classmethod
    def of(cls, *, accuracy: float | None = None, **texts: str | float | None) -> Limits:
        """Read limits as people write them.

        Args:
            accuracy: a share.
            **texts: the other fields, as numbers or with units.

        Raises:
            RequestError: if one cannot be read.

        Example:
            >>> Limits.of(latency_ms="5ms", macs="30M", size_bytes="1MB", ram_bytes="256KiB")
            Limits(latency_ms=5.0, macs=30000000.0, size_bytes=1000000.0, ram_bytes=262144.0, accuracy=None)
        """  # noqa: E501
        if accuracy is not None and not 0.0 <= accuracy <= 1.0:
            raise RequestError(f"--min-accuracy {accuracy}; expected 0 to 1; write 0.8 for 80 %")
        return cls(accuracy=accuracy, **{name: _amount(name, t) for name, t in texts.items()})

    def exceeded_by(self, candidate: Candidate, names: Sequence[str] = _ALL) -> str | None:
        """Why a candidate is over a limit; what is not known of it is over any.

        Args:
            candidate: measured as far as these limits go.
            names: the limits that count, `COMPUTED` or `TIMED`; by default all of them.

        Returns:
            One reason, or ``None``.
        """
        for name in names:
            limit = getattr(self, name)
            if limit is None:
                continue
            value = getattr(candidate, name)
            if value is None:
                return f"its {_WORDS[name]} is not known, and there is a limit"
            if name == "accuracy" and value.value < limit:
                return f"accuracy {value.value:.3f} is under {limit:g}"
            if name != "accuracy" and value > limit:
                return _over(name, value, limit)
        return None

    @property
    def is_any(self) -> bool:
        """Whether there is a limit at all."""
        return any(getattr(self, name) is not None for name in _ALL)


def _amount(name: str, text: str | float | None) -> float | None:
    if text is None or isinstance(text, int | float):
        return text
    match = re.fullmatch(r"\s*([\d.]+)\s*([a-zµ]*)\s*", text.lower())
    units = _UNITS[name]
    try:
        assert match is not None
        return float(match[1]) * units[match[2]]
    except (AssertionError, KeyError, ValueError):
        option, example = _SHOWN[name]
        raise RequestError(
            f"{option} {text!r} is no amount; write a number with one of "
            f"{', '.join(u for u in units if u)}, such as {example}"
        ) from None


def amount(name: str, value: float, digits: int = 3) -> str:
    """An amount with its unit.

    Args:
        name: a field of `Limits`.
        value: in the field's unit.
        digits: that count, zeros in front left out.

    Example:
        >>> amount("latency_ms", 1.234), amount("macs", 41e6), amount("ram_bytes", 262_144)
        ('1.23 ms', '41.0 MMACs', '262 kB')
        >>> amount("latency_ms", 0.53), amount("size_bytes", 12), amount("macs", 20_456, 4)
        ('0.530 ms', '12 B', '20.46 kMACs')
    """
    scale, unit = next((s for s in _STEPS[name] if value >= s[0]), _STEPS[name][-1])
    scaled = value / scale
    whole = 1 + math.floor(math.log10(scaled)) if scaled else 1
    places = max(0, digits - whole) if scale > 1 or unit == "ms" else 0
    return f"{scaled:.{places}f} {unit}"


def _over(name: str, value: float, limit: float) -> str:
    """Say so with as many digits as it takes to see the difference."""
    for digits in range(3, _MOST_DIGITS):
        told, most = amount(name, value, digits), amount(name, limit, digits)
        if told != most:
            return f"{told} is over {most}"
    return f"{value} is over {limit}"
