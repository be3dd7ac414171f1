"""What a command prints: text or one JSON object, warnings and errors as one line each."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, TextIO

from ..errors import InshapeError
from ..writing import format_json

INTERRUPTED = 130


class Ended(Exception):
    """A command is over, with an exit code; what there was to say has been said."""

    def __init__(self, code: int) -> None:
        """Take the exit code."""
        self.code = code
        super().__init__(code)


@dataclass(frozen=True, slots=True)
class Console:
    """Where a command's answer goes."""

    as_json: bool
    """Whether the answer is one JSON object; text then goes to standard error."""
    stdout: TextIO

    def show(self, text: object) -> None:
        """Print something for people, in a terminal with its colours and at its width."""
        if sys.stdout.isatty() and hasattr(text, "__rich_console__"):
            from rich.console import Console as Terminal

            Terminal(highlight=False).print(text, crop=False)
        else:
            print(text)

    def answer(self, text: object, values: Mapping[str, Any]) -> None:
        """Give the command's answer: for people, and the same for machines as plain values."""
        self.show(text)
        if self.as_json:
            print(format_json(values), file=self.stdout, flush=True)


@contextmanager
def open_console(*, as_json: bool, debug: bool) -> Generator[Console]:
    """Run a command's work, and turn what goes wrong into one line and an exit code."""
    stdout = sys.stdout
    with warnings.catch_warnings(), redirect_stdout(sys.stderr if as_json else stdout):
        if not debug:
            warnings.showwarning = _show_warning
        try:
            yield Console(as_json, stdout)
        except (Ended, BrokenPipeError, SystemExit):
            raise
        except KeyboardInterrupt:
            raise _ended("interrupted", INTERRUPTED, debug) from None
        except InshapeError as error:
            raise _ended(f"error: {error}", error.exit_code, debug) from None
        except Exception as error:
            line = f"error: unexpected {type(error).__name__}: {error}"
            hint = "" if debug else "; --debug shows the traceback"
            raise _ended(line + hint, InshapeError.exit_code, debug) from None


def say(line: str) -> None:
    """Print a line on standard error, under the program's name."""
    print("inshape:", " ".join(line.split()), file=sys.stderr, flush=True)


def _ended(line: str, code: int, debug: bool) -> Ended:
    if debug:
        traceback.print_exc()
    say(line)
    return Ended(code)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"warning: {message}")
