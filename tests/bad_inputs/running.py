"""Two calls at once, and pictures that change under a call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import inshape
from inshape.data.batches import Batches
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.runs import Run, locked

from .case import BadInput


def _photos(folder: Path) -> Path:
    for i in range(4):
        path = folder / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(path)
    return folder / "photos"


def _train_where_another_trains(folder: Path) -> object:
    with locked(Run.create(folder / "a", {}).folder):
        return inshape.train(_photos(folder), "16x16x1", out=folder / "a", weights=None)


def _resume_where_another_trains(folder: Path) -> object:
    with locked(Run.create(folder / "a", {}).folder):
        return inshape.resume(folder / "a")


def _train_where_a_run_is(folder: Path) -> object:
    Run.create(folder / "a", {})
    return inshape.train(_photos(folder), "16x16x1", out=folder / "a", weights=None)


def _read_again_after(folder: Path, change: str) -> object:
    batches = Batches.open(open_source(_photos(folder)), Preparation.of("8x8x1"), cache="none")
    path = folder / "photos" / "a" / "0.png"
    if change == "changed":
        path.write_bytes((path.parent / "2.png").read_bytes())
    else:
        path.unlink()
    return list(batches.iterate(batch_size=4))


BAD_INPUTS = [
    BadInput(
        "a second training in one folder",
        _train_where_another_trains,
        "being trained by another process; expected one at a time; wait for it",
    ),
    BadInput(
        "a run that is being trained, resumed",
        _resume_where_another_trains,
        "being trained by another process; expected one at a time; wait for it",
    ),
    BadInput("a training where a run is", _train_where_a_run_is, "exists already; .*--resume"),
    BadInput(
        "a picture that changed during a training",
        lambda folder: _read_again_after(folder, "changed"),
        "a/0.png has changed since the pictures were listed; .*restore it and go on",
    ),
    BadInput(
        "a picture that vanished during a training",
        lambda folder: _read_again_after(folder, "gone"),
        "a/0.png: no such file, though it could be read before; .*restore it and go on",
    ),
]
