"""The loss by which a network learns from another one's answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Teaching:
    """How a teacher's answers count.

    Attributes:
        share: of its soft labels in the loss, in (0, 1]; the rest is that of the hard labels.
        temperature: by which both networks' logits are divided.
    """

    share: float
    temperature: float

    def soft(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """A teacher's soft labels.

        Args:
            logits: ``(rows, classes)``.

        Returns:
            float32 ``(rows, classes)``, each row summing to 1.

        Example:
            >>> print(Teaching(0.5, 2.0).soft(np.log([[16.0, 4.0, 1.0]])).round(3))
            [[0.571 0.286 0.143]]
        """
        scaled = np.asarray(logits, np.float64) / self.temperature
        exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)


def distilled(labels: Any, logits: Any, teaching: Teaching) -> Any:
    """The loss of each row against hard and soft labels.

    Soft labels make gradients smaller by the square of the temperature, so that their part is
    multiplied by it (Hinton, Vinyals and Dean, arXiv 1503.02531, section 2.1).

    Args:
        labels: ``(rows, 2 x classes)``: hard labels, then soft ones.
        logits: the student's, ``(rows, classes)``.
        teaching: how the soft ones count.

    Returns:
        Losses, ``(rows,)``.

    Example:
        >>> both = np.array([[1.0, 0.0, 0.5, 0.5]], "float32")
        >>> logits = np.array([[3.0, 3.0]], "float32")
        >>> print(np.round(np.asarray(distilled(both, logits, Teaching(0.25, 2.0))), 4))
        [1.213]
    """
    classes = logits.shape[-1]
    hard, soft = labels[:, :classes], labels[:, classes:]
    crossentropy: Any = keras.losses.categorical_crossentropy
    cooled = crossentropy(soft, logits / teaching.temperature, from_logits=True)
    plain = crossentropy(hard, logits, from_logits=True)
    return (1.0 - teaching.share) * plain + teaching.share * teaching.temperature**2 * cooled
