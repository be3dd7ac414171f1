"""Templates to text: one page with its style, its script and its figures inside."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import plotly.offline

from .._version import __version__
from .words import FILTERS

_MARK = "inshape report"
_HEAD = 2000


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """A page as text.

    Args:
        template: its file's name without ending.
        values: what it shows, as plain values; every string is escaped. ``figures`` are Plotly
            figures by the ids of the elements that hold them; without any, Plotly's own 5 MB are
            left out.

    Returns:
        HTML that needs nothing else.
    """
    library = plotly.offline.get_plotlyjs() if values["figures"] else ""
    return (
        _environment()
        .get_template(f"{template}.html")
        .render(**values, version=__version__, mark=_MARK, library=library)
    )


def is_ours(path: Path) -> bool:
    """Whether a file is a page that `rendered` made.

    Args:
        path: a file.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f'content="{_MARK}'.encode() in file.read(_HEAD)


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("inshape.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    return made
