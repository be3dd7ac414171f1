"""The checkpoint: one file that holds everything a resumed phase needs."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError
from ..writing import write_atomically

_FACTS = "facts"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a phase stands.

    Attributes:
        epoch: the epoch that comes next or is under way, from 0.
        step: steps done in it.
        loss_sum: sum of their losses.
        best_epoch: the epoch of the best score; -1 is the state before the first.
        best_accuracy: its validation accuracy.
        best_loss: its validation loss.
        history: one row per finished epoch.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_epoch: int = -1
    best_accuracy: float = -1.0
    best_loss: float = float("inf")
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A phase at one moment.

    Attributes:
        progress: where it stands.
        state: what its steps read and change, by name.
        best: the weights of the best epoch.
    """

    progress: Progress
    state: dict[str, NDArray[Any]]
    best: list[NDArray[np.float32]]

    def save(self, path: Path) -> None:
        """Write it so that a kill leaves the old one or the new one.

        Args:
            path: ending in ``.npz``.

        Raises:
            RunError: if it cannot be written.
        """
        facts = np.frombuffer(json.dumps(asdict(self.progress)).encode(), np.uint8)
        arrays = {f"state/{name}": value for name, value in self.state.items()}
        arrays |= {f"best/{i}": value for i, value in enumerate(self.best)}
        write_atomically(path, lambda part: _savez(part, {_FACTS: facts, **arrays}))

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read it.

        Args:
            path: what `save` wrote.

        Raises:
            RunError: if it is damaged.
        """
        try:
            with path.open("rb") as file, np.load(file) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise RunError(
                f"{path} cannot be read ({error}); expected a checkpoint; remove it to start this "
                "phase again"
            ) from error
        progress = Progress(**json.loads(arrays.pop(_FACTS).tobytes()))
        state = {n.removeprefix("state/"): v for n, v in arrays.items() if n.startswith("state/")}
        best = [arrays[f"best/{i}"] for i in range(sum(n.startswith("best/") for n in arrays))]
        return cls(progress, state, best)


def _savez(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
