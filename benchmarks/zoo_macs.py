"""What a built model really does with one picture: its maps and its multiply-accumulates.

Nothing here asks inshape. The model is run on one picture, eagerly, and every convolution and
product of matrices that reaches Keras's backend is counted by the shapes of the tensors that go in
and come out: those of ``Conv2D``, ``DepthwiseConv2D``, ``SeparableConv2D``, ``Conv2DTranspose``,
``Dense``, ``EinsumDense`` and ``MultiHeadAttention``, of ``keras.ops`` and of layers of others. A
product of vectors alone (a scale for each channel) counts as nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any
from unittest import mock

import keras
import numpy as np
from keras.src import backend
from keras.src.ops import image
from keras.src.ops.operation import Operation


@dataclass(slots=True)
class Measured:
    """What ran.

    Attributes:
        macs: multiply-accumulates for one picture.
        maps: the shapes that each layer and operation put out, call by call, batch included.
    """

    macs: int = 0
    maps: dict[str, list[tuple[int, ...]]] = field(default_factory=lambda: defaultdict(list))


def measure(model: keras.Model, hwc: tuple[int, int, int]) -> Measured:
    """Run a model on one picture.

    Args:
        model: with one input.
        hwc: the picture's height, width and channels.

    Returns:
        What ran.
    """
    result = Measured()
    with _watched(result):
        model(np.zeros((1, *hwc), "float32"), training=False)
    return result


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in tensor.shape)


def _conv(out: Any, _: Any, kernel: Any, *__: Any, **___: Any) -> int:
    # Of a grouped convolution the kernel holds the channels of one group.
    return prod(_shape(out)[:-1]) * prod(_shape(kernel))


def _separable(out: Any, _: Any, depthwise: Any, pointwise: Any, *__: Any, **___: Any) -> int:
    return prod(_shape(out)[:-1]) * (prod(_shape(depthwise)) + prod(_shape(pointwise)))


def _conv_transpose(_: Any, x: Any, kernel: Any, *__: Any, **___: Any) -> int:
    return prod(_shape(x)[:-1]) * prod(_shape(kernel))


def _matmul(out: Any, x1: Any, x2: Any, *_: Any, **__: Any) -> int:
    return prod(_shape(out)) * int(x1.shape[-1])


def _einsum(_: Any, equation: str, *operands: Any, **__: Any) -> int:
    if len(operands) < 2:
        return 0
    lengths: dict[str, int] = {}
    rest = 1
    for term, operand in zip(equation.split("->")[0].split(","), operands, strict=True):
        head, dots, tail = term.strip().partition("...")
        shape = _shape(operand)
        lengths |= dict(zip(head, shape, strict=False))
        if tail:
            lengths |= dict(zip(tail, shape[-len(tail) :], strict=True))
        if dots:
            rest = max(rest, prod(shape[len(head) : len(shape) - len(tail)]))
    return rest * prod(lengths.values())


def _attention(_: Any, query: Any, key: Any, value: Any, *__: Any, **___: Any) -> int:
    pictures, asking, heads, depth = _shape(query)
    return pictures * asking * int(key.shape[1]) * heads * (depth + int(value.shape[-1]))


_COUNTED: tuple[tuple[Any, str, Callable[..., int]], ...] = (
    (backend.nn, "conv", _conv),
    (backend.nn, "depthwise_conv", _conv),
    (backend.nn, "separable_conv", _separable),
    (backend.nn, "conv_transpose", _conv_transpose),
    (backend.nn, "dot_product_attention", _attention),
    (backend.numpy, "matmul", _matmul),
    (backend.numpy, "einsum", _einsum),
)


_CUT = "_extract_patches"


@contextmanager
def _watched(result: Measured) -> Iterator[None]:
    depth = 0

    def counted(original: Callable[..., Any], count: Callable[..., int]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            # A backend makes one of these of another, so that only the outermost counts.
            nonlocal depth
            depth += 1
            try:
                out = original(*args, **kwargs)
            finally:
                depth -= 1
            if depth == 0:
                result.macs += count(out, *args, **kwargs)
            return out

        return call

    def recorded(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            out = original(self, *args, **kwargs)
            tensors = keras.tree.flatten(out)
            result.maps[self.name] += [_shape(t) for t in tensors if hasattr(t, "shape")]
            return out

        return call

    patches = [
        mock.patch.object(module, name, counted(getattr(module, name), count))
        for module, name, count in _COUNTED
    ]
    patches += [
        # Patches of a picture are cut out by a convolution with an identity: nothing is multiplied.
        mock.patch.object(image, _CUT, counted(getattr(image, _CUT), lambda *_, **__: 0)),
        # A layer's own call goes through the operation's.
        mock.patch.object(Operation, "__call__", recorded(Operation.__call__)),
    ]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        original = tf.Tensor.__matmul__  # what `x @ y` calls inside a layer
        patches.append(mock.patch.object(tf.Tensor, "__matmul__", counted(original, _matmul)))
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield
