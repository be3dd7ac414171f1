"""Where and how precisely a training computes: one GPU, several, or the processor."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import keras

from ..graph.walk import all_layers
from ..processor import gpu_capabilities
from .recipe import Precision

_BFLOAT16_FROM = (8, 0)
"""Compute capability from which NVIDIA's GPUs multiply bfloat16 in hardware."""


def device_scope() -> AbstractContextManager[Any]:
    """Where the variables of a training are made: on every accelerator, if there are several."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        several = len(tf.config.list_logical_devices("GPU")) > 1
        strategy = tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()
        return strategy.scope()
    if keras.backend.backend() == "jax" and len(keras.distribution.list_devices()) > 1:
        return keras.distribution.DataParallel().scope()
    return nullcontext()


def count_replicas() -> int:
    """How many devices share a batch, within the scope."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.get_strategy().num_replicas_in_sync
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else math.prod(distribution.device_mesh.shape)


def choose_dtype(precision: Precision) -> Literal["float32", "bfloat16"]:
    """The type to compute in; ``"auto"`` is bfloat16 where every GPU has it in hardware."""
    if precision != "auto":
        return precision
    able = [capability >= _BFLOAT16_FROM for capability in gpu_capabilities()]
    return "bfloat16" if able and all(able) else "float32"


def choose_jit() -> Any:
    """Whether Keras hands a model to its compiler, as its ``compile`` takes it."""
    # XLA makes convolutions on a processor several times as slow as TensorFlow's own.
    is_slower = keras.backend.backend() == "tensorflow" and not gpu_capabilities()
    return False if is_slower else "auto"


@contextmanager
def computing_in(precision: Precision, *models: keras.Model | None) -> Generator[None]:
    """Let models compute in a type; their weights stay float32 and what is saved says so."""
    # bfloat16 and never float16: with the range of float32, gradients do not vanish and losses need
    # no scaling.
    if choose_dtype(precision) == "float32":
        yield
        return
    layers = [layer for model in models if model is not None for layer in all_layers(model)]
    policies = [layer.dtype_policy for layer in layers]
    for layer in layers:
        layer.dtype_policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    try:
        yield
    finally:
        for layer, policy in zip(layers, policies, strict=True):
            layer.dtype_policy = policy
