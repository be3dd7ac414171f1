"""Counts what a layer that nobody knows multiplies, in the graph that TensorFlow traces of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import keras
import numpy as np

from ..geometry.amounts import total_of

_MULTIPLYING = ("Conv", "MatMul", "Einsum", "XlaDot")
_CALLING = ("PartitionedCall", "While", "If", "Case", "Scan", "PyFunc")


def traced_macs(
    call: Callable[..., Any], shapes: Sequence[Any], dtypes: Sequence[str]
) -> int | None:
    """Multiply-accumulates of a call on tensors of these shapes; ``None`` is unknown.

    On other backends than TensorFlow they stay unknown.
    """
    if keras.backend.backend() != "tensorflow" or any(None in shape for shape in shapes):
        return None
    import tensorflow as tf

    specs = [tf.TensorSpec(s, d) for s, d in zip(shapes, dtypes, strict=True)]
    try:
        graph: Any = tf.function(call).get_concrete_function(*specs).graph
        return total_of(_macs_of(operation) for operation in graph.get_operations())
    except Exception:  # whatever a user's own layer raises, or a graph that does not say it all
        return None


def _macs_of(operation: Any) -> int | None:
    kind = operation.type
    count = _COUNTS.get(kind)
    if count is not None:
        return count(operation)
    return None if any(word in kind for word in (*_MULTIPLYING, *_CALLING)) else 0


def _shape(tensor: Any) -> list[int]:
    return tensor.shape.as_list()


def _convolution(operation: Any) -> int:
    *_, channels, _ = kernel = _shape(operation.inputs[1])
    if _picks(operation.inputs[1]):
        return 0
    return _values(operation) * prod(kernel[:-2]) * channels


def _values(operation: Any) -> int:
    """How many values a convolution puts out.

    TensorFlow dilates one by cutting its map into pictures, padded to whole multiples of the
    dilation, and joins them afterwards: what counts is the map that is joined, as for a Conv2D.
    """
    (values,) = operation.outputs
    joined = [reader for reader in values.consumers() if reader.type == "BatchToSpaceND"]
    return prod(_shape(joined[0].outputs[0] if joined else values))


def _picks(kernel: Any) -> bool:
    """Whether a kernel is a constant that hands single values on.

    Keras takes patches out of a map by a convolution with an identity matrix.
    """
    behind = [kernel.op]
    for operation in behind:
        behind += [tensor.op for tensor in operation.inputs]
    if any(operation.type == "Placeholder" for operation in behind):  # a weight, or what is read
        return False
    import tensorflow as tf

    with tf.compat.v1.Session(graph=kernel.graph) as session:
        values = session.run(kernel)
    return bool((np.count_nonzero(values, axis=tuple(range(values.ndim - 1))) <= 1).all())


def _depthwise(operation: Any) -> int:
    return _values(operation) * prod(_shape(operation.inputs[1])[:2])


def _transposed(operation: Any) -> int:
    """A transposed convolution: every place that is read is multiplied by the whole kernel."""
    return prod(_shape(operation.inputs[2])[:-1]) * prod(_shape(operation.inputs[1]))


def _product(operation: Any) -> int:
    first = _shape(operation.inputs[0])
    is_turned = any(
        name in operation.node_def.attr and operation.get_attr(name)
        for name in ("transpose_a", "adj_x")
    )
    return prod(_shape(operation.outputs[0])) * first[-2 if is_turned else -1]


def _einsum(operation: Any) -> int:
    terms = operation.get_attr("equation").decode().split("->")[0].split(",")
    lengths: dict[str, int] = {}
    for term, tensor in zip(terms, operation.inputs, strict=True):
        lengths |= dict(zip(term, _shape(tensor), strict=True))
    return prod(lengths.values())


_COUNTS: dict[str, Callable[[Any], int]] = {
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "Conv2DBackpropInput": _transposed,
    "MatMul": _product,
    "BatchMatMulV2": _product,
    "BatchMatMulV3": _product,
    "Einsum": _einsum,
}
