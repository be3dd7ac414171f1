"""Models and pictures that cannot be asked, and labels that do not fit."""

from __future__ import annotations

import functools
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

import inshape
from inshape.data.prepare import Preparation
from inshape.runs import Run

from .case import BadInput


@functools.cache
def _model() -> bytes:
    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(image)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        keras.Model(image, keras.layers.Dense(2, activation="softmax")(x)).save(path)
        return path.read_bytes()


def _run(folder: Path) -> Run:
    run = Run.create(folder / "run", {"seed": 0, "request": {"recipe": {"flip": False}}})
    run = run.updated(preparation=Preparation.of("8x8x3").as_dict(), status="complete")
    run.save_labels(["a", "b"])
    run.model_path.write_bytes(_model())
    return run


def _picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((9, 7, 3), 99, np.uint8)).save(path)
    return path


def _ask(**options: Any) -> Callable[[Path], object]:
    return lambda folder: inshape.predict(_run(folder), _picture(folder / "p.png"), **options)


def _labelled(text: str) -> Callable[[Path], object]:
    def give(folder: Path) -> object:
        run = _run(folder)
        (run.folder / "labels.json").write_text(text, encoding="utf-8")
        return inshape.predict(run, _picture(folder / "p.png"))

    return give


def _with_classes(*names: str) -> Callable[[Path], object]:
    def give(folder: Path) -> object:
        for name in names:
            _picture(folder / "photos" / name / "0.png")
        return inshape.train(folder / "photos", "32x32x3", out=folder / "run", weights=None)

    return give


def _evaluate(**options: Any) -> Callable[[Path], object]:
    def give(folder: Path) -> object:
        _picture(folder / "photos" / "a" / "0.png")
        return inshape.evaluate(_run(folder), folder / "photos", **options)

    return give


def _one_of_three(folder: Path) -> object:
    (folder / "cut.png").write_bytes(_picture(folder / "p.png").read_bytes()[:45])
    paths = [folder / "p.png", folder / "cut.png", folder / "p.png"]
    return len(inshape.predict(_run(folder), paths)), "answers"


def _broken(folder: Path) -> object:
    (folder / "p.png").write_bytes(b"\x89PNG")
    return inshape.predict(_run(folder), folder / "p.png")


def _table_that_is_there(folder: Path) -> object:
    (folder / "a.csv").write_text("kept")
    return inshape.predict(_run(folder), _picture(folder / "p.png"), csv=folder / "a.csv")


def _no_model(folder: Path) -> object:
    (folder / "photo.png").write_bytes(b"")
    return inshape.evaluate(folder / "photo.png", _picture(folder / "a" / "0.png").parent.parent)


def _file_without_card(folder: Path) -> object:
    (folder / "m.keras").write_bytes(_model())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return inshape.evaluate(folder / "m.keras", _picture(folder / "b" / "0.png").parent.parent)


BAD_INPUTS = [
    BadInput("class names with line breaks", _with_classes("a\nb", "d\u2028e"), r"a\\nb.*rename"),
    BadInput("a class name with a control character", _with_classes("a\x07", "b"), r"a\\x07"),
    BadInput("labels cut short", _labelled('["a", '), "labels.json cannot be read"),
    BadInput("labels of another kind", _labelled('{"a": 1}'), "expected a JSON list"),
    BadInput("labels twice", _labelled('["a", "a"]'), "a name of its own"),
    BadInput("labels of a thousand brackets", _labelled("[" * 99_999), "labels.json cannot be"),
    BadInput("more labels than outputs", _labelled(json.dumps(list("abc"))), "3 labels"),
    BadInput("one bad picture of three", _one_of_three, "cut.png is left out.*2, 'answers'"),
    BadInput("a bad picture alone", _broken, "expected at least one"),
    BadInput("a table of answers that is there", _table_that_is_there, "exists already"),
    BadInput("a threshold of 5", _ask(threshold=5), "threshold"),
    BadInput("mirror images that training left out", _ask(tta=True), "flip=False"),
    BadInput("a class that there is not", _evaluate(on="c"), "unknown class 'c'"),
    BadInput("no picture of the class", _evaluate(on="b"), "no pictures of 'b'"),
    BadInput("a picture as a model", _no_model, "no exported model"),
    BadInput("a model that says no classes", _file_without_card, "does not say what its classes"),
]
