"""Asks Keras about layers that the arithmetic does not know: shapes, weights, multiplications."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import keras
from keras import tree

from ..errors import FixedShape, GraphError
from ..geometry.amounts import product, times, total_of
from ..geometry.rules import Map
from ..text import first_line, format_shape
from .remake import remade
from .traced import traced_macs
from .walk import Call, Value

_PICTURES = 3
"""A batch that no size is likely to be, so that a layer which mixes pictures is found out."""
_MIXED = "it is tied to the old size and mixes the pictures of a batch"


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One output of one call, put to Keras at other shapes.

    Attributes:
        call: the call as it was read.
        output: which of its outputs.
        reads_rows: for each input, whether its batch axis holds rows of pictures.
        puts_out_rows: whether the output's does.
    """

    call: Call
    output: int = 0
    reads_rows: tuple[bool, ...] = ()
    puts_out_rows: bool = False
    _known: dict[tuple[Map, ...], Map] = field(default_factory=dict)
    _counted: dict[tuple[Map, ...], int | None] = field(default_factory=dict)

    def output_shape(self, read: Sequence[Map]) -> Map:
        """The shape that the layer, made anew for these maps, puts out."""
        key = tuple(read)
        if key not in self._known:
            self._known[key] = self._asked(key)
        return self._known[key]

    def macs(self, read: Sequence[Map], out: Map) -> int | None:
        """Multiply-accumulates: by arithmetic for Keras's layers, else as TensorFlow traces it."""
        operation = self.call.operation
        if is_from_keras(operation):
            count = _MACS.get(type(operation).__name__)
            if count is not None:
                return count(operation, read, out)
            if not _may_multiply(operation):
                return 0
        key = tuple(read)
        if key not in self._counted:
            self._counted[key] = self._traced(key)
        return self._counted[key]

    def _traced(self, read: tuple[Map, ...]) -> int | None:
        rows = self.reads_rows or (False,) * len(read)
        shapes = [s if holds_rows else (1, *s) for s, holds_rows in zip(read, rows, strict=True)]
        arguments = (self.call.args, self.call.kwargs)

        def call(*tensors: Any) -> Any:
            args, kwargs = _filled(arguments, iter(tensors))
            return self.call.operation(*args, **kwargs)

        return traced_macs(call, shapes, [tensor.dtype for tensor in self.call.inputs])

    def rows(self, read: Sequence[Map]) -> int:
        """How many rows of the batch axis a picture has behind the call; 1 if it cannot be said."""
        try:
            pictures, *_ = self._shape_by_keras(tuple(read))
        except Exception:  # told when a plan asks
            return 1
        if pictures is None:
            return self._rows_read(read) or 1
        return pictures // _PICTURES if pictures % _PICTURES == 0 else 1

    def _rows_read(self, read: Sequence[Map]) -> int | None:
        """The rows of the first input that holds some; a layer that says nothing keeps them."""
        held = zip(read, self.reads_rows, strict=True)
        return next((shape[0] for shape, holds_rows in held if holds_rows), None)

    def _asked(self, read: tuple[Map, ...]) -> Map:
        try:
            shape = self._shape_by_keras(read)
        except (FixedShape, GraphError):  # which say what to do
            raise
        except Exception as error:  # Keras and a user's own layer raise whatever they like
            raise FixedShape(f"{self._who(read)}: {first_line(error)}") from error
        pictures, *rest = shape
        if not self.puts_out_rows:
            if pictures not in (_PICTURES, None, 1):  # 1: the same for every picture
                raise FixedShape(f"{self._who(read)}: {_MIXED}")
            return tuple(rest)
        if pictures is not None and pictures % _PICTURES:
            raise FixedShape(f"{self._who(read)}: {_MIXED}")
        rows = self._rows_read(read) if pictures is None else pictures // _PICTURES
        return (rows, *rest)

    def _shape_by_keras(self, read: tuple[Map, ...]) -> tuple[int | None, ...]:
        rows = self.reads_rows or (False,) * len(read)
        tensors = iter(
            keras.KerasTensor(_batched(shape, holds_rows), dtype=tensor.dtype)
            for shape, holds_rows, tensor in zip(read, rows, self.call.inputs, strict=True)
        )
        args, kwargs = _filled((self.call.args, self.call.kwargs), tensors)
        operation = self.call.operation
        if not isinstance(operation, keras.layers.Layer):
            result = operation.compute_output_spec(*args, **kwargs)
        else:
            new = remade(operation, {}, operation.name, self.call.name)
            result = new(*args, **kwargs)
            self._check_weights(operation, new, read)
        return tuple(tree.flatten(result)[self.output].shape)

    def _check_weights(self, old: Any, new: Any, read: Sequence[Map]) -> None:
        before, after = ([tuple(v.shape) for v in x.variables] for x in (old, new))
        if before != after:
            held = next((b for b, a in zip(before, after, strict=False) if b != a), before)
            raise FixedShape(f"{self._who(read)}: its weights of {held} are tied to the old size")

    def _who(self, read: Sequence[Map]) -> str:
        shapes = ", ".join(map(format_shape, read))
        return f'layer "{self.call.name}" ({type(self.call.operation).__name__}) reads {shapes}'


