"""What is known of each backbone in figures: parameters, cost and accuracy at its native shape.

They stand in ``figures.csv`` beside this file, so that nothing has to be built to show them.
Parameters and multiply-accumulates are counted by ``python -m tools.count_backbones``, classifier
of 1,000 classes included. Accuracies are published ones, each with its source.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SOURCES = {
    "table": "keras.io/api/applications, the table of available models",
    "mobilenet": "the docstring of keras_applications/mobilenet.py",
    "mobilenet_v2": "the docstring of keras_applications/mobilenet_v2.py, input 224x224",
    "mobilenet_v3": "the docstring of keras.applications.MobileNetV3Large",
}
"""Where an accuracy comes from, by the word in ``figures.csv``."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A backbone at its native shape, with its classifier of 1,000 classes.

    Attributes:
        params: parameters.
        macs: multiply-accumulates of convolutions and dense layers for one picture.
        top1: accuracy on ImageNet in percent, or ``None`` where none is published.
        source: where that accuracy is published, a key of `SOURCES`.
    """

    params: int
    macs: int
    top1: float | None
    source: str | None


@cache
def figures() -> dict[str, Figures]:
    """Every backbone's figures by its name.

    Returns:
        Names as in ``inshape.backbones``.

    Example:
        >>> figures()["MobileNetV3Large-minimalistic"]
        Figures(params=3948688, macs=209136704, top1=72.3, source='mobilenet_v3')
    """
    text = files("inshape").joinpath("figures.csv").read_text(encoding="utf-8")
    return {
        row["name"]: Figures(
            int(row["params"]),
            int(row["macs"]),
            float(row["top1"]) if row["top1"] else None,
            row["source"] or None,
        )
        for row in csv.DictReader(text.splitlines())
    }
