"""How long ``import inshape``, ``inshape --help`` and planning a named backbone take.

Run as ``python -m benchmarks.startup``; exit code 1 says that one of them took longer than it
should: half a second, and a second for ``inshape inspect``, which loads no framework. The help of a
single command, which tyro prints, is shown beside them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

LIMITS_S = {
    "import inshape": 0.5,
    "inshape --help": 0.5,
    "inshape inspect NAME": 1.0,
    "inshape models": 1.0,
}

PROGRAMS = {
    "python -c pass": ["-c", "pass"],
    "import inshape": ["-c", "import inshape"],
    "inshape --help": ["-m", "inshape", "--help"],
    "inshape train --help": ["-m", "inshape", "train", "--help"],
    "inshape inspect NAME": ["-m", "inshape", "inspect", "MobileNetV3Small", "96x96x1"],
    "inshape models": ["-m", "inshape", "models"],
}


def elapsed_s(arguments: list[str]) -> float:
    """Wall time of one run in a new process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def medians_s(repeats: int) -> dict[str, float]:
    """Median wall time of each program.

    The programs run interleaved, so that a busy spell of the machine falls on all of them.
    """
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(repeats + 1):
        for name, arguments in PROGRAMS.items():
            times[name].append(elapsed_s(arguments))
    # The first round reads the files from disk and compiles them.
    return {name: statistics.median(runs[1:]) for name, runs in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11, help="runs of each program")
    repeats = parser.parse_args().repeats
    medians = medians_s(repeats)
    empty = medians["python -c pass"]
    print(f"{'program':<22}{'median ms':>10}{'x python':>10}    ({repeats} runs each)")
    for name, median_s in medians.items():
        print(f"{name:<22}{1000 * median_s:>10.0f}{median_s / empty:>10.1f}")
    slow = {name: limit for name, limit in LIMITS_S.items() if medians[name] >= limit}
    for name, limit in slow.items():
        print(f"{name} takes {medians[name]:.2f} s, expected under {limit} s")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
