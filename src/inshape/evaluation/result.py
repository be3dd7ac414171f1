"""The result of an evaluation: scores, the worst mistakes, and their tables in a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from ..tasks.bootstrap import Score
from ..tasks.task import Mistake, Scores


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a run is on labelled pictures."""

    run: str
    source: str
    shape: str
    """At which the pictures went in."""
    scores: Scores
    task: str = "classification"
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
        """The score that goes by the task: accuracy, macro F1 of tags, or R2 of numbers."""
        return self.scores.main

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "task": self.task,
            "run": self.run,
            "source": self.source,
            "split": self.split,
            "seen_in_training": self.seen_in_training,
            "shape": self.shape,
            **self.scores.as_dict(),
            "scores": [
                {"name": name, "is_share": name not in self.scores.in_units, **score.as_dict()}
                for name, score in self.scores.named().items()
            ],
            "by_size": {size: score.as_dict() for size, score in self.by_size.items()},
            "mistakes": [_mistake_dict(mistake) for mistake in self.mistakes],
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
        for name, score in scores.named().items():
            table.add_row(name, str(score))
        main = next(iter(scores.named()))
        for size, score in self.by_size.items():
            table.add_row(f"{main} at {size}", str(score))
        yield table
        heads, rows = scores.by_output()
        if heads:
            table = Table(*heads)
            for row in rows:
                table.add_row(*row)
            yield table
        if self.mistakes:
            is_sure = self.mistakes[0].probability is not None
            last, title = (
                ("probability", "most confidently wrong") if is_sure else ("off by", "furthest off")
            )
            table = Table("picture", "is", "taken for", last, title=title)
            for m in self.mistakes:
                number = m.off_by if m.probability is None else m.probability
                table.add_row(m.picture, m.label, m.guess, f"{number:.3f}")
            yield table


def _mistake_dict(mistake: Mistake) -> dict[str, Any]:
    rounded = {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in asdict(mistake).items()
    }
    return {name: value for name, value in rounded.items() if value is not None}
