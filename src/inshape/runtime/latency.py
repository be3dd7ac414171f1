"""How long several LiteRT files take, measured side by side in a process of its own.

    python -m inshape.runtime.latency LIST

reads lines of JSON, a file and a shape each, and prints a line of times for each. Every file is
timed in several short turns, all of them once per turn, so that whatever else the machine does
in between meets all alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..errors import InshapeError, RunError
from .runners import load
from .timing import repeated

Latencies: TypeAlias = tuple[tuple[int, float, float], ...]
"""Threads, median and 95th percentile in milliseconds."""

_TURNS = 3
_SECONDS = 0.1
_LEAST_RUNS = 6
_WARM_UPS = 3


def latencies(
    files: Mapping[int, tuple[bytes, tuple[int, ...]]],
) -> dict[int, Latencies | InshapeError]:
    """Time files for one picture, with one thread and with all; nothing else should run meanwhile.

    Args:
        files: LiteRT files by number, with the shape of the picture, ``(height, width, channels)``.

    Returns:
        The times of each, or why it could not be timed.
    """
    if not files:
        return {}
    found = _in_child(files)
    if not isinstance(found, str):
        return found
    if len(files) == 1:
        failed = f"a LiteRT file could not be timed ({found}); expected one that runs; leave it out"
        return dict.fromkeys(files, RunError(failed))
    # One of them ends the process; the others are timed without it.
    alone = {number: latencies({number: file}) for number, file in files.items()}
    return {number: result[number] for number, result in alone.items()}


def _in_child(
    files: Mapping[int, tuple[bytes, tuple[int, ...]]],
) -> dict[int, Latencies | InshapeError] | str:
    """The times, or why the process ended."""
    with tempfile.TemporaryDirectory() as scratch:
        lines: list[str] = []
        for number, (content, shape) in files.items():
            path = Path(scratch) / f"{number}.tflite"
            path.write_bytes(content)
            lines.append(json.dumps([str(path), list(shape)]))
        asked = Path(scratch) / "list"
        asked.write_text("\n".join(lines), encoding="utf-8")
        command = [sys.executable, "-m", "inshape.runtime.latency", str(asked)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it was killed"])[-1][:200]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return {
        number: tuple((int(t), float(m), float(p)) for t, m, p in row)
        for number, row in zip(files, rows, strict=True)
    }


def measure(asked: Sequence[tuple[Path, tuple[int, ...]]]) -> list[Latencies]:
    """Time files in this process.

    Args:
        asked: files and the shapes of their pictures.

    Returns:
        The times of each.
    """
    counts = tuple(dict.fromkeys((1, os.cpu_count() or 1)))
    taken: dict[tuple[int, int], list[float]] = {}
    for _ in range(_TURNS):
        for number, (path, shape) in enumerate(asked):
            picture = np.random.default_rng(0).uniform(0, 255, (1, *shape)).astype(np.float32)
            for threads in counts:
                times = taken.setdefault((number, threads), [])
                run = load(path, threads=threads)
                times += repeated(
                    run, picture, warm_ups=_WARM_UPS, least=_LEAST_RUNS, seconds=_SECONDS
                )
    return [
        tuple(
            (
                t,
                round(float(np.median(taken[n, t])), 4),
                round(float(np.percentile(taken[n, t], 95)), 4),
            )
            for t in counts
        )
        for n in range(len(asked))
    ]


if __name__ == "__main__":
    given = [json.loads(line) for line in Path(sys.argv[1]).read_text("utf-8").splitlines()]
    for row in measure([(Path(path), tuple(shape)) for path, shape in given]):
        print(json.dumps(row))
