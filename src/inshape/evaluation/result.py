"""The result of an evaluation: scores, the worst mistakes, and their tables in a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from .metrics import Score, Scores


@dataclass(frozen=True, slots=True)
class Mistake:
    """A picture that was taken for something else."""

    picture: str
    """Its path, or ``"[17]"``."""
    label: str
    guess: str
    probability: float
    """Of the guess."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a run is on labelled pictures."""

    run: str
    source: str
    shape: str
    """At which the pictures went in."""
    scores: Scores
    split: str = "all"
    """Which split of the pictures, or all of them."""
    seen_in_training: int = 0
    """How many of the pictures the run was trained on, as far as is known."""
    mistakes: tuple[Mistake, ...] = ()
    """The most confidently wrong pictures, the most confident first."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Pictures that could not be read, and why."""
    by_size: dict[str, Score] = field(default_factory=dict[str, Score])
    """Accuracy at other input sizes, for a model that takes any."""

    @property
    def accuracy(self) -> Score:
        """Top-1 accuracy."""
        return self.scores.accuracy

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        scores = self.scores
        return {
            "run": self.run,
            "source": self.source,
            "split": self.split,
            "seen_in_training": self.seen_in_training,
            "shape": self.shape,
            "pictures": scores.pictures,
            "accuracy": scores.accuracy.as_dict(),
            "top5": None if scores.top5 is None else scores.top5.as_dict(),
            "balanced_accuracy": scores.balanced_accuracy.as_dict(),
            "macro_f1": scores.macro_f1.as_dict(),
            "calibration_error": scores.calibration_error.as_dict(),
            "classes": [
                {
                    "name": c.name,
                    "pictures": c.pictures,
                    "precision": c.precision.as_dict(),
                    "recall": c.recall.as_dict(),
                }
                for c in scores.classes
            ],
            "confusion": scores.confusion.tolist(),
            "reliability": [
                {
                    "pictures": int(count),
                    "probability": None if np.isnan(mean) else round(float(mean), 6),
                    "accuracy": None if np.isnan(right) else round(float(right), 6),
                }
                for count, mean, right in scores.reliability
            ],
            "by_size": {size: score.as_dict() for size, score in self.by_size.items()},
            "mistakes": [
                {**asdict(m), "probability": round(m.probability, 6)} for m in self.mistakes
            ],
            "skipped": [{"picture": name, "reason": why} for name, why in self.skipped],
        }

    def __str__(self) -> str:
        text = io.StringIO()
        Console(width=100, file=text, color_system=None).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The tables of a terminal."""
        yield from self._tables()

    def _tables(self) -> Iterator[Table]:
        scores = self.scores
        part = "" if self.split == "all" else f" ({self.split})"
        title = f"{self.run} on {self.source}{part}: {scores.pictures} pictures at {self.shape}"
        table = Table("score", "value  [95 % interval]", title=title, title_justify="left")
        table.add_row("accuracy", str(scores.accuracy))
        if scores.top5 is not None:
            table.add_row("top-5 accuracy", str(scores.top5))
        table.add_row("balanced accuracy", str(scores.balanced_accuracy))
        table.add_row("macro F1", str(scores.macro_f1))
        table.add_row("calibration error", str(scores.calibration_error))
        for size, score in self.by_size.items():
            table.add_row(f"accuracy at {size}", str(score))
        yield table
        table = Table("class", "pictures", "precision", "recall")
        for c in scores.classes:
            table.add_row(c.name, str(c.pictures), str(c.precision), str(c.recall))
        yield table
        if self.mistakes:
            table = Table(
                "picture", "is", "taken for", "probability", title="most confidently wrong"
            )
            for m in self.mistakes:
                table.add_row(m.picture, m.label, m.guess, f"{m.probability:.3f}")
            yield table
