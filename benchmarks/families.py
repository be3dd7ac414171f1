"""Every family of ``keras.applications``, rebuilt at other shapes, against its own constructor.

    python -m benchmarks.families [--family MobileNetV3Small ...] [--json FILE]

A source model with random weights and non-trivial batch-norm statistics is built at its native
shape. For each target shape it is adapted by ``strategy="rebuild"`` (and ``"flexible"`` for any
size) and compared, on the same random pictures, with the model that the family's own constructor
builds at that shape, given the same weights. The table shows the largest absolute difference beside
the largest absolute output, and how far the outputs for two pictures lie apart.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

import inshape
from inshape.errors import InshapeError

SHAPES = ("256x256x3", "128x128x3", "225x225x3", "97x97x3", "160x224x3", "97x130x3")
"""Larger, smaller, odd, odd and small, non-square, non-square and odd."""

DYNAMIC_SIZES = ((100, 100), (225, 225), (161, 226), (97, 130))


@dataclass(frozen=True, slots=True)
class Case:
    """One constructor with its arguments, and whether its top is kept."""

    name: str
    make: Callable[..., keras.Model]
    arguments: dict[str, Any]
    native_hw: tuple[int, int]

    def build(self, shape: tuple[int | None, int | None, int]) -> keras.Model:
        """The constructor's own model at a shape, with random weights."""
        return self.make(input_shape=shape, weights=None, **self.arguments)


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: the difference, or why there is none."""

    model: str
    top: bool
    shape: str
    largest_difference: float | None
    largest_output: float | None
    between_pictures: float | None = None
    note: str = ""

    def __str__(self) -> str:
        if self.largest_difference is None:
            result = self.note
        else:
            result = (
                f"{self.largest_difference:8.1e} of {self.largest_output:8.3g}; two pictures "
                f"differ by {self.between_pictures:8.3g}"
            )
        return f"{self.model:34} {'top' if self.top else 'no top':7} {self.shape:16} {result}"


def randomise(model: keras.Model, shape: tuple[int, int, int], seed: int = 0) -> None:
    """Give a model weights in which a wrong shape or a lost layer would show.

    Kernels are random. Batch-norm statistics are those of random pictures, so that the signal
    reaches the output, and are then moved a little, so that each channel's counts.
    """
    rng = np.random.default_rng(seed)
    norms = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(pictures(rng, 4, shape), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        for weight in norm.weights:
            near_one = rng.uniform(0.8, 1.2, weight.shape)
            is_offset = weight.path.endswith("beta")
            weight.assign(
                weight * near_one + (rng.normal(0, 0.2, weight.shape) if is_offset else 0)
            )


def pictures(rng: np.random.Generator, count: int, hwc: tuple[int, int, int]) -> np.ndarray:
    """Random pictures in [0, 255] that differ in brightness, contrast and coarseness."""
    height, width, channels = hwc
    stack = []
    for i in range(count):
        cell = 2 ** (i % 4 + 1)
        blocks = rng.uniform(size=(-(-height // cell), -(-width // cell), channels))
        coarse = blocks.repeat(cell, 0).repeat(cell, 1)[:height, :width]
        low, high = sorted(rng.uniform(0, 255, 2))
        stack.append(low + (high - low) * coarse)
    return np.stack(stack).astype("float32")


def cases() -> Iterator[Case]:
    """MobileNetV3 in all variants, and one model of every other family, with and without top."""
    apps = keras.applications
    for top in (True, False):
        plain: dict[str, Any] = {"include_top": top}
        logits = {**plain, "classifier_activation": None}
        for size in ("Small", "Large"):
            for alpha in (1.0, 0.75):
                for minimalistic in (False, True):
                    name = f"MobileNetV3{size}-{alpha}" + ("-minimalistic" if minimalistic else "")
                    arguments = {**logits, "alpha": alpha, "minimalistic": minimalistic}
                    yield Case(name, getattr(apps, f"MobileNetV3{size}"), arguments, (224, 224))
        for name, native_px in (
            ("MobileNet", 224),
            ("MobileNetV2", 224),
            ("EfficientNetB0", 224),
            ("EfficientNetV2B0", 224),
            ("ResNet50", 224),
            ("ResNet50V2", 224),
            ("DenseNet121", 224),
            ("InceptionV3", 299),
            ("InceptionResNetV2", 299),
            ("Xception", 299),
            ("NASNetMobile", 224),
            ("ConvNeXtTiny", 224),
            ("VGG16", 224),
        ):
            yield Case(name, getattr(apps, name), logits, (native_px, native_px))


def compare(
    case: Case,
    shapes: tuple[str, ...] = SHAPES,
    dynamic_sizes: tuple[tuple[int, int], ...] = DYNAMIC_SIZES,
) -> Iterator[Row]:
    """Adapt one model to each shape and compare it with the constructor's.

    Args:
        case: the model.
        shapes: static shapes.
        dynamic_sizes: heights and widths at which the model for any size follows.

    Yields:
        One row for each.
    """
    source = case.build((*case.native_hw, 3))
    randomise(source, (*case.native_hw, 3))
    weights = source.get_weights()
    top = case.arguments["include_top"]
    for shape in shapes:
        hwc = inshape.InputShape.of(shape).as_tuple()
        yield _row(case, top, shape, partial(_constructors, case, hwc, weights), source, hwc, hwc)
    try:
        anywhere = _adapted(source, "?x?x3", "flexible")
    except InshapeError as error:
        yield Row(case.name, top, "dynamic", None, None, note=f"refused: {error}")
        return
    for height, width in dynamic_sizes:
        hwc = (height, width, 3)
        yield _row(
            case,
            top,
            f"dynamic at {height}x{width}",
            partial(_constructors, case, hwc, weights),
            anywhere,
            None,
            hwc,
        )


def _row(
    case: Case,
    top: bool,
    label: str,
    make_expected: Callable[[], keras.Model],
    source: keras.Model,
    target: tuple[int, int, int] | None,
    picture_hwc: tuple[int, int, int],
) -> Row:
    """Compare at one shape; ``target=None`` takes the source as adapted already."""
    try:
        expected = make_expected()
    except (ValueError, TypeError) as error:
        return Row(
            case.name, top, label, None, None, note=f"constructor refuses: {str(error)[:60]}"
        )
    try:
        model = source if target is None else _adapted(source, target, "rebuild")
    except InshapeError as error:
        return Row(case.name, top, label, None, None, note=f"refused: {error}")
    x = pictures(np.random.default_rng(1), 2, picture_hwc)
    ours = np.asarray(keras.ops.convert_to_numpy(model(x, training=False)))
    theirs = np.asarray(keras.ops.convert_to_numpy(expected(x, training=False)))
    if ours.shape != theirs.shape:
        note = f"shapes differ: {ours.shape} {theirs.shape}"
        return Row(case.name, top, label, None, None, note=note)
    return Row(
        case.name,
        top,
        label,
        largest_difference=float(np.abs(ours - theirs).max()),
        largest_output=float(np.abs(theirs).max()),
        between_pictures=float(np.abs(theirs[0] - theirs[1]).max()),
    )


def _adapted(source: keras.Model, shape: str | tuple[int, int, int], strategy: str) -> keras.Model:
    return inshape.adapt(source, shape, strategy=strategy, head="top")


def _constructors(case: Case, hwc: tuple[int, int, int], weights: list[np.ndarray]) -> keras.Model:
    model = case.build(hwc)
    model.set_weights(weights)
    return model


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", nargs="*", help="only these models")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    options = parser.parse_args()
    rows: list[Row] = []
    start = time.perf_counter()
    for case in cases():
        if options.family and case.name not in options.family:
            continue
        for row in compare(case):
            print(row, flush=True)
            rows.append(row)
        keras.backend.clear_session()
        gc.collect()
    measured = [r for r in rows if r.largest_difference is not None]
    worst = max((r.largest_difference / (r.largest_output or 1) for r in measured), default=0.0)
    exact = sum(r.largest_difference == 0 for r in measured)
    print(
        f"{len(rows)} comparisons in {time.perf_counter() - start:.0f} s: {exact} equal to the "
        "last "
        f"bit, largest relative difference {worst:.1e}, {len(rows) - len(measured)} not comparable"
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")
    sys.exit(0 if worst < 1e-4 else 1)


if __name__ == "__main__":
    main()
