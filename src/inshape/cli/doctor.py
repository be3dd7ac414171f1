"""``inshape doctor``: what is installed and what is missing."""

from __future__ import annotations

import typer

from . import options
from .console import console


def doctor(as_json: options.AsJson = False, debug: options.Debug = False) -> None:
    """Show versions, devices, caches and missing parts, and what to do about problems.

    The exit code is 1 if something keeps inshape from working.
    """
    with console(as_json=as_json, debug=debug) as told:
        from ..doctor import diagnose

        found = diagnose()
        told.answer(found, found.as_dict())
        if found.problems:
            raise typer.Exit(1)
