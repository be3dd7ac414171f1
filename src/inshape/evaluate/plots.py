"""The figures of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..charts import chart
from .evaluation import Evaluation
from .metrics import Score

_MOST_NAMES = 40
_MOST_NUMBERS = 20


def draw(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Draw an evaluation.

    Args:
        evaluation: what to draw.
        folder: where to; made if it is not there.

    Returns:
        ``confusion.png``, ``classes.png`` (precision and recall), ``reliability.png`` (accuracy
        against probability), and ``sizes.png`` where other sizes were measured.

    Raises:
        RunError: if a file cannot be written.
    """
    made = [_confusion(evaluation, folder), _classes(evaluation, folder)]
    made.append(_reliability(evaluation, folder))
    if evaluation.by_size:
        made.append(_sizes(evaluation, folder))
    return made


def _confusion(evaluation: Evaluation, folder: Path) -> Path:
    path = folder / "confusion.png"
    counts = evaluation.scores.confusion
    names = [c.name for c in evaluation.scores.classes]
    side = min(14.0, 3.0 + 0.4 * len(names))
    with chart(path, width=side + 1, height=side) as axes:
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.figure.colorbar(image, ax=axes, label="share of the class")
        if len(names) <= _MOST_NAMES:
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
        if len(names) <= _MOST_NUMBERS:
            for (row, column), count in np.ndenumerate(counts):
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour)
        axes.set_xlabel("taken for")
        axes.set_ylabel("is")
    return path


def _classes(evaluation: Evaluation, folder: Path) -> Path:
    path = folder / "classes.png"
    found = evaluation.scores.classes
    rows = np.arange(len(found))
    with chart(path, width=7.0, height=1.5 + 0.35 * len(found)) as axes:
        for offset, name in ((-0.18, "precision"), (0.18, "recall")):
            scores = [getattr(c, name) for c in found]
            values, spread = _with_spread(scores)
            axes.barh(rows + offset, values, 0.34, xerr=spread, label=name, capsize=2)
        axes.set_yticks(rows, [c.name for c in found])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.legend(loc="lower left", fontsize="small")
    return path


def _reliability(evaluation: Evaluation, folder: Path) -> Path:
    path = folder / "reliability.png"
    count, probability, accuracy = evaluation.scores.reliability.T
    with chart(path, width=5.0) as axes:
        axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
        area = 20 + 180 * count / count.max()
        axes.scatter(probability, accuracy, s=area, alpha=0.7)
        axes.set_xlabel("probability of the guess (area: number of pictures)")
        axes.set_ylabel("share that is right")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_title(f"calibration error {evaluation.scores.calibration_error}", fontsize="small")
    return path


def _sizes(evaluation: Evaluation, folder: Path) -> Path:
    path = folder / "sizes.png"
    values, spread = _with_spread(evaluation.by_size.values())
    with chart(path) as axes:
        axes.errorbar(list(evaluation.by_size), values, spread, marker="o", capsize=3)
        axes.set_xlabel("input size in pixels")
        axes.set_ylabel("accuracy")
    return path


def _with_spread(scores: Iterable[Score]) -> tuple[list[float], list[list[float]]]:
    """Values, and how far their intervals reach below and above; nothing for NaN."""
    kept = list(scores)
    low = [float(np.nan_to_num(s.value - s.low)) for s in kept]
    high = [float(np.nan_to_num(s.high - s.value)) for s in kept]
    return [float(np.nan_to_num(s.value)) for s in kept], [low, high]
