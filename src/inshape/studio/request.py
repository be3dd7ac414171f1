"""A studio as it was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..requests import Folder, Positional, Range, Request, Written

LOCAL = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class StudioRequest(Request):
    """A page on this machine to see a shape, train a network and try it."""

    folder: Annotated[Folder, Positional()] = Path()
    """The page reads and writes below this folder alone."""
    host: Annotated[str, Written(str, str, "ADDRESS")] = LOCAL
    """Where it listens; at any other address than 127.0.0.1 it asks for a password, which is
    printed."""
    port: Annotated[int, Range(1, 65535)] = 7860
    """On which port."""
    open: bool = False
    """Show the page in a browser."""
