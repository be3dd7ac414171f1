"""The commands, put together; what the user wrote wrongly becomes one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from .._version import __version__
from .adapt import adapt
from .compare import compare, with_address
from .completion import PROGRAM, for_named_shell
from .console import INTERRUPTED, say
from .demo import demo
from .doctor import doctor
from .evaluate import evaluate
from .export import bench, export
from .inspect import inspect
from .models import models
from .predict import predict
from .report import report
from .train import train

app = typer.Typer(
    name=PROGRAM,
    help="Give a pretrained CNN a new input shape, keep what its weights know, and measure it.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS = (
    inspect,
    adapt,
    train,
    evaluate,
    predict,
    compare,
    report,
    export,
    bench,
    demo,
    models,
    doctor,
)
_NAMES = tuple(command.__name__ for command in _COMMANDS)
for _command in _COMMANDS:
    app.command()(_command)


def _show_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def inshape(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Give a pretrained CNN a new input shape, keep what its weights know, and measure it."""


def run(arguments: Sequence[str]) -> int:
    """Run a command.

    Args:
        arguments: the words after the program's name.

    Returns:
        The exit code: 0, 1 for a failed run, 2 for a bad request, 130 if interrupted.
    """
    # TensorFlow's own notes on the machine would bury the answer.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if "--debug" in arguments else "3")
    words = with_address(arguments) or ["--help"]
    try:
        if for_named_shell(words):
            return 0
        code = app(args=words, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
        return code or 0
    except typer.TyperException as error:
        named = [word for word in words[:1] if word in _NAMES]
        told = error.format_message().rstrip(".")
        say(f"error: {told}; see {' '.join(['inshape', *named, '--help'])}")
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as head, has seen enough; Python must not complain of it on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
