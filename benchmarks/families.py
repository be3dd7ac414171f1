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
    statistics_hw: tuple[int, int] | None = None,
) -> Iterator[Row]:
    """Adapt one model to each shape and compare it with the constructor's.

    Args:
        case: the model.
        shapes: static shapes.
        dynamic_sizes: heights and widths at which the model for any size follows.
        statistics_hw: the size at which batch-norm statistics are taken; by default the native one.

    Yields:
        One row for each.
    """
    source = case.build((*case.native_hw, 3))
    if statistics_hw is None:
        randomise(source, (*case.native_hw, 3))
        judge = _Judge(case, source.get_weights())
    else:
        own = case.build((*statistics_hw, 3))
        randomise(own, (*statistics_hw, 3))
        source.set_weights(own.get_weights())
        judge = _Judge(case, own.get_weights())
        judge.answers[*statistics_hw, 3] = _run(own, (*statistics_hw, 3))
    for shape in shapes:
        adapt = partial(_adapted, source, shape, "rebuild")
        yield judge.compare(adapt, inshape.InputShape.of(shape).as_tuple(), shape)
    try:
        anywhere = _adapted(source, "?x?x3", "flexible")
    except InshapeError as error:
        top = case.arguments["include_top"]
        yield Row(case.name, top, "dynamic", None, None, note=f"refused: {error}")
        return
    for height, width in dynamic_sizes:
        label = f"dynamic at {height}x{width}"
        yield judge.compare(lambda: anywhere, (height, width, 3), label)


class _Judge:
    """The constructor's own models, each of which answers once."""

    def __init__(self, case: Case, weights: list[np.ndarray]) -> None:
        self._case, self._weights = case, weights
        self.answers: dict[tuple[int, ...], np.ndarray] = {}

    def _answer(self, hwc: tuple[int, int, int]) -> np.ndarray:
        if hwc not in self.answers:
            model = self._case.build(hwc)
            model.set_weights(self._weights)
            self.answers[hwc] = _run(model, hwc)
        return self.answers[hwc]

    def compare(
        self, adapt: Callable[[], keras.Model], hwc: tuple[int, int, int], label: str
    ) -> Row:
        row = partial(Row, self._case.name, self._case.arguments["include_top"], label)
        try:
            theirs = self._answer(hwc)
        except (ValueError, TypeError) as error:
            return row(None, None, note=f"constructor refuses: {str(error)[:60]}")
        try:
            ours = _run(adapt(), hwc)
        except InshapeError as error:
            return row(None, None, note=f"refused: {error}")
        if ours.shape != theirs.shape:
            return row(None, None, note=f"shapes differ: {ours.shape} {theirs.shape}")
        return row(
            largest_difference=float(np.abs(ours - theirs).max()),
            largest_output=float(np.abs(theirs).max()),
            between_pictures=float(np.abs(theirs[0] - theirs[1]).max()),
        )


def _run(model: keras.Model, hwc: tuple[int, int, int]) -> np.ndarray:
    x = pictures(np.random.default_rng(1), 2, hwc)
    return np.asarray(keras.ops.convert_to_numpy(model(x, training=False)))


def _adapted(source: keras.Model, shape: str | tuple[int, int, int], strategy: str) -> keras.Model:
    return inshape.adapt(source, shape, strategy=strategy, head="top")


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
        f"last bit, largest relative difference {worst:.1e}, {len(rows) - len(measured)} not "
        "comparable"
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")
    sys.exit(0 if worst < 1e-4 else 1)


if __name__ == "__main__":
    main()
