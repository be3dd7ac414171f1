"""Downloads of ``keras.applications``: resumed, verified by hash, into Keras's own cache.

Keras's ``get_file`` starts anew whenever a connection breaks off, and writes into the final file,
which a kill leaves cut short. Here what has arrived stays in ``NAME.part``; the next attempt goes
on from there, and the file gets its name once it is whole and its hash is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Generator
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import WeightsError

_TIMEOUT_S = 30.0
_ATTEMPTS = 3
_CHUNK_BYTES = 1 << 18


@contextlib.contextmanager
def resumed_downloads(whom: str) -> Generator[None]:
    """Let the constructors of ``keras.applications`` download by `fetch`.

    Args:
        whom: the network, for messages.
    """
    # The only place that all of them ask, and no argument of theirs leads there.
    file_utils: Any = importlib.import_module("keras.src.utils.file_utils")
    config = importlib.import_module("keras.src.backend.config")
    keras_own = file_utils.get_file

    def get_file(
        fname: str,
        origin: str,
        *,
        cache_subdir: str = "datasets",
        file_hash: str | None = None,
        md5_hash: str | None = None,
        **others: Any,
    ) -> str:
        if others:
            return keras_own(
                fname, origin, cache_subdir=cache_subdir, file_hash=file_hash or md5_hash, **others
            )
        home = Path(config.keras_home()).expanduser()
        if not os.access(home, os.W_OK):  # as Keras does
            home = Path(tempfile.gettempdir(), ".keras")
        target = home / cache_subdir / fname
        return str(fetch(origin, target, digest=file_hash or md5_hash, whom=whom))

    file_utils.get_file = get_file
    try:
        yield
    finally:
        file_utils.get_file = keras_own


def fetch(url: str, target: Path, *, digest: str | None, whom: str) -> Path:
    """Download a file, or find it where an earlier call put it.

    Args:
        url: where it is.
        target: where it belongs.
        digest: its SHA-256 or MD5 in hexadecimal digits, or ``None`` where nobody published one.
        whom: what it is needed for, for messages.

    Returns:
        ``target``.

    Raises:
        WeightsError: if it cannot be had whole; what has arrived is kept for the next call.
    """
    if target.is_file() and _is_right(target, digest):
        return target
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                _receive(url, part, is_verified=digest is not None)
                break
            except urllib.error.HTTPError:
                raise
            except (OSError, HTTPException):
                if attempt == _ATTEMPTS:
                    raise
        if not _is_right(part, digest):
            _forget(part)
            raise OSError(f"what arrived from {url} has another hash than {digest}")
        part.replace(target)
        _forget(part)
    except (OSError, HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error).split())
        raise WeightsError(
            f"cannot download {target.name} for {whom} ({reason or type(error).__name__}); "
            f"expected a connection, or the file of {url} at {target}; put it there, or give "
            "weights= a file of your own"
        ) from error
    return target


def _receive(url: str, part: Path, *, is_verified: bool) -> None:
    """Bring a partial file to its end, from where it stopped if the server still has the same."""
    stamp = _stamp(part)
    start = part.stat().st_size if part.exists() else 0
    known = stamp.read_text(encoding="utf-8") if stamp.exists() else ""
    request = urllib.request.Request(url)
    if start and (known or is_verified):
        request.add_header("Range", f"bytes={start}-")
        if known:
            request.add_header("If-Range", known)
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the range begins at or behind the end: nothing is missing
            raise
        return
    with answer:
        if answer.status != 206:
            start = 0
        stamp.write_text(_validator(answer), encoding="utf-8")
        length = answer.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            _copy(answer, file, start, total, part.name.removesuffix(".part"))
    received = part.stat().st_size
    if total is not None and received < total:
        raise ConnectionError(f"the connection broke off after {received} of {total} bytes")


def _validator(answer: Any) -> str:
    """What the server calls this version of the file; weak ones do not vouch for single bytes."""
    tag = answer.headers.get("ETag") or ""
    return "" if tag.startswith("W/") else tag


def _copy(answer: Any, file: BinaryIO, start: int, total: int | None, name: str) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    # On standard error: a command's result belongs on standard output.
    console = Console(stderr=True)
    with Progress(*columns, TransferSpeedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(name, total=total, completed=start)
        while chunk := answer.read(_CHUNK_BYTES):
            file.write(chunk)
            bar.update(task, advance=len(chunk))
        file.flush()
        os.fsync(file.fileno())


def _is_right(path: Path, digest: str | None) -> bool:
    if digest is None:
        return True
    with path.open("rb") as file:
        kind = "sha256" if len(digest) == 64 else "md5"
        return hashlib.file_digest(file, kind).hexdigest() == digest


def _stamp(part: Path) -> Path:
    return part.with_name(f"{part.name}-etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _stamp(part).unlink(missing_ok=True)
