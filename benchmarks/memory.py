"""Peak memory of a large folder, from listing it to the features of a frozen network.

    python -m benchmarks.memory [--pictures 100000] [--size 96] [--limit-mb 1024]

A folder of small JPEG files, no two the same, is written to the temporary folder and removed
afterwards. A process of its own lists and splits it, decodes and keeps the pictures, reads them for
one shuffled epoch and computes the features of the smallest backbone with random weights, all with
at most so much memory more than it had after its imports: what it asks for beyond is refused
(RLIMIT_DATA). Prepared pictures may take a quarter of that in memory, the share that training takes
of what is free, and so go to disk where they need more. Needs Linux.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BACKBONE = "MobileNetV3Small-0.75-minimalistic"
CLASSES = 10
BATCH = 64
_BASES = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--limit-mb", type=int, default=1024)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        measure(options.inside, options.size, options.limit_mb)
        return
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        folder = Path(place)
        stored = write(folder / "photos", options.pictures)
        print(
            f"{options.pictures} JPEG files of {stored / 2**20:.0f} MiB written in "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )
        command = [sys.executable, "-m", "benchmarks.memory", "--inside", place]
        command += ["--size", str(options.size), "--limit-mb", str(options.limit_mb)]
        raise SystemExit(subprocess.run(command, check=False).returncode)


def write(folder: Path, count: int) -> int:
    """Write so many different JPEG files in ten classes; return what they take in bytes."""
    rng = np.random.default_rng(0)
    bases: list[bytes] = []
    for _ in range(_BASES):
        coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8))
        file = io.BytesIO()
        coarse.resize((160, 120), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        bases.append(file.getvalue())
    for label in range(CLASSES):
        (folder / str(label)).mkdir(parents=True)
    stored = 0
    for number in range(count):
        base = bases[number % _BASES]
        # A comment makes every file another one, at no cost of encoding.
        content = base[:2] + b"\xff\xfe\x00\x0a" + number.to_bytes(8, "big") + base[2:]
        (folder / str(number % CLASSES) / f"{number}.jpg").write_bytes(content)
        stored += len(content)
    return stored


def measure(place: Path, size: int, limit_mb: int) -> None:
    """Print seconds and peak memory of each step, the memory limited."""
    import inshape
    from inshape.data.batches import Batches
    from inshape.data.prepare import Preparation
    from inshape.data.sources import open_source
    from inshape.data.split import split
    from inshape.features.cut import head_cut, section
    from inshape.features.extract import Extraction
    from inshape.runtime.frozen import Forward

    network = inshape.adapt(BACKBONE, (size, size, 3), weights=None, classes=CLASSES)
    frozen = section(network, None, head_cut(network, (size, size)))
    before = status_mb("VmRSS")
    most = (int(status_mb("VmData")) + limit_mb) << 20
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    print(
        f"{before:.0f} MiB after the imports; at most {limit_mb} MiB more are allowed", flush=True
    )

    def step(name: str, work: Callable[[], Any]) -> Any:
        forget_peak()
        began = time.perf_counter()
        result = work()
        seconds, peak = time.perf_counter() - began, status_mb("VmHWM") - before
        print(f"{name:<28} {seconds:>6.0f} s   peak +{peak:.0f} MiB", flush=True)
        return result

    catalogue = step("list, hash and split", lambda: split(open_source(place / "photos")))
    batches: Batches = step(
        "decode and keep",
        lambda: Batches.open(
            catalogue,
            Preparation.of((size, size, 3)),
            cache_dir=place / "cache",
            memory_budget_bytes=(limit_mb << 20) // 4,
        ),
    )
    step(
        "one shuffled epoch",
        lambda: sum(len(y) for _, y in batches.iterate("train", BATCH, shuffle=True)),
    )
    extraction = Extraction(frozen, batches)
    sample, _ = next(batches.iterate("train", 32))

    def forward() -> Forward:
        return Forward(frozen, sample.astype(np.float32))

    rows = step(
        "frozen features", lambda: extraction.rows("train", "plain", place / "features", forward)
    )
    decoded = len(catalogue) * size * size * 3 / 2**20
    print(f"{rows.shape[0]} rows of {rows.shape[1]} features; {batches.cache_report}")
    print(f"all pictures decoded at {size}x{size}x3 would take {decoded:.0f} MiB")


def status_mb(field: str) -> float:
    """A field of this process's status, in MiB."""
    with open("/proc/self/status") as file:
        return int(dict(line.split(":", 1) for line in file)[field].split()[0]) / 1024


def forget_peak() -> None:
    """Let the peak be that of what follows."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
