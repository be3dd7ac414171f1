"""`predict`: what a run or an exported file says about pictures without labels."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from .data.batches import Batches
from .data.boxes import draw_boxes, to_picture
from .data.catalogue import Catalogue, Listing, read_catalogue
from .data.contents import look_into
from .data.masks import in_colours, lay_over
from .data.prepare import unfit
from .data.sources import open_source
from .errors import DataError, OutputExists, RequestError
from .evaluation.classifier import Classifier, open_classifier
from .evaluation.request import ClassifierField
from .requests import File, Folder, Positional, Range, Request, Written, takes, write_source
from .runtime.cluster import RayField, joined
from .tasks.segmentation import IGNORED
from .tasks.task import Answer, Box, Task
from .writing import make_folder, write_atomically, write_text

_TABLES = (".csv", ".tsv", ".parquet", ".npz", ".npy")
"""The endings of files that list or hold many pictures."""
_HEATED = 16
"""Pictures per batch of heat maps, whose gradients take memory."""
_LONGEST_STEM = 40
_EDGES = ("top", "left", "bottom", "right")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a run says about one picture."""

    picture: str
    """Its path, or ``"[17]"``."""
    label: str
    """The most probable class, or ``"unsure"`` if it is below the threshold; of tags all that are
    at or above it, with ``|`` between them; of numbers the number; of masks the class that covers
    the most; of boxes how many there are of each class."""
    probability: float | None
    """Of the most probable class or tag, in [0, 1]; ``None`` for a number, a mask or boxes."""
    top: tuple[tuple[str, float], ...]
    """The most probable classes or tags with their probabilities, the most probable first; of masks
    the classes with their shares of the picture."""
    value: float | None = None
    """The number itself, where numbers are told."""
    heatmap: str | None = None
    """The path of its heat map, if one was asked for."""
    mask: str | None = None
    """The path of its mask, if one was asked for."""
    boxes: tuple[Box, ...] | None = None
    """The boxes in it, in its own pixels, the surest first, where boxes are told."""
    drawn: str | None = None
    """The path of the picture with its boxes, if they were to be drawn."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; what there is none of is left out."""
        values = {
            "picture": self.picture,
            "label": self.label,
            "probability": None if self.probability is None else round(self.probability, 6),
            "top": [{"label": name, "probability": round(p, 6)} for name, p in self.top] or None,
            "value": self.value,
            "heatmap": self.heatmap,
            "mask": self.mask,
            "boxes": None if self.boxes is None else [_box_dict(box) for box in self.boxes],
            "drawn": self.drawn,
        }
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        if self.value is not None or self.boxes is not None:
            return f"{self.picture}: {self.label}"
        shown = ", ".join(f"{name} {p:.3f}" for name, p in self.top)
        is_first = bool(self.top) and self.label == self.top[0][0]
        said = "" if is_first else f"{self.label or 'no tag'}, "
        return f"{self.picture}: {said}{shown}"


def _box_dict(box: Box) -> dict[str, Any]:
    edges = dict(zip(_EDGES, box.edges, strict=True))
    return {"label": box.label, "probability": round(box.probability or 0.0, 6), **edges}


