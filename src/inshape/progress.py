"""Bars and lines on standard error, for anything that takes longer than a second or two."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .text import Printable

if TYPE_CHECKING:
    from rich.console import Console

Advance: TypeAlias = Callable[[int, int], None]
"""Called with how much of the work is over and how much there is."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Shows the user how far the work is."""

    console: Console | None = None
    """Where to; ``None`` keeps quiet."""

    @classmethod
    def to_stderr(cls, wanted: bool) -> Progress:
        """Standard error, or nothing."""
        if not wanted:
            return cls()
        from rich.console import Console  # slow to import

        return cls(Console(stderr=True, highlight=False))

    def say(self, line: str) -> None:
        """Show one line."""
        if self.console is not None:
            # Not wrapped at a width that a log file does not have: a command in it can be copied.
            self.console.print(line, markup=False, soft_wrap=True)

    def show(self, value: Printable) -> None:
        """Show a table."""
        if self.console is not None:
            self.say(value.describe(self.console.width))

    @contextmanager
    def bar(self, title: str, *, in_bytes: bool = False) -> Generator[Advance]:
        """A bar that grows; on something else than a terminal, nothing until it is over."""
        if self.console is None or not self.console.is_terminal:
            yield lambda done, total: None
            return
        from rich import progress

        columns: tuple[Any, ...] = (progress.TextColumn("{task.description}"), progress.BarColumn())
        if in_bytes:
            columns += (progress.DownloadColumn(), progress.TransferSpeedColumn())
        else:
            columns += (progress.MofNCompleteColumn(), progress.TimeRemainingColumn())
        with progress.Progress(*columns, console=self.console, transient=True) as bars:
            task = bars.add_task(title, total=None)
            yield lambda done, total: bars.update(task, completed=done, total=total)
