"""The demonstration: a real small dataset that is installed already, from files to a device.

The pictures are scikit-learn's handwritten digits, 1,797 of 8x8 grey pixels (Alpaydin and Kaynak
1998, UCI Machine Learning Repository). No pretrained weights come with inshape, so that the network
learns from random ones here; with ImageNet's, the same commands train in less time on harder
pictures.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .charts import make_folder
from .errors import OutputExists

SHAPE = "32x32x1"
BACKBONE = "MobileNetV3Small-minimalistic"

_HELD_OUT = 4  # every fourth picture is for testing


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


def steps(out: Path) -> tuple[Step, ...]:
    """The demonstration's commands, in order.

    Args:
        out: the folder of everything that they write.

    Example:
        >>> [step.words[0] for step in steps(Path("a"))]
        ['inspect', 'compare', 'train', 'evaluate', 'export', 'predict']
    """
    train, test, run = str(out / "digits/train"), str(out / "digits/test"), str(out / "run")
    network = ("--backbone", BACKBONE, "--weights", "none")
    return (
        Step("what the network does at this shape", ("inspect", BACKBONE, SHAPE)),
        Step(
            "what other shapes would cost, and what random features are worth at each",
            (
                "compare", train, "--shapes", f"16x16x1,{SHAPE}", "--backbones", BACKBONE,
                "--weights", "none", "--strategies", "rebuild,restride", "--pictures", "400",
            ),
        ),
        Step(
            "train every layer, from random weights",
            (
                "train", train, "--input", SHAPE, *network, "--strategy", "restride", "--out", run,
                "--unfreeze", "all", "--epochs", "12", "--learning-rate", "0.003", "--no-flip",
                "--set", "batch_norm=train", "--set", "layer_decay=1",
            ),
        ),
        Step("how good it is on pictures it has not seen", ("evaluate", run, test)),
        Step(
            "files for a device, compared with the model",
            ("export", run, "--to", "litert,litert-int8", "--data", test, "--min-agreement", "0.9"),
        ),
        Step(
            "one picture, answered by the smallest file",
            ("predict", f"{run}/exports/model-int8.tflite", f"{test}/7/7.png"),
        ),
    )  # fmt: skip


def write_digits(out: Path) -> int:
    """Write the digits as a folder per class, for training and for testing.

    Args:
        out: a new folder, or an empty one.

    Returns:
        How many pictures were written.

    Raises:
        OutputExists: if something is there already.
        RunError: if the folder cannot be written.
    """
    from sklearn.datasets import load_digits  # slow to import

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputExists(f"{out} exists already; expected a new folder; name another with --out")
    digits: Any = load_digits()
    for number, (picture, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = out / "digits" / ("train" if number % _HELD_OUT else "test") / str(label)
        make_folder(folder)
        name = len(list(folder.iterdir()))
        pixels = np.round(picture * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return len(digits.target)
