"""TensorBoard's event files: the scores of every epoch, and what was asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..runs import Run

FOLDER = "logs"
NOT_SCORES = ("phase", "epoch")


class Logs:
    """Writes a run's history for ``tensorboard --logdir RUN/logs``.

    TensorBoard draws a value twice if it is logged twice. A training that goes on therefore writes
    its events anew from the history that is in the run folder.
    """

    def __init__(self, run: Run) -> None:
        """Begin the event files of a run.

        Args:
            run: whose history so far is written at once.

        Raises:
            RunError: if the folder cannot be written.
        """
        import tensorflow as tf

        folder = run.folder / FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        try:
            self._writer = tf.summary.create_file_writer(str(folder))
        except tf.errors.OpError as error:
            raise unwritable(folder, error) from error
        self._folder = folder
        self._written: set[tuple[str, int]] = set()
        with self._writer.as_default():
            for name in ("request", "plan", "data", "versions"):
                text = json.dumps(run.record.get(name), indent=2, ensure_ascii=False)
                tf.summary.text(name, f"```\n{text}\n```", step=0)
        self.write(run.history())

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write what is new in a history.

        Args:
            rows: all of its rows.

        Raises:
            RunError: if the disk is full.
        """
        import tensorflow as tf

        with self._writer.as_default():
            for row in rows:
                key = (str(row["phase"]), int(row["epoch"]))
                if key in self._written:
                    continue
                self._written.add(key)
                for tag, value in scalars(row).items():
                    tf.summary.scalar(tag, value, step=key[1])
        try:
            self._writer.flush()
        except tf.errors.OpError as error:
            raise unwritable(self._folder, error) from error


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row of the history by ``phase/name``.

    Args:
        row: a row, whose values may be text; empty ones are left out.

    Example:
        >>> scalars({"phase": "body", "epoch": "2", "loss": "", "val_accuracy": "0.5"})
        {'body/val_accuracy': 0.5}
    """
    return {
        f"{row['phase']}/{name}": float(value)
        for name, value in row.items()
        if name not in NOT_SCORES and value not in (None, "")
    }


def unwritable(folder: Path, error: Exception) -> RunError:
    """The error of a folder that takes no more."""
    return RunError(
        f"cannot write {folder}: {str(error).splitlines()[0]}; what was there is unchanged; "
        "free some space or choose a folder that can be written"
    )
