"""How long an exported file takes for one picture, and how much memory it needs.

    python -m inshape.runtime.timing FILE 1x96x96x3 THREADS

prints one JSON object. A process of its own has no other library's threads and memory in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError

if TYPE_CHECKING:
    from .runners import Runner

_WARM_UPS = 5
_LEAST_RUNS = 30
_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Measurements of a file, one call after the other.

    Attributes:
        threads: that it was allowed.
        runs: how many were measured.
        median_ms: of a call.
        p95_ms: the 95th percentile of the calls.
        load_ms: from the file to the first answer; the runtime has been imported before.
        peak_mb: by how much loading and running raised the peak memory of the process, without what
            the runtime takes for itself when it is imported.
    """

    threads: int
    runs: int
    median_ms: float
    p95_ms: float
    load_ms: float
    peak_mb: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def timed(path: Path, shape: tuple[int, ...], *, threads: int, batch: int = 1) -> Timing:
    """Measure a file in a process of its own.

    Args:
        path: an exported file.
        shape: of the picture, ``(height, width, channels)``.
        threads: that it may use.
        batch: pictures per call.

    Raises:
        RunError: if the process fails.
    """
    size = "x".join(map(str, (batch, *shape)))
    command = [sys.executable, "-m", "inshape.runtime.timing", str(path), size, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        raise RunError(
            f"{path} could not be timed ({reason}); expected a file that runs; export it again"
        )
    return Timing(**json.loads(done.stdout.splitlines()[-1]))


def measure(path: Path, shape: tuple[int, ...], threads: int) -> Timing:
    """Measure a file in this process.

    Args:
        path: an exported file.
        shape: of what a call takes, ``(pictures, height, width, channels)``.
        threads: that it may use.
    """
    from .runners import import_runtime, kind_of, load

    kind = kind_of(path)
    import_runtime(kind)
    if kind in ("keras", "savedmodel"):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
    picture = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    before = _peak_mb()
    begun = time.perf_counter()
    run = load(path, threads=threads)
    run(picture)
    load_ms = 1e3 * (time.perf_counter() - begun)
    taken = repeated(run, picture, warm_ups=_WARM_UPS, least=_LEAST_RUNS, seconds=_SECONDS)
    after = _peak_mb()
    return Timing(
        threads=threads,
        runs=len(taken),
        median_ms=round(float(np.median(taken)), 4),
        p95_ms=round(float(np.percentile(taken, 95)), 4),
        load_ms=round(load_ms, 2),
        peak_mb=None if before is None or after is None else round(after - before, 1),
    )


def repeated(
    run: Runner, picture: NDArray[np.float32], *, warm_ups: int, least: int, seconds: float
) -> list[float]:
    """Run a network on one picture over and over.

    Args:
        run: the network.
        picture: ``(1, height, width, channels)``.
        warm_ups: runs that are not counted, before the others.
        least: how many are counted at least.
        seconds: for how long at least.

    Returns:
        What each run took, in milliseconds.

    Example:
        >>> len(repeated(lambda x: x, np.zeros((1, 2, 2, 1), "float32"), warm_ups=1, least=3,
        ...              seconds=0.0))
        3
    """
    for _ in range(warm_ups):
        run(picture)
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while len(taken) < least or time.perf_counter() < until:
        begun = time.perf_counter()
        run(picture)
        taken.append(1e3 * (time.perf_counter() - begun))
    return taken


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


if __name__ == "__main__":
    made = measure(Path(sys.argv[1]), tuple(map(int, sys.argv[2].split("x"))), int(sys.argv[3]))
    print(json.dumps(made.as_dict()))
