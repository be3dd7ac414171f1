"""The command line: parse, call, print, exit code."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that the program was called with, and exit with its code."""
    from .app import run

    sys.exit(run(sys.argv[1:]))