def is_from_keras(operation: Any) -> bool:
    """Whether an operation is one of Keras's own, whose name says what it does."""
    return type(operation).__module__.split(".")[0] == "keras"


def _batched(shape: Map, holds_rows: bool) -> Map:
    if not holds_rows:
        return (_PICTURES, *shape)
    rows, *rest = shape
    return (times(rows, _PICTURES), *rest)


def _filled(arguments: Any, tensors: Iterator[Any]) -> Any:
    def filled(value: Any) -> Any:
        return next(tensors) if isinstance(value, Value) else value

    return tree.map_structure(filled, arguments)


def _may_multiply(operation: Any) -> bool:
    """Whether it holds weights that are more than a number for each channel, or is known to."""
    if type(operation).__name__ in _MULTIPLYING:
        return True
    weights = operation.weights if isinstance(operation, keras.layers.Layer) else ()
    return any(len(w.shape) > 1 for w in weights)


# Multiplications, by the name of Keras's layer or operation.


def _by_kernel(layer: Any, _: Sequence[Map], out: Map) -> int | None:
    """A convolution along other axes than two: every output place uses the whole kernel."""
    places = product(out[:-1])
    return None if places is None else places * prod(layer.kernel.shape)


def _transposed(layer: Any, read: Sequence[Map], _: Map) -> int | None:
    """Every place that is read is multiplied by the whole kernel."""
    places = product(read[0][:-1])
    return None if places is None else places * prod(layer.kernel.shape)


def _einsum(equation: str, shapes: Sequence[Map]) -> int | None:
    """The product of the lengths of all letters; of a product of two, as people count it."""
    terms = equation.split("->")[0].replace(" ", "").split(",")
    lengths: dict[str, int | None] = {}
    for term, shape in zip(terms, shapes, strict=True):
        if "." in term or len(term) != len(shape):
            return None
        lengths |= dict(zip(term, shape, strict=True))
    return product(list(lengths.values()))


def _einsum_dense(layer: Any, read: Sequence[Map], _: Map) -> int | None:
    return _einsum(layer.equation, [(1, *read[0]), tuple(layer.kernel.shape)])


def _einsum_operation(operation: Any, read: Sequence[Map], _: Map) -> int | None:
    return _einsum(operation.subscripts, [(1, *shape) for shape in read])


def _matmul(operation: Any, read: Sequence[Map], out: Map) -> int | None:
    return product([*out, read[0][-1]])


def _attention(layer: Any, read: Sequence[Map], _: Map) -> int | None:
    """Projections of query, key, value and output, and the two products of the heads."""
    query, value = read[0], read[1]
    key = read[2] if len(read) > 2 else value
    axes = len(layer._attention_axes or query[1:])
    keys, values = layer.num_heads * layer.key_dim, layer.num_heads * layer.value_dim
    projections = zip((query, key, value), (keys, keys, values), strict=True)
    parts = [times(product(shape), features) for shape, features in projections]
    places, attended = product(query[:-1]), product(value[-1 - axes : -1])
    parts.append(times(places, values * layer._output_dense.kernel.shape[-1]))
    parts.append(times(times(places, attended), keys + values))
    return total_of(parts)


def _none(*_: Any) -> int:
    return 0


_MACS: dict[str, Callable[[Any, Sequence[Map], Map], int | None]] = {
    "Conv1D": _by_kernel,
    "Conv3D": _by_kernel,
    "Conv2DTranspose": _transposed,
    "EinsumDense": _einsum_dense,
    "MultiHeadAttention": _attention,
    "Matmul": _matmul,
    "Einsum": _einsum_operation,
    **dict.fromkeys(("PReLU", "BatchNormalization", "LayerNormalization"), _none),
    **dict.fromkeys(("GroupNormalization", "RMSNormalization", "Normalization"), _none),
    **dict.fromkeys(("Embedding", "LayerScale"), _none),
}
"""How much Keras's own layers and operations multiply."""
_MULTIPLYING = (
    *("Dot", "Tensordot", "Inner", "Vdot", "Correlate", "Lambda"),
    *("Conv", "ConvTranspose", "DepthwiseConv", "SeparableConv"),
    *("LSTM", "GRU", "SimpleRNN", "Bidirectional", "RNN"),
    *("Attention", "AdditiveAttention", "DotProductAttention", "GroupedQueryAttention"),
)
"""Those that multiply without holding a matrix themselves; the rest that hold none do not."""
