"""Boxes around objects, each with a class."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, RequestError
from ..heads import Head
from .bootstrap import Score
from .box_scores import DetectionScores, Tables, check_coco
from .boxes import (
    EDGES,
    NO_BOX,
    SURE,
    UNKNOWN,
    loss_of_maps,
    matched,
    read_boxes,
    share_of_overlap,
)
from .dense import DensePrediction
from .segmentation import IGNORED, Segmentation
from .task import (
    Answer,
    Box,
    Labels,
    LinearSolver,
    Mistake,
    Value,
    check_outputs,
)

_LEARNED_NOTHING = 12.0
"""About the loss of a head that knows its classes are rare and nothing else."""
_AS_GOOD = 0.9
"""Share of boxes that two answers have in common from which on they come to the same."""
_COLUMNS = 6
"""Of labels: edges, class number, and the pixels of the whole input."""


class Truth(Protocol):
    """The boxes of a picture as a source lists them, before they are brought to an input."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The class of each."""
        ...

    @property
    def digest(self) -> str:
        """A hash of what they are."""
        ...

    def rows(self, preparation: Any) -> NDArray[np.float32]:
        """Those that a prepared picture shows: edges as shares of it, and class numbers."""
        ...


@dataclass(frozen=True, slots=True)
class Boxes:
    """The boxes of a picture, or that they are unknown, in as many rows as any picture has."""

    truth: Truth | None
    most: int

    @property
    def numbers(self) -> tuple[int, ...]:
        """The class of each."""
        return () if self.truth is None else self.truth.numbers

    def at(self, preparation: Any) -> NDArray[np.float32]:
        """Rows ``(most, 6)`` of an input: edges, class number, and the pixels of the input."""
        result = np.zeros((self.most, _COLUMNS), np.float32)
        height, width = preparation.shape.hw
        result[:, EDGES], result[:, EDGES + 1] = NO_BOX, height * width
        if self.truth is None:
            result[0, EDGES] = UNKNOWN
        else:
            rows = self.truth.rows(preparation)
            result[: len(rows), : EDGES + 1] = rows
        return result


