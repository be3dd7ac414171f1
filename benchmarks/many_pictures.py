"""What a million pictures take, on 1, 8 and 64 machines: the table of docs/a-million-pictures.md.

    python -m benchmarks.many_pictures [--pictures 2048] [--out FOLDER]
    python -m benchmarks.many_pictures --table

Writes JPEG files of 500x375 pixels, no two the same, to the temporary folder; then lists and hashes
them, decodes them to 96x96x3, and runs MobileNetV3Small over them by LiteRT, each step by the
processor's time in one thread. The same is done once more by a Ray cluster on this machine, whose
rate shows what handing shares around costs. The table is arithmetic on these numbers.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import results_folder

NAME = "a-million-pictures"
_FILE = "many_pictures.json"
MILLION = 1_000_000
SHAPE = "96x96x3"
MACHINES = (1, 8, 64)
CORES = 16
"""Of each machine in the table."""
_BASES = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2048)
    parser.add_argument("--out", type=Path, help="the folder of the results")
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    options = parser.parse_args()
    folder = results_folder(NAME, options.out, is_table=options.table)
    if not options.table:
        with tempfile.TemporaryDirectory() as place:
            record = measure(Path(place), options.pictures)
        (folder / _FILE).write_text(json.dumps(record, indent=2) + "\n")
    print(table(folder))


def write(folder: Path, count: int) -> int:
    """Write so many different JPEG files in two classes; return what they take in bytes."""
    rng = np.random.default_rng(0)
    bases: list[bytes] = []
    for _ in range(_BASES):
        coarse = Image.fromarray(rng.integers(0, 255, (38, 50, 3), np.uint8))
        noise = rng.normal(0, 8, (375, 500, 3))
        pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)) + noise
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
        bases.append(file.getvalue())
    stored = 0
    for number in range(count):
        base = bases[number % _BASES]
        # A comment makes every file another one, at no cost of encoding.
        content = base[:2] + b"\xff\xfe\x00\x0a" + number.to_bytes(8, "big") + base[2:]
        path = folder / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        stored += len(content)
    return stored


def measure(place: Path, count: int) -> dict[str, Any]:
    """Milliseconds of a core for each picture, by step, and bytes of a file and of a row."""
    import inshape
    from inshape.data.prepare import Preparation
    from inshape.data.sources import open_source
    from inshape.features.cut import head_cut, section
    from inshape.features.views import change_for, of_view
    from inshape.processor import count_cores
    from inshape.runtime.cluster import joined
    from inshape.runtime.frozen import Forward
    from inshape.runtime.litert import Setting
    from inshape.runtime.shares import answers_of

    stored = write(place / "photos", count)
    preparation = Preparation.of(SHAPE)
    network = inshape.adapt("MobileNetV3Small", SHAPE, weights=None, classes=2)
    frozen = section(network, None, head_cut(network, (96, 96)))

    def timed(work: Callable[[], object]) -> float:
        """Milliseconds of the processor for each picture."""
        begun = time.process_time()
        work()
        return 1e3 * (time.process_time() - begun) / count

    begun = time.process_time()
    catalogue = open_source(place / "photos")
    listing = 1e3 * (time.process_time() - begun) / count
    pictures = np.empty((count, 96, 96, 3), np.float32)

    def decode() -> None:
        for index in range(count):
            pictures[index] = catalogue.load(index, preparation)

    decoding = timed(decode)
    forward = Forward(frozen, pictures[:4], setting=Setting())
    run = forward.elsewhere()
    run(pictures[:64])  # plans its memory
    running = timed(lambda: run(pictures))
    change = partial(change_for, "plain", "none", channels=3, seed=0, flip=False)
    make = partial(of_view, change, forward.elsewhere)
    with joined("local") as cluster:
        assert cluster is not None
        for _ in range(2):  # the workers have started by the second time
            begun, rows = time.perf_counter(), 0
            for share in answers_of(cluster, catalogue, preparation, make):
                rows += len(share.rows)
            seconds = time.perf_counter() - begun
    by_cluster = count_cores() * 1e3 * seconds / rows
    return {
        "ms": {
            "listed and hashed, by the driver": round(listing, 3),
            "decoded to 96x96x3": round(decoding, 3),
            "run through MobileNetV3Small": round(running, 3),
            "decoded and run by Ray's workers, by the clock": round(by_cluster, 3),
        },
        "file_bytes": round(stored / count),
        "row_bytes": share.rows[0].nbytes,
    }


def table(folder: Path) -> str:
    """The tables of a measurement."""
    record = json.loads((folder / _FILE).read_text())
    ms, file_bytes, row_bytes = record["ms"], record["file_bytes"], record["row_bytes"]
    lines = ["| one picture, one core | ms | pictures per second |", "|---|---:|---:|"]
    lines += [f"| {name} | {value:.2f} | {1e3 / value:,.0f} |" for name, value in ms.items()]
    lines += [
        f"\nA file has {file_bytes / 1024:.0f} KiB and a row of features {row_bytes / 1024:.2f} "
        f"KiB: a million are {MILLION * file_bytes / 2**30:.0f} GiB to read and "
        f"{MILLION * row_bytes / 2**30:.1f} GiB to write.\n",
        f"| machines of {CORES} cores | list and hash | decode and run | reading |",
        "|---|---:|---:|---:|",
    ]
    listing, *_, by_cluster = ms.values()
    for machines in MACHINES:
        seconds = MILLION * by_cluster / 1e3 / (machines * CORES)
        rate = MILLION * file_bytes / seconds / 2**20
        listed = f"{MILLION * listing / 1e3:.0f} s"
        lines.append(f"| {machines} | {listed} | {seconds:.0f} s | {rate:,.0f} MiB/s |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
