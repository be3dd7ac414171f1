"""AdamW with a learning rate of its own for every variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


class LayerwiseAdamW(keras.optimizers.Adam):
    """AdamW whose rate is scaled per variable, so that early layers change less than late ones.

    Loshchilov and Hutter, arXiv 1711.05101; layerwise rates as in Howard and Ruder's discriminative
    fine-tuning, arXiv 1801.06146. Biases and normalisation parameters (every vector) do not decay.
    Keras's own AdamW has one rate for all.

    Args:
        variables: what will be trained.
        scales: the rate of each relative to ``learning_rate``.
        decay: of kernels, per unit of learning rate.
    """

    def __init__(
        self, variables: Sequence[keras.Variable], scales: Sequence[float], *, decay: float
    ) -> None:
        """Build the optimizer's own variables."""
        super().__init__(learning_rate=0.0)
        self._scales = [float(s) for s in scales]
        self._decays = [decay if len(v.shape) >= 2 else 0.0 for v in variables]
        self.build(list(variables))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take Adam's step and the decay at the variable's own rate."""
        index = self._get_variable_index(variable)
        rate = learning_rate * self._scales[index]
        if self._decays[index]:
            self.assign_sub(variable, variable * (rate * self._decays[index]))
        super().update_step(gradient, variable, rate)


def layer_scales(depths: Sequence[int], decay: float) -> list[float]:
    """The relative rate of each variable from the depth of its layer.

    Args:
        depths: each variable's depth, from 0 (first unfrozen layer) upwards.
        decay: the relative rate at depth 0, in (0, 1].

    Returns:
        Geometrically from ``decay`` at depth 0 towards 1 just past the deepest.

    Example:
        >>> [round(s, 3) for s in layer_scales([0, 0, 1], 0.01)]
        [0.01, 0.01, 0.1]
    """
    depth = max(depths, default=0) + 1
    return [decay ** ((depth - d) / depth) for d in depths]
