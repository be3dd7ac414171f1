"""Statistics of batch norm: measured anew on the user's pictures, or followed faster."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import keras
from numpy.typing import NDArray

from ..errors import GraphError
from ..graph.walk import all_layers

_SPANS = 4
"""How many times statistics are replaced in an epoch."""
_LEAST_MOMENTUM = 0.5


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The batch norms of a model, those of nested models too, in the order of the layers."""
    return [x for x in all_layers(model) if isinstance(x, keras.layers.BatchNormalization)]


def recalibrate(model: keras.Model, batches: Iterable[NDArray[Any]]) -> int:
    """Replace every batch norm's mean and variance by their averages over batches; count those.

    Each batch is ``(pictures, height, width, channels)`` in the model's value range; 32 pictures
    or more in each of some tens of batches make the averages steady. Small sizes are often answered
    worse afterwards: measure both.

    Example:
        >>> import numpy as np
        >>> image = keras.Input((4, 4, 1))
        >>> model = keras.Model(image, keras.layers.BatchNormalization()(image))
        >>> recalibrate(model, [np.full((2, 4, 4, 1), v, "float32") for v in (1.0, 3.0)])
        2
        >>> float(model.layers[1].moving_mean[0]), float(model.layers[1].moving_variance[0])
        (2.0, 0.0)
    """
    layers = batch_norms(model)
    if not layers:
        raise GraphError(
            f"model {model.name!r} has no batch norm to recalibrate; leave recalibrate out"
        )
    count = 0
    with _in_training(layers):
        for batch in batches:
            for layer in layers:
                # A momentum of n / (n + 1) makes the moving average the plain average of all so
                # far, and forgets the old statistics with the first batch.
                layer.momentum = count / (count + 1)
            # In training mode, so that each layer reads what the layers before it give once they
            # normalise by the batch (Izmailov et al., arXiv 1803.05407, after averaging weights).
            model(batch, training=True)
            count += 1
    return count


@contextmanager
def quick_statistics(model: keras.Model | None, steps: int) -> Generator[None]:
    """Let trained batch norms follow within an epoch of so many steps.

    Example:
        >>> image = keras.Input((2, 2, 1))
        >>> model = keras.Model(image, keras.layers.BatchNormalization(momentum=0.999)(image))
        >>> with quick_statistics(model, 40):
        ...     print(model.layers[1].momentum)
        0.9
    """
    # MobileNetV3's statistics move by a thousandth per step, which suits ImageNet's 40,000 steps
    # per epoch: after a few hundred steps they would still be those of the beginning.
    layers = [] if model is None else batch_norms(model)
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = min(layer.momentum, max(_LEAST_MOMENTUM, 1.0 - _SPANS / steps))
    try:
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum


@contextmanager
def _in_training(layers: list[keras.layers.BatchNormalization]) -> Generator[None]:
    before = [(layer.trainable, layer.momentum) for layer in layers]
    for layer in layers:
        layer.trainable = True  # a frozen one keeps its statistics
    try:
        yield
    finally:
        for layer, (trainable, momentum) in zip(layers, before, strict=True):
            layer.trainable, layer.momentum = trainable, momentum
