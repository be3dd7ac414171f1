"""What a device allows, and the amounts in which people say it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
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
        size_bytes: of an int8 file, estimated as one byte per parameter.
        ram_bytes: peak activation memory with int8 values.
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

    def exceeded_by(self, candidate: Candidate) -> str | None:
        """Why a candidate is over a limit, as far as it is measured.

        Args:
            candidate: whose costs are known.

        Returns:
            One reason, or ``None``.
        """
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is None:
                continue
            if field.name == "accuracy":
                found = candidate.accuracy
                if found is not None and found.value < limit:
                    return f"accuracy {found.value:.3f} is under {limit:g}"
                continue
            value = getattr(candidate, field.name)
            if value is not None and value > limit:
                return f"{amount(field.name, value)} is over {amount(field.name, limit)}"
        return None

    @property
    def is_any(self) -> bool:
        """Whether there is a limit at all."""
        return any(getattr(self, field.name) is not None for field in fields(self))


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


def amount(name: str, value: float) -> str:
    """An amount with its unit.

    Args:
        name: a field of `Limits`.
        value: in the field's unit.

    Example:
        >>> amount("latency_ms", 1.234), amount("macs", 41e6), amount("ram_bytes", 262_144)
        ('1.23 ms', '41.0 MMACs', '0.26 MB')
    """
    if name == "latency_ms":
        return f"{value:.2f} ms"
    if name == "macs":
        return f"{value / 1e6:.1f} MMACs"
    return f"{value / 1e6:.2f} MB"
