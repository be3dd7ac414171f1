"""``inshape models``: the backbones that go by a name."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .console import console


def models(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Only those whose name holds this.")
    ] = "",
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """List the backbones with their size, cost, accuracy and weights."""
    with console(as_json=as_json, debug=debug) as told:
        from ..listing import listed

        found = listed(name)
        told.answer(found, found.as_dict())
