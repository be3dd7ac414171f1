"""What a command prints: text or one JSON object, warnings and errors as one line each."""

from __future__ import annotations

import shutil
import sys
import traceback
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, TextIO

from ..errors import InshapeError, RequestError
from ..extras import advice_for
from ..text import WIDTH, Printable, fold
from ..writing import format_json

INTERRUPTED = 130


class Ended(Exception):
    """A command is over, with an exit code; what there was to say has been said."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


@dataclass(frozen=True, slots=True)
class Console:
    """Where a command's answer goes."""

    as_json: bool
    """Whether the answer is one JSON object; text then goes to standard error."""
    stdout: TextIO
    wide: bool = False
    """Whether tables show everything, however wide the terminal is."""

    def show(self, value: object) -> None:
        """Print something for people, no wider than the terminal.

        Sentences are folded in a terminal alone, so that whatever reads a pipe finds them whole.
        """
        width = shutil.get_terminal_size((WIDTH, 24)).columns
        is_table = isinstance(value, Printable)
        text = value.describe(None if self.wide else width) if is_table else str(value)
        print(fold(text, width) if sys.stdout.isatty() and not self.wide else text)

    def answer(self, text: object, values: Mapping[str, Any], then: Sequence[str] = ()) -> None:
        """Give the command's answer: for people, and the same for machines as plain values.

        ``then`` holds the commands that people go on with, for a terminal alone.
        """
        self.show(text)
        if self.as_json:
            print(format_json(values), file=self.stdout, flush=True)
        elif then and sys.stdout.isatty():
            self.show("\n".join(["", "next:", *(f"  {command}" for command in then)]))


@contextmanager
def open_console(*, as_json: bool, debug: bool, wide: bool = False) -> Generator[Console]:
    """Run a command's work, and turn what goes wrong into one line and an exit code."""
    stdout = sys.stdout
    with warnings.catch_warnings(), redirect_stdout(sys.stderr if as_json else stdout):
        if not debug:
            warnings.showwarning = _show_warning
        try:
            yield Console(as_json, stdout, wide)
        except (Ended, BrokenPipeError, SystemExit):
            raise
        except KeyboardInterrupt:
            raise _ended("interrupted", INTERRUPTED, debug) from None
        except InshapeError as error:
            raise _ended(f"error: {error}", error.exit_code, debug) from None
        except ModuleNotFoundError as error:
            advice = advice_for(error)
            if not advice:
                raise _unexpected(error, debug) from None
            raise _ended(f"error: {advice}", RequestError.exit_code, debug) from None
        except Exception as error:
            raise _unexpected(error, debug) from None


def say(line: str) -> None:
    """Print a line on standard error, under the program's name."""
    print("inshape:", " ".join(line.split()), file=sys.stderr, flush=True)


def _unexpected(error: Exception, debug: bool) -> Ended:
    line = f"error: unexpected {type(error).__name__}: {error}"
    hint = "" if debug else "; --debug shows the traceback"
    return _ended(line + hint, InshapeError.exit_code, debug)


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
