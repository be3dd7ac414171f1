"""Templates to text: one page with its style, its script and its plots inside."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import plotly.offline

from .. import text
from .._version import __version__

_MARK = "inshape report"
_HEAD = 2000
_FILTERS = (
    text.format_bytes, text.format_count, text.format_interval, text.format_ms, text.format_number,
    text.format_percent, text.format_points, text.format_seconds, text.format_value,
    text.upper_first,
)  # fmt: skip


def render(template: str, values: Mapping[str, Any]) -> str:
    """A page as text; ``values["plots"]`` are Plotly figures by the ids of their elements.

    Every string is escaped. Without a plot, Plotly's script of 4.6 MiB is left out.
    """
    library = plotly.offline.get_plotlyjs() if values["plots"] else ""
    page = _environment().get_template(f"{template}.html")
    return page.render(**values, version=__version__, mark=_MARK, library=library)


def render_part(template: str, values: Mapping[str, Any]) -> str:
    """Part of another page; every string is escaped."""
    return _environment().get_template(f"{template}.html").render(**values)


def is_report(path: Path) -> bool:
    """Whether a file is a page that `render` wrote, and may be written over."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f'content="{_MARK}'.encode() in file.read(_HEAD)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("inshape.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({function.__name__: function for function in _FILTERS})
    return environment
