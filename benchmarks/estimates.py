"""What `inshape compare` estimates of int8 files, beside files that were converted.

    python -m benchmarks.estimates

prints the table of docs/compare.md. Weights are drawn at random, with a head of ten classes; the
arena is what TensorFlow Lite for Microcontrollers took to run the file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import numpy as np

import inshape
from inshape.runtime.arena import arena_of
from inshape.runtime.conversion import convert
from inshape.runtime.formats import FORMATS
from inshape.shapes import InputShape

SMALL, LARGE = "MobileNetV3Small-minimalistic", "MobileNetV3Large-minimalistic"
CASES = (
    (SMALL, "64x64x1", "rebuild"), (SMALL, "96x96x3", "rebuild"),
    ("MobileNetV2-0.35", "96x96x3", "rebuild"), ("MobileNetV3Small", "96x96x3", "restride"),
    (LARGE, "96x96x3", "rebuild"), (LARGE, "96x96x3", "restride"), (LARGE, "128x128x1", "restride"),
)  # fmt: skip


def main() -> None:
    print("| bytes | strategy | file, estimated | file | memory, estimated | tensors | arena |")
    print(f"|{'---|' * 7}")
    with tempfile.TemporaryDirectory() as scratch:
        for name, size, strategy in CASES:
            shape, path = InputShape.of(size), Path(scratch) / "a.tflite"
            plan = inshape.plan(name, size, strategy=strategy, classes=10)
            model = plan.build(weights=None)
            rng = np.random.default_rng(0)
            randomised(model, rng)
            pictures = [rng.uniform(0, 255, (1, *shape.as_tuple())).astype("float32")] * 2
            convert(model, FORMATS["litert-int8"], path, pictures=pictures)
            arena = arena_of(path)
            cells = [
                plan.footprint.flash_bytes,
                path.stat().st_size,
                plan.footprint.ram_bytes,
                arena and arena.tensor_bytes,
                arena and arena.total_bytes,
            ]
            texts = " | ".join("-" if cell is None else f"{cell:,}" for cell in cells)
            print(f"| {name} {size} | {strategy} | {texts} |", flush=True)
            path.unlink()


def randomised(model: keras.Model, rng: np.random.Generator) -> None:
    """Give vectors of weights values as after training: no two are the same."""
    for weight in model.weights:
        if len(weight.shape) == 1:
            spread = "gamma" in weight.path or "variance" in weight.path
            low, high = (0.5, 1.5) if spread else (-0.5, 0.5)
            weight.assign(rng.uniform(low, high, weight.shape))


if __name__ == "__main__":
    main()
