"""Frozen features against ``model.predict``, and training steps against ``model.fit``.

    python -m benchmarks.speed [--sizes 96,224] [--rounds 5] [--pictures 256]

The two ways run interleaved on the same arrays, so that other load on the machine falls on both;
printed are the medians, the ratio of each round, and how busy the machine was besides. The network
is MobileNetV3Large-minimalistic with random weights, whose arithmetic is that of trained ones.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from inshape.runtime.frozen import Forward
from inshape.tasks.classification import Classification
from inshape.training.feeds import FeatureFeed, Training
from inshape.training.recipe import Recipe
from inshape.training.student import Student, compile_student

CLASSES = 10
BATCH = 32
PREDICT_BATCHES = (32, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="96,224")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=256)
    options = parser.parse_args()
    print("| what | size | pictures/s | of Keras's | ratios of the rounds |")
    print("|---|---|---|---|---|")
    for size in map(int, options.sizes.split(",")):
        pictures = np.random.default_rng(0).uniform(0, 255, (options.pictures, size, size, 3))
        pictures = pictures.astype(np.float32)
        features(size, pictures, options.rounds)
        steps(size, pictures, options.rounds)
    print(f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def features(size: int, pictures: NDArray[np.float32], rounds: int) -> None:
    """Features of a frozen network, the fastest batch of ``predict`` counted for Keras."""
    model = network(size, with_head=False)
    forward = Forward(model, pictures[:32])
    ways: dict[str, Callable[[], Any]] = {
        f"predict, batch {batch}": lambda batch=batch: model.predict(
            pictures, batch_size=batch, verbose=0
        )
        for batch in PREDICT_BATCHES
    }
    ways[f"features ({forward.engine})"] = lambda: forward(pictures)
    show(ways, size, len(pictures), rounds)


def steps(size: int, pictures: NDArray[np.float32], rounds: int) -> None:
    """Training steps with every layer unfrozen and batch norm fixed."""
    labels = np.eye(CLASSES, dtype=np.float32)[np.arange(len(pictures)) % CLASSES]
    by_hand = {name: network(size, with_head=True) for name in ("batch norm trained", "fixed")}
    for layer in by_hand["fixed"].layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    for model in by_hand.values():
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.AdamW(1e-5), loss)
    backbone = network(size, with_head=False)
    features = keras.Input(backbone.output_shape[1:])
    head = keras.Model(features, keras.layers.Dense(CLASSES)(features))
    student = Student(backbone, head, moves_statistics=False, seed=0)
    feed = FeatureFeed([pictures], [labels], pictures[:1], BATCH, seed=0)
    task = Classification(tuple(map(str, range(CLASSES))))
    compile_student(student, task, Recipe(learning_rate=1e-5), feed.steps, 1)
    rows = Training(feed, task, np.ones(CLASSES, np.float32))

    def ours() -> None:
        student.fit(rows, shuffle=False, verbose=0)

    ways: dict[str, Callable[[], Any]] = {
        f"model.fit, {name}": lambda model=model: model.fit(
            pictures, labels, batch_size=BATCH, verbose=0
        )
        for name, model in by_hand.items()
    }
    ways["training steps"] = ours
    show(ways, size, len(pictures) // BATCH * BATCH, rounds)


def network(size: int, *, with_head: bool) -> keras.Model:
    backbone = keras.applications.MobileNetV3Large(
        minimalistic=True,
        include_top=False,
        weights=None,
        pooling="avg",
        input_shape=(size, size, 3),
    )
    if not with_head:
        return backbone
    return keras.Model(backbone.inputs[0], keras.layers.Dense(CLASSES)(backbone.outputs[0]))


def show(ways: dict[str, Callable[[], Any]], size: int, pictures: int, rounds: int) -> None:
    """Interleave the ways and print a row each; ratios are to the best Keras way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begun)
    last = list(ways)[-1]
    best = min(list(ways)[:-1], key=lambda name: statistics.median(seconds[name]))
    ratios = [b / o for b, o in zip(seconds[best], seconds[last], strict=True)]
    for name in ways:
        rate = pictures / statistics.median(seconds[name])
        cells = [name, str(size), f"{rate:.0f}", "", ""]
        if name == last:
            cells[3:] = [f"{statistics.median(ratios):.2f}", " ".join(f"{r:.2f}" for r in ratios)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
