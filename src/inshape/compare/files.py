"""Files that candidates need, brought to machines that do not have them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

Files: TypeAlias = Mapping[str, bytes]
"""Contents by path; empty where the paths themselves can be read."""


def packed(paths: Iterable[str | None]) -> dict[str, bytes]:
    """Read the files among some words.

    Args:
        paths: paths, and words that are none.

    Returns:
        The contents of those that are files.
    """
    return {path: Path(path).read_bytes() for path in paths if path and Path(path).is_file()}


def place_of(path: str | None, files: Files) -> str | None:
    """Where a file can be read in this process.

    Args:
        path: a path, or a word that is none.
        files: contents that came along.

    Returns:
        The path, or that of a copy in the temporary folder, which is made once per machine.

    Example:
        >>> place_of("imagenet", {}), Path(place_of("a/b.h5", {"a/b.h5": b"12"})).name
        ('imagenet', 'b.h5')
    """
    if path is None or path not in files:
        return path
    content = files[path]
    digest = hashlib.blake2b(content, digest_size=12).hexdigest()
    copy = Path(tempfile.gettempdir()) / f"inshape-{digest}" / Path(path).name
    if not copy.exists():
        copy.parent.mkdir(exist_ok=True)
        unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
        unfinished.write_bytes(content)
        unfinished.replace(copy)
    return str(copy)
