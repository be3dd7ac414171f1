"""A module of this package, run in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping

from ..text import first_line


class Ended(Exception):
    """The process ended before it had an answer; the message says why."""

    def __init__(self, message: str, errors: str = "") -> None:
        """``errors`` is all that it wrote to standard error."""
        super().__init__(message)
        self.errors = errors


def run_apart(
    module: str, *words: str, text: str = "", environment: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """Run ``python -m MODULE WORDS`` with a text on standard input; return what it prints.

    ``environment`` is put over this process's own. Such a process has no other library's threads
    and memory in it, and if it is killed, this one goes on.

    Raises:
        Ended: with the signal that ended it, or the last line of its standard error.
    """
    command = [sys.executable, "-m", module, *words]
    process = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if process.returncode < 0:
        raise Ended(f"it was ended by {signal.Signals(-process.returncode).name}")
    if process.returncode:
        lines = process.stderr.strip().splitlines() or ["it said nothing"]
        raise Ended(first_line(lines[-1]), process.stderr)
    return process.stdout, process.stderr
