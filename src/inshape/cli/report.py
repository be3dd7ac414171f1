"""``inshape report``: a run or a comparison as a page."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_COMPARISON", help="A run folder, or the --out folder of a comparison."
        ),
    ],
    show: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Write report.html into a folder anew: one page that needs no other file and no network."""
    with console(as_json=as_json, debug=debug) as told:
        from ..report import report as write

        path = write(folder)
        told.answer(path, {"report": str(path)})
        if show:
            webbrowser.open(path.resolve().as_uri())
