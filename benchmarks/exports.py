"""How far every exported file of a run can be trusted, and how fast it is beside Keras.

    python -m benchmarks.exports RUN FOLDER
    python -m benchmarks.exports --sizes
    python -m benchmarks.exports --small PHOTOS WEIGHTS [--per-class 30,100,300] [--seeds 0,1,2]
    python -m benchmarks.exports --small --table

The first exports a run in every format, compares each file with the Keras model on the pictures of
FOLDER, and times all of them interleaved, beside ``model.predict`` and a traced ``tf.function``:
each round calls every one a few times, so that a machine that is busy for a while slows all of them
and the ratios hold. Exit code 1 if LiteRT is not five times as fast as ``model.predict``.

The second builds a model that takes any height and width, exports it to LiteRT and ONNX, and runs
it at three sizes.

The third trains with default settings on so many photos of each class in ``PHOTOS/train`` (all of a
class that has fewer), exports what rounds to 8 bits, and compares it with Keras on
``PHOTOS/validation``; WEIGHTS are ImageNet's of MobileNetV3Large-minimalistic. Finished
measurements are kept under ``--out``, and ``--table`` prints what is there, by default the table of
docs/exports.md. Exit code 1 if int8 agrees on less than 97 %.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import inshape
from benchmarks import results_folder
from inshape.exporting.result import Exports
from inshape.processor import count_cores
from inshape.runs import Run
from inshape.runtime.conversion import convert
from inshape.runtime.formats import FORMATS
from inshape.runtime.runners import load

LEAST_SPEED_UP = 5.0
_ROUNDS = 20
_CALLS = 3
_SIZES_HW = ((96, 96), (97, 130), (160, 128))
_BACKBONE, _SHAPE = "MobileNetV3Large-minimalistic", "96x96x3"
_ROUNDED = ("litert-int8", "litert-dynamic")
LEAST_AGREEMENT = 0.97

Call = Callable[[np.ndarray], Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", help="with --small, PHOTOS")
    parser.add_argument("folder", type=Path, nargs="?", help="with --small, WEIGHTS")
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--per-class", default="30,100,300")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, help="of --small; by default runs/exports")
    parser.add_argument("--table", action="store_true", help="print what --small has left")
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    options = parser.parse_args()
    if options.sizes:
        return any_size()
    is_complete = options.run is not None and options.folder is not None
    if not is_complete and not (options.small and options.table):
        parser.error("expected RUN and FOLDER, --small PHOTOS WEIGHTS, or --sizes")
    if options.small:
        return small_sets(options)
    run = Run.open(options.run)
    request = run.record["request"]
    with tempfile.TemporaryDirectory() as out:
        exports = inshape.export(run, list(FORMATS), data=options.folder, out=out, timing=False)
        print(f"{request['backbone']} at {request['shape']}, {exports.files[0].pictures} pictures")
        print(f"Keras itself {exports.keras_accuracy}\n")
        print_agreement(exports)
        ratios = [
            print_latency(run, {f.format: Path(f.path) for f in exports.files}, n, options.rounds)
            for n in dict.fromkeys((1, count_cores()))
        ]
    slow = min(ratios)
    if slow < LEAST_SPEED_UP:
        print(f"LiteRT is {slow:.1f} times as fast, expected {LEAST_SPEED_UP:.0f}")
    return int(slow < LEAST_SPEED_UP)


def print_agreement(exports: Exports) -> None:
    """A row per file: agreement, accuracy, differences, size beside the float32 LiteRT file."""
    whole = next(f.size_bytes for f in exports.files if f.format == "litert")
    print("| format | agreement | accuracy | change (95 %) | max, mean difference | MiB | size |")
    print("|---|---|---|---|---|---|---|")
    for f in exports.files:
        change = f.accuracy_change
        print(
            f"| {f.format} | {100 * f.agreement:.1f} % | {f.accuracy.value:.3f} | "
            f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f}) | "
            f"{f.max_difference:.1e}, {f.mean_difference:.1e} | {f.size_bytes / 2**20:.1f} | "
            f"{100 * f.size_bytes / whole:.1f} % |"
        )
    for f in exports.files:
        if f.arena_bytes is not None:
            print(f"\nA micro-controller needs an arena of {f.arena_bytes / 1024:.0f} KiB.")


def print_latency(run: Run, paths: Mapping[str, Path], threads: int, rounds: int) -> float:
    """A row per way to run one picture; how many times as fast LiteRT is as `model.predict`."""
    model = run.load_model()
    traced = tf.function(lambda picture: model(picture, training=False), jit_compile=False)
    calls: dict[str, Call] = {
        "model.predict": lambda picture: model.predict(picture, verbose=0),
        "traced tf.function": lambda picture: traced(tf.constant(picture)).numpy(),
    }
    calls |= {n: load(path, threads=threads) for n, path in paths.items() if n != "keras"}
    height, width = run.preparation.shape.hw
    shape = (1, height, width, run.preparation.shape.channels)
    picture = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    call_ms: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            for _ in range(_CALLS):
                begun = time.perf_counter()
                call(picture)
                if number:  # the first round warms up
                    call_ms[name].append(1e3 * (time.perf_counter() - begun))
    predict_ms = float(np.median(call_ms["model.predict"]))
    traced_ms = float(np.median(call_ms["traced tf.function"]))
    plural = "s" * (threads > 1)
    print(
        f"\nOne picture, {threads} thread{plural} (TensorFlow's own two rows: as many as it likes)"
    )
    print("\n| run by | median ms | p95 ms | x model.predict | x traced |")
    print("|---|---|---|---|---|")
    for name, values in call_ms.items():
        median = float(np.median(values))
        print(
            f"| {name} | {median:.2f} | {np.percentile(values, 95):.2f} | "
            f"{predict_ms / median:.1f} | {traced_ms / median:.1f} |"
        )
    return predict_ms / float(np.median(call_ms["litert"]))


def any_size() -> int:
    """Export a model of any height and width; print its differences from Keras at three sizes."""
    # Random weights would answer every picture alike, and so would agree whatever was wrong.
    name = "MobileNetV3Small-minimalistic"
    model = inshape.adapt(name, "?x?x3", weights="demo", classes=10)
    print(f"| {name} ?x?x3 at | two pictures differ by | LiteRT differs by | ONNX differs by |")
    print("|---|---|---|---|")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"model{FORMATS[name].suffix}" for name in ("litert", "onnx")]
        for name, path in zip(("litert", "onnx"), paths, strict=True):
            convert(model, FORMATS[name], path)
        runs = [load(path) for path in paths]
        rng = np.random.default_rng(0)
        for height, width in _SIZES_HW:
            picture, other = (
                rng.uniform(0, top, (1, height, width, 3)).astype(np.float32) for top in (255, 90)
            )
            expected = np.asarray(model(picture, training=False))
            apart = float(np.abs(np.asarray(model(other, training=False)) - expected).max())
            off = [float(np.abs(run(picture) - expected).max()) for run in runs]
            worst = max(worst, *off)
            print(f"| {height}x{width} | {apart:.1e} | {off[0]:.1e} | {off[1]:.1e} |")
    return int(not worst <= 1e-4)


def small_sets(options: argparse.Namespace) -> int:
    """How far 8-bit files agree with Keras after trainings on few photos."""
    out = results_folder("exports", options.out, is_table=options.table)
    if not options.table:
        for count in map(int, options.per_class.split(",")):
            for seed in map(int, options.seeds.split(",")):
                record = out / f"small-{count:03}-{seed}.json"
                if not record.exists():
                    result = measure_small(options.run, options.folder, count, seed)
                    record.write_text(json.dumps(result) + "\n")
                    print(record.stem, result["agreement"], flush=True)
    print(small_table(out))
    worst = min(_read(path)["agreement"]["litert-int8"] for path in out.glob("small-*.json"))
    return int(worst < LEAST_AGREEMENT)


def measure_small(photos: Path, weights: Path, count: int, seed: int) -> dict[str, Any]:
    """Train on so many photos of each class, drawn by the seed, and compare the files."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        for source in sorted((photos / "train").iterdir()):
            (folder / source.name).mkdir(parents=True)
            files = sorted(source.iterdir())
            for number in rng.permutation(len(files))[:count]:
                os.symlink(files[number].resolve(), folder / source.name / files[number].name)
        run = inshape.train(
            folder,
            _SHAPE,
            out=Path(scratch) / "run",
            backbone=_BACKBONE,
            weights=str(weights),
            seed=seed,
        )
        exports = inshape.export(run, list(_ROUNDED), data=photos / "validation", timing=False)
        return {
            "per_class": count,
            "seed": seed,
            "trained_on": sum(run.record["data"]["train"].values()),
            "compared_on": exports.files[0].pictures,
            "keras": exports.keras_accuracy.value,
            "agreement": {f.format: f.agreement for f in exports.files},
            "accuracy": {f.format: f.accuracy.value for f in exports.files},
        }


def small_table(folder: Path) -> str:
    """The kept measurements as a Markdown table, a row per training."""
    lines = [
        "| photos per class | seed | trained on | Keras | int8 agrees | int8 | dynamic agrees |",
        "|---|---|---|---|---|---|---|",
    ]
    for path in sorted(folder.glob("small-*.json")):
        one = _read(path)
        agreement, accuracy = one["agreement"], one["accuracy"]
        lines.append(
            f"| {one['per_class']} | {one['seed']} | {one['trained_on']} | {one['keras']:.3f} | "
            f"{100 * agreement['litert-int8']:.1f} % | {accuracy['litert-int8']:.3f} | "
            f"{100 * agreement['litert-dynamic']:.1f} % |"
        )
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
