"""The result of an evaluation: scores, the worst mistakes, and their tables in a terminal."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..tasks.bootstrap import Score
from ..tasks.task import Mistake, Scores
from ..text import Printable, table


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation(Printable):
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

    def describe(self, width: int | None = None) -> str:
        """The scores of all, those of every class, and the worst mistakes."""
        scores = self.scores
        part = "" if self.split == "all" else f" ({self.split})"
        title = f"{self.run} on {self.source}{part}: {scores.pictures} pictures at {self.shape}"
        rows = [(name, str(score)) for name, score in scores.named().items()]
        rows += [(f"{rows[0][0]} at {size}", str(score)) for size, score in self.by_size.items()]
        lines = [title, *table(("score", "value  [95 % interval]"), rows, left=2, width=width)]
        heads, by_output = scores.by_output()
        if heads:
            lines += ["", *table(heads, by_output, left=1, width=width)]
        if self.mistakes:
            is_sure = self.mistakes[0].probability is not None
            last, title = (
                ("probability", "most confidently wrong") if is_sure else ("off by", "furthest off")
            )
            rows = [
                (m.picture, m.label, m.guess, f"{m.probability if is_sure else m.off_by:.3f}")
                for m in self.mistakes
            ]
            heads = ("picture", "is", "taken for", last)
            lines += ["", title, *table(heads, rows, left=3, width=width)]
        return "\n".join(lines)


def _mistake_dict(mistake: Mistake) -> dict[str, Any]:
    rounded = {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in asdict(mistake).items()
    }
    return {name: value for name, value in rounded.items() if value is not None}
