"""The learning curves of a run as a figure."""

from __future__ import annotations

from pathlib import Path

from ..charts import chart
from ..runs import PLOTS, Run

CURVES = "learning.png"


def draw_curves(run: Run) -> Path | None:
    """Draw loss and validation accuracy of every epoch.

    Args:
        run: whose history is drawn into its folder of plots.

    Returns:
        The file; ``None`` without an epoch.

    Raises:
        RunError: if it cannot be written.
    """
    rows = run.history()
    if not rows:
        return None
    path = run.folder / PLOTS / CURVES
    with chart(path, width=7.0) as axes:
        right = axes.twinx()
        start = 0
        for phase in dict.fromkeys(row["phase"] for row in rows):
            own = [row for row in rows if row["phase"] == phase]
            epochs = [start + int(row["epoch"]) for row in own]
            marker = "o" if len(own) == 1 else ""
            for name, style in (("loss", "-"), ("val_loss", "--")):
                values = [float(row.get(name) or "nan") for row in own]
                axes.plot(epochs, values, style, marker=marker, label=f"{phase} {name}")
            accuracy = [float(row["val_accuracy"]) for row in own]
            right.plot(epochs, accuracy, ":", marker=".", color="black")
            start = epochs[-1]
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        right.set_ylabel("validation accuracy (dotted)")
        axes.legend(fontsize="small", loc="center right")
    return path
