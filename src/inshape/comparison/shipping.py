"""Files that candidates need, brought to machines that do not have them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

Files: TypeAlias = Mapping[str, bytes]
"""Contents by path; empty where the paths themselves can be read."""

Place: TypeAlias = Callable[[str | None], str | None]


def packed(paths: Iterable[str | None]) -> dict[str, bytes]:
    """Read the files among some words.

    Args:
        paths: paths, and words that are none.

    Returns:
        The contents of those that are files.
    """
    named = {path: Path(path).expanduser() for path in paths if path}
    return {path: file.read_bytes() for path, file in named.items() if file.is_file()}


@contextmanager
def unpacked(files: Files) -> Generator[Place]:
    """Put contents that came along into a folder that is there for a while.

    Args:
        files: contents by path.

    Yields:
        A function from a path to where it can be read in this process; words that are no paths
        stay as they are.

    Example:
        >>> with unpacked({"a/b.h5": b"12"}) as place:
        ...     Path(place("a/b.h5")).read_bytes(), place("imagenet"), place(None)
        (b'12', 'imagenet', None)
    """
    if not files:
        yield lambda path: path
        return
    with tempfile.TemporaryDirectory(prefix="inshape-") as folder:
        copies: dict[str | None, str] = {}
        for number, (path, content) in enumerate(files.items()):
            copy = Path(folder) / str(number) / Path(path).name
            copy.parent.mkdir()
            copy.write_bytes(content)
            copies[path] = str(copy)
        yield lambda path: copies.get(path, path)
