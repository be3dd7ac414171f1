"""How good boxes are, by COCO's measures; its own tools match them, picture by picture."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RequestError
from ..extras import install
from .bootstrap import Score, with_intervals
from .boxes import EDGES, NO_BOX

_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
_SIZES = ("small", "medium", "large")
"""Below 32², below 96² and from there on, in pixels of the input."""
_RECALLS = np.linspace(0, 1, 101)
_EPSILON = float(np.spacing(1))


def check_coco() -> None:
    """Refuse to begin what could not be measured.

    Raises:
        RequestError: without pycocotools.
    """
    if find_spec("pycocotools") is None:
        raise RequestError(
            "boxes are measured by pycocotools, which is not installed; expected the extra "
            f"detection; {install('detection')}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """The boxes that were found of one class in all pictures, the surest first."""

    picture: NDArray[np.intp]
    """In which each is."""
    is_hit: NDArray[np.bool_]
    """Whether it lies on one that is there, ``(thresholds, boxes)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Which boxes lie on which, from which every measure is a sum over pictures."""

    found: tuple[_Found, ...]
    """One for each class."""
    there: NDArray[np.int64]
    """How many boxes there are, ``(pictures, classes, 1 + sizes)``: of all sizes and of each."""
    recalled: NDArray[np.int64]
    """How many of them were found, ``(thresholds, pictures, classes, 1 + sizes)``."""

    @classmethod
    def of(
        cls,
        found: Sequence[NDArray[Any]],
        labels: NDArray[Any],
        classes: int,
        thresholds: Sequence[float] = _THRESHOLDS,
    ) -> Tables:
        """Match what was found in each picture with its label, at each threshold of overlap."""
        evaluation = _evaluated(found, labels, classes, thresholds)
        areas, pictures = len(evaluation.params.areaRng), len(labels)
        there = np.zeros((pictures, classes, areas), np.int64)
        recalled = np.zeros((len(thresholds), pictures, classes, areas), np.int64)
        tables: list[_Found] = []
        for number in range(classes):
            scores: list[NDArray[Any]] = [np.zeros(0)]
            hits: list[NDArray[Any]] = [np.zeros((len(thresholds), 0), np.bool_)]
            places: list[NDArray[Any]] = [np.zeros(0, np.intp)]
            for area in range(areas):
                for picture in range(pictures):
                    one = evaluation.evalImgs[(number * areas + area) * pictures + picture]
                    if one is None:
                        continue
                    counts = ~np.asarray(one["gtIgnore"], np.bool_)
                    there[picture, number, area] = counts.sum()
                    matches = np.asarray(one["gtMatches"]).reshape(len(thresholds), -1)
                    recalled[:, picture, number, area] = ((matches > 0) & counts).sum(axis=1)
                    if not area:
                        scores.append(np.asarray(one["dtScores"]))
                        hits.append(np.asarray(one["dtMatches"]).reshape(len(thresholds), -1) > 0)
                        places.append(np.full(len(one["dtScores"]), picture, np.intp))
            order = np.argsort(-np.concatenate(scores), kind="mergesort")
            is_hit = np.concatenate(hits, axis=1)[:, order]
            tables.append(_Found(np.concatenate(places)[order], is_hit))
        return cls(tuple(tables), there, recalled)

    def precisions(self, drawn: NDArray[Any]) -> NDArray[np.float64]:
        """COCO's average precision ``(draws, thresholds, classes)``; NaN of a class without boxes.

        ``drawn`` says how often each picture counts, ``(draws, pictures)``.
        """
        result = np.full((len(drawn), len(self.recalled), len(self.found)), np.nan)
        for number, table in enumerate(self.found):
            weights = drawn[:, table.picture].astype(np.float64)
            there = drawn @ self.there[:, number, 0]
            for level, is_hit in enumerate(table.is_hit):
                hits, all_found = np.cumsum(weights * is_hit, axis=1), np.cumsum(weights, axis=1)
                precision = hits / (all_found + _EPSILON)
                envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
                for draw in np.flatnonzero(there):
                    places = np.searchsorted(hits[draw] / there[draw], _RECALLS)
                    reached = places[places < len(is_hit)]
                    result[draw, level, number] = envelope[draw, reached].sum() / len(_RECALLS)
        return result

    def recalls(self, drawn: NDArray[Any]) -> NDArray[np.float64]:
        """COCO's average recall ``(draws, classes, 1 + sizes)``; NaN where there is no box."""
        there = np.tensordot(drawn, self.there, axes=1)
        found = np.tensordot(drawn, self.recalled.mean(axis=0), axes=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(there > 0, found / there, np.nan)

    def mean_precision(self) -> float:
        """Over classes and thresholds, of all pictures once."""
        return float(_mean(self.precisions(np.ones((1, len(self.there))))[0]))

    def compared(self, other: Tables, *, seed: int) -> tuple[Score, Score]:
        """The mean average precision, and how much more it is than that of other answers."""

        def compute(rows: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
            drawn = _drawn(rows, len(self.there))
            ours, theirs = (_mean(t.precisions(drawn), axis=(1, 2)) for t in (self, other))
            return np.stack([ours, ours - theirs])

        score, change = with_intervals(compute, len(self.there), resamples=1000, seed=seed)
        return score, change

    def scores(
        self, names: Sequence[str], counts: NDArray[Any], *, resamples: int, seed: int
    ) -> DetectionScores:
        """Every measure, with intervals from resampled pictures."""
        classes = len(names)

        def compute(rows: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
            drawn = _drawn(rows, len(self.there))
            precisions, recalls = self.precisions(drawn), self.recalls(drawn)
            whole = [_mean(precisions[:, 0], axis=1), _mean(precisions, axis=(1, 2))]
            sizes = _mean(recalls, axis=1).T
            of_class = [precisions[:, 0].T, _mean(precisions, axis=1).T, recalls[..., 0].T]
            return np.concatenate([whole, sizes, *of_class])

        every = with_intervals(compute, len(self.there), resamples=resamples, seed=seed)
        map50, mean, *others = every
        sizes, of_class = others[: 1 + len(_SIZES)], others[1 + len(_SIZES) :]
        parts = (of_class[i * classes : (i + 1) * classes] for i in range(3))
        pictures, boxes = (counts > 0).sum(axis=0).tolist(), counts.sum(axis=0).tolist()
        rows = zip(names, pictures, boxes, *parts, strict=True)
        return DetectionScores(
            pictures=len(self.there),
            map50=map50,
            mean_precision=mean,
            recall=sizes[0],
            recall_by_size=dict(zip(_SIZES, sizes[1:], strict=True)),
            classes=tuple(ClassPrecision(*row) for row in rows),
        )


def _evaluated(
    found: Sequence[NDArray[Any]],
    labels: NDArray[Any],
    classes: int,
    thresholds: Sequence[float],
) -> Any:
    """COCO's evaluation of boxes, matched but not summed up."""
    check_coco()
    coco: Any = import_module("pycocotools.coco")
    cocoeval: Any = import_module("pycocotools.cocoeval")
    truth: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for picture, (rows, label) in enumerate(zip(found, labels, strict=True)):
        # As in a square of as many pixels: what lies on what is the same, and so are areas.
        side = float(np.sqrt(label[0, EDGES + 1]))
        for row in label[label[:, EDGES] > NO_BOX]:
            one = _box(row, picture, side)
            truth.append({**one, "id": len(truth) + 1, "iscrowd": 0})
        answers += [_box(row, picture, side) | {"score": float(row[EDGES + 1])} for row in rows]
    for number, one in enumerate(answers, 1):
        one["id"] = number
    categories = [{"id": number} for number in range(classes)]
    pictures = [{"id": number} for number in range(len(labels))]
    with contextlib.redirect_stdout(io.StringIO()):
        sides: list[Any] = []
        for annotations in (truth, answers):
            side = coco.COCO()
            side.dataset = {
                "images": pictures,
                "categories": categories,
                "annotations": annotations,
            }
            side.createIndex()
            sides.append(side)
        evaluation = cocoeval.COCOeval(*sides, "bbox")
        evaluation.params.iouThrs = np.asarray(thresholds)
        evaluation.evaluate()
    return evaluation


def _box(row: NDArray[Any], picture: int, side: float) -> dict[str, Any]:
    top, left, bottom, right = (float(edge) * side for edge in row[:EDGES])
    return {
        "image_id": picture,
        "category_id": int(row[EDGES]),
        "bbox": [left, top, right - left, bottom - top],
        "area": (right - left) * (bottom - top),
    }


def _drawn(rows: NDArray[np.integer[Any]], pictures: int) -> NDArray[np.int64]:
    """How often each picture is drawn."""
    return np.stack([np.bincount(row, minlength=pictures) for row in rows])


def _mean(values: NDArray[Any], axis: Any = None) -> NDArray[np.float64]:
    """Of what is known; NaN of nothing."""
    is_known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(is_known, values, 0).sum(axis=axis) / is_known.sum(axis=axis)


@dataclass(frozen=True, slots=True)
class ClassPrecision:
    """How well the objects of one class are found."""

    name: str
    pictures: int
    """In how many there are some."""
    boxes: int
    ap50: Score
    """Average precision at an overlap of 0.5."""
    precision: Score
    """Average precision, the mean over overlaps from 0.5 to 0.95."""
    recall: Score
    """Share of its boxes that are found among 100 for each picture, the mean over overlaps."""


@dataclass(frozen=True, slots=True, eq=False)
class DetectionScores:
    """All scores of boxes."""

    pictures: int
    map50: Score
    """The mean over classes of average precision at an overlap (IoU) of 0.5."""
    mean_precision: Score
    """COCO's mAP: the mean over overlaps from 0.5 to 0.95 too."""
    recall: Score
    """The mean over classes and overlaps of the share of boxes that are found."""
    recall_by_size: dict[str, Score]
    """Of boxes of less than 32², of 96² and of more pixels of the input."""
    classes: tuple[ClassPrecision, ...]

    @property
    def main(self) -> Score:
        """mAP50."""
        return self.map50

    def named(self) -> dict[str, Score]:
        """The scores of all pictures together."""
        sizes = {f"recall, {size}": score for size, score in self.recall_by_size.items()}
        return {"mAP50": self.map50, "mAP": self.mean_precision, "recall": self.recall, **sizes}

    @property
    def in_units(self) -> tuple[str, ...]:
        """None: all are shares."""
        return ()

    def by_output(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The precision of each class."""
        rows = [
            (c.name, str(c.boxes), str(c.ap50), str(c.precision), str(c.recall))
            for c in self.classes
        ]
        return ("class", "boxes", "AP50", "AP", "recall"), rows

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "pictures": self.pictures,
            "unit": "box",
            "map50": self.map50.as_dict(),
            "map": self.mean_precision.as_dict(),
            "recall": self.recall.as_dict(),
            "recall_by_size": {n: s.as_dict() for n, s in self.recall_by_size.items()},
            "classes": [
                {
                    "name": c.name,
                    "pictures": c.pictures,
                    "boxes": c.boxes,
                    "ap50": c.ap50.as_dict(),
                    "ap": c.precision.as_dict(),
                    "recall": c.recall.as_dict(),
                }
                for c in self.classes
            ],
        }
