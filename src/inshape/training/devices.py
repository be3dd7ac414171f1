"""Where and how precisely a training computes: one GPU, several, or the processor."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import keras
import tensorflow as tf

from .recipe import Precision

_BFLOAT16_FROM = (8, 0)
"""Compute capability from which NVIDIA's GPUs multiply bfloat16 in hardware."""


def scope() -> AbstractContextManager[Any]:
    """Where the variables of a training are made: on every GPU, if there are several.

    Returns:
        The scope of a ``tf.distribute.MirroredStrategy``, or of TensorFlow's default strategy.
    """
    several = len(tf.config.list_logical_devices("GPU")) > 1
    strategy = tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()
    return strategy.scope()


def chosen(precision: Precision) -> Literal["float32", "bfloat16"]:
    """The type to compute in.

    bfloat16 has the range of float32, so that losses need no scaling.

    Args:
        precision: ``"auto"`` is bfloat16 where every GPU computes it in hardware.

    Example:
        >>> chosen("bfloat16")
        'bfloat16'
    """
    if precision != "auto":
        return precision
    details = [
        tf.config.experimental.get_device_details(gpu)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    able = [d.get("compute_capability", (0, 0)) >= _BFLOAT16_FROM for d in details]
    return "bfloat16" if able and all(able) else "float32"


@contextmanager
def computing_in(precision: Precision, *models: keras.Model | None) -> Generator[None]:
    """Let layers compute in a type; their weights stay float32 and what is saved says so.

    Args:
        precision: the type.
        models: whose layers do, those of nested models too.
    """
    if chosen(precision) == "float32":
        yield
        return
    # Keras offers no public way to list the layers inside nested models.
    layers: list[Any] = [
        layer
        for model in models
        if model is not None
        for layer in model._flatten_layers(include_self=False)  # pyright: ignore[reportPrivateUsage]
    ]
    before = [layer.dtype_policy for layer in layers]
    for layer in layers:
        layer.dtype_policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    try:
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy
