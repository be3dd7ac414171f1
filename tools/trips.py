"""How far it is from a command to the line that does its work: frames and files on the way.

    python -m tools.trips

Runs ``inshape train``, ``compare`` and ``export`` on a few drawn pictures with the demonstration's
weights, and reads the stack at a gradient step, where a probe is fitted fold by fold, and at the
call of the converter. The way of the command line (reading words, printing) is counted apart.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

import inshape
from inshape.cli.app import run as command_line

SOURCE = Path(inshape.__file__).parent


@dataclass(frozen=True)
class Trip:
    """A command, and the function in which its work is done."""

    words: tuple[str, ...]
    file: str
    function: str

    def frames(self) -> list[tuple[str, str]]:
        """File and function of every frame of inshape, from the command to the work."""
        stacks: list[list[tuple[str, str]]] = []

        def watch(frame: FrameType, event: str, _: Any) -> None:
            code = frame.f_code
            is_there = code.co_name == self.function and code.co_filename.endswith(self.file)
            if event == "call" and is_there and not stacks:
                stacks.append(_inshape_frames(frame))

        _profiled(watch, lambda: command_line(list(self.words)))
        assert stacks, f"{self.words[0]} did not come by {self.file}:{self.function}"
        return stacks[0]


def _profiled(watch: Callable[[FrameType, str, Any], None], work: Callable[[], int]) -> None:
    sys.setprofile(watch)
    try:
        code = work()
    finally:
        sys.setprofile(None)
    if code:
        raise SystemExit(code)


def _inshape_frames(frame: FrameType | None) -> list[tuple[str, str]]:
    frames: list[tuple[str, str]] = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(SOURCE) and not frame.f_code.co_name.startswith("<"):
            frames.append((str(path.relative_to(SOURCE)), frame.f_code.co_name))
        frame = frame.f_back
    return frames[::-1]


def _draw_pictures(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 128)):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(low, low + 128, (32, 32), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def main() -> None:
    """Print a line for each command, and its way."""
    with tempfile.TemporaryDirectory() as temporary:
        photos, run = Path(temporary, "photos"), Path(temporary, "run")
        _draw_pictures(photos)
        network = ("--backbone", "MobileNetV3Small-minimalistic", "--weights", "demo")
        shape = "32x32x1"
        trips = (
            Trip(
                (
                    "train",
                    str(photos),
                    "--input",
                    shape,
                    *network,
                    "--out",
                    str(run),
                    "--epochs",
                    "1",
                ),
                "student.py",
                "update_step",
            ),
            Trip(
                ("compare", str(photos), "--shapes", shape, *network, "--no-latency"),
                "features/linear.py",
                "cross_validated",
            ),
            Trip(("export", str(run), "--to", "litert"), "litert_files.py", "_run_converter"),
        )
        for trip in trips:
            frames = trip.frames()
            inner = [frame for frame in frames if not frame[0].startswith("cli/")]
            files = dict.fromkeys(file for file, _ in inner)
            outer = len(frames) - len(inner)
            print(
                f"{trip.words[0]}: {len(inner)} frames in {len(files)} files, behind {outer} of "
                "the command line"
            )
            for file, function in frames:
                print(f"    {file}:{function}")


if __name__ == "__main__":
    main()
