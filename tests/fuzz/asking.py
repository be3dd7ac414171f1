"""Asks damaged LiteRT files, in a process that they may end.

    python -m tests.fuzz.asking FILES

prints, for each file that did not end it, what was said of it and what is wrong with that.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

import inshape
from inshape.runtime import runners
from inshape.runtime.apart import Ended
from inshape.runtime.litert_files import _try_out
from inshape.text import first_line

from .reader import Reader, answer_of, damage_bytes

SHAPE = "12x10x1"
"""What the files take."""


def ask(path: Path) -> None:
    """Let a file answer a picture."""
    inshape.predict(path, np.zeros((1, 12, 10, 1), np.uint8))


def _run_here(_: str, word: str) -> None:
    try:
        _try_out(Path(word))
    except Exception as error:
        raise Ended(first_line(error)) from error


if __name__ == "__main__":
    # This process is the one that may end.
    runners.run_apart = _run_here
    for word in sys.argv[1:]:
        path = Path(word)
        reader = Reader(path.name, lambda _, folder: ask(folder), bytes, damage_bytes)
        print(json.dumps(answer_of(reader, b"", path)), flush=True)
