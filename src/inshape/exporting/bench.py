"""`bench`: how long a call of an exported file takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..processor import count_cores
from ..runtime.cards import batch_in, read_card, reading_card
from ..runtime.runners import kind_of
from ..runtime.timing import Timing, time_file
from ..shapes import InputShape
from ..text import Printable, table
from .request import BenchRequest


@dataclass(frozen=True, slots=True, repr=False)
class Bench(Printable):
    """How long a call of a file takes."""

    file: Path
    runtime: str
    input_shape: InputShape
    batch: int
    timings: tuple[Timing, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "file": str(self.file),
            "runtime": self.runtime,
            "input_shape": str(self.input_shape),
            "batch": self.batch,
            "timings": [timing.as_dict() for timing in self.timings],
        }

    def describe(self, width: int | None = None) -> str:
        """A row per number of threads."""
        rows = [
            (str(t.threads), f"{t.median_ms:.2f} ms", f"{t.p95_ms:.2f} ms", f"{t.load_ms:.0f} ms")
            for t in self.timings
        ]
        heads = ("threads", "median", "95 % within", "first answer after")
        title = f"{self.file} ({self.runtime}) at {self.batch}x{self.input_shape}"
        return "\n".join([title, *table(heads, rows, left=0, width=width)])


def bench(request: BenchRequest) -> Bench:
    """Measure a file with one thread and with all."""
    file = request.file
    runtime = kind_of(file)
    card = read_card(file)
    with reading_card(file):
        shape = _static_shape(request, card)
        batch = 1 if card is None else batch_in(card)
    size = tuple(int(n) for n in shape.as_tuple() if n is not None)
    counts = dict.fromkeys([request.threads] if request.threads else [1, count_cores()])
    timings = tuple(time_file(file, size, threads=count, batch=batch) for count in counts)
    return Bench(file, runtime, shape, batch, timings)


def _static_shape(request: BenchRequest, card: Mapping[str, Any] | None) -> InputShape:
    shape = request.input_shape
    if shape is None and card is not None:
        shape = InputShape.of(card["preparation"]["shape"])
    if shape is None:
        raise RequestError(f"{request.file} does not say what it takes; give --input HxWxC")
    if not shape.is_static:
        raise RequestError(f"--input {shape}; expected a size to measure at, such as 96x96x3")
    return shape
