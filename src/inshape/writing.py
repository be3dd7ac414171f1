"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from .errors import RunError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that it is there whole or not at all; until then the old one stays.

    ``write`` receives a path in the same folder, with the same suffix, and fills it.

    Raises:
        RunError: if the disk is full or the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically(Path(folder, "a.txt"), lambda p: p.write_text("whole"))
        ...     [p.name for p in Path(folder).iterdir()]
        ['a.txt']
    """
    part = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        write(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; what was there is unchanged; "
            "free some space or choose a folder that can be written"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, readable by people."""
    write_text(path, format_json(value, indent=2) + "\n")


class _NoNumber(ValueError):
    """Text that JSON has no room for, which readers answer as any other damage."""


def format_json(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON, which has no NaN and no infinity.

    Raises:
        RunError: if there is one in it; the message says where.
    """
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        place, number = next(_not_finite(value, ""))
        raise RunError(
            f"a result is {number} ({place}), which JSON cannot hold; expected a finite number; "
            "lower the learning rate, or check the pictures and the weights"
        ) from None


def parse_json(text: str | bytes) -> Any:
    """Read JSON; ``ValueError`` if it holds NaN, infinity or a number that is too large for any.

    Example:
        >>> parse_json('{"loss": 1.5}')
        {'loss': 1.5}
    """

    def refuse(word: str) -> float:
        raise _NoNumber(f"it holds {word}, which is no finite number")

    def read(word: str) -> float:
        number = float(word)
        return number if math.isfinite(number) else refuse(word)

    return json.loads(text, parse_constant=refuse, parse_float=read)


def _not_finite(value: Any, place: str) -> Iterator[tuple[str, float]]:
    """Every NaN and infinity in a value, with the way to it."""
    if isinstance(value, float) and not math.isfinite(value):
        yield place.lstrip("."), value
    elif isinstance(value, Mapping):
        for key, part in cast("Mapping[Any, Any]", value).items():
            yield from _not_finite(part, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for number, part in enumerate(cast("Sequence[Any]", value)):
            yield from _not_finite(part, f"{place}[{number}]")


def sync_folder(folder: Path) -> None:
    """Make sure that a rename in a folder outlasts a power failure."""
    # A rename is only safe from a power failure once the folder itself is on the disk; Windows
    # has no way to ask for that.
    with suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, if they are not there already.

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
