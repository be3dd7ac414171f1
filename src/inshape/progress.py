"""Bars and lines for anything that takes longer than a second or two.

They go to standard error; in a notebook, below the cell.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .text import Printable, format_bytes

if TYPE_CHECKING:
    from rich.console import Console

_REDRAWN_S = 0.2
"""A notebook takes every change over the network."""
_SAID_S, _SAID_SHARE = 10.0, 0.1
"""Between lines about the same work, where there is no bar; later, this share of how long it has
been going on."""

Advance: TypeAlias = Callable[[int, int], None]
"""Called with how much of the work is over and how much there is."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Shows the user how far the work is."""

    console: Console | None = None
    """Where to; ``None`` keeps quiet."""
    in_notebook: bool = False
    """Whether bars are drawn below a notebook's cell."""

    @classmethod
    def to_stderr(cls, wanted: bool | None) -> Progress:
        """Standard error, or nothing; ``None`` is for terminals and notebooks alone."""
        in_notebook = _in_notebook()
        if wanted is None:
            wanted = in_notebook or sys.stderr.isatty()
        if not wanted:
            return cls()
        from rich.console import Console  # slow to import

        # Rich would show every line as a picture of its own, and want a package for bars.
        console = Console(stderr=not in_notebook, highlight=False, force_jupyter=False)
        return cls(console, in_notebook)

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
        """A bar that grows; in a log, which is no terminal, a line now and then."""
        if self.in_notebook:
            yield from _notebook_bar(title)
            return
        if self.console is None:
            yield lambda done, total: None
            return
        if not self.console.is_terminal:
            yield self._now_and_then(title, format_bytes if in_bytes else str)
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

    def _now_and_then(self, title: str, write: Callable[[int], str]) -> Advance:
        begun = said_at = time.monotonic()

        def advance(done: int, total: int) -> None:
            nonlocal said_at
            now = time.monotonic()
            if now - said_at >= max(_SAID_S, (now - begun) * _SAID_SHARE):
                said_at = now
                self.say(f"{title}: {write(done)} of {write(total)}")

        return advance


def _in_notebook() -> bool:
    """Whether there is a cell that things can be shown below."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _notebook_bar(title: str) -> Generator[Advance]:
    """A bar below the cell, which goes when the work is over."""
    from IPython.display import HTML, display

    handle: Any = display(HTML(html.escape(title)), display_id=True)
    shown_at = 0.0

    def advance(done: int, total: int) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at < _REDRAWN_S and done < total:
            return
        shown_at = time.monotonic()
        bar = f'<progress value="{done}" max="{max(1, total)}"></progress>'
        handle.update(HTML(f"{html.escape(title)} {bar} {done}/{total}"))

    try:
        yield advance
    finally:
        handle.update(HTML(""))
