"""How long ``import inshape`` and ``inshape --help`` take, beside an empty Python program.

Run as ``python -m benchmarks.startup``; exit code 1 says that one of these two took half a second
or more. The help of a single command, which tyro prints, is shown beside them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

LIMIT_S = 0.5
LIMITED = ("import inshape", "inshape --help")

PROGRAMS = {
    "python -c pass": ["-c", "pass"],
    "import inshape": ["-c", "import inshape"],
    "inshape --help": ["-m", "inshape", "--help"],
    "inshape train --help": ["-m", "inshape", "train", "--help"],
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
    slow = [name for name in LIMITED if medians[name] >= LIMIT_S]
    for name in slow:
        print(f"{name} takes {medians[name]:.2f} s, expected under {LIMIT_S} s")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
