"""Batch norm opened again behind convolutions that it was folded into.

A file of a network holds ``W * gamma / sigma`` and ``beta - mean * gamma / sigma``; which part of
it was gamma is lost. Statistics measured on pictures bring back a norm that computes nothing at
first, and whose gamma, beta and statistics can be trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError
from ..graph.remake import remade

_EPSILON = 1e-3
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def reopen_batch_norm(model: keras.Model, batches: Iterable[NDArray[Any]]) -> keras.Model:
    """A model with a batch norm behind every convolution without one, which answers the same.

    Args:
        model: functional; it is not changed.
        batches: pictures ``(count, height, width, channels)`` in the model's value range, on which
            the statistics are measured; some hundreds are enough.

    Raises:
        GraphError: if there is no such convolution.

    Example:
        >>> image = keras.Input((8, 8, 1))
        >>> model = keras.Model(image, keras.layers.Conv2D(2, 3, name="stem")(image))
        >>> reopened = reopen_batch_norm(model, [np.random.uniform(0, 255, (4, 8, 8, 1))])
        >>> [layer.name for layer in reopened.layers[1:]]
        ['stem', 'stem_bn']
    """
    folded = [layer for layer in model.layers if _is_folded(layer)]
    if not folded:
        raise GraphError(
            f"model {model.name!r} has no convolution without batch norm behind it; expected one "
            "of a file in which it was folded; leave reopen_bn out"
        )
    statistics = _statistics(model, folded, batches)
    made: dict[int, Any] = {}

    def clone(operation: Any) -> Any:
        if id(operation) not in made:
            changes = {"use_bias": False} if operation.name in statistics else {}
            made[id(operation)] = remade(operation, changes, operation.name, operation.name)
        return made[id(operation)]

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        y = operation(*args, **kwargs)
        if operation.name not in statistics:
            return y
        norm = keras.layers.BatchNormalization(epsilon=_EPSILON, name=f"{operation.name}_bn")
        return norm(y)

    reopened: Any = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        kernel, *bias = weights = layer.get_weights() or [None]
        if kernel is None:
            continue
        if layer.name not in statistics:
            reopened.get_layer(layer.name).set_weights(weights)
            continue
        mean, variance = statistics[layer.name]
        reopened.get_layer(layer.name).set_weights([kernel])
        # What the norm takes away, it adds again; the bias is a part of both.
        before = mean - (bias[0] if bias else 0)
        gamma = np.sqrt(variance + _EPSILON)
        reopened.get_layer(f"{layer.name}_bn").set_weights([gamma, mean, before, variance])
    return reopened


def _is_folded(layer: Any) -> bool:
    """Whether it is a convolution of a map, computed once, with nothing but a bias behind it."""
    if type(layer) not in _CONVOLUTIONS or len(layer._inbound_nodes) != 1:
        return False
    readers = [node.operation for node in layer._outbound_nodes]
    is_followed = any(isinstance(x, keras.layers.BatchNormalization) for x in readers)
    is_linear = layer.activation is keras.activations.linear
    return is_linear and not is_followed and tuple(layer.output.shape[1:3]) != (1, 1)


def _statistics(
    model: keras.Model, layers: list[Any], batches: Iterable[NDArray[Any]]
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Mean and variance of each channel that layers put out, by their names."""
    axes = (0, 1, 2)
    moments = [
        moment
        for layer in layers
        for moment in (
            keras.ops.mean(layer.output, axes),
            keras.ops.mean(keras.ops.square(layer.output), axes),
        )
    ]
    measured = keras.Model(model.inputs[0], moments)
    sums, count = [np.zeros(())] * len(moments), 0
    for batch in batches:
        results = measured(batch, training=False)
        parts = [keras.ops.convert_to_numpy(x).astype(np.float64) for x in results]
        sums = [total + len(batch) * part for total, part in zip(sums, parts, strict=True)]
        count += len(batch)
    means = [total / count for total in sums]
    return {
        layer.name: (
            mean.astype(np.float32),
            np.maximum(square - mean**2, 0).astype(np.float32),
        )
        for layer, mean, square in zip(layers, means[::2], means[1::2], strict=True)
    }
