"""Texts that people write: shapes, amounts, names, labels, tables; and notes of downloads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image

import inshape
from inshape import requests
from inshape.data.prepare import read_full_scale
from inshape.data.sources import open_source
from inshape.data.tables import list_table
from inshape.errors import InshapeError
from inshape.evaluation.request import read_size
from inshape.reporting.plots import plot_learning
from inshape.requests import (
    many,
    read_hw,
    read_location,
    read_path,
    read_whole,
    read_word_or_number,
)
from inshape.runs import Run
from inshape.runtime.cards import read_card
from inshape.runtime.runners import kind_of
from inshape.shapes import InputShape
from inshape.text import read_bytes, read_count, read_ms
from inshape.training.journals import scalars
from inshape.weights.channels import read_rule
from inshape.weights.download import fetch
from inshape.weights.files import open_weights

from .reader import Reader, damage_text, fuzz, of_file


def _of_text(*reads: Callable[[str], Any]) -> Callable[[bytes, Path], Any]:
    """Each of several readers of a text, of which not all may refuse it."""

    def read(content: bytes, _: Path) -> None:
        text = content.decode("utf-8", "surrogateescape")
        refusals: list[InshapeError] = []
        for one in reads:
            try:
                one(text)
            except InshapeError as error:
                refusals.append(error)
        longest = max(refusals, key=lambda error: len(str(error)), default=None)
        if longest is not None and (len(refusals) == len(reads) or len(str(longest)) > 300):
            raise longest

    return read


def _path(content: bytes, folder: Path) -> None:
    # Not out of the folder, which would be read in full.
    text = content.decode("utf-8", "surrogateescape").replace("..", "")
    path = read_path(text if text.startswith("~") else f"{folder}/{text}")
    read_location(text)
    for read in (Run.open, open_source, inshape.report, kind_of, read_card, _weights):
        with suppress(InshapeError):
            read(path)


def _weights(path: Path) -> None:
    with open_weights(path):
        pass


def _history(path: Path) -> object:
    rows = Run(path.parent, {}).history_rows()
    return plot_learning(rows), [scalars(row) for row in rows]


def _table(path: Path) -> object:
    if not (path.parent / "a").exists():
        (path.parent / "a").mkdir()
        for name in ("a/0.png", "a/1.png", "b.png"):
            Image.new("L", (4, 3)).save(path.parent / name)
    return list_table(path)


_DOWNLOADS = 300  # inputs; each is a request over the network
_SERVED = bytes(range(200))
_TAG = '"5d8c72a5edda8"'


class _Strict(BaseHTTPRequestHandler):
    """Serves one file, and understands no note but those in quotes."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        known = self.headers.get("If-Range", _TAG)
        if len(known) > 99 or known[:1] + known[-1:] != '""':
            self.send_error(400)
            return
        start = 0
        if known == _TAG and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-199/200")
        self.send_header("Content-Length", str(200 - start))
        self.send_header("ETag", _TAG)
        self.end_headers()
        self.wfile.write(_SERVED[start:])


@cache
def _url() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Strict)
    Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/a.h5"


def _resume(note: Path) -> None:
    """Whatever stands in a note, the file comes whole: anew, or from where it broke off."""
    note.with_name("a.h5.part").write_bytes(_SERVED[:50])
    target = note.with_name("a.h5")
    target.unlink(missing_ok=True)
    fetch(_url(), target, digest=hashlib.md5(_SERVED).hexdigest(), whom="Net")
    assert target.read_bytes() == _SERVED


_TABLE = b"path,label,split\na/0.png,x,train\na/1.png,x,\nb.png,y,test\n"
_ONE_HOT = b"image;cat;dog\n0.png;1;0\n1;0;1.0\nb.png;0;1\n"
_HISTORY = b"""phase,epoch,learning_rate,loss,val_loss,val_accuracy
head,1,0.001,1.5,1.25,0.5
head,2,0.001,,1.0,0.75
body,1,1e-05,0.5,0.75,0.875
"""
READERS = [
    Reader("shapes", _of_text(InputShape.of), lambda: b"96x?x1", damage_text),
    Reader(
        "numbers",
        _of_text(read_whole, read_word_or_number, read_hw, read_size, many(read_whole)),
        lambda: b"96x128",
        damage_text,
    ),
    Reader(
        "amounts",
        _of_text(read_bytes, read_count, read_ms, read_full_scale, requests._read_number),
        lambda: b"1.5e3 MiB",
        damage_text,
    ),
    Reader("channel rules", _of_text(read_rule), lambda: b"0,1,-", damage_text),
    Reader("paths", _path, lambda: b"~/runs/a.keras", damage_text),
    Reader(
        "labels.txt",
        of_file("labels.txt", lambda path: Run(path.parent, {"status": "complete"}).labels),
        lambda: b"cat\ndog\n",
        damage_text,
    ),
    Reader("history.csv", of_file("history.csv", _history), lambda: _HISTORY, damage_text),
    Reader(
        "notes of downloads",
        of_file("a.h5.part-etag", _resume),
        _TAG.encode,
        damage_text,
        _DOWNLOADS,
    ),
    Reader("tables", of_file("t.csv", _table), lambda: _TABLE, damage_text),
    Reader("tables of 0 and 1", of_file("t.csv", _table), lambda: _ONE_HOT, damage_text),
]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_texts_are_read_or_refused_in_one_line(reader, tmp_path):
    fuzz(reader, tmp_path)
