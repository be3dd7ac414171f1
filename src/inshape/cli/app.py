"""The program: finds the command, reads its request, runs it; what is wrong becomes one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .._version import __version__
from ..errors import UnknownName
from ..quiet import QuietImport
from ..text import align
from .commands import COMMANDS, RESUME, check_resumed, command_for
from .completion import complete, install, script
from .console import INTERRUPTED, Ended, open_console
from .interrupts import interrupts_delivered

_SUMMARY = "Give a pretrained CNN a new input shape and keep what its weights know."


def run(arguments: Sequence[str]) -> int:
    """Run the command of the words after the program's name.

    The exit code is 0, 1 for a failed run, 2 for a bad request, 130 if interrupted.
    """
    words = list(arguments)
    # TensorFlow's own notes on the machine would bury the answer.
    is_debug = "--debug" in words
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if is_debug else "3")
    if not is_debug:
        QuietImport.install("tensorflow")
    try:
        with interrupts_delivered():
            code = _run(words)
        sys.stdout.flush()
        return code
    except Ended as end:
        return end.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:  # a command's help
        return int(end.code or 0)
    except BrokenPipeError:
        # The reader, such as head, has seen enough; Python must not complain of it on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(words: list[str]) -> int:
    match words:
        case [] | ["-h" | "--help", *_]:
            print(overview())
        case ["--version"]:
            print(__version__)
        case ["--show-completion" | "--install-completion" as option, *shell]:
            with open_console(as_json=False, debug=False):
                print((script if option == "--show-completion" else install)(*shell[:1]))
        case ["--complete", *typed]:
            print("\n".join(complete(typed)))
        case [name, *_] if name in COMMANDS:
            return _run_command(words)
        case _:
            with open_console(as_json=False, debug=False):
                raise UnknownName("command", words[0], COMMANDS)
    return 0


def _run_command(words: list[str]) -> int:
    command, rest = command_for(words)
    as_json, debug, wide = (f"--{name}" in rest for name in ("json", "debug", "wide"))
    with open_console(as_json=as_json, debug=debug, wide=wide) as console:
        from ..requests import check_inputs
        from .parser import parse  # slow to import

        if command is RESUME:
            check_resumed(rest)
        request = parse(
            command.kind,
            rest,
            program=f"inshape {words[0]}",
            description=f"{command.summary.capitalize()}.\n\nexample: {command.example}",
        )
        check_inputs(request)
        return command.run(request, console) or 0


def overview() -> str:
    """What ``inshape --help`` prints."""
    rows = [(f"  {name}", command.summary) for name, command in COMMANDS.items()]
    options = [
        ("  --version", "show the version"),
        ("  --show-completion SHELL", "print bash's, zsh's, fish's or powershell's script"),
        ("  --install-completion SHELL", "install it, so that words are completed"),
        ("  -h, --help", "show this, or behind a command its options"),
    ]
    lines = ["usage: inshape COMMAND [OPTIONS]", "", _SUMMARY, "", "commands:"]
    lines += [*align(rows, left=2), "", "options:", *align(options, left=2), ""]
    return "\n".join([*lines, f"example: {COMMANDS['inspect'].example}"])