@dataclass(frozen=True, slots=True)
class Detection(DensePrediction):
    """Boxes around objects, each with a class.

    Labels are the boxes that a source lists, and once they are brought to an input, rows
    ``(pictures, boxes, 6)``: top, left, bottom and right as shares of the input, a class number,
    -1 where there is no box, and the pixels of the input. Logits and answers are maps of the
    network's own size, ``(pictures, rows, columns, classes + 4)``, which are read as boxes where
    they are scored or drawn; see `inshape.tasks.boxes`.

    Example:
        >>> task = Detection(("cat", "dog"))
        >>> maps = np.full((2, 2, 6), -9.0)
        >>> maps[0, 1] = (-9, 2, 0.2, 0.2, 0.2, 0.2)  # a dog at the top right
        >>> task.answer(maps, 3, None).label
        '1 dog'
    """

    per_picture: float = 1.0
    """How many boxes a picture has on average, by which the loss is divided."""

    name: ClassVar[str] = "detection"
    score_name: ClassVar[str] = "map50"
    probe_name: ClassVar[str] = "mAP50"
    fewest: ClassVar[int] = 1
    moves_as: ClassVar[str] = "bounding_boxes"
    lies_as: ClassVar[Literal["", "masks", "boxes"]] = "boxes"
    output_words: ClassVar[tuple[str, str, str]] = (
        "boxes",
        "logits",
        "At each place of a small map, how much it looks like the middle of an object of each "
        "class, then how far the object's upper, left, lower and right edges are.",
    )

    @property
    def metric(self) -> None:
        """None: a mean average precision takes all answers together."""
        return None

    @property
    def target_width(self) -> int:
        """Edges and a class number."""
        return EDGES + 1

    @property
    def output_width(self) -> int:
        """Classes and edges."""
        return len(self.names) + EDGES

    @property
    def guessing_loss(self) -> float:
        """Of knowing that objects are rare."""
        return _LEARNED_NOTHING

    @classmethod
    def of(cls, values: Sequence[Value], names: Sequence[str] | None) -> Detection:
        """Classes come with their boxes.

        Raises:
            DataError: if labels are no boxes.
            RequestError: without what measures them.
        """
        strange = next((v for v in values if v is not None and not hasattr(v, "numbers")), None)
        if names is None or strange is not None:
            raise DataError(
                f"detection with labels such as {strange!r}; expected boxes: Pascal VOC's "
                "Annotations/ beside JPEGImages/, COCO's JSON, or YOLO's labels/ beside images/; "
                "name another task or folder"
            )
        return cls(tuple(names))

    def read(self, values: Sequence[Value]) -> Labels:
        """The boxes, with as many rows for each picture as the fullest one needs."""
        truths: list[Any] = list(values)
        most = max((len(t.numbers) for t in truths if t is not None), default=1)
        labels = np.empty(len(truths), object)
        for row, truth in enumerate(truths):
            labels[row] = Boxes(truth, max(1, most))
        return labels

    def _numbers(self, labels: Labels) -> list[NDArray[np.intp]]:
        """The class of each box, picture by picture."""
        if labels.dtype == object:
            return [np.asarray(label.numbers, np.intp) for label in labels]
        return [rows[rows[:, EDGES] > NO_BOX, EDGES].astype(np.intp) for rows in labels]

    def _amounts(self, labels: Labels) -> NDArray[np.intp]:
        """How many boxes of each class there are in each picture, ``(pictures, classes)``."""
        count = len(self.names)
        rows = [np.bincount(numbers, minlength=count) for numbers in self._numbers(labels)]
        return np.asarray(rows, np.intp).reshape(len(labels), count)

    def is_known(self, labels: Labels) -> NDArray[np.bool_]:
        """Whether somebody has said what is in a picture, be it nothing."""
        if labels.dtype == object:
            return np.array([label.truth is not None for label in labels], np.bool_)
        return np.asarray(labels[:, 0, EDGES] != UNKNOWN)

    def text(self, label: Any) -> str:
        """How many boxes there are of each class."""
        numbers = label.numbers if isinstance(label, Boxes) else self._numbers(label[None])[0]
        return self._count_words(numbers)

    def _count_words(self, numbers: Sequence[int] | NDArray[np.intp]) -> str:
        counts = np.bincount(np.asarray(numbers, np.intp), minlength=len(self.names))
        order = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
        return ", ".join(f"{counts[i]} {self.names[i]}" for i in order) or "no boxes"

    def key(self, label: Any) -> str:
        """The hash of the boxes."""
        return "" if label.truth is None else label.truth.digest

    def strata(self, labels: Labels) -> NDArray[np.intp]:
        """The class in each picture that is in the fewest of all; one more for none."""
        rarest = self._rarest(labels, without=len(self.names))
        return np.where(self.is_known(labels), rarest, -1).astype(np.intp)

    def stratum_name(self, stratum: int) -> str:
        """The name of the class, or that there are no boxes."""
        return (*self.names, "no boxes")[stratum]

    def fitted(self, labels: Labels) -> Detection:
        """With how many boxes the pictures have."""
        check_coco()
        boxes = int(self._amounts(labels).sum())
        return replace(self, per_picture=max(1.0, round(boxes / max(1, len(labels)), 3)))

    def head(self, head: Head) -> Head:
        """A map of middles and edges, from the last map and earlier ones."""
        check_outputs(head, self.names, ("logits",))
        return head.but(
            classes=len(self.names), decoder="boxes", activation="logits", pretrained_dense=False
        )

    def targets(self, labels: Labels, smoothing: float = 0.0) -> NDArray[np.float32]:
        """Rows ``(pictures, boxes, 5)``: edges and class numbers, which are not smoothed."""
        return np.asarray(labels[..., : EDGES + 1], np.float32)

    def losses(self) -> Callable[[Any, Any], Any]:
        """Of middles and edges, for each picture; 1 for each of as many boxes as most have."""
        return lambda targets, logits: loss_of_maps(targets, logits) / self.per_picture

    def row_weights(
        self, targets: NDArray[np.float32], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The mean weight of a picture's boxes; 1 without any."""
        numbers = targets[..., EDGES].astype(np.intp)
        is_box = numbers > NO_BOX
        total = np.where(is_box, weights[np.maximum(numbers, 0)], 0).sum(axis=1)
        return np.where(is_box.any(axis=1), total / np.maximum(is_box.sum(axis=1), 1), 1.0).astype(
            np.float32
        )

    def probed(self) -> Segmentation:
        """What each place of a picture is part of; of nothing, which is a class more."""
        return Segmentation((*self.names, "nothing"))

    def at_places(self, labels: Labels, places: NDArray[np.float32]) -> Labels:
        """The class of the smallest box around each place."""
        result = np.full((len(labels), len(places), 1), len(self.names), np.uint8)
        result[~self.is_known(labels)] = IGNORED
        areas = (labels[..., 2] - labels[..., 0]) * (labels[..., 3] - labels[..., 1])
        for answer, rows, area in zip(result, labels, areas, strict=True):
            for row in rows[np.argsort(-area)]:
                if row[EDGES] > NO_BOX:
                    inside = (places >= row[:2]) & (places < row[2:EDGES])
                    answer[inside.all(axis=1)] = row[EDGES]
        return result

    def solver(self, rows: NDArray[Any], labels: Labels, *, iterations: int) -> LinearSolver:
        """None: boxes do not follow linearly from features; see `probed`."""
        raise RequestError("detection has no linear head; expected its probed task")

    def mirrored(self, labels: Labels) -> Labels:
        """Boxes with left and right exchanged."""
        result = labels.copy()
        is_box = labels[..., EDGES] > NO_BOX
        result[is_box, 1], result[is_box, 3] = 1 - labels[is_box, 3], 1 - labels[is_box, 1]
        return result

    def score_and_loss(self, logits: NDArray[Any], labels: Labels) -> tuple[float, float]:
        """mAP50, and the mean loss of a picture."""
        if not len(labels):
            return float("nan"), float("inf")
        import keras  # which training has loaded

        losses = self.losses()(self.targets(labels), np.asarray(logits, np.float32))
        score = self._tables(logits, labels, thresholds=(0.5,)).mean_precision()
        return score, float(np.asarray(keras.ops.convert_to_numpy(losses)).mean())

    def _tables(self, answers: NDArray[Any], labels: Labels, **options: Any) -> Tables:
        return Tables.of(list(map(read_boxes, answers)), labels, len(self.names), **options)

    def row_scores(self, answers: NDArray[Any], labels: Labels) -> NDArray[np.float64]:
        """F1 of the boxes in each picture; 1 where there are none and none are found."""
        truths = [rows[rows[:, EDGES] > NO_BOX] for rows in labels]
        return np.array([_f1(_sure(a), truth) for a, truth in zip(answers, truths, strict=True)])

    def compare(
        self, answers: NDArray[Any], reference: NDArray[Any], labels: Labels, *, seed: int = 0
    ) -> tuple[Score, Score]:
        """mAP50 over all pictures, which is no mean over pictures, and its change."""
        if not len(labels):
            nothing = Score(float("nan"), float("nan"), float("nan"))
            return nothing, nothing
        ours, theirs = (
            self._tables(one, labels, thresholds=(0.5,)) for one in (answers, reference)
        )
        return ours.compared(theirs, seed=seed)

    def guessing(self, labels: Labels) -> tuple[float, str]:
        """Nothing."""
        return 0.0, "answering no boxes"

    def ask(
        self, network: Any, pictures: NDArray[np.float32], *, is_final: bool, mirrored: bool = False
    ) -> NDArray[Any]:
        """A network's maps; of mirrored pictures they are turned back."""
        maps = network(pictures)
        if not mirrored:
            return maps
        turned = network(pictures[:, :, ::-1])[:, :, ::-1]
        order = [*range(len(self.names)), *(len(self.names) + i for i in (0, 3, 2, 1))]
        return (maps + turned[..., order]) / 2

    def is_same(self, answers: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether 90 % of the boxes that are sure in either are in the other, half as sure."""
        pairs = zip(answers, others, strict=True)
        return np.array([_agreement(a, b) >= _AS_GOOD for a, b in pairs], np.bool_)

    def boxes(self, rows: NDArray[Any], threshold: float | None = None) -> tuple[Box, ...]:
        """The boxes in one answer, or of one label, as shares of the input."""
        is_label = rows.ndim == 2
        found = rows[rows[:, EDGES] > NO_BOX] if is_label else _sure(rows, threshold)
        return tuple(
            Box(
                label=self.names[int(row[EDGES])],
                probability=None if is_label else float(row[EDGES + 1]),
                edges=tuple(float(edge) for edge in row[:EDGES]),
            )
            for row in found
        )

    def answer(self, row: NDArray[Any], top: int, threshold: float | None) -> Answer:
        """The boxes, and how many there are of each class."""
        boxes = self.boxes(row, threshold)
        words = self._count_words([self.names.index(box.label) for box in boxes])
        return Answer(label=words, boxes=boxes)

    def score(
        self, answers: NDArray[Any], labels: Labels, *, resamples: int = 1000, seed: int = 0
    ) -> DetectionScores:
        """COCO's mean average precision and recall, and those of each class.

        Resamples draw pictures, whose boxes are not independent of each other.
        """
        if not len(labels):
            raise DataError("no pictures to score; expected at least one; check the source")
        return self._tables(answers, labels).scores(
            self.names, self._amounts(labels), resamples=resamples, seed=seed
        )

    def mistakes(
        self, answers: NDArray[Any], labels: Labels, pictures: Sequence[str], most: int
    ) -> tuple[Mistake, ...]:
        """The pictures of the lowest F1, each with the boxes that there are and that were found."""
        off = 1 - self.row_scores(answers, labels)
        worst = [int(i) for i in np.argsort(-off, kind="stable")[:most] if off[i] > 0]
        return tuple(
            Mistake(
                pictures[i],
                self.text(labels[i]),
                self.answer(answers[i], 1, None).label,
                off_by=float(off[i]),
            )
            for i in worst
        )

    def program(self, *, is_final: bool) -> list[str]:
        """Read the map, draw the boxes and print them, in pixels of the input."""
        return [
            *("", "", _source_of(share_of_overlap), "", "", _source_of(read_boxes), "", ""),
            "drawn = picture.convert('RGB')",
            "pen = ImageDraw.Draw(drawn)",
            f"for top, left, bottom, right, number, chance in read_boxes(answer, {SURE}):",
            "    box = [left * drawn.width, top * drawn.height, right * drawn.width,",
            "           bottom * drawn.height]",
            "    pen.rectangle(box, outline='lime')",
            "    print(labels[int(number)], f'{chance:.3f}', *(round(float(n), 1) for n in box))",
            'drawn.save("boxes.png")',
        ]

    def as_dict(self) -> dict[str, Any]:
        """With how many boxes a picture has."""
        return {"name": self.name, "per_picture": self.per_picture}


def _sure(maps: NDArray[Any], threshold: float | None = None) -> NDArray[np.float32]:
    return read_boxes(maps, SURE if threshold is None else threshold)


def _f1(found: NDArray[Any], truth: NDArray[Any]) -> float:
    """How far boxes are those of the truth, in [0, 1]."""
    total = len(found) + len(truth)
    return 2 * int(matched(found, truth).sum()) / total if total else 1.0


def _agreement(maps: NDArray[Any], others: NDArray[Any]) -> float:
    """How many of the boxes in two answers are in both."""
    # Half as sure in the other, or all those would differ that are at the threshold in either.
    hits = [matched(_sure(a), _sure(b, SURE / 2)) for a, b in ((maps, others), (others, maps))]
    every = np.concatenate(hits)
    return float(every.mean()) if len(every) else 1.0


def _source_of(function: Callable[..., Any]) -> str:
    """A function of NumPy alone as a program has it: without types and without its docstring."""
    tree = ast.parse(inspect.getsource(function))
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns, node.body = None, node.body[1:]
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Name("list")
    return ast.unparse(tree)
