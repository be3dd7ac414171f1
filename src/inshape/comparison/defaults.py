"""The candidates that suit the pictures, where none are named."""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np

from ..backbones import find
from ..data.catalogue import Catalogue
from ..data.decode import stored_shape
from ..data.prepare import CHANNELS, Colour
from ..errors import DataError, UnknownName
from ..geometry.warnings import NEAR
from ..shapes import InputShape
from ..strategies.decide import StrategyOptions
from ..tasks.task import Task

_SIDES = (64, 96, 128, 160, 224)
_NATIVE = 224
_LOOKED_AT = 200
_GRAIN = 32


def usual_shapes(catalogue: Catalogue, colour: Colour | None = None) -> list[InputShape]:
    """Shapes that suit the pictures: their channels, their proportions, no larger than they are.

    The channels are those of the colour, where pictures are to be read as one.

    Squares of 64 to 224 pixels, or oblongs of the same area and about the pictures' aspect ratio
    where that is beyond 4:5; the smallest at least.

    Raises:
        DataError: if no picture's size can be read.
    """
    height, width, channels = _typical_size(catalogue)
    channels = CHANNELS.get(str(colour), channels)
    aspect = height / width
    side = math.sqrt(height * width)
    shapes: list[InputShape] = []
    for goal in _SIDES:
        if goal > 1.25 * side and shapes:
            break
        hw = (goal, goal)
        if not 0.8 <= aspect <= 1.25:
            raw = goal * math.sqrt(aspect), goal / math.sqrt(aspect)
            hw = tuple(max(_GRAIN, _GRAIN * round(length / _GRAIN)) for length in raw)
        shapes.append(InputShape(hw[0], hw[1], channels))
    return list(dict.fromkeys(shapes))


def usual_strategies(shape: InputShape, backbone: str, task: Task) -> tuple[str, ...]:
    """Strategies that can be of use at a shape.

    ``flexible`` where an axis is unknown; otherwise ``rebuild``, and below 0.65 of the native size
    ``restride`` and ``resize``, which keep objects as large as the network knows them. That of a
    training comes first, where the task has one of its own.
    """
    if not shape.is_static:
        return ("flexible",)
    stride = task.options(StrategyOptions(), is_static=True).output_stride
    own = () if stride is None else (f"restride:{stride}",)
    try:
        native_hw = find(backbone).native_hw
    except UnknownName:
        native_hw = (_NATIVE, _NATIVE)
    ratio = math.sqrt(math.prod(shape.as_static_tuple()[:2]) / math.prod(native_hw))
    return (*own, "rebuild", "restride", "resize") if ratio < NEAR else (*own, "rebuild")


def _typical_size(catalogue: Catalogue) -> tuple[float, float, int]:
    """Median height and width, and the channels of most pictures."""
    sizes: list[tuple[int, int, int]] = []
    step = max(1, len(catalogue) // _LOOKED_AT)
    for index in range(0, len(catalogue), step):
        with suppress(DataError):  # what cannot be read is left out later
            sizes.append(_shape_of(catalogue, index))
    if not sizes:
        raise DataError(
            "no picture's size can be read; expected at least one; name the shapes, such as 96x96x3"
        )
    height, width, _ = np.median(np.array(sizes), axis=0)
    counts = np.bincount([channels for *_, channels in sizes])
    return float(height), float(width), int(counts.argmax())


def _shape_of(catalogue: Catalogue, index: int) -> tuple[int, int, int]:
    path = catalogue.path(index)
    if path is not None:
        return stored_shape(path)
    assert catalogue.arrays is not None
    shape = np.asarray(catalogue.arrays[int(catalogue.rows[index])]).shape
    return (*shape[:2], shape[2] if len(shape) == 3 else 1)
