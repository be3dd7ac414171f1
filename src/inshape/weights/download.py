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
import re
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

_NUMBER = r"\d{1,18}"
"""Of bytes, in what a server says; one of more digits is none."""
_LONGEST_NOTE = 256
"""Characters of what a server calls a file; a header of thousands is refused, again and again."""
_BEHIND_END = 416
"""The answer to a range that begins where the file ends."""
_MISTAKEN = (400, 412, _BEHIND_END, 431)
"""Answers to a request that is not understood."""
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
    if target.is_file() and not _fault_of(target, digest):
        return target
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _insist(url, part, is_verified=digest is not None)
        fault = _fault_of(part, digest)
        if fault:
            _forget(part)
            raise OSError(f"what arrived from {url} {fault}")
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
    start = part.stat().st_size if part.exists() else 0
    headers = _headers(part, start, is_verified=is_verified)
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        is_whole = is_verified or error.headers.get("Content-Range") == f"bytes */{start}"
        if error.code == _BEHIND_END and is_whole:
            return
        if headers and error.code in _MISTAKEN:
            _forget(part)
            raise ConnectionError(f"the server does not go on with {part.name}") from error
        raise
    with answer:
        first = _first_byte(answer)
        if first not in (0, start):
            _forget(part)
            raise ConnectionError(f"the server sent bytes from {first} on, asked for {start}")
        if first == 0:
            _forget(part)  # or a kill would leave the old part with the new note
        _stamp(part).write_text(_validator(answer), encoding="utf-8")
        _write(answer, part, first)


def _headers(part: Path, start: int, *, is_verified: bool) -> dict[str, str]:
    """What asks for the rest of a file, where it can be known to be that of the same one."""
    known = _read_stamp(_stamp(part))
    if start == 0 or not (known or is_verified):
        return {}
    rest = {"Range": f"bytes={start}-"}
    return {**rest, "If-Range": known} if known else rest


def _first_byte(answer: Any) -> int:
    """Where what is sent begins: 0 for a whole file, -1 where the server does not say it."""
    if answer.status != 206:
        return 0
    place = re.match(rf"bytes ({_NUMBER})-", answer.headers.get("Content-Range") or "")
    return int(place[1]) if place else -1


def _write(answer: Any, part: Path, start: int) -> None:
    """Write down what arrives, from a place on."""
    length = answer.headers.get("Content-Length") or ""
    total = start + int(length) if re.fullmatch(_NUMBER, length) else None
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        _copy(answer, file, start, total, part.name.removesuffix(".part"))
    received = part.stat().st_size
    if total is not None and received < total:
        raise ConnectionError(f"the connection broke off after {received} of {total} bytes")


def _validator(answer: Any) -> str:
    """What the server calls this version of the file; weak tags do not vouch for single bytes."""
    tag = answer.headers.get("ETag") or ""
    return (answer.headers.get("Last-Modified") or "") if tag[:2] in ("", "W/") else tag


def _read_stamp(stamp: Path) -> str:
    """What the server called the part that is there; nothing where the note of it is broken."""
    try:
        known = stamp.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
    return known if known.isprintable() and len(known) <= _LONGEST_NOTE else ""


def _copy(answer: Any, file: BinaryIO, start: int, total: int | None, name: str) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    # On standard error: a command's result belongs on standard output.
    console = Console(stderr=True)
    with Progress(*columns, TransferSpeedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(name, total=total, completed=start)
        # `read` waits for the whole chunk, and loses what it has of it when the link stalls.
        while chunk := answer.read1(_CHUNK_BYTES):
            file.write(chunk)
            bar.update(task, advance=len(chunk))
        file.flush()
        os.fsync(file.fileno())


def _fault_of(path: Path, digest: str | None) -> str:
    """Why a file cannot be the one that was asked for; empty if nothing speaks against it."""
    with path.open("rb") as file:
        if digest is None:
            return _fault_of_start(file.read(512).lstrip())
        kind = "sha256" if len(digest) == 64 else "md5"
        is_same = hashlib.file_digest(file, kind).hexdigest() == digest
    return "" if is_same else f"has another hash than {digest}"


def _fault_of_start(start: bytes) -> str:
    """What a file is that holds no weights, as portals and servers in trouble send it."""
    if not start:
        return "is empty"
    return "is a web page" if start.startswith(b"<") else ""


def _stamp(part: Path) -> Path:
    return part.with_name(f"{part.name}-etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _stamp(part).unlink(missing_ok=True)
