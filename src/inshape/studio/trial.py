"""A run's models asked about one picture, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data.catalogue import Listing, read_catalogue
from ..errors import GraphError, InshapeError
from ..evaluation.classifier import Classifier, open_classifier
from ..runs import Run

_ENDINGS = (".tflite", ".onnx", ".xml", ".keras")
_TIMED = 5
_KEPT = 8
_asking = Lock()
"""Interpreters are not made for several threads at once."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one model says."""

    name: str
    """``model.keras``, or the name of the exported file."""
    bytes: int
    top: tuple[tuple[str, float], ...] = ()
    """The most probable classes, the most probable first."""
    label: str = ""
    ms: float | None = None
    """The median time of a call in this process, the picture being ready."""
    problem: str = ""


def models_of(run: Path) -> list[Path]:
    """The files of a run that can be asked: Keras's first, then the exported ones."""
    opened = Run.open(run)
    exported = sorted(p for p in opened.exports.glob("*") if p.suffix in _ENDINGS)
    return [opened.model_path, *exported]


def downloads_of(run: Path) -> list[Path]:
    """The files of a run that another program can use, with what stands beside them."""
    opened = Run.open(run)
    beside = sorted(path for path in opened.exports.iterdir() if path.is_file())
    report = run / "report.html"
    return [
        path for path in (opened.model_path, run / "labels.txt", report, *beside) if path.exists()
    ]


def ask_all(run: Path, picture: Path, top: int = 3) -> list[Reply]:
    """Every model of a run about one picture.

    Raises:
        RequestError: if there is no finished run.
        DataError: if the picture cannot be read.
    """
    first, *others = models_of(run)
    return [_ask(run, first, picture, top), *(_ask(path, path, picture, top) for path in others)]


def _ask(source: Path, file: Path, picture: Path, top: int) -> Reply:
    size = file.stat().st_size if file.is_file() else 0
    try:
        with _asking:
            classifier = _opened(source, file.stat().st_mtime_ns)
            task = classifier.task
            listed = read_catalogue(Listing([str(picture)], root=Path(), task=task))
            batches, rows = classifier.answers(listed, cluster=None)
            call = partial(classifier.of_batches, batches, mirrored=False)
            if classifier.load_model is not None:
                pixels = listed.load(0, classifier.preparation)[None]
                call = partial(classifier.load_model().predict_on_batch, pixels)
            ms = _time(call)
    except InshapeError as error:
        if source == file:  # of the others there may be answers all the same
            return Reply(file.name, size, problem=str(error))
        raise
    answer = task.answer(rows[0], top, None)
    return Reply(file.name, size, answer.top, answer.label, ms)


def _time(call: Callable[[], object]) -> float:
    """The median time of a call in milliseconds, the first one left out."""
    times: list[float] = []
    for _ in range(1 + _TIMED):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return 1e3 * median(times[1:])


@lru_cache(_KEPT)
def _opened(source: Path, changed_ns: int) -> Classifier:
    return open_classifier(source)


def heat_map(run: Path, picture: Path) -> Image.Image:
    """Where the picture speaks for the class that the run's model takes it for (Grad-CAM).

    Raises:
        GraphError: if the model has no map to show it on.
    """
    from ..features.heatmaps import Heatmaps, draw_heat  # loads Keras

    model_path = Run.open(run).model_path
    with _asking:
        classifier = _opened(run, model_path.stat().st_mtime_ns)
        assert classifier.load_model is not None
        if "heatmaps" in classifier.task.not_built:
            raise GraphError(f"no heat maps of {classifier.task.name} yet; look at its answers")
        listed = read_catalogue(Listing([str(picture)], root=Path(), task=classifier.task))
        _, rows = classifier.answers(listed, cluster=None)
        pixels: NDArray[np.float32] = listed.load(0, classifier.preparation)
        model: Any = classifier.load_model()
        height, width, _ = pixels.shape
        heat = Heatmaps(model, (height, width))(pixels[None], rows.argmax(axis=1))
    return draw_heat(pixels, heat[0])
