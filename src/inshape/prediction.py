"""`predict`: what a run or an exported file says about pictures without labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from .data.batches import Batches
from .data.catalogue import Catalogue, Listing, read_catalogue
from .data.prepare import Preparation
from .data.sources import open_source
from .errors import DataError, RequestError
from .evaluation.metrics import as_probabilities
from .exporting.agreement import answer
from .exporting.sidecar import batch_in, read_card
from .requests import Positional, Range, Request, Written, read_location, takes, write_source
from .runs import Run, write_run
from .runtime.runners import load


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a run says about one picture."""

    picture: str
    """Its path, or ``"[17]"``."""
    label: str
    """The most probable class."""
    probability: float
    """Of that class, in [0, 1]."""
    top: tuple[tuple[str, float], ...]
    """The most probable classes with their probabilities, the most probable first."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "picture": self.picture,
            "label": self.label,
            "probability": round(self.probability, 6),
            "top": [{"label": name, "probability": round(p, 6)} for name, p in self.top],
        }

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {p:.3f}" for name, p in self.top)
        return f"{self.picture}: {shown}"


@dataclass(frozen=True, slots=True)
class PredictRequest(Request):
    """Classify pictures with a run or an exported file."""

    run: Annotated[Any, Written(read_location, write_run, "RUN"), Positional()]
    """A run folder, or an exported file."""
    pictures: Annotated[
        Any, Written(lambda value: value, write_source, "PICTURES..."), Positional(many=True)
    ]
    """Files or one folder; in Python also an array of pictures or of one picture."""
    top: Annotated[int, Range(1)] = 3
    """How many classes to name per picture."""


@takes(PredictRequest)
def predict(request: PredictRequest) -> list[Prediction]:
    """Classify pictures with a run, or with a file that was exported from one.

    Args:
        {options}

    Returns:
        One prediction per readable picture, in the order given; the others are warned of by name,
        and so is what looks wrong with all of them, such as values from 0 to 1. An array of three
        axes is one picture if the last has the length of the model's channels, or 3 or 4.

    Raises:
        RequestError: if there is no finished run.
        DataError: if there is nothing to predict, or pictures cannot be read.
    """
    pictures = request.pictures
    if isinstance(request.run, Run) or not is_exported(Path(request.run)):
        answers = _ask_run(Run.open(request.run), pictures)
    else:
        answers = _ask_file(Path(request.run), pictures)
    for skipped in answers.batches.skipped:
        warnings.warn(f"{skipped.name} is left out: {skipped.reason}", UserWarning, stacklevel=3)
    for message in answers.batches.catalogue.warnings:
        warnings.warn(message, UserWarning, stacklevel=3)
    best = np.argsort(-answers.rows, axis=1, kind="stable")[:, : request.top]
    names = _picture_names(pictures, answers.batches.catalogue)
    return [
        Prediction(
            picture=name,
            label=answers.labels[order[0]],
            probability=float(row[order[0]]),
            top=tuple((answers.labels[i], float(row[i])) for i in order),
        )
        for name, row, order in zip(names, answers.rows, best, strict=True)
    ]


def is_exported(path: Path) -> bool:
    """Whether a path is an exported file rather than a run folder."""
    return path.is_file() or (path / "saved_model.pb").exists()


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    labels: tuple[str, ...]
    batches: Batches
    rows: NDArray[np.float32]
    """Probabilities, ``(pictures, classes)``."""


def _ask_run(run: Run, pictures: Any) -> _Answers:
    from .evaluation.probabilities import predict_probabilities  # loads Keras

    model, preparation = run.load_model(), run.preparation
    catalogue = _catalogue(pictures, run.labels, preparation.shape.channels)
    batches = Batches.open(catalogue, preparation)
    return _Answers(run.labels, batches, predict_probabilities(model, batches))


def _ask_file(path: Path, pictures: Any) -> _Answers:
    runner = load(path)
    card = read_card(path)
    if card is None:
        raise RequestError(
            f"{path} does not say what its classes are; expected the JSON that was exported with "
            f"it, {path.name}.json; put it beside the file"
        )
    labels = tuple(str(label) for label in card["labels"])
    preparation = Preparation.from_dict(card["preparation"])
    catalogue = _catalogue(pictures, labels, preparation.shape.channels)
    batches = Batches.open(catalogue, preparation)
    at_once = batch_in(card)
    parts = [answer(runner, part, at_once=at_once) for part, _ in batches.iterate(None, 64)]
    is_softmax = card["output"]["kind"] == "probabilities"
    rows = as_probabilities(np.concatenate(parts), is_softmax=is_softmax)
    return _Answers(labels, batches, rows)


def _catalogue(pictures: Any, labels: Sequence[str], channels: int) -> Catalogue:
    if isinstance(pictures, np.ndarray):
        return read_catalogue(Listing(arrays=_stacked(pictures, channels), class_names=labels))
    if isinstance(pictures, list | tuple) and all(isinstance(p, str | Path) for p in pictures):
        if not pictures:
            raise DataError("an empty list of pictures; expected at least one; give a path")
        return read_catalogue(Listing(list(map(str, pictures)), root=Path(), class_names=labels))
    return open_source(pictures, class_names=labels, labels="optional")


def _stacked(pictures: NDArray[Any], channels: int) -> NDArray[Any]:
    """An array as a stack of pictures; a single one is a stack of one."""
    if pictures.ndim == 2 or (pictures.ndim == 3 and pictures.shape[-1] in (channels, 3, 4)):
        return pictures[None]
    if pictures.ndim == 4 or (pictures.ndim == 3 and channels in (1, 3)):
        return pictures
    raise DataError(
        f"an array of shape {pictures.shape}; expected (pictures, height, width, channels) or one "
        f"picture (height, width, channels) with {channels} channels; add the missing axis"
    )


def _picture_names(pictures: Any, catalogue: Catalogue) -> list[str]:
    """The pictures as the user knows them: paths that can be opened from here."""
    if isinstance(pictures, str | Path) and catalogue.root is not None:
        return [str(catalogue.root / name) for name in catalogue.names]
    return list(catalogue.names)
