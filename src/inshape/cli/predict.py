"""``inshape predict``: what a run says about pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or an exported file.")],
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURES...", help="Files, or one folder.")
    ],
    top: Annotated[int, typer.Option(metavar="N", help="Classes to name per picture.")] = 3,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Classify pictures with a run or an exported file."""
    with console(as_json=as_json, debug=debug) as told:
        from ..predict import predict as classify

        found = classify(run, pictures[0] if len(pictures) == 1 else pictures, top=top)
        told.answer(
            "\n".join(map(str, found)),
            {"run": str(run), "predictions": [one.as_dict() for one in found]},
        )
