"""What an export made, and how far each file can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult

from ..evaluation.metrics import Score
from ..runtime.timing import Timing
from .printing import lines_of, printed


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
        is_trusted: whether all answers are finite, agreement reaches what was asked for and the
            file could be timed.
        problem: why it could not be timed; ``None`` if it was, or was not meant to be.
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
    problem: str | None = None

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
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class Refusal:
    """A format that the model could not be exported to.

    Attributes:
        format: its name.
        reason: such as the layer that it has no operator for, and what to use instead.
        is_written: whether there is a file all the same, which its own runtime does not run.
    """

    format: str
    reason: str
    is_written: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {"format": self.format, "reason": self.reason, "written": self.is_written}


@dataclass(frozen=True, slots=True)
class Exports:
    """All files of an export.

    Attributes:
        run: the run folder.
        source: where the pictures come from that the files are compared on.
        fingerprint: of these pictures.
        min_agreement: what was asked for.
        keras_accuracy: of the model itself.
        keras_timings: of the ``.keras`` file.
        files: in the order they were asked for.
        refused: formats of which there is no file that can be used.
    """

    run: str
    source: str
    fingerprint: str
    min_agreement: float
    keras_accuracy: Score
    keras_timings: tuple[Timing, ...]
    files: tuple[ExportFile, ...]
    refused: tuple[Refusal, ...] = ()

    @property
    def failed(self) -> tuple[ExportFile, ...]:
        """The files that agree with the model less than was asked for, or could not be timed."""
        return tuple(f for f in self.files if not f.is_trusted)

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        judged = {
            "source": self.source,
            "fingerprint": self.fingerprint,
            "min_agreement": self.min_agreement,
        }
        return {
            "run": self.run,
            **judged,
            "keras": {
                "accuracy": self.keras_accuracy.as_dict(),
                "timings": [timing.as_dict() for timing in self.keras_timings],
            },
            "exports": [{**f.as_dict(), **judged} for f in self.files],
            "refused": [r.as_dict() for r in self.refused],
        }

    def __str__(self) -> str:
        return printed(self._shown())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table of a terminal."""
        yield from lines_of(self._shown())

    def _shown(self) -> dict[str, Any]:
        record = self.as_dict()
        return {
            **record,
            "exports": [{**row, "path": Path(row["path"]).name} for row in record["exports"]],
        }


def _short(difference: float) -> float | None:
    """Three digits; JSON has no NaN."""
    return float(f"{difference:.3g}") if math.isfinite(difference) else None