@dataclass(frozen=True, slots=True)
class PredictRequest(Request):
    """Classify pictures with a run or an exported file."""

    run: Annotated[ClassifierField, Positional()]
    """A run folder, or an exported file."""
    pictures: Annotated[
        Any, Written(lambda value: value, write_source, "PICTURES..."), Positional(many=True)
    ]
    """Files and folders; in Python also an array of pictures or of one picture."""
    top: Annotated[int, Range(1)] = 3
    """How many classes to name per picture."""
    threshold: Annotated[float, Range(0, 1)] | None = None
    """The least probability of an answer; below it the label is unsure. Of tags, that from which on
    they are given, one half by default; of boxes likewise, 0.3."""
    tta: bool = False
    """Average the answers to each picture and its mirror image (test-time augmentation)."""
    csv: File | None = None
    """Write the answers into this table too, one row per picture, or per box in pixels."""
    save_heatmaps: Folder | None = None
    """Write where each picture speaks for its class (Grad-CAM, arXiv 1610.02391) into this folder,
    as PNG; of a run."""
    save_masks: Folder | None = None
    """Write the mask of each picture, at the picture's own size, and the picture with the mask over
    it into this folder, as PNG; of what answers with masks."""
    save_boxes: Folder | None = None
    """Write each picture with its boxes into this folder, as PNG; of what answers with boxes."""
    ray: RayField = None
    """Decode and classify on the workers of a Ray cluster: local, auto or host:port."""


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
        RequestError: if there is no finished run, or something cannot be had of it.
        OutputExists: if the table is there already.
        DataError: if there is nothing to predict, or no picture can be read.
    """
    if request.csv is not None and request.csv.exists():
        raise OutputExists(f"{request.csv} exists already; expected a new file; name another")
    classifier = open_classifier(request.run)
    _check_options(classifier, request)
    catalogue = _catalogue(request.pictures, classifier)
    with joined(request.ray) as cluster:
        batches, rows = classifier.answers(catalogue, cluster=cluster, mirrored=request.tta)
    for skipped in batches.skipped:
        warnings.warn(f"{skipped.name} is left out: {skipped.reason}", UserWarning, stacklevel=3)
    for message in batches.catalogue.warnings:
        warnings.warn(message, UserWarning, stacklevel=3)
    names = _picture_names(batches.catalogue)
    heatmaps: Sequence[str | None] = [None] * len(names)
    if request.save_heatmaps is not None:
        heatmaps = _save_heatmaps(
            request.save_heatmaps, classifier, batches, rows.argmax(axis=1), names
        )
    masks: Sequence[str | None] = [None] * len(names)
    if request.save_masks is not None:
        masks = _save_masks(request.save_masks, classifier.task, batches, rows, names)
    answers = [classifier.task.answer(row, request.top, request.threshold) for row in rows]
    boxes, drawn = _place_boxes(request.save_boxes, classifier.task, batches, answers, names)
    predictions = [
        Prediction(name, one.label, one.probability, one.top, one.value, *more)
        for name, one, *more in zip(names, answers, heatmaps, masks, boxes, drawn, strict=True)
    ]
    if request.csv is not None:
        _write_table(request.csv, predictions)
    return predictions


def _check_options(classifier: Classifier, request: PredictRequest) -> None:
    """Refuse what the model cannot give, before it is loaded or any picture is read."""
    task = classifier.task
    if request.save_heatmaps is not None:
        if classifier.load_model is None:
            home = getattr(classifier.run, "folder", "the run folder")
            raise RequestError(
                f"heat maps of {classifier.name}, an exported file, which has no gradients; "
                f"expected a run; name {home}"
            )
        if "heatmaps" in task.not_built:
            raise RequestError(
                f"heat maps of {classifier.name}, which answers with {task.lies_as}: they are not "
                f"built yet for {task.name}; use save_{task.lies_as}"
            )
    for folder, what in ((request.save_masks, "masks"), (request.save_boxes, "boxes")):
        if folder is not None and task.lies_as != what:
            raise RequestError(
                f"{what} of {classifier.name}, whose task is {task.name}; expected a model that "
                f"was trained on {what}; leave save_{what} out"
            )
    recipe = {} if classifier.run is None else classifier.run.record.get("request", {})
    if request.tta and not recipe.get("recipe", {}).get("flip", True):
        raise RequestError(
            f"tta asks for mirror images, but {classifier.name} was trained with flip=False; "
            "expected a run whose pictures may be mirrored; leave tta out"
        )


def _write_table(path: Path, predictions: Sequence[Prediction]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", *_columns(predictions)])
    for one in predictions:
        writer.writerows([one.picture, *cells] for cells in _cells(one))
    make_folder(path.parent)
    # A name that is no text is a name of a file all the same.
    encoded = text.getvalue().encode("utf-8", "backslashreplace")
    write_text(path, encoded.decode("utf-8"))


def _columns(predictions: Sequence[Prediction]) -> list[str]:
    """The heads of a table behind that of the picture."""
    first, most = predictions[0], max(len(one.top) for one in predictions)
    if first.boxes is not None:
        return ["label", "probability", *_EDGES]
    if first.value is not None:
        return ["value"]
    if first.probability is None:
        return [column for i in range(1, most + 1) for column in (f"label_{i}", f"share_{i}")]
    others = range(2, len(first.top) + 1)
    more = [column for i in others for column in (f"label_{i}", f"probability_{i}")]
    return ["label", "probability", *more]


def _cells(one: Prediction) -> list[list[Any]]:
    """The rows of a picture: one, or one for each box."""
    if one.boxes is not None:
        return [[*_box_dict(box).values()] for box in one.boxes]
    if one.value is not None:
        return [[one.label]]
    cells = [cell for name, p in one.top for cell in (name, f"{p:.6f}")]
    if one.probability is None:
        return [cells]
    return [[one.label, f"{one.probability:.6f}", *cells[2:]]]


def _save_heatmaps(
    folder: Path,
    classifier: Classifier,
    batches: Batches,
    classes: NDArray[np.integer[Any]],
    names: Sequence[str],
) -> list[str]:
    """Write a picture's heat each; their paths, numbered as the pictures are."""
    from .features.heatmaps import Heatmaps, draw_heat  # loads Keras

    assert classifier.load_model is not None  # see `_check_options`
    size_hw = batches.preparation.shape.as_static_tuple()[:2]
    heatmaps = Heatmaps(classifier.load_model(), size_hw)
    make_folder(folder)
    paths: list[str] = []
    for pictures, _ in batches.iterate(None, _HEATED):
        rows = np.asarray(pictures, np.float32)
        start = len(paths)
        heats = heatmaps(rows, classes[start : start + len(rows)])
        for number, (row, heat) in enumerate(zip(rows, heats, strict=True), start):
            path = folder / f"{number:05}_{_short(names[number])}.png"
            write_atomically(path, partial(draw_heat(row, heat).save, format="PNG"))
            paths.append(str(path))
    return paths


