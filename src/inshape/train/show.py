"""What a training shows while it runs: a bar for each part of the work, on standard error."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..data.catalogue import Progress as Told


@dataclass(frozen=True, slots=True)
class Show:
    """Tells the user how far the work is.

    Attributes:
        console: where to; ``None`` keeps quiet.
    """

    console: Console | None

    @classmethod
    def to_stderr(cls, wanted: bool) -> Show:
        """Standard error, or nothing."""
        return cls(Console(stderr=True, highlight=False) if wanted else None)

    def say(self, line: str) -> None:
        """Show one line."""
        if self.console is not None:
            self.console.print(line, markup=False)

    @contextmanager
    def bar(self, title: str) -> Generator[Told]:
        """A bar that grows; on something else than a terminal, nothing until it is over.

        Args:
            title: what is done.

        Yields:
            A function of what is done and what there is.
        """
        if self.console is None or not self.console.is_terminal:
            yield lambda done, total: None
            return
        columns: tuple[Any, ...] = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(title, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """Show the scores of an epoch."""
        self.say(
            f"{row['phase']} {row['epoch']:>2}/{epochs}  loss {row['loss']:.4f}  "
            f"validation loss {row['val_loss']:.4f}  accuracy {row['val_accuracy']:.4f}"
        )
