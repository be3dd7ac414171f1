"""The options of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from ..requests import File, Flag, Positional, Request, Written, read_location
from ..runs import write_run

Kind: TypeAlias = Literal["run", "comparison"]


@dataclass(frozen=True, slots=True)
class ReportRequest(Request):
    """Write report.html: one page that needs no other file and no network."""

    subject: Annotated[Any, Written(read_location, write_run, "RUN_OR_COMPARISON"), Positional()]
    """A run folder, complete or not, the folder of a comparison or, in Python, a comparison."""
    out: Annotated[File | None, Flag("")] = None
    """The page; by default report.html in the folder."""
    kind: Kind | None = None
    """For a folder that holds both; by default the run."""
    open: bool = False
    """Show the page in a browser."""
