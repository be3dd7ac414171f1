"""Files that are there whole or not at all."""

from __future__ import annotations

import glob
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from .errors import InshapeError, RequestError, RunError
from .text import first_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

DIGITS = "[0-9a-f]" * 8
"""A pattern for what `new_part` puts between the start and the end of a name."""
_DAY_S = 86_400.0
_ESCAPE = r"\u"  # half a character, written so, is no text


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
    start, end = f".{path.stem}-", path.suffix
    with writing(path):
        remove_abandoned(path.parent.glob(f"{glob.escape(start)}{DIGITS}{glob.escape(end)}"))
        with new_part(path.parent, start, end) as part:
            write(part)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
        sync_folder(path.parent)


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Say what keeps a file or folder from being written, which then stays as it was.

    Raises:
        RunError: if the disk is full or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; what was there is unchanged; "
            "free some space or choose a folder that can be written"
        ) from error


@contextmanager
def lock(path: Path) -> Generator[bool | None]:
    """Lock a file or folder that is there, and say whether that went well.

    ``False`` if another has it; ``None`` where there are no locks (Windows, some network drives).
    """
    # The lock is on what is open: it leaves no file, and it ends with the process however that
    # ends.
    if fcntl is None:
        yield None
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_locked = True
        except BlockingIOError:
            is_locked = False
        except OSError:
            is_locked = None
        yield is_locked
    finally:
        os.close(handle)


@contextmanager
def new_part(
    folder: Path, start: str, end: str = "", *, make: Callable[[Path], object] = Path.touch
) -> Generator[Path]:
    """A new file, or what ``make`` makes, to be filled and moved to its place; or else it goes.

    It is locked meanwhile, so that `remove_abandoned` leaves it alone.
    """
    with ExitStack() as stack:
        while True:
            part = folder / f"{start}{uuid.uuid4().hex[:8]}{end}"
            make(part)
            stack.callback(_remove, part)
            # Before it was locked, another process may have taken it for abandoned.
            with suppress(FileNotFoundError):
                if stack.enter_context(lock(part)) is not False and part.exists():
                    break
        yield part


def remove_abandoned(parts: Iterable[Path], first: Callable[[Path], object] | None = None) -> None:
    """Remove those parts whose writers were killed; ``first`` saves what is to be kept of one."""
    for part in parts:
        with suppress(OSError), lock(part) as is_locked:
            is_old = time.time() - part.stat().st_mtime > _DAY_S  # where there are no locks
            if is_locked or (is_locked is None and is_old):
                if first is not None:
                    first(part)
                _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, readable by people."""
    write_text(path, format_json(value, indent=2) + "\n")


class _NoJson(ValueError):
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
    """Read JSON; ``ValueError`` if it holds NaN, infinity, a number too large for any, or is none.

    Example:
        >>> parse_json('{"loss": 1.5}')
        {'loss': 1.5}
    """

    def refuse(word: str) -> float:
        raise _NoJson(f"it holds {word}, which is no finite number")

    def read(word: str) -> float:
        number = float(word)
        return number if math.isfinite(number) else refuse(word)

    try:
        value = json.loads(text, parse_constant=refuse, parse_float=read)
        if _ESCAPE in (text if isinstance(text, str) else text.decode()):
            format_json(value).encode()
    except RecursionError:
        raise _NoJson("it is nested too deep") from None
    except UnicodeEncodeError:
        raise _NoJson("it holds half a character") from None
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file, as `parse_json` does.

    Raises:
        OSError: if there is no file, or one that cannot be read.
        ValueError: if it holds anything else.
    """
    value = parse_json(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise _NoJson(f"it holds {type(value).__name__}, no object")
    return cast("dict[str, Any]", value)


@contextmanager
def reading(path: Path, expected: str) -> Generator[None]:
    """Say in one line that what is looked up in a file's values is not there, or no such value.

    Raises:
        RequestError: instead of any exception that is not inshape's own.
    """
    try:
        yield
    except InshapeError:
        raise
    except Exception as error:  # what others have changed can be wrong in any way
        raise RequestError(
            f"{path} cannot be read ({first_line(repr(error))}); expected {expected}"
        ) from error


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
