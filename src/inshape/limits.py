"""What a device allows, and whether a candidate keeps to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from .requests import Bytes, Milliseconds, Operations, Range, Request
from .text import format_bytes, format_macs, format_ms

COMPUTED = ("macs", "flash_bytes", "ram_bytes")
"""What is known of a candidate as soon as it is planned."""
TIMED = (*COMPUTED, "latency_ms")
"""That, and what is known once it is timed."""
ALL = (*TIMED, "accuracy")
COSTS = ("latency_ms", *COMPUTED)
"""The fields of a candidate that cost something."""
_FIELDS = {
    "latency_ms": "max_latency",
    "macs": "max_macs",
    "flash_bytes": "max_flash",
    "ram_bytes": "max_ram",
    "accuracy": "min_accuracy",
}
_WORDS = {
    "latency_ms": "latency",
    "macs": "number of MACs",
    "flash_bytes": "flash",
    "ram_bytes": "RAM",
    "accuracy": "accuracy",
}


@dataclass(frozen=True, slots=True)
class Limits(Request):
    """What the device allows.

    Example:
        >>> Limits(max_latency="5ms", max_ram="256KiB")
        Limits(max_latency=5.0, max_macs=None, max_flash=None, max_ram=262144, min_accuracy=None)
    """

    max_latency: Milliseconds | None = None
    """For one picture on this machine with one thread, such as 5ms."""
    max_macs: Operations | None = None
    """Multiply-accumulates for one picture, such as 30M."""
    max_flash: Bytes | None = None
    """Of the int8 file, such as 1MiB."""
    max_ram: Bytes | None = None
    """Of the int8 file's arena on a micro-controller, such as 256KiB."""
    min_accuracy: Annotated[float, Range(0, 1)] | None = None
    """Of the probe, such as 0.8."""

    def of(self, name: str) -> float | None:
        """The limit on a candidate's field."""
        return getattr(self, _FIELDS[name])

    @property
    def is_any(self) -> bool:
        """Whether there is a limit at all."""
        return any(self.of(name) is not None for name in ALL)

    def exceeded_by(self, candidate: Any, names: Sequence[str] = ALL) -> str | None:
        """Why a candidate is over a limit; what is not known of it is over any."""
        for name in names:
            limit = self.of(name)
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


def format_cost(name: str, value: float, digits: int = 1) -> str:
    """A cost with its unit.

    Example:
        >>> format_cost("macs", 209e6), format_cost("macs", 93e3), format_cost("ram_bytes", 83_000)
        ('209.0 MMACs', '93.0 kMACs', '81.1 KiB')
    """
    if name == "latency_ms":
        return format_ms(value, digits + 2)
    return format_macs(value, digits) if name == "macs" else format_bytes(value, digits)


def name_cost(name: str, value: float, digits: int = 1) -> str:
    """A cost with what it is of.

    Example:
        >>> name_cost("ram_bytes", 83_000), name_cost("latency_ms", 2), name_cost("macs", 93e3)
        ('RAM 81.1 KiB', 'latency 2.00 ms', '93.0 kMACs')
    """
    cost = format_cost(name, value, digits)
    return cost if name == "macs" else f"{_WORDS[name]} {cost}"  # whose unit says it


def _over(name: str, value: float, limit: float) -> str:
    """Say so with as many digits as it takes to see the difference."""
    for digits in (1, 2, 3, 6, 9):
        if format_cost(name, value, digits) != format_cost(name, limit, digits):
            break
    return f"{name_cost(name, value, digits)} is over {format_cost(name, limit, digits)}"
