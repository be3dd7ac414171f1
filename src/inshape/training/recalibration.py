"""Statistics of batch norm measured anew on the user's pictures at the new shape."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError

_SPANS = 4
"""How many times statistics are replaced in an epoch."""
_LEAST_MOMENTUM = 0.5


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The batch norms of a model, those of nested models too, in the order of the layers.

    Args:
        model: any Keras model.
    """
    # Keras offers no public way to list the layers inside nested models.
    layers: Any = model._flatten_layers(include_self=False)  # pyright: ignore[reportPrivateUsage]
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


def recalibrate(model: keras.Model, batches: Iterable[NDArray[np.floating[Any]]]) -> int:
    """Replace every batch norm's mean and variance by their averages over batches.

    Every batch runs through the model in training mode, so that each layer sees what the layers
    before it give once they normalise by the batch (Izmailov et al., arXiv 1803.05407, do so after
    averaging weights). Small sizes are often answered worse afterwards: measure both.

    Args:
        model: its statistics are changed in place, nothing else.
        batches: pictures ``(batch, height, width, channels)`` in the model's value range; batches
            of 32 or more pictures, and some tens of them, make the averages steady.

    Returns:
        How many batches there were.

    Raises:
        GraphError: if the model has no batch norm.

    Example:
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
                layer.momentum = count / (count + 1)  # then the average of all so far
            model(batch, training=True)
            count += 1
    return count


@contextmanager
def quick_statistics(model: keras.Model | None, steps: int) -> Generator[None]:
    """Let trained batch norms follow within an epoch.

    MobileNetV3's statistics move by a thousandth per step, which suits ImageNet's 40,000 steps per
    epoch: after a few hundred steps they would still be those of the beginning.

    Args:
        model: whose momentum is lowered meanwhile; ``None`` for nothing.
        steps: in an epoch.

    Example:
        >>> image = keras.Input((2, 2, 1))
        >>> model = keras.Model(image, keras.layers.BatchNormalization(momentum=0.999)(image))
        >>> with quick_statistics(model, 40):
        ...     print(model.layers[1].momentum)
        0.9
    """
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
