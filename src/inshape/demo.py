"""The demonstration: a real small dataset that is installed already, from files to a device.

The pictures are scikit-learn's handwritten digits, 1,797 of 8x8 grey pixels (Alpaydin and Kaynak
1998, UCI Machine Learning Repository). A ninth of them, twenty of each digit, is for training: with
few pictures of one's own it matters where a network starts. It starts from the checkpoint that
comes with inshape (``weights="demo"``), and beside it, by the same commands, from random weights.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .errors import OutputExists
from .requests import Folder, Request
from .weights.demo import BACKBONE
from .writing import make_folder

SHAPE = "24x24x1"

_EVERY = 9  # every ninth picture of a digit is for training
_STARTS = ("demo", "none")


@dataclass(frozen=True, slots=True)
class DemoRequest(Request):
    """Inspect, compare, train, evaluate and export on handwritten digits."""

    out: Folder = Path("runs/demo")
    """A new folder for everything it writes."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command of the demonstration.

    Attributes:
        title: what it shows.
        words: what a user would type after ``inshape``.
    """

    title: str
    words: tuple[str, ...]

    @property
    def command(self) -> str:
        """What a user would type."""
        return shlex.join(("inshape", *self.words))


@dataclass(frozen=True, slots=True)
class Gain:
    """An accuracy reached from the checkpoint beside the one reached from random weights.

    Attributes:
        what: how it was measured.
        pictures: on how many.
        pretrained: accuracy and the ends of its 95 % interval.
        random: the same from random weights.
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
        shown = [
            f"{v:.3f} [{low:.3f}, {high:.3f}]" for v, low, high in (self.pretrained, self.random)
        ]
        told = "" if self.is_clear else "; the intervals meet"
        return f"{self.what}: {shown[0]} from the checkpoint, {shown[1]} from random weights{told}"


def steps(out: Path) -> tuple[Step, ...]:
    """The demonstration's commands, in order.

    Args:
        out: the folder of everything that they write.

    Example:
        >>> [step.words[0] for step in steps(Path("a"))][:5]
        ['inspect', 'compare', 'compare', 'train', 'train']
    """
    train, test = str(out / "digits/train"), str(out / "digits/test")
    run, beside = (str(_run(out, start)) for start in _STARTS)
    return (
        Step("what the network does at this shape", ("inspect", BACKBONE, SHAPE)),
        Step(
            "which shape and strategy? A linear classifier on frozen features answers",
            _compare(out, "demo", train, "rebuild,restride"),
        ),
        Step("what random features are worth", _compare(out, "none", train, "rebuild,restride")),
        Step("train from the checkpoint", _train(train, "demo", run)),
        Step("the same training from random weights", _train(train, "none", beside)),
        Step("how good it is on pictures that it has not seen", ("evaluate", run, test)),
        Step("and from random weights", ("evaluate", beside, test)),
        Step(
            "files for a device, compared with the model",
            ("export", run, "--to", "litert,litert-int8", "--data", test, "--min-agreement", "0.9"),
        ),
        Step(
            "one picture, answered by the smallest file",
            ("predict", f"{run}/exports/model-int8.tflite", f"{test}/7/7.png"),
        ),
        Step("the run as a page", ("report", run)),
    )  # fmt: skip


def _run(out: Path, start: str) -> Path:
    return out / ("run" if start == "demo" else f"run-{start}")


def _compared(out: Path, start: str) -> Path:
    return out / f"compare-{start}"


def _compare(out: Path, start: str, pictures: str, strategies: str) -> tuple[str, ...]:
    return (
        "compare", pictures, "--shapes", f"{SHAPE},32x32x1", "--backbones", BACKBONE, "--weights",
        start, "--strategies", strategies, "--out", str(_compared(out, start)),
    )  # fmt: skip


def _train(pictures: str, start: str, run: str) -> tuple[str, ...]:
    # Every layer is trained, which random weights need and the checkpoint bears.
    return (
        "train", pictures, "--input", SHAPE, "--backbone", BACKBONE, "--weights", start,
        "--strategy", "restride", "--out", run, "--unfreeze", "all",
        "--epochs", "40", "--patience", "40", "--learning-rate", "0.003", "--no-flip",
        "--set", "batch_norm=train", "--set", "layer_decay=1",
    )  # fmt: skip


def gains(out: Path) -> tuple[Gain, ...]:
    """What the checkpoint was worth, by the files that the commands left.

    Args:
        out: the demonstration's folder.

    Returns:
        In the probe and after training.
    """
    best: list[tuple[float, float, float]] = []
    pictures = 0
    for start in _STARTS:
        path = _compared(out, start) / "comparison.json"
        first, *_ = json.loads(path.read_text(encoding="utf-8"))["candidates"]
        best.append(_score(first["accuracy"]))
        pictures = first["pictures"]
    ends: list[tuple[float, float, float]] = []
    tested = 0
    for start in _STARTS:
        told = json.loads((_run(out, start) / "metrics.json").read_text(encoding="utf-8"))
        ends.append(_score(told["accuracy"]))
        tested = told["pictures"]
    return (
        Gain(f"probe, best candidate, {pictures} pictures in turns", pictures, best[0], best[1]),
        Gain(f"trained, on {tested} other pictures", tested, ends[0], ends[1]),
    )


def _score(told: Any) -> tuple[float, float, float]:
    return told["value"], told["low"], told["high"]


def write_digits(out: Path) -> tuple[int, int]:
    """Write the digits as a folder per class, for training and for testing.

    Args:
        out: a new folder, or an empty one.

    Returns:
        How many pictures were written for training and for testing.

    Raises:
        OutputExists: if something is there already.
        RunError: if the folder cannot be written.
    """
    from sklearn.datasets import load_digits  # slow to import

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputExists(f"{out} exists already; expected a new folder; name another with --out")
    digits: Any = load_digits()
    seen = [0] * 10
    counts = {"train": 0, "test": 0}
    for picture, label in zip(digits.images, digits.target, strict=True):
        part = "test" if seen[label] % _EVERY else "train"
        folder = out / "digits" / part / str(label)
        make_folder(folder)
        pixels = np.round(picture * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{seen[label]}.png")
        seen[label] += 1
        counts[part] += 1
    return counts["train"], counts["test"]
