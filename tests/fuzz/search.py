"""Tries a reader on many damaged inputs, in a process that they may end or stop.

    python -m tests.fuzz.search "models of Keras 2" [--inputs 20000] [--first 0] [--keep FOLDER]

prints each input that was neither read nor refused in one line, in five seconds of the processor's
time and within 1 GiB of memory, by the number that draws it; with `--keep` it becomes a file. The
readers are those of the tests beside this.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import test_binaries, test_models
from .reader import Reader, _damaged, answer_of, bounded

READERS = {reader.name: reader for reader in (*test_binaries.READERS, *test_models.READERS)}
_SECONDS = 90  # by the clock, within which one input ends, and the first begins
_HERE = "here"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument(f"--{_HERE}", action="store_true", help="in this process")
    options = parser.parse_args()
    reader, end = READERS[options.reader], options.first + options.inputs
    if options.here:
        _try(reader, options.first, end)
        return 0
    faults, number, peak_kb = 0, options.first, 0
    while number < end:
        for number, fault, peak in _tried(options.reader, number, end):  # noqa: B020
            peak_kb = max(peak_kb, peak)
            if not fault:
                continue
            faults += 1
            print(f"{number}: {fault}", flush=True)
            if options.keep is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / str(number)).write_bytes(content_of(reader, number))
        number += 1
    print(
        f"{options.inputs} inputs, {faults} faults, at most {peak_kb // 1024} MiB more than before"
    )
    return int(faults > 0)


def content_of(reader: Reader, number: int) -> bytes:
    """The damaged content of a number."""
    draw = random.Random(number)
    edits = [(draw.getrandbits(31), draw.getrandbits(31)) for _ in range(draw.choice((1, 2)))]
    return _damaged(reader, reader.whole(), edits)


def _try(reader: Reader, first: int, end: int) -> None:
    with TemporaryDirectory() as folder:
        answer_of(reader, reader.whole(), Path(folder))  # loads what it needs
        before_kb = _peak_kb()
        for number in range(first, end):
            content = content_of(reader, number)
            print(json.dumps([number, None, 0]), flush=True)
            with bounded():
                answer, fault = answer_of(reader, content, Path(folder))
            print(
                json.dumps([number, f"{fault}: {answer}" if fault else "", _peak_kb() - before_kb])
            )


def _peak_kb() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _tried(name: str, first: int, end: int) -> Iterator[tuple[int, str, int]]:
    """Number, fault and memory of each input, until one ends or stops the process."""
    words = ["-m", "tests.fuzz.search", name, f"--first={first}", f"--inputs={end - first}"]
    child = subprocess.Popen(
        [sys.executable, *words, f"--{_HERE}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdout is not None
    begun, fault, rest = first - 1, "", b""
    while True:
        if not select.select([child.stdout], [], [], _SECONDS)[0]:
            child.kill()
            fault = "it does not end"
            break
        received = os.read(child.stdout.fileno(), 2**16)
        if not received:
            break
        *lines, rest = (rest + received).split(b"\n")
        for line in lines:
            record: Any = json.loads(line)
            begun = record[0]
            if record[1] is not None:
                yield begun, record[1], record[2]
    status = child.wait()
    if status and not fault:
        fault = f"the process ended by {signal.Signals(-status).name}" if status < 0 else "it ended"
    if fault:
        yield max(begun, first), fault, 0


if __name__ == "__main__":
    sys.exit(main())
