"""Downloads of ``keras.applications``: resumed, verified by hash, into Keras's own cache.

Keras's ``get_file`` starts anew whenever a connection breaks off, and writes into the final file,
which a kill leaves cut short. Here what has arrived stays in ``NAME.part``; the next attempt goes
on from there, and the file gets its name once it is whole and its hash is right.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import WeightsError

_TIMEOUT_S = 30.0
_ATTEMPTS = 3
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Published:
    """A file of ImageNet weights that Keras publishes."""

    file: str
    url: str
    hash: str | None


@cache
def published() -> dict[tuple[str, bool], Published]:
    """Every file by the backbone's name and whether it holds the classifier."""
    text = files("inshape.weights").joinpath("imagenet.csv").read_text(encoding="utf-8")
    return {
        (row["backbone"], row["top"] == "1"): Published(
            row["file"], row["url"], row["hash"] or None
        )
        for row in csv.DictReader(text.splitlines())
    }


def fetch_imagenet(backbone: str, *, top: bool) -> Path:
    """Download a backbone's ImageNet weights into Keras's own cache, or find them there."""
    wanted = published()[backbone, top]
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    with contextlib.suppress(OSError):
        home.mkdir(parents=True, exist_ok=True)
    if not os.access(home, os.W_OK):  # as Keras does
        home = Path(tempfile.gettempdir(), ".keras")
    target = home / "models" / wanted.file
    return fetch(wanted.url, target, digest=wanted.hash, whom=backbone)


def fetch(url: str, target: Path, *, digest: str | None, whom: str) -> Path:
    """Download a file, or find it where an earlier call put it."""
    if target.is_file() and _is_right(target, digest):
        return target
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _insist(url, part, is_verified=digest is not None)
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


def _insist(url: str, part: Path, *, is_verified: bool) -> None:
    """Receive a file, and again from where the connection broke off."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _receive(url, part, is_verified=is_verified)
        except urllib.error.HTTPError:
            raise
        except (OSError, HTTPException):
            if attempt == _ATTEMPTS:
                raise
    return None


def _receive(url: str, part: Path, *, is_verified: bool) -> None:
    """Bring a partial file to its end, from where it stopped if the server still has the same."""
    stamp = _stamp(part)
    start = part.stat().st_size if part.exists() else 0
    known = stamp.read_text(encoding="utf-8") if stamp.exists() else ""
    can_go_on = start > 0 and (bool(known) or is_verified)
    headers = {"Range": f"bytes={start}-"} if can_go_on else {}
    if can_go_on and known:
        headers["If-Range"] = known
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the range begins at or behind the end: nothing is missing
            raise
        return
    with answer:
        stamp.write_text(_validator(answer), encoding="utf-8")
        _write(answer, part, start if answer.status == 206 else 0)


def _write(answer: Any, part: Path, start: int) -> None:
    """Write down what arrives, from a place on."""
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
