"""What tasks have in common whose labels lie on their pictures and whose answers are maps."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import RequestError
from .task import Labels, Task, by_weight


@dataclass(frozen=True, slots=True)
class DensePrediction(Task):
    """Something of a class at places of each picture."""

    is_calibrated: ClassVar[bool] = False
    most_lost: ClassVar[float] = 0.015
    not_built: ClassVar[tuple[str, ...]] = (
        "distil", "fixres", "cutmix", "rand_augment", "heatmaps",
    )  # fmt: skip

    @abstractmethod
    def _amounts(self, labels: Labels) -> NDArray[np.integer[Any]]:
        """How much of each class there is in each picture, ``(pictures, classes)``."""

    def _rarest(self, labels: Labels, without: int) -> NDArray[np.intp]:
        """The class in each picture that is in the fewest of all, or a number where none is."""
        there = self._amounts(labels) > 0
        rarity = np.where(there, there.sum(axis=0), len(labels) + 1)
        return np.where(there.any(axis=1), rarity.argmin(axis=1), without).astype(np.intp)

    def counts(self, labels: Labels) -> dict[str, int]:
        """Pictures with a class in them."""
        there = (self._amounts(labels) > 0).sum(axis=0)
        return dict(zip(self.names, there.tolist(), strict=True))

    def has(self, labels: Labels, name: str) -> NDArray[np.bool_]:
        """Whether pictures have a class in them."""
        return self._amounts(labels)[:, self.names.index(name)] > 0

    def output_weights(self, labels: Labels, power: float) -> NDArray[np.float32]:
        """The weight of each class in the loss; 1 on average over pixels or boxes."""
        counts = self._amounts(labels).sum(axis=0).astype(np.float64)
        weights = by_weight(counts, power)
        total = (weights * counts).sum()
        return (weights * (counts.sum() / total if total else 1.0)).astype(np.float32)

    def answers(self, outputs: NDArray[Any], *, is_final: bool) -> NDArray[Any]:
        """Maps as they are."""
        return outputs

    def soften(self, logits: NDArray[Any]) -> NDArray[np.float32]:
        """None yet; what needs it is refused before."""
        raise RequestError(f"{self.name} is not distilled yet; leave distil out")

    def lead(self, answers: NDArray[Any]) -> NDArray[np.float64]:
        """A map has no single other one that it might have been."""
        return np.full(len(answers), np.nan)
