"""Ways to quantise a run to int8, from the usual one to what `inshape export` does.

    python -m benchmarks.int8_ladder RUN FOLDER [--calibration 200]

Every way is calibrated on the same training pictures and compared with the Keras model on the
pictures of FOLDER: share of the same answers, accuracy and its paired change, file size.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from inshape.exporting.agreement import compare_answers
from inshape.exporting.selection import select_pictures
from inshape.runs import Run
from inshape.runtime.conversion import convert, freeze
from inshape.runtime.formats import FORMATS
from inshape.runtime.int8 import int8_content
from inshape.runtime.runners import answer, load


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calibration", type=int, default=200)
    options = parser.parse_args()
    run = Run.open(options.run)
    model = run.load_model()
    selection = select_pictures(run, options.folder, most=1000, calibration=options.calibration)
    pictures, labels = np.concatenate(list(selection.blocks())), selection.labels
    reference = model.predict(pictures, batch_size=32, verbose=0)
    shown = run.record["request"]
    print(f"{shown['backbone']} at {shown['shape']}, {len(pictures)} pictures")
    print("| way | agreement | accuracy | change (95 %) | mean difference | MiB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "float.tflite"
        convert(model, FORMATS["litert"], plain)
        content = plain.read_bytes()
        calibrating = list(selection.sample)
        quantise = partial(int8_content, content, calibrating, equal=False)
        ways: dict[str, Callable[[], bytes | None]] = {
            "float32": lambda: content,
            "TFLiteConverter": lambda: by_converter(model, calibrating),
            "ai-edge-quantizer, widest ranges": lambda: quantise(clipped=False, corrected=False),
            "+ narrower ranges": lambda: quantise(corrected=False),
            "+ corrected biases": quantise,
            "+ channels of like size": lambda: int8_content(content, calibrating, split=False),
            "+ hard-swish as two operators": lambda: int8_content(content, calibrating),
            "per-tensor, channels as they are": lambda: quantise(granularity="per-tensor"),
            "per-tensor, channels of like size": lambda: int8_content(
                content, calibrating, granularity="per-tensor"
            ),
        }
        for name, way in ways.items():
            content_int8 = way()
            if content_int8 is None:
                print(f"| {name} | an operator has no int8 kernel | | | | |")
                continue
            path = Path(scratch) / "way.tflite"
            path.write_bytes(content_int8)
            agreement = compare_answers(run.task, answer(load(path), pictures), reference, labels)
            change = agreement.accuracy_change
            print(
                f"| {name} | {100 * agreement.agreement:.1f} % | {agreement.accuracy.value:.3f} | "
                f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f}) | "
                f"{agreement.mean_difference:.4f} | {len(content_int8) / 2**20:.1f} |",
                flush=True,
            )


def by_converter(model: Any, pictures: list[np.ndarray]) -> bytes:
    """What most tutorials do."""
    traced = freeze(model, (1, *model.input_shape[1:]))
    converter: Any = tf.lite.TFLiteConverter.from_concrete_functions([traced])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([picture] for picture in pictures)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter.convert()


if __name__ == "__main__":
    main()
