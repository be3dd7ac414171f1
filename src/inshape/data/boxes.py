"""Boxes on pictures: listed from files, brought to an input and back, and drawn."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from ..errors import DataError
from ..processor import count_cores
from ..shapes import InputShape
from ..tasks.detection import Detection
from ..tasks.names import check_class_names, in_order, same_name
from ..tasks.task import Box
from ..text import join_some, plural
from .box_files import Annotation, FoundBoxes, read_box_files
from .catalogue import Listing
from .contents import Contents
from .decode import stored_hw
from .drawing import as_image, as_uri, in_rgb
from .prepare import Preparation, placement, target_hw

_SLACK_PX = 1.5
"""By which boxes reach beyond a picture that are meant to end with it."""
_LEAST_PX = 0.5
_SIDE = 320


@dataclass(frozen=True, slots=True)
class TruthBoxes:
    """The boxes of a picture, in its own pixels."""

    numbers: tuple[int, ...]
    """The class of each."""
    edges: tuple[tuple[float, ...], ...]
    """Top, left, bottom and right."""
    picture_hw: tuple[int, int]

    @property
    def digest(self) -> str:
        """A hash of what they are."""
        text = json.dumps([self.numbers, self.edges, self.picture_hw])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def rows(self, preparation: Preparation) -> NDArray[np.float32]:
        """Where a preparation puts them: edges as shares of the input, and class numbers.

        What is cut off with the picture is left out.

        Example:
            >>> boxes = TruthBoxes((2,), ((0, 60, 50, 100),), (50, 100))
            >>> boxes.rows(Preparation.of("100x100x3", fit="letterbox")).round(2).tolist()
            [[0.25, 0.6000000238418579, 0.75, 1.0, 2.0]]
        """
        scales, starts = placement(preparation, self.picture_hw)
        goal = np.tile(target_hw(preparation, self.picture_hw), 2)
        edges = np.reshape(self.edges, (-1, 4)) * np.tile(scales, 2) + np.tile(starts, 2)
        edges = np.clip(edges, 0, goal)
        is_left = (edges[:, 2:] - edges[:, :2] >= _LEAST_PX).all(axis=1)
        rows = np.column_stack([edges / goal, np.asarray(self.numbers, np.float64)])
        return rows[is_left].astype(np.float32)


def to_picture(
    boxes: Iterable[Box], preparation: Preparation, picture_hw: tuple[int, int]
) -> tuple[Box, ...]:
    """Boxes as shares of an input, in pixels of the picture that it was made of."""
    scales, starts = (np.tile(n, 2) for n in placement(preparation, picture_hw))
    goal = np.tile(target_hw(preparation, picture_hw), 2)

    def moved(box: Box) -> tuple[float, ...]:
        edges = (np.asarray(box.edges) * goal - starts) / scales
        return tuple(np.clip(edges, 0, np.tile(picture_hw, 2)).round(2).tolist())

    return tuple(replace(box, edges=moved(box)) for box in boxes)


def draw_boxes(
    picture: NDArray[Any], boxes: Iterable[Box], names: Sequence[str], *, has_words: bool = True
) -> Image.Image:
    """A picture of any channels with boxes, in its pixels, each in the colour of its class."""
    drawn = as_image(in_rgb(picture))
    pen, width = ImageDraw.Draw(drawn), max(1, round(max(drawn.size) / 240))
    for box in boxes:
        # Steps of a golden angle, by which neighbours in a list look least alike.
        hue = 120 + round(137.5 * names.index(box.label))
        colour = ImageColor.getrgb(f"hsl({hue % 360}, 100%, 45%)")
        top, left, bottom, right = box.edges
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), None, colour, width)
        if has_words:
            sure = "" if box.probability is None else f" {box.probability:.2f}"
            place, words = (left + width + 1, top + width), f"{box.label}{sure}"
            pen.rectangle(pen.textbbox(place, words), fill="white")
            pen.text(place, words, fill="black")
    return drawn


def boxes_in_text(picture: NDArray[Any], boxes: Iterable[Box], names: Sequence[str]) -> str:
    """Boxes as shares on a prepared picture, as text that a page shows, at most 320 pixels wide."""
    height, width = picture.shape[:2]
    step = max(1.0, max(height, width) / _SIDE)
    size_wh = round(width / step), round(height / step)
    small = draw_boxes(picture, (), names).resize(size_wh)
    shape = InputShape(small.height, small.width, 3)
    placed = to_picture(boxes, Preparation(shape), (small.height, small.width))
    drawn = draw_boxes(np.asarray(small), placed, names, has_words=False)
    return as_uri(drawn, "jpeg", quality=82)


def list_boxes(
    folder: Path, contents: Contents, *, task: Detection | None = None, is_asked: bool = True
) -> Listing | None:
    """List the pictures of a folder that have boxes; ``None`` if there are no files of boxes.

    Where boxes are not what is asked for, most pictures have to have some. Boxes outside their
    picture, without an area or of an unknown class are left out and counted; pictures without boxes
    are kept as background.

    Raises:
        DataError: if no picture has a box, or a list of classes cannot be read.
    """
    found = read_box_files(folder, contents)
    if found is None or not (is_asked or 2 * found.with_boxes >= len(contents.pictures)):
        return None
    names = sorted(found.by_picture)
    with ThreadPoolExecutor(count_cores()) as pool:
        sizes = list(pool.map(stored_hw, map(folder.joinpath, names)))
    task = task or _task_of(folder, found)
    sorter = _Sorter(folder, task.names)
    truths: list[Any] = []
    problems: dict[str, str] = {}
    for name, size_hw in zip(names, sizes, strict=True):
        annotation = found.by_picture[name]
        if problem := _problem(annotation, size_hw):
            problems[name] = problem
        # Where there is no size, preparing says what is wrong.
        is_lost = problem or size_hw is None
        truths.append(None if is_lost else sorter.sort(name, annotation, size_hw))
    lines = contents.without(found.files).warnings(folder)
    return Listing(
        names,
        truths,
        [found.splits.get(name, "") for name in names],
        root=folder,
        task=task,
        warnings=[*lines, *found.lines, *sorter.lines()],
        problems=problems,
    )


def _problem(annotation: Annotation, size_hw: tuple[int, int] | None) -> str:
    """Why a picture of a size cannot be used with its boxes; empty if it can."""
    if annotation.problem or size_hw is None or annotation.hw in (None, size_hw):
        return annotation.problem
    said, there = (f"{height}x{width}" for height, width in (annotation.hw, size_hw))
    return f"its boxes are of a picture of {said}, and it is {there}"


def _task_of(folder: Path, found: FoundBoxes) -> Detection:
    """The classes that occur, in the order of the list of them if there is one."""
    there = {same_name(box[0]) for one in found.by_picture.values() for box in one.boxes}
    if not there:
        raise DataError(f"{folder}: no picture has a box; expected some; check the files of boxes")
    listed = list(dict.fromkeys(map(same_name, found.names)))
    names = [name for name in listed if name in there] or in_order(there)
    unseen = [name for name in listed if name not in there]
    if unseen:
        found.lines.append(f"{folder}: no boxes of {join_some(list(map(repr, unseen)))}")
    check_class_names(names)
    return Detection(tuple(names))


_WHY = {
    "outside": "{} outside {}, left out",
    "empty": "{} without an area, left out",
    "unknown": "{} of a class that is not known, left out",
    "cut": "{} beyond the edge of {}, cut there",
}
"""What is said of boxes that cannot be used as they are: how many, and of which pictures."""


class _Sorter:
    """Sorts boxes into those that can be used and those that are counted."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._numbers = {name: number for number, name in enumerate(names)}
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._background: list[str] = []

    def sort(self, name: str, annotation: Annotation, hw: Any) -> TruthBoxes:
        """The boxes of a picture that lie in it, in its pixels."""
        numbers: list[int] = []
        edges: list[tuple[float, ...]] = []
        size = (*hw, *hw)
        for label, raw in annotation.boxes:
            box = [n * s for n, s in zip(raw, size, strict=True)] if annotation.is_share else raw
            number = self._numbers.get(same_name(label))
            reason, inside = _inside(box, size)
            if number is None:
                reason = "unknown"
            if reason:
                self._counts[reason][name if number is not None else repr(label)] += 1
            if number is not None and inside is not None:
                numbers.append(number)
                edges.append(inside)
        if not numbers:
            self._background.append(name)
        return TruthBoxes(tuple(numbers), tuple(edges), hw)

    def lines(self) -> list[str]:
        """One on each kind of box that was left out or cut, and one on background."""
        lines: list[str] = []
        for reason, words in _WHY.items():
            counts = self._counts[reason]
            if counts:
                boxes = plural(counts.total(), "box", "boxes")
                what = words.format(
                    boxes, "its picture" if counts.total() == 1 else "their picture"
                )
                lines.append(f"{self._folder}: {what}: {join_some(list(counts))}")
        if self._background:
            count = plural(len(self._background), "picture")
            named = join_some(self._background)
            lines.append(f"{self._folder}: {count} without boxes, kept as background: {named}")
        return lines


def _inside(
    box: Sequence[float], size: Sequence[float]
) -> tuple[str, tuple[float, float, float, float] | None]:
    """What is wrong with a box, if anything, and the part of it that is in a picture."""
    top, left, bottom, right = box
    if not all(map(math.isfinite, box)) or bottom <= top or right <= left:
        return "empty", None
    cut = max(0.0, top), max(0.0, left), min(bottom, size[0]), min(right, size[1])
    if cut[2] - cut[0] <= 0 or cut[3] - cut[1] <= 0:
        return "outside", None
    is_far = any(abs(a - b) > _SLACK_PX for a, b in zip(box, cut, strict=True))
    return "cut" if is_far else "", cut
