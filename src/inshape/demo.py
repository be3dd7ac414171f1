"""The demonstration: a real small dataset that is installed already, from files to a device.

The pictures are scikit-learn's handwritten digits, 1,797 of 8x8 grey pixels (Alpaydin and Kaynak
1998, UCI Machine Learning Repository). A ninth of them, twenty of each digit, is for training: with
few pictures of one's own it matters where a network starts. It starts from the checkpoint that
comes with inshape (``weights="demo"``), and beside it, by the same commands, from random weights.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from .errors import OutputExists
from .requests import Folder, Request
from .weights.demo import BACKBONE
from .writing import make_folder, read_json, reading

SHAPE = "24x24x1"

_EVERY = 9  # every ninth picture of a digit is for training
_RUNS = {"demo": "run", "none": "run-none"}
_COMPARISONS = {"demo": "compare-demo", "none": "compare-none"}


@dataclass(frozen=True, slots=True)
class DemoRequest(Request):
    """Inspect, compare, train, evaluate and export on handwritten digits."""

    out: Folder = Path("runs/demo")
    """A new folder for everything it writes."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command of the demonstration: what it shows, and the words behind ``inshape``."""

    title: str
    words: tuple[str, ...]

    @property
    def command(self) -> str:
        """What a user would type."""
        return shlex.join(("inshape", *self.words))


@dataclass(frozen=True, slots=True)
class Gain:
    """An accuracy reached from the checkpoint beside the one reached from random weights.

    Each is a value with the ends of its 95 % interval.
    """

    what: str
    pictures: int
    pretrained: tuple[float, float, float]
    random: tuple[float, float, float]

    @property
    def is_clear(self) -> bool:
        """Whether the intervals do not meet."""
        return self.pretrained[1] > self.random[2]

    def __str__(self) -> str:
        scores = (self.pretrained, self.random)
        pretrained, random = (f"{v:.3f} [{low:.3f}, {high:.3f}]" for v, low, high in scores)
        end = "" if self.is_clear else "; the intervals meet"
        return f"{self.what}: {pretrained} from the checkpoint, {random} from random weights{end}"


class _Console(Protocol):
    """The console of the command line, which stands below this room."""

    @property
    def as_json(self) -> bool: ...

    def answer(self, text: object, values: Mapping[str, Any]) -> None: ...


def run_demo(out: Path, console: _Console) -> int:
    """Write the digits, run every step as a command of its own, and say what was gained.

    Returns the exit code of the first command that fails, else 0.
    """
    begun = time.perf_counter()
    train, test = write_digits(out)
    print(
        f"handwritten digits of 8x8 grey pixels in {out / 'digits'}: {train} for training, {test} "
        "for testing"
    )
    for step in steps(out):
        print(f"\n# {step.title}\n$ {step.command}\n", flush=True)
        started = time.perf_counter()
        words = [sys.executable, "-m", "inshape", *step.words]
        code = subprocess.run(words, stdout=sys.stderr if console.as_json else None, check=False)
        if code.returncode:
            return code.returncode
        print(f"({time.perf_counter() - started:.0f} s)", flush=True)
    seconds = time.perf_counter() - begun
    gained = gains(out)
    lines = "\n".join(map(str, gained))
    console.answer(
        f"\nwhat pretraining gained:\n{lines}\n\n"
        f"complete in {seconds:.0f} s; the run is {out / 'run'}",
        {
            "run": str(out / "run"),
            "seconds": round(seconds, 1),
            "gains": [asdict(gain) for gain in gained],
        },
    )
    return 0


def steps(out: Path) -> tuple[Step, ...]:
    """The commands in order; everything that they write is in one folder.

    Example:
        >>> [step.words[0] for step in steps(Path("a"))][:5]
        ['inspect', 'compare', 'compare', 'train', 'train']
    """
    train, test = str(out / "digits/train"), str(out / "digits/test")
    run, random_run = (str(out / name) for name in _RUNS.values())
    return (
        Step("what the network does at this shape", ("inspect", BACKBONE, SHAPE)),
        Step(
            "which shape and strategy? A linear classifier on frozen features answers",
            _compare(out, "demo", train),
        ),
        Step("the same with random weights", _compare(out, "none", train)),
        Step("train from the checkpoint", _train(train, "demo", run)),
        Step("the same training from random weights", _train(train, "none", random_run)),
        Step("accuracy on pictures that the training never saw", ("evaluate", run, test)),
        Step("and from random weights", ("evaluate", random_run, test)),
        Step(
            "files for a device, compared with the model",
            ("export", run, "--to", "litert,litert-int8", "--data", test, "--min-agreement", "0.9"),
        ),
        Step(
            "one picture, classified by the smallest file",
            ("predict", f"{run}/exports/model-int8.tflite", f"{test}/7/7.png"),
        ),
        Step("the run as a page", ("report", run)),
    )  # fmt: skip


def _compare(out: Path, start: str, pictures: str) -> tuple[str, ...]:
    return (
        "compare", pictures, "--shapes", f"{SHAPE},32x32x1", "--backbone", BACKBONE, "--weights",
        start, "--strategies", "rebuild,restride", "--out", str(out / _COMPARISONS[start]),
    )  # fmt: skip


def _train(pictures: str, start: str, run: str) -> tuple[str, ...]:
    # Every layer is trained, which random weights need and the checkpoint bears.
    return (
        "train", pictures, "--input", SHAPE, "--backbone", BACKBONE, "--weights", start,
        "--strategy", "restride", "--out", run, "--unfreeze", "all",
        "--epochs", "40", "--patience", "40", "--learning-rate", "0.003", "--no-flip",
        "--batch-norm", "train", "--layer-decay", "1",
    )  # fmt: skip


def gains(out: Path) -> tuple[Gain, ...]:
    """What the checkpoint gained in the probe and after training, by the files that are there."""
    with reading(out, "what the steps of the demonstration wrote; begin it again"):
        firsts = [
            read_json(out / name / "comparison.json")["candidates"][0]
            for name in _COMPARISONS.values()
        ]
        evaluations = [read_json(out / name / "metrics.json") for name in _RUNS.values()]
        pictures, tested = int(firsts[1]["pictures"]), int(evaluations[1]["pictures"])
        probed, trained = (
            [_score(one["accuracy"]) for one in both] for both in (firsts, evaluations)
        )
    return (
        Gain(f"probe, best candidate, {pictures} pictures cross-validated", pictures, *probed),
        Gain(f"trained, on {tested} other pictures", tested, *trained),
    )


def _score(values: Mapping[str, float]) -> tuple[float, float, float]:
    return float(values["value"]), float(values["low"]), float(values["high"])


def write_digits(out: Path) -> tuple[int, int]:
    """Write the digits as a folder per class; returns how many are for training and for testing.

    Raises:
        OutputExists: if something is there already.
        RunError: if the folder cannot be written.
    """
    from sklearn.datasets import load_digits  # slow to import

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputExists(f"{out} exists already; expected a new folder; name another with --out")
    digits: Any = load_digits()
    written = [0] * 10
    counts = {"train": 0, "test": 0}
    for picture, label in zip(digits.images, digits.target, strict=True):
        part = "test" if written[label] % _EVERY else "train"
        folder = out / "digits" / part / str(label)
        make_folder(folder)
        pixels = np.round(picture * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{written[label]}.png")
        written[label] += 1
        counts[part] += 1
    return counts["train"], counts["test"]
