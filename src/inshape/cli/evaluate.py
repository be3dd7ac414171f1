"""``inshape evaluate``: how good a run is on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console


def evaluate(
    run: options.RunFolder,
    pictures: Annotated[
        Path, typer.Argument(metavar="PICTURES", help="A folder per class, or a table.")
    ],
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="train, validation, test or all; by default the last it has."
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES", help="Measure at these too, such as 64,96,128x160 (a ?x? run only)."
        ),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save/--no-save", help="Write metrics.json into the run folder.")
    ] = True,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Measure a run on labelled pictures.

    Every score comes with a bootstrap 95 % interval. Of the pictures that the run was trained on,
    those are measured that it held out; --split all insists on every one.
    """
    with console(as_json=as_json, debug=debug) as told:
        from ..evaluate import evaluate as measure

        made = measure(
            run, pictures, split=split, sizes=options.sizes_of("--sizes", sizes), save=save
        )
        told.answer(made, made.as_dict())
