"""Figures as files, drawn by Matplotlib without a screen."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import RunError
from .writing import write_atomically

_DPI = 120


@contextmanager
def chart(path: Path, *, width: float = 6.0, height: float = 4.0) -> Generator[Any]:
    """Draw a figure and write it, whole or not at all.

    Args:
        path: where it belongs; the suffix says the format (``.png``, ``.svg``). Its folder is made.
        width: in inches.
        height: in inches.

    Yields:
        Matplotlib axes to draw into.

    Raises:
        RunError: if it cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with chart(Path(folder, "a.png")) as axes:
        ...         _ = axes.plot([0, 1], [1, 2])
        ...     Path(folder, "a.png").read_bytes()[1:4]
        b'PNG'
    """
    from matplotlib.figure import Figure  # slow to import; pyplot would look for a screen

    figure = Figure(figsize=(width, height), layout="constrained")
    yield figure.add_subplot()
    make_folder(path.parent)
    write_atomically(path, lambda part: figure.savefig(part, dpi=_DPI))


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Args:
        folder: may be there already.

    Raises:
        RunError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"cannot make {folder}: {error.strerror or error}; expected a folder that can be "
            "written; choose another"
        ) from error
