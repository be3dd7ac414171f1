"""What an export made, and how far each file can be trusted."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from ..evaluate.metrics import Score
from .timing import Timing


@dataclass(frozen=True, slots=True)
class ExportFile:
    """An exported file beside the Keras model, on the same pictures.

    Attributes:
        format: its name.
        path: where it is.
        size_bytes: of the file, or of all files of a folder.
        pictures: compared on.
        agreement: share of pictures that both take for the same class.
        accuracy: of the file.
        accuracy_change: the file's minus Keras's, with a paired interval.
        max_difference: the largest difference of two probabilities.
        mean_difference: their mean difference.
        timings: with one thread and with all.
        tensor_bytes: of a full-integer file, the most that its tensors take at one moment.
        arena_bytes: what TensorFlow Lite for Microcontrollers took of its arena when it ran such a
            file; ``None`` where it is not installed or lacks an operator.
        is_trusted: whether all answers are finite and agreement reaches what was asked for.
    """

    format: str
    path: str
    size_bytes: int
    pictures: int
    agreement: float
    accuracy: Score
    accuracy_change: Score
    max_difference: float
    mean_difference: float
    timings: tuple[Timing, ...]
    tensor_bytes: int | None
    arena_bytes: int | None
    is_trusted: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "format": self.format,
            "path": self.path,
            "size_bytes": self.size_bytes,
            "pictures": self.pictures,
            "agreement": round(self.agreement, 6),
            "accuracy": self.accuracy.as_dict(),
            "accuracy_change": self.accuracy_change.as_dict(),
            "max_difference": _short(self.max_difference),
            "mean_difference": _short(self.mean_difference),
            "latency_ms": self.timings[0].median_ms if self.timings else None,
            "latency_p95_ms": self.timings[0].p95_ms if self.timings else None,
            "load_ms": self.timings[0].load_ms if self.timings else None,
            "peak_mb": self.timings[0].peak_mb if self.timings else None,
            "timings": [timing.as_dict() for timing in self.timings],
            "tensor_bytes": self.tensor_bytes,
            "arena_bytes": self.arena_bytes,
            "failed": not self.is_trusted,
        }


@dataclass(frozen=True, slots=True)
class Refusal:
    """A format that has no operator for a layer of the model.

    Attributes:
        format: its name.
        reason: which layer, and what to use instead.
    """

    format: str
    reason: str


@dataclass(frozen=True, slots=True)
class Exports:
    """All files of an export.

    Attributes:
        run: the run folder.
        min_agreement: what was asked for.
        keras_accuracy: of the model itself.
        keras_timings: of the ``.keras`` file.
        files: in the order they were asked for.
        refused: formats that could not be written.
    """

    run: str
    min_agreement: float
    keras_accuracy: Score
    keras_timings: tuple[Timing, ...]
    files: tuple[ExportFile, ...]
    refused: tuple[Refusal, ...] = ()

    @property
    def failed(self) -> tuple[ExportFile, ...]:
        """The files that agree with the model less than was asked for."""
        return tuple(f for f in self.files if not f.is_trusted)

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "run": self.run,
            "min_agreement": self.min_agreement,
            "keras": {
                "accuracy": self.keras_accuracy.as_dict(),
                "timings": [timing.as_dict() for timing in self.keras_timings],
            },
            "exports": [f.as_dict() for f in self.files],
            "refused": [{"format": r.format, "reason": r.reason} for r in self.refused],
        }

    def __str__(self) -> str:
        text = io.StringIO()
        Console(width=190, file=text, color_system=None).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table of a terminal."""
        count = self.files[0].pictures if self.files else 0
        title = (
            f"{self.run}: on {count} held-out pictures, Keras itself {self.keras_accuracy}; "
            "latency for one picture: median, 95th percentile"
        )
        table = Table(title=title, title_justify="left")
        for name in ("file", "size", "agreement", "accuracy", "change", "max, mean diff", "load"):
            table.add_column(name, justify="left" if name == "file" else "right", no_wrap=True)
        for timing in self.files[0].timings if self.files else ():
            table.add_column(f"{timing.threads} thread{'s' * (timing.threads > 1)}")
        table.add_column("peak")
        for f in self.files:
            change = f.accuracy_change
            mark = "" if f.is_trusted else "  FAILED"
            table.add_row(
                f.path.rsplit("/", 1)[-1],
                f"{f.size_bytes / 1e6:.2f} MB",
                f"{100 * f.agreement:.1f} %{mark}",
                f"{f.accuracy.value:.3f}",
                f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]",
                f"{f.max_difference:.1e}, {f.mean_difference:.1e}",
                f"{f.timings[0].load_ms:.0f} ms" if f.timings else "-",
                *(f"{t.median_ms:.2f}, {t.p95_ms:.2f} ms" for t in f.timings),
                "-" if not f.timings or f.timings[0].peak_mb is None
                else f"{f.timings[0].peak_mb:.0f} MB",
            )  # fmt: skip
        yield table
        if self.keras_timings:
            shown = "; ".join(
                f"{t.median_ms:.1f} ms with {t.threads} thread{'s' * (t.threads > 1)}"
                for t in self.keras_timings
            )
            yield f"model.predict: {shown}"
        for f in self.files:
            if f.tensor_bytes is not None:
                shown = f"{f.tensor_bytes / 1024:.0f} KiB for tensors"
                if f.arena_bytes is not None:
                    shown = f"an arena of {f.arena_bytes / 1024:.0f} KiB, {shown}"
                yield f"{f.path.rsplit('/', 1)[-1]} on a micro-controller: {shown}"
        yield from (f"{r.format} was not written: {r.reason}" for r in self.refused)


def _short(difference: float) -> float | None:
    """Three digits; JSON has no NaN."""
    return float(f"{difference:.3g}") if math.isfinite(difference) else None