def _save_masks(
    folder: Path,
    task: Task,
    batches: Batches,
    rows: NDArray[Any],
    names: Sequence[str],
) -> list[str]:
    """Write a mask and a picture under it each; the masks' paths, numbered as the pictures are."""
    make_folder(folder)
    preparation, paths = batches.preparation, list[str]()
    as_it_is = replace(preparation.at((None, None)), fit="stretch")
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        pixels = batches.catalogue.load_compact(number, as_it_is)
        mask = task.mask(row, preparation.shape.as_static_tuple()[:2])
        assert mask is not None  # see `_check_options`
        height, width, _ = pixels.shape
        whole = unfit(mask, preparation, (height, width), fill=IGNORED)
        path = folder / f"{number:05}_{_short(name)}.png"
        write_atomically(path, partial(in_colours(whole).save, format="PNG"))
        over = path.with_name(f"{path.stem}_over.png")
        write_atomically(over, partial(lay_over(pixels, whole).save, format="PNG"))
        paths.append(str(path))
    return paths


def _place_boxes(
    folder: Path | None,
    task: Task,
    batches: Batches,
    answers: Sequence[Answer],
    names: Sequence[str],
) -> tuple[list[tuple[Box, ...] | None], list[str | None]]:
    """The boxes of each picture in its own pixels, and where they were drawn into a folder."""
    placed: list[tuple[Box, ...] | None] = []
    drawn: list[str | None] = []
    if folder is not None:
        make_folder(folder)
    as_it_is = replace(batches.preparation.at((None, None)), fit="stretch")
    for number, (answer, name) in enumerate(zip(answers, names, strict=True)):
        boxes = path = None
        if answer.boxes is not None:
            pixels = batches.catalogue.load_compact(number, as_it_is)
            height, width = pixels.shape[:2]
            boxes = to_picture(answer.boxes, batches.preparation, (height, width))
            if folder is not None:
                path = folder / f"{number:05}_{_short(name)}.png"
                picture = draw_boxes(pixels, boxes, task.names)
                write_atomically(path, partial(picture.save, format="PNG"))
        placed.append(boxes)
        drawn.append(None if path is None else str(path))
    return placed, drawn


def _short(name: str) -> str:
    """The part of a picture's name that files are called after."""
    return Path(name).stem.strip("[]")[:_LONGEST_STEM]


def _catalogue(pictures: Any, classifier: Classifier) -> Catalogue:
    task, channels = classifier.task, classifier.preparation.shape.channels
    lenient = partial(Listing, task=task, is_lenient=True)
    if isinstance(pictures, np.ndarray):
        return read_catalogue(lenient(arrays=_stacked(pictures, channels)))
    if isinstance(pictures, list | tuple):
        if not pictures:
            raise DataError("an empty list of pictures; expected at least one; give a path")
        if all(map(_is_picture, pictures)):
            return read_catalogue(lenient(arrays=[*pictures]))
    paths = _paths(pictures)
    if paths and not _is_listed_elsewhere(paths):
        names = [name for path in paths for name in _files_of(Path(path))]
        return read_catalogue(lenient(names, root=Path()))
    return open_source(paths[0] if paths else pictures, task=task, labels="none")


def _paths(pictures: Any) -> list[str | Path]:
    """The paths in a list, or a single one; none if anything else is among them."""
    listed: Any = pictures if isinstance(pictures, list | tuple) else [pictures]
    return [*listed] if all(isinstance(one, str | Path) for one in listed) else []


def _is_listed_elsewhere(paths: Sequence[str | Path]) -> bool:
    """Whether a path is alone and a table or a folder, or leads nowhere."""
    alone = Path(paths[0])
    is_no_file = not alone.exists() or alone.is_dir()
    return len(paths) == 1 and (is_no_file or alone.suffix.lower() in _TABLES)


def _is_picture(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim in (2, 3)


def _files_of(path: Path) -> list[str]:
    """A picture's own path, or those of the pictures in a folder."""
    if not path.is_dir():
        return [str(path)]
    return [str(path / name) for name in look_into(path).pictures]


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


def _picture_names(catalogue: Catalogue) -> list[str]:
    """The pictures as the user knows them: paths that can be opened from here."""
    if catalogue.root is None:
        return list(catalogue.names)
    return [str(catalogue.root / name) for name in catalogue.names]
