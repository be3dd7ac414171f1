"""Pictures per second from JPEG files to arrays, against TensorFlow's own decoding.

    python -m benchmarks.decoding FOLDER [--sizes 96,224] [--rounds 5]

Both sides read the same files, decode them and resize them to the same square with antialiasing, on
all cores; the rounds alternate, so that other load on the machine falls on both. ``draft`` is what
`inshape.data` does by default; ``full`` decodes every JPEG at full scale, as TensorFlow does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from inshape.data import decode
from inshape.data.contents import look_into
from inshape.data.prepare import Preparation


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", default="96,224")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=1500)
    options = parser.parse_args()
    names = [n for n in look_into(options.folder).pictures if n.lower().endswith((".jpg", ".jpeg"))]
    every = max(1, len(names) // options.pictures)
    paths = [str(options.folder / name) for name in names[::every]]
    print(f"{len(paths)} JPEG files, {os.cpu_count()} cores, median of {options.rounds} rounds")
    print("pictures/s by the clock | CPU milliseconds per picture, which other load hardly changes")
    for size in map(int, options.sizes.split(",")):
        ways = {
            "ours, draft": partial(ours, paths, size, gap=decode.DRAFT_GAP),
            "ours, full": partial(ours, paths, size, gap=1e6),
            "tf.io": partial(tensorflow, paths, size),
        }
        medians = measure(ways, len(paths), options.rounds)
        rate, cpu_ms = medians["tf.io"]
        for name, (way_rate, way_cpu_ms) in medians.items():
            print(
                f"{size:>4}  {name:<12} {way_rate:>6.0f}/s ({way_rate / rate:.2f} of tf.io) | "
                f"{way_cpu_ms:.2f} ms ({way_cpu_ms / cpu_ms:.2f} of tf.io)"
            )


def measure(
    ways: dict[str, Callable[[], None]], count: int, rounds: int
) -> dict[str, tuple[float, float]]:
    """Medians for each way: pictures per second, and CPU milliseconds per picture."""
    runs_of: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # files into the page cache
    for _ in range(rounds):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            runs_of[name].append((count / wall, 1e3 * cpu / count))
    return {
        name: (statistics.median(r for r, _ in runs), statistics.median(c for _, c in runs))
        for name, runs in runs_of.items()
    }


def ours(paths: list[str], size: int, *, gap: float) -> None:
    load = partial(decode.load_compact, preparation=Preparation.of((size, size, 3)))
    default = decode.DRAFT_GAP
    decode.DRAFT_GAP = gap
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(load, paths):
                pass
    finally:
        decode.DRAFT_GAP = default


def tensorflow(paths: list[str], size: int) -> None:
    import tensorflow as tf

    def load(path: tf.Tensor) -> tf.Tensor:
        picture = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.cast(tf.image.resize(picture, (size, size), antialias=True), tf.uint8)

    files = tf.data.Dataset.from_tensor_slices(paths)
    for _ in files.map(load, num_parallel_calls=os.cpu_count()).as_numpy_iterator():
        pass


if __name__ == "__main__":
    main()
