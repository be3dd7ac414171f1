"""How long exported files take for one picture, and how much memory they need.

    python -m inshape.runtime.timing

reads files and an effort as JSON from standard input and prints a row for each file and number of
threads. A process of its own has no other library's threads and memory in it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InshapeError, RunError
from ..processor import count_cores
from .apart import Ended, run_apart

if TYPE_CHECKING:
    from .runners import Runner

Latencies: TypeAlias = tuple[tuple[int, float, float], ...]
"""Threads, median and 95th percentile in milliseconds."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Measurements of a file, one call after the other."""

    threads: int
    """That it was allowed."""
    runs: int
    """How many were measured."""
    median_ms: float
    p95_ms: float
    """The 95th percentile of the calls."""
    load_ms: float
    """From the file to the first answer; the runtime has been imported before."""
    peak_mb: float | None
    """By how much loading and running raised the peak memory of the process, without what the
    runtime takes for itself when it is imported."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class File:
    """What is to be timed."""

    path: str
    shape: tuple[int, ...]
    """Of what a call takes, pictures first."""
    threads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Effort:
    """How often each file is run."""

    turns: int
    warm_ups: int
    least_runs: int
    seconds: float


ALONE = Effort(turns=1, warm_ups=5, least_runs=30, seconds=1.0)
# Several short turns, all files once per turn, so that whatever else the machine does in between
# meets all alike.
TOGETHER = Effort(turns=3, warm_ups=2, least_runs=6, seconds=0.1)


def time_file(path: Path, shape: tuple[int, ...], *, threads: int, batch: int = 1) -> Timing:
    """Measure a file, of any kind, on pictures ``(height, width, channels)``.

    Raises:
        RunError: if it cannot be run.
    """
    try:
        file = File(path=str(path), shape=(batch, *shape), threads=(threads,))
        (timing,) = _measure_apart([file], ALONE)
    except Ended as reason:
        raise RunError(
            f"{path} could not be timed ({reason}); expected a file that runs; export it again"
        ) from reason
    return timing


def time_together(
    files: Mapping[int, tuple[bytes, tuple[int, ...]]],
) -> dict[int, Latencies | InshapeError]:
    """Time LiteRT files by number for one picture, with one thread and with all.

    Each stands with the shape of its picture, ``(height, width, channels)``. Nothing else should
    run meanwhile. In the place of a file that cannot be timed stands the reason.
    """
    if not files:
        return {}
    try:
        return {**_time_together(files)}
    except Ended as reason:
        if len(files) == 1:
            message = (
                f"a LiteRT file could not be timed ({reason}); expected one that runs; leave it out"
            )
            return dict.fromkeys(files, RunError(message))
    # One of them ends the process; the others are timed without it.
    return {number: time_together({number: file})[number] for number, file in files.items()}


def _time_together(files: Mapping[int, tuple[bytes, tuple[int, ...]]]) -> dict[int, Latencies]:
    counts = tuple(dict.fromkeys((1, count_cores())))
    with tempfile.TemporaryDirectory() as scratch:
        written: list[File] = []
        for number, (content, shape) in files.items():
            path = Path(scratch) / f"{number}.tflite"
            path.write_bytes(content)
            written.append(File(path=str(path), shape=(1, *shape), threads=counts))
        timings = iter(_measure_apart(written, TOGETHER))
    return {
        number: tuple((t.threads, t.median_ms, t.p95_ms) for t in islice(timings, len(counts)))
        for number in files
    }


def _measure_apart(files: Sequence[File], effort: Effort) -> list[Timing]:
    work = {"files": [asdict(file) for file in files], "effort": asdict(effort)}
    printed, _ = run_apart("inshape.runtime.timing", text=json.dumps(work))
    return [Timing(**row) for row in json.loads(printed.splitlines()[-1])]


@dataclass(slots=True)
class _Laps:
    load_ms: float = 0.0
    run_ms: list[float] = field(default_factory=list[float])
    peak_mb: float | None = None


def measure(files: Sequence[File], effort: Effort) -> list[Timing]:
    """Measure files in this process: a row for each file and number of threads."""
    laps = {(file, threads): _Laps() for file in files for threads in file.threads}
    for _ in range(effort.turns):
        for (file, threads), lap in laps.items():
            _measure_once(file, threads, effort, lap)
    return [
        Timing(
            threads=threads,
            runs=len(lap.run_ms),
            median_ms=round(float(np.median(lap.run_ms)), 4),
            p95_ms=round(float(np.percentile(lap.run_ms, 95)), 4),
            load_ms=round(lap.load_ms, 2),
            peak_mb=None if lap.peak_mb is None else round(lap.peak_mb, 1),
        )
        for (_, threads), lap in laps.items()
    ]


def _measure_once(file: File, threads: int, effort: Effort, lap: _Laps) -> None:
    from .runners import import_runtime, kind_of, load

    path = Path(file.path)
    kind = kind_of(path)
    import_runtime(kind)
    if kind in ("keras", "savedmodel"):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
    picture = np.random.default_rng(0).uniform(0, 255, file.shape).astype(np.float32)
    before = _peak_mb()
    begun = time.perf_counter()
    run = load(path, threads=threads)
    run(picture)
    lap.load_ms = 1e3 * (time.perf_counter() - begun)
    lap.run_ms += _repeat(run, picture, effort)
    after = _peak_mb()
    lap.peak_mb = None if before is None or after is None else after - before


def _repeat(run: Runner, picture: NDArray[np.float32], effort: Effort) -> list[float]:
    """What each run took, in milliseconds."""
    for _ in range(effort.warm_ups):
        run(picture)
    run_ms: list[float] = []
    until = time.perf_counter() + effort.seconds
    while len(run_ms) < effort.least_runs or time.perf_counter() < until:
        begun = time.perf_counter()
        run(picture)
        run_ms.append(1e3 * (time.perf_counter() - begun))
    return run_ms


def _peak_mb() -> float | None:
    """The peak memory of this process; Linux counts its parent's in ``ru_maxrss``."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _main() -> None:
    work = json.load(sys.stdin)
    files = [
        File(path=file["path"], shape=tuple(file["shape"]), threads=tuple(file["threads"]))
        for file in work["files"]
    ]
    rows = measure(files, Effort(**work["effort"]))
    print(json.dumps([row.as_dict() for row in rows]))


if __name__ == "__main__":
    _main()
