"""A class for each pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..heads import Head
from ..strategies.decide import StrategyOptions
from .bootstrap import Score, with_intervals
from .dense import DensePrediction
from .logistic import Logistic
from .task import Answer, Labels, LinearSolver, Mistake, Value, check_outputs

IGNORED = 255
"""What stands in a mask for pixels that are no class: not learned, and not measured."""
_OUTPUT_STRIDE = 16
_AS_GOOD = 0.95
"""Share of pixels from which on two masks come to the same."""


class Truth(Protocol):
    """A mask as a source lists it, before it is read for an input."""

    @property
    def pixels(self) -> tuple[int, ...]:
        """How many there are of each class."""
        ...

    @property
    def digest(self) -> str:
        """A hash of what the mask says."""
        ...


@dataclass(frozen=True, slots=True)
class Segmentation(DensePrediction):
    """A class for each pixel.

    Labels are the masks that a source lists, and once they are fitted to an input, class numbers
    ``(pictures, height, width)`` with 255 for what is ignored. Logits and answers are maps of the
    network's own size, ``(pictures, rows, columns, classes)``: each is enlarged to the picture
    where it is scored, learned from or drawn, so that neither a file nor memory holds large ones.

    Example:
        >>> task = Segmentation(("sky", "road"))
        >>> maps = np.array([[[[2.0, 0.0]], [[0.0, 1.0]]]])
        >>> task.mask(maps[0], (4, 1)).ravel().tolist()
        [0, 0, 1, 1]
    """

    values: tuple[int, ...] = ()
    """Of each class in the files of masks; by default its number."""
    ignored: tuple[int, ...] = (IGNORED,)
    """Values in the files that are no class."""

    name: ClassVar[str] = "segmentation"
    score_name: ClassVar[str] = "mean_iou"
    probe_name: ClassVar[str] = "mean IoU"
    fewest: ClassVar[int] = 2
    loss: ClassVar[tuple[str, Mapping[str, Any]]] = (
        "SparseCategoricalCrossentropy",
        {"from_logits": True, "ignore_class": IGNORED},
    )
    metric_activation: ClassVar[str] = "linear"
    moves_as: ClassVar[str] = "segmentation_masks"
    lies_as: ClassVar[Literal["", "masks", "boxes"]] = "masks"
    output_words: ClassVar[tuple[str, str, str]] = (
        "masks",
        "logits",
        "How much each place of a small map looks like each class; enlarge it to the picture "
        "(bilinear), then take the largest.",
    )

    @property
    def target_width(self) -> int:
        """One class number for each pixel."""
        return 1

    def __post_init__(self) -> None:
        """Number the classes from 0 where no values are given; records hold lists."""
        object.__setattr__(self, "values", tuple(self.values) or tuple(range(len(self.names))))
        object.__setattr__(self, "ignored", tuple(self.ignored))

    @property
    def metric(self) -> tuple[str, Mapping[str, Any]]:
        """Mean IoU of the classes that occur or are answered."""
        options = {"ignore_class": IGNORED, "sparse_y_true": True, "sparse_y_pred": False}
        return "MeanIoU", {"num_classes": len(self.names), **options}

    @property
    def guessing_loss(self) -> float:
        """Of all classes being as probable."""
        return math.log(max(2, len(self.names)))

    @classmethod
    def of(cls, values: Sequence[Value], names: Sequence[str] | None) -> Segmentation:
        """Classes come with their masks.

        Raises:
            DataError: if labels are no masks.
        """
        strange = next((v for v in values if v is not None and not hasattr(v, "pixels")), None)
        if names is None or strange is not None:
            raise DataError(
                f"segmentation of labels such as {strange!r}; expected a folder of pictures beside "
                "a folder of masks, such as images/ and masks/; name another task or folder"
            )
        return cls(tuple(names))

    def read(self, values: Sequence[Value]) -> Labels:
        """The masks; where there is none, one that knows nothing."""
        labels = np.empty(len(values), object)
        for row, value in enumerate(values):
            labels[row] = _NoMask(len(self.names)) if value is None else value
        return labels

    def _amounts(self, labels: Labels) -> NDArray[np.int64]:
        """How many pixels of each class there are in each picture, ``(pictures, classes)``."""
        count = len(self.names)
        if labels.dtype == object:
            rows = [label.pixels for label in labels]
        else:
            rows = [np.bincount(mask[mask != IGNORED], minlength=count) for mask in labels]
        return np.asarray(rows, np.int64).reshape(len(labels), count)

    def is_known(self, labels: Labels) -> NDArray[np.bool_]:
        """Whether any pixel has a class."""
        return np.asarray(self._amounts(labels).any(axis=1))

    def text(self, label: Any) -> str:
        """The classes in it, that of most pixels first."""
        (pixels,) = self._amounts(_alone(label))
        order = np.argsort(-pixels, kind="stable")
        return ", ".join(self.names[i] for i in order if pixels[i])

    def key(self, label: Any) -> str:
        """The hash of the mask."""
        return label.digest

    def strata(self, labels: Labels) -> NDArray[np.intp]:
        """The class in each picture that is in the fewest of all."""
        return self._rarest(labels, without=-1)

    def stratum_name(self, stratum: int) -> str:
        """The name of the class."""
        return self.names[stratum]

    def head(self, head: Head) -> Head:
        """LR-ASPP on the last map and an earlier one, up to the logits of a small map."""
        check_outputs(head, self.names, ("logits",))
        return head.but(
            classes=len(self.names),
            decoder="lr-aspp",
            activation="logits",
            pretrained_dense=False,
        )

    def options(self, options: StrategyOptions, *, is_static: bool) -> StrategyOptions:
        """Output stride 16, as MobileNetV3's paper has it, where nothing else is asked for."""
        if options.strategy != "auto" or options.given() or not is_static:
            return options
        return options.but(strategy="restride", output_stride=_OUTPUT_STRIDE)

    def targets(self, labels: Labels, smoothing: float = 0.0) -> NDArray[np.float32]:
        """Class numbers ``(pictures, height, width, 1)``, which are not smoothed.

        The last axis is that of a single output, beside the logits' one for each class.
        """
        return labels[..., None]

    def row_weights(
        self, targets: NDArray[np.float32], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The weight of each pixel, ``(pictures, height, width)``: 0 where it is ignored."""
        table = np.zeros(IGNORED + 1, np.float32)
        table[: len(weights)] = weights
        return table[np.asarray(targets[..., 0], np.uint8)]

    def at_places(self, labels: Labels, places: NDArray[np.float32]) -> Labels:
        """The masks there."""
        size_hw = np.array(labels.shape[1:3])
        rows, columns = np.minimum(places * size_hw, size_hw - 1).astype(np.intp).T
        return labels[:, rows, columns, None]

    def one_by_one(self, rows: NDArray[Any], labels: Labels) -> tuple[NDArray[Any], Labels]:
        """The places that have a class."""
        known = labels != IGNORED
        return rows[known], labels[known]

    def solver(self, rows: NDArray[Any], labels: Labels, *, iterations: int) -> LinearSolver:
        """Multinomial logistic regression, a place a row."""
        return Logistic(rows, labels, len(self.names), iterations)

    def align(self, logits: Any, targets: Any) -> Any:
        """Logits enlarged to the masks, in Keras's own operations."""
        import keras  # which training has loaded

        shape: Any = keras.ops.shape(targets)
        return keras.ops.image.resize(logits, shape[1:3], interpolation="bilinear")

    def counted(self, weights: Any) -> Any:
        """Every pixel with a class counts once: Keras's metric takes whole numbers."""
        import keras

        return keras.ops.cast(weights > 0, "int32")

    def mirrored(self, labels: Labels) -> Labels:
        """Masks with left and right exchanged."""
        return labels[:, :, ::-1]

    def score_and_loss(self, logits: NDArray[Any], labels: Labels) -> tuple[float, float]:
        """Mean IoU, and mean cross-entropy of the pixels that have a class."""
        if not len(labels):
            return float("nan"), float("inf")
        total, count, confusions = 0.0, 0, 0
        for maps, mask in zip(logits, labels, strict=True):
            known = mask != IGNORED
            at_pixels = enlarge(maps, mask.shape)[known]
            right = mask[known]
            highest = at_pixels.max(axis=1, initial=-np.inf)
            sums = np.log(np.exp(at_pixels - highest[:, None]).sum(axis=1)) + highest
            total += float((sums - at_pixels[np.arange(len(right)), right]).sum(dtype=np.float64))
            count += len(right)
            confusions = confusions + self._confusion(right, at_pixels.argmax(axis=1))
        (score,) = _mean_iou(np.asarray(confusions)[None])
        return float(score), total / count if count else float("inf")

    def _confusion(self, right: NDArray[Any], guessed: NDArray[Any]) -> NDArray[np.int64]:
        count = len(self.names)
        cells = right.astype(np.int64) * count + guessed
        return np.bincount(cells, minlength=count**2).reshape(count, count)

    def _confusions(self, answers: NDArray[Any], labels: Labels) -> NDArray[np.int64]:
        """Pixels of each picture by right and answered class, ``(pictures, classes, classes)``."""
        count = len(self.names)
        table = np.zeros((len(labels), count, count), np.int64)
        for row, (maps, mask) in enumerate(zip(answers, labels, strict=True)):
            known = mask != IGNORED
            table[row] = self._confusion(mask[known], self.mask(maps, mask.shape)[known])
        return table

    def row_scores(self, answers: NDArray[Any], labels: Labels) -> NDArray[np.float64]:
        """The mean IoU of each picture's own classes; 0 if none of it is known."""
        return np.nan_to_num(_mean_iou(self._confusions(answers, labels)))

    def compare(
        self, answers: NDArray[Any], reference: NDArray[Any], labels: Labels, *, seed: int = 0
    ) -> tuple[Score, Score]:
        """The mean IoU over all pictures, which is no mean over pictures, and its change."""
        ours, theirs = (self._confusions(one, labels) for one in (answers, reference))
        if not len(labels):
            nothing = Score(float("nan"), float("nan"), float("nan"))
            return nothing, nothing

        def compute(rows: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
            score, other = (_mean_iou(one[rows].sum(axis=1)) for one in (ours, theirs))
            return np.stack([score, score - other])

        score, change = with_intervals(compute, len(labels), resamples=1000, seed=seed)
        return score, change

    def guessing(self, labels: Labels) -> tuple[float, str]:
        """The mean IoU of the largest class everywhere."""
        pixels = self._amounts(labels).sum(axis=0)
        share = pixels.max(initial=0) / max(1, pixels.sum())
        largest = self.names[int(pixels.argmax())]
        return float(share / max(1, (pixels > 0).sum())), f"answering {largest!r} everywhere"

    def ask(
        self, network: Any, pictures: NDArray[np.float32], *, is_final: bool, mirrored: bool = False
    ) -> NDArray[Any]:
        """A network's maps; of mirrored pictures they are turned back."""
        maps = network(pictures)
        return (maps + network(pictures[:, :, ::-1])[:, :, ::-1]) / 2 if mirrored else maps

    def is_same(self, answers: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether 95 % of a map's places have the same class."""
        same = answers.argmax(axis=-1) == others.argmax(axis=-1)
        return same.reshape(len(same), -1).mean(axis=1) >= _AS_GOOD

    def mask(self, answer: NDArray[Any], size_hw: tuple[int, ...]) -> NDArray[np.uint8]:
        """The class number of each pixel of a picture of this size."""
        return enlarge(answer, size_hw).argmax(axis=-1).astype(np.uint8)

    def answer(self, row: NDArray[Any], top: int, threshold: float | None) -> Answer:
        """The classes and how much of the picture each covers, the largest first."""
        guesses = row.argmax(axis=-1).ravel()
        shares = np.bincount(guesses, minlength=len(self.names)) / guesses.size
        order = [i for i in np.argsort(-shares, kind="stable")[:top] if shares[i]]
        covers = tuple((self.names[i], float(shares[i])) for i in order)
        return Answer(label=covers[0][0], top=covers)

    def score(
        self, answers: NDArray[Any], labels: Labels, *, resamples: int = 1000, seed: int = 0
    ) -> SegmentationScores:
        """Mean IoU, pixel accuracy, and the IoU of each class.

        Resamples draw pictures, whose pixels are not independent of each other.
        """
        if not len(labels):
            raise DataError("no pictures to score; expected at least one; check the source")
        confusions = self._confusions(answers, labels)

        def compute(rows: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
            # How often each picture is drawn, times its confusions: one product for all draws.
            drawn = np.stack([np.bincount(row, minlength=len(labels)) for row in rows])
            whole = np.tensordot(drawn, confusions, axes=1)
            hits = np.diagonal(whole, axis1=1, axis2=2).sum(axis=1)
            with np.errstate(invalid="ignore", divide="ignore"):
                right = hits / whole.sum(axis=(1, 2))
            return np.concatenate([[_mean_iou(whole), right], _ious(whole).T])

        mean, accuracy, *ious = with_intervals(compute, len(labels), resamples=resamples, seed=seed)
        whole = confusions.sum(axis=0)
        pictures = (confusions.sum(axis=2) > 0).sum(axis=0)
        shares = whole.sum(axis=1) / max(1, whole.sum())
        rows = zip(self.names, pictures.tolist(), shares.tolist(), ious, strict=True)
        return SegmentationScores(
            len(labels), mean, accuracy, tuple(ClassIoU(*row) for row in rows), whole
        )

    def mistakes(
        self, answers: NDArray[Any], labels: Labels, pictures: Sequence[str], most: int
    ) -> tuple[Mistake, ...]:
        """The pictures of the lowest mean IoU, each with what was most often taken for what."""
        confusions = self._confusions(answers, labels)
        off = 1 - np.nan_to_num(_mean_iou(confusions), nan=1.0)
        found: list[Mistake] = []
        for i in map(int, np.argsort(-off, kind="stable")[:most]):
            wrong = confusions[i] * (1 - np.eye(len(self.names), dtype=np.int64))
            if wrong.any():
                right, guess = np.unravel_index(int(wrong.argmax()), wrong.shape)
                names = self.names[int(right)], self.names[int(guess)]
                found.append(Mistake(pictures[i], *names, off_by=float(off[i])))
        return tuple(found)

    def program(self, *, is_final: bool) -> list[str]:
        """Draw the mask, and say how much of the picture each class covers."""
        return [
            "layers = [Image.fromarray(layer) for layer in np.moveaxis(answer, -1, 0)]",
            "size = pixels.shape[2], pixels.shape[1]",
            "large = [layer.resize(size, Image.Resampling.BILINEAR) for layer in layers]",
            "mask = np.argmax([np.asarray(layer) for layer in large], axis=0).astype(np.uint8)",
            "drawn = Image.fromarray(mask)",
            f"drawn.putpalette({palette(len(self.names))!r})",
            'drawn.save("mask.png")',
            "for number in np.unique(mask):",
            '    print(f"{labels[number]} {np.mean(mask == number):.3f}")',
        ]

    def as_dict(self) -> dict[str, Any]:
        """With the values in the files of masks."""
        return {"name": self.name, "values": list(self.values), "ignored": list(self.ignored)}


@dataclass(frozen=True, slots=True)
class ClassIoU:
    """How well the pixels of one class are found."""

    name: str
    pictures: int
    """In how many it is."""
    share: float
    """Of all pixels that have a class."""
    iou: Score
    """Pixels that are it and answered so, of those that are it or answered so."""


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationScores:
    """All scores of masks."""

    pictures: int
    mean_iou: Score
    """The mean over the classes that occur or are answered, each over all pictures together."""
    pixel_accuracy: Score
    """Share of the pixels whose class is right."""
    classes: tuple[ClassIoU, ...]
    confusion: NDArray[np.int64]
    """Pixels ``(right class, answered class)``."""

    @property
    def main(self) -> Score:
        """Mean IoU."""
        return self.mean_iou

    def named(self) -> dict[str, Score]:
        """The scores of all pictures together."""
        return {"mean IoU": self.mean_iou, "pixel accuracy": self.pixel_accuracy}

    @property
    def in_units(self) -> tuple[str, ...]:
        """None: all are shares."""
        return ()

    def by_output(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The IoU of each class."""
        rows = [(c.name, str(c.pictures), f"{c.share:.3f}", str(c.iou)) for c in self.classes]
        return ("class", "pictures", "share of pixels", "IoU"), rows

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "pictures": self.pictures,
            "unit": "pixel",
            "mean_iou": self.mean_iou.as_dict(),
            "pixel_accuracy": self.pixel_accuracy.as_dict(),
            "classes": [
                {
                    "name": c.name,
                    "pictures": c.pictures,
                    "share": round(c.share, 6),
                    "iou": c.iou.as_dict(),
                }
                for c in self.classes
            ],
            "confusion": self.confusion.tolist(),
        }


@dataclass(frozen=True, slots=True)
class _NoMask:
    """What stands for the mask of a picture that has none."""

    classes: int
    digest: str = ""

    @property
    def pixels(self) -> tuple[int, ...]:
        return (0,) * self.classes

    def at(self, preparation: Any) -> NDArray[np.uint8]:
        """Nothing is known at any size."""
        return np.full(preparation.shape.hw, IGNORED, np.uint8)


def enlarge(maps: NDArray[Any], size_hw: tuple[int, ...]) -> NDArray[np.float32]:
    """A map at another size, as a bilinear resizing layer makes it: centres on centres.

    Example:
        >>> enlarge(np.array([[[0.0], [4.0]]]), (1, 4)).ravel().tolist()
        [0.0, 1.0, 3.0, 4.0]
    """
    rows, columns = (
        _weights(length, goal) for length, goal in zip(maps.shape[:2], size_hw, strict=True)
    )
    tall = np.tensordot(rows, np.asarray(maps, np.float32), axes=1)
    return np.matmul(columns, tall)


def _weights(length: int, goal: int) -> NDArray[np.float32]:
    """What each of so many new pixels takes of each old one, ``(goal, length)``."""
    places = np.clip((np.arange(goal) + 0.5) * length / goal - 0.5, 0, length - 1)
    near = np.abs(places[:, None] - np.arange(length)[None, :])
    return np.maximum(0, 1 - near).astype(np.float32)


def _ious(confusions: NDArray[Any]) -> NDArray[np.float64]:
    """Of each class, ``(..., classes)``; NaN where it neither occurs nor is answered."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    union = confusions.sum(axis=-1) + confusions.sum(axis=-2) - hits
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits / union


def _mean_iou(confusions: NDArray[Any]) -> NDArray[np.float64]:
    ious = _ious(confusions)
    known = ~np.isnan(ious)
    with np.errstate(invalid="ignore"):
        return np.where(known, ious, 0.0).sum(axis=-1) / known.sum(axis=-1)


def _alone(label: Any) -> Labels:
    """A single label as an array of one."""
    if isinstance(label, np.ndarray):
        return label[None]
    one = np.empty(1, object)
    one[0] = label
    return one


def palette(count: int) -> list[int]:
    """Colours for so many classes, red, green and blue of each in turn: those of Pascal VOC.

    Example:
        >>> palette(3)
        [0, 0, 0, 128, 0, 0, 0, 128, 0]
    """
    return [value for number in range(count) for value in _colour(number)]


def _colour(number: int) -> Iterator[int]:
    for channel in range(3):
        yield sum(((number >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(8))
