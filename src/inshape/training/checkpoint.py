"""The checkpoint: one file that holds everything a resumed phase needs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.arrays import DAMAGE
from ..errors import RunError
from ..text import first_line
from ..writing import write_atomically

_STANDING = "standing"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a phase stands."""

    epoch: int = 0
    """The epoch that comes next, from 0."""
    best_epoch: int = -1
    """The epoch of the best score; -1 is the state before the first."""
    best_score: float = -1.0
    best_loss: float = float("inf")
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row per finished epoch."""
    stopped: str = ""
    """Why the phase ended before its time, where numbers were no longer finite."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A phase at one moment."""

    standing: Standing
    state: list[NDArray[Any]]
    """What its steps read and change."""
    best: list[NDArray[np.float32]]
    """The weights of the best epoch."""

    def save(self, path: Path) -> None:
        """Write it so that a kill leaves the old one or the new one."""
        # As bytes in an array, so that position and weights are one file and never two moments.
        standing = np.frombuffer(json.dumps(asdict(self.standing)).encode(), np.uint8)
        arrays = {
            f"{group}/{index}": value
            for group, values in (("state", self.state), ("best", self.best))
            for index, value in enumerate(values)
        }
        write_atomically(path, lambda part: _savez(part, {_STANDING: standing, **arrays}))

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read it; a damaged one is refused."""
        try:
            with path.open("rb") as file, np.load(file) as stored:
                arrays = {name: stored[name] for name in stored.files}
            standing = Standing(**json.loads(arrays.pop(_STANDING).tobytes()))
            state, best = (_group(arrays, name) for name in ("state", "best"))
            is_whole = is_finite(arrays.values())
        except DAMAGE as error:
            raise RunError(
                f"{path} cannot be read ({first_line(error)}); expected a checkpoint; remove it to "
                "start this phase again"
            ) from error
        if not is_whole:
            raise RunError(
                f"{path} holds NaN or infinity; expected finite numbers; remove it to start this "
                "phase again, with a lower learning rate"
            )
        return cls(standing, state, best)


def _group(arrays: dict[str, NDArray[Any]], group: str) -> list[NDArray[Any]]:
    count = sum(name.startswith(f"{group}/") for name in arrays)
    return [arrays[f"{group}/{index}"] for index in range(count)]


def is_finite(arrays: Iterable[NDArray[Any]]) -> bool:
    """Whether there is neither NaN nor infinity in any of them."""
    return all(bool(np.isfinite(array).all()) for array in arrays)


def _savez(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    # Through an open file: given a path, NumPy would add .npz to the temporary name.
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
