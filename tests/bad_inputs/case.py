"""What a bad input is, and what it must be answered with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class BadInput:
    """One input that is not as it should be."""

    name: str
    """Stands in the table."""
    give: Callable[[Path], Any]
    """Makes the input in an empty folder and hands it to inshape. What it returns counts as part of
    the answer: the notes or warnings of what was taken."""
    answer: str
    """A regular expression that the error, the warnings or the value returned must hold."""
