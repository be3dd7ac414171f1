"""Pretrained weights at other input shapes, before any training: top-1 beside cost.

    python -m benchmarks.zero_shot [--weights FILE] [--pictures FOLDER] [--sizes 96 128 ...]

The pictures are ``IIII_*.jpg``, IIII being the ImageNet class; the backbone is
MobileNetV3Large-minimalistic with its own classifier. A camera delivers S x S pixels (shorter side
resampled to S x 256/224 by antialiased bicubic, centre crop S), and each strategy makes of them
what it can. The second table does the like for grey pictures and the rules for channels. The
standard error of a top-1 p on n pictures is the root of p (1 - p) / n: on 500, 2.2 points at 50 %,
1.5 at 86 %.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console
from rich.progress import track

import inshape
from inshape.errors import InshapeError

BACKBONE = "MobileNetV3Large-minimalistic"
SHARED = Path(__file__).resolve().parents[2] / "shared"
SIZES = (96, 112, 128, 160, 192, 224, 256)
WORKING_PX = 192


@dataclass(frozen=True, slots=True)
class Way:
    """One way to take a picture of another size, as `inshape.plan` takes it."""

    label: str
    strategy: str
    options: dict[str, Any] = field(default_factory=dict)


WAYS = (
    Way("rebuild", "rebuild"),
    Way("resize to 224, bilinear", "resize"),
    Way(f"resize to {WORKING_PX}, bilinear", "resize", {"working_hw": (WORKING_PX, WORKING_PX)}),
    Way("restride, plain stem", "restride", {"stem": "plain", "factor": 2}),
    Way("restride, nearest stem", "restride", {"stem": "nearest", "factor": 2}),
    Way("restride, bilinear stem", "restride", {"stem": "bilinear", "factor": 2}),
    Way("restride, bicubic stem", "restride", {"stem": "bicubic", "factor": 2}),
)
CHANNEL_RULES = ("sum", "mean", "luma", [1])


def pictures_at(files: Sequence[Path], size_px: int, mode: str = "RGB") -> np.ndarray:
    """Every picture as a camera of that size delivers it: uint8 (count, size, size, channels)."""
    shown = track(files, f"{size_px} px", transient=True, console=Console(stderr=True))
    return np.stack([_picture(f, size_px, mode) for f in shown])


def _picture(file: Path, size_px: int, mode: str) -> np.ndarray:
    with Image.open(file) as image:
        scale = round(size_px * 256 / 224) / min(image.size)
        width, height = (max(size_px, round(n * scale)) for n in image.size)
        resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size_px) // 2, (height - size_px) // 2
    crop = resized.crop((left, top, left + size_px, top + size_px)).convert(mode)
    return np.asarray(crop).reshape(size_px, size_px, -1)


def top1(model: keras.Model, pictures: np.ndarray, labels: np.ndarray, batch: int = 25) -> float:
    """Share of pictures whose highest score is their label, in percent."""
    scores = tf.function(lambda x: model(tf.cast(x, tf.float32), training=False))
    guesses = [
        np.argmax(scores(pictures[i : i + batch]), axis=-1) for i in range(0, len(pictures), batch)
    ]
    return 100.0 * float(np.mean(np.concatenate(guesses) == labels))


def measure(
    way: Way, shape: str, weights: Path, pictures: np.ndarray, labels: np.ndarray, **request: Any
) -> tuple[float, float] | str:
    """Top-1 and MMACs of one way at one shape, or why it cannot be."""
    try:
        options = {"strategy": way.strategy, **way.options, **request}
        plan = inshape.plan(BACKBONE, shape, head="top", **options)
        model = plan.build(weights)
    except InshapeError as error:
        return str(error)
    accuracy = top1(model, pictures, labels)
    assert plan.geometry.macs is not None
    return accuracy, plan.geometry.macs / 1e6


def _cell(result: tuple[float, float] | str) -> str:
    return f"{'-':>14}" if isinstance(result, str) else f"{result[0]:6.1f} ({result[1]:5.0f})"


def sizes_table(
    files: Sequence[Path], labels: np.ndarray, weights: Path, sizes: Sequence[int]
) -> Iterator[str]:
    """The first table, line by line: a row for each size."""
    yield "top-1 % (MMACs); columns:"
    yield from (f"  {i + 1}. {way.label}" for i, way in enumerate(WAYS))
    yield f"{'S':>4}" + "".join(f"{i + 1:>14}" for i in range(len(WAYS)))
    for size in sizes:
        shape = f"{size}x{size}x3"
        pictures = pictures_at(files, size)
        cells = [_cell(measure(way, shape, weights, pictures, labels)) for way in WAYS]
        yield f"{size:>4} " + " ".join(cells)


def grey_table(files: Sequence[Path], labels: np.ndarray, weights: Path) -> Iterator[str]:
    """The second table: grey pictures at three sizes, by channel rule."""
    yield "grey pictures, top-1 % by channel rule, strategy rebuild"
    names = ["as RGB, 3 equal", *("green only" if r == [1] else str(r) for r in CHANNEL_RULES)]
    yield f"{'S':>4}" + "".join(f"{name:>17}" for name in names)
    for size in (224, 128, 96):
        grey = pictures_at(files, size, "L")
        rebuild = WAYS[0]
        results = [measure(rebuild, f"{size}x{size}x3", weights, np.repeat(grey, 3, -1), labels)]
        results += [
            measure(rebuild, f"{size}x{size}x1", weights, grey, labels, channels=rule)
            for rule in CHANNEL_RULES
        ]
        yield f"{size:>4}" + "".join(f"{_cell(r):>17}" for r in results)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    weights = SHARED / "weights" / "mobilenet_v3_large_minimalistic_imagenet.weights.h5"
    parser.add_argument("--weights", type=Path, default=weights)
    parser.add_argument("--pictures", type=Path, default=SHARED / "data" / "imagenet500")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--no-grey", action="store_true", help="leave the second table out")
    options = parser.parse_args()
    files = sorted(options.pictures.glob("*.jpg"))
    if not files:
        parser.error(f"no pictures IIII_*.jpg in {options.pictures}")
    labels = np.array([int(f.name.split("_")[0]) for f in files])
    start = time.perf_counter()
    print(f"{BACKBONE}, {len(files)} pictures, {options.weights.name}")
    for line in sizes_table(files, labels, options.weights, options.sizes):
        print(line, flush=True)
    if not options.no_grey:
        for line in grey_table(files, labels, options.weights):
            print(line, flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
