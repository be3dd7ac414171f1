"""What each operator of a LiteRT file is in Keras: one function each.

A file computes in numbers of 8 bits what Keras computes in floats: a map's scale says nothing then,
except where the range that it can hold took the place of an activation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError
from ..graph.finite import problem_of
from ..graph.layers import CornerResizing2D
from ..graph.walk import sole
from ..text import format_shape
from .litert_file import LiteRTFile, NotLiteRT, Operator, Tensor

KerasMap: TypeAlias = Any
"""A symbolic tensor of Keras."""
_PADDINGS = ("same", "valid")
_SIX = 6.0
_NEAR_SIX = 0.05
"""Two steps of 8 bits from 0 to 6."""
_UNIT_EPSILON = 1e-3


@dataclass(frozen=True, slots=True)
class Affine:
    """``x * scale + offset``, of all channels or of each."""

    tensor: int
    """x."""
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


class Reading:
    """What has been made of a file so far."""

    def __init__(self, file: LiteRTFile, picture: KerasMap) -> None:
        self.file = file
        self.maps: dict[int, KerasMap] = {file.inputs[0]: picture}
        self.affine: dict[int, Affine] = {}
        """What a tensor is of another, where one operator alone reads it."""
        self.orders: dict[int, tuple[int, list[int]]] = {}
        """Which tensor a transposed one is of, and its axes there."""
        self.readers = Counter(i for operator in file.operators for i in operator.inputs)
        self.readers.update(file.outputs)


class Step:
    """One operator, with the maps that it reads."""

    def __init__(self, reading: Reading, operator: Operator, name: str) -> None:
        self.reading, self.operator, self.options = reading, operator, operator.options
        self.file, self.maps, self.name = reading.file, reading.maps, name
        self._layers = 0

    @property
    def x(self) -> KerasMap:
        """The first map that it reads."""
        return self.map(0)

    def map(self, place: int) -> KerasMap:
        """A map that it reads."""
        if not self.has(place) or self.operator.inputs[place] not in self.maps:
            raise self.refused(f"input {place} is no map that is computed from the picture")
        return self.maps[self.operator.inputs[place]]

    def is_map(self, place: int) -> bool:
        """Whether an input is computed from the picture."""
        return self.has(place) and self.operator.inputs[place] in self.maps

    def has(self, place: int) -> bool:
        """Whether there is such an input."""
        return place < len(self.operator.inputs) and self.operator.inputs[place] != -1

    def constant(self, place: int, ranks: Sequence[int] = ()) -> NDArray[Any]:
        """The values of a constant input."""
        if not self.has(place):
            raise self.refused(f"it lacks input {place}")
        tensor = self.tensor(place)
        try:
            values = tensor.values()
        except NotLiteRT as error:
            raise self.refused(f'input {place}, "{tensor.name}": {error}') from error
        problem = problem_of(values) if values.dtype.kind == "f" else ""
        if problem:
            raise self.refused(f'input {place}, "{tensor.name}" {problem}')
        if ranks and values.ndim not in ranks:
            raise self.refused(f"input {place} has the shape {format_shape(values.shape)}")
        return values

    def numbers(self, place: int) -> list[int]:
        """The whole numbers of a constant input."""
        values = self.constant(place)
        if values.dtype.kind != "i":
            raise self.refused(f"input {place} holds {values.dtype}, expected whole numbers")
        return [int(n) for n in values.ravel()]

    def tensor(self, place: int) -> Tensor:
        """What the file says of an input."""
        return self.file.tensors[self.operator.inputs[place]]

    @property
    def output(self) -> Tensor:
        """What the file says of the first output."""
        return self.file.tensors[self.operator.outputs[0]]

    def option(self, name: str) -> Any:
        """A field of its options."""
        if not hasattr(self.options, name):
            raise self.refused(f"it lacks its option {name}")
        return getattr(self.options, name)

    def add(self, kind: Callable[..., Any], *maps: KerasMap, **settings: Any) -> KerasMap:
        """Put a layer behind maps."""
        return self._named(kind, **settings)(sole(maps))

    def add_weighted(
        self, kind: Callable[..., Any], x: KerasMap, weights: Sequence[Any], **settings: Any
    ) -> KerasMap:
        """Put a layer with these weights behind a map."""
        layer = self._named(kind, **settings)
        y = layer(x)
        layer.set_weights(list(weights))
        return y

    def _named(self, kind: Callable[..., Any], **settings: Any) -> Any:
        suffix = f"_{kind.__name__.lower()}" if self._layers else ""
        self._layers += 1
        return kind(name=f"{self.name}{suffix}", **settings)

    def refused(self, reason: str) -> GraphError:
        """The error that names the operator and its place."""
        return refusal(self.file, self.operator, reason)

    @property
    def activation(self) -> str:
        """The activation that the operator brings with it."""
        fused = getattr(self.options, "fusedActivationFunction", 0)
        if fused not in _FUSED:
            raise self.refused(f"its activation {fused} is not known")
        if _FUSED[fused] != "linear" or not self._is_cut_by_range():
            return _FUSED[fused]
        assert self.output.limits is not None
        return "relu6" if abs(self.output.limits[1] - _SIX) < _NEAR_SIX else "relu"

    def activated(self, x: KerasMap) -> KerasMap:
        """A map behind that activation."""
        name = self.activation
        return x if name == "linear" else self.add_activation(name, x)

    def _is_cut_by_range(self) -> bool:
        """Whether the output holds no negative numbers, and what is read does.

        A converter leaves out a ReLU where bytes have no place for what it cuts off.
        """
        limits = self.output.limits
        read = [self.tensor(i).limits for i in range(len(self.operator.inputs)) if self.is_map(i)]
        can_be_negative = self.operator.kind in SIGNED or any(r is None or r[0] < 0 for r in read)
        return limits is not None and limits[0] >= 0 and can_be_negative

    def add_activation(self, name: str, x: KerasMap) -> KerasMap:
        """Put an activation of Keras behind a map."""
        if name in ("relu", "relu6"):
            return self.add(keras.layers.ReLU, x, max_value=_SIX if name == "relu6" else None)
        return self.add(keras.layers.Activation, x, activation=name)


SIGNED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "SUB")
"""What makes negative numbers of others."""
_FUSED = {0: "linear", 1: "relu", 3: "relu6", 4: "tanh"}
_Reader: TypeAlias = Callable[[Step], Any]
OPERATORS: dict[str, _Reader] = {}
"""How an operator is read: its step to its output, or to a list of its outputs."""
READS_FIRST_ALONE = (
    "RESHAPE",
    "SQUEEZE",
    "EXPAND_DIMS",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
)
"""Those whose other inputs say what the shape of the output says already."""


def refusal(file: LiteRTFile, operator: Operator, reason: str) -> GraphError:
    """An error that names an operator and its place in the file."""
    name = file.tensors[operator.outputs[0]].name
    return GraphError(
        f'operator {operator.number}, {operator.kind}, which computes "{name}": {reason}; expected '
        "what a layer of Keras computes; stop before it with outputs="
    )


def _reads(*kinds: str) -> Callable[[_Reader], _Reader]:
    def register(reader: _Reader) -> _Reader:
        OPERATORS.update(dict.fromkeys(kinds, reader))
        return reader

    return register


# Kernels


@_reads("CONV_2D")
def _conv(step: Step) -> KerasMap:
    kernel = step.constant(1, ranks=[4])
    filters, rows, columns, depth = kernel.shape
    channels = _channels(step)
    if not depth or channels % depth or filters % (channels // depth):
        raise step.refused(f"a kernel of {format_shape(kernel.shape)} for {channels} channels")
    settings = {"filters": filters, "groups": channels // depth, **_window(step, rows, columns)}
    return _kernel(step, keras.layers.Conv2D, kernel.transpose(1, 2, 3, 0), **settings)


@_reads("DEPTHWISE_CONV_2D")
def _depthwise(step: Step) -> KerasMap:
    kernel = step.constant(1, ranks=[4])
    one, rows, columns, filters = kernel.shape
    channels = _channels(step)
    if one != 1 or not filters or filters % channels:
        raise step.refused(f"a kernel of {format_shape(kernel.shape)} for {channels} channels")
    multiplier = filters // channels
    kernel = kernel.reshape(rows, columns, channels, multiplier)
    settings = {"depth_multiplier": multiplier, **_window(step, rows, columns)}
    if len(set(settings["strides"])) > 1:
        # Keras has no depthwise convolution of two strides; a grouped one computes the same.
        kernel = kernel.reshape(rows, columns, 1, filters)
        del settings["depth_multiplier"]
        settings |= {"filters": filters, "groups": channels}
        return _kernel(step, keras.layers.Conv2D, kernel, **settings)
    return _kernel(step, keras.layers.DepthwiseConv2D, kernel, **settings)


@_reads("TRANSPOSE_CONV")
def _transposed(step: Step) -> KerasMap:
    kernel = step.constant(1, ranks=[4])
    filters, rows, columns, _ = kernel.shape
    return _kernel(
        step,
        keras.layers.Conv2DTranspose,
        kernel.transpose(1, 2, 0, 3),
        x=step.map(2),
        bias=3,
        filters=filters,
        **_window(step, rows, columns),
    )


@_reads("FULLY_CONNECTED")
def _dense(step: Step) -> KerasMap:
    kernel = step.constant(1, ranks=[2])
    units, depth = kernel.shape
    if step.option("weightsFormat"):
        raise step.refused("its weights are shuffled")
    x = step.x
    if not step.option("keepNumDims") and len(x.shape) > 2:
        x = keras.layers.Flatten(name=f"{step.name}_flatten")(x)
    if x.shape[-1] != depth:
        raise step.refused(f"a kernel of {format_shape(kernel.shape)} for {x.shape[-1]} values")
    return _kernel(step, keras.layers.Dense, kernel.T, x=x, units=units)


def _kernel(
    step: Step,
    kind: Callable[..., Any],
    kernel: NDArray[Any],
    *,
    x: KerasMap = None,
    bias: int = 2,
    **settings: Any,
) -> KerasMap:
    weights = [kernel]
    if step.has(bias):
        weights.append(step.constant(bias, ranks=[1]))
    y = step.add_weighted(
        kind, step.x if x is None else x, weights, use_bias=len(weights) > 1, **settings
    )
    return step.activated(y)


def _window(step: Step, rows: int, columns: int) -> dict[str, Any]:
    strides = step.option("strideH"), step.option("strideW")
    dilation = (
        getattr(step.options, "dilationHFactor", 1),
        getattr(step.options, "dilationWFactor", 1),
    )
    return {
        "kernel_size": (rows, columns),
        "strides": strides,
        "padding": _padding(step),
        **({"dilation_rate": dilation} if dilation != (1, 1) else {}),
    }


def _padding(step: Step) -> str:
    padding = step.option("padding")
    if padding not in (0, 1):
        raise step.refused(f"its padding {padding} is not known")
    return _PADDINGS[padding]


def _channels(step: Step) -> int:
    if len(step.x.shape) != 4:
        raise step.refused(f"it reads {format_shape(step.x.shape[1:])}, which is no map")
    return int(step.x.shape[-1])


def _known(step: Step, x: KerasMap) -> list[int]:
    """The sizes of a map, without the batch's."""
    sizes = list(x.shape[1:])
    if None in sizes:
        raise step.refused(f"the size {format_shape(sizes)} of what it reads is not known")
    return sizes


# Poolings


@_reads("AVERAGE_POOL_2D", "MAX_POOL_2D")
def _pool(step: Step) -> KerasMap:
    size_hw = step.option("filterHeight"), step.option("filterWidth")
    is_mean = step.operator.kind == "AVERAGE_POOL_2D"
    _channels(step)
    if size_hw == tuple(step.x.shape[1:3]) and step.output.shape[1:3] == (1, 1):
        layers = keras.layers
        kind = layers.GlobalAveragePooling2D if is_mean else layers.GlobalMaxPooling2D
        return step.activated(step.add(kind, step.x, keepdims=True))
    kind = keras.layers.AveragePooling2D if is_mean else keras.layers.MaxPooling2D
    strides = step.option("strideH"), step.option("strideW")
    y = step.add(kind, step.x, pool_size=size_hw, strides=strides, padding=_padding(step))
    return step.activated(y)


@_reads("MEAN", "REDUCE_MAX")
def _reduced(step: Step) -> KerasMap:
    rank = len(step.x.shape)
    axes = sorted({axis % rank for axis in step.numbers(1)})
    if rank != 4 or axes != [1, 2]:
        raise step.refused(f"it reduces the axes {axes}, not height and width")
    layers = keras.layers
    is_mean = step.operator.kind == "MEAN"
    kind = layers.GlobalAveragePooling2D if is_mean else layers.GlobalMaxPooling2D
    return step.add(kind, step.x, keepdims=bool(step.option("keepDims")))


# Element by element


@_reads("MAXIMUM", "MINIMUM")
def _extremum(step: Step) -> KerasMap:
    if step.is_map(0) and step.is_map(1):
        return _joined(step)
    if step.operator.kind == "MAXIMUM" and step.is_map(0) and not step.constant(1).any():
        return step.add_activation("relu", step.x)
    raise step.refused("it compares with constants other than 0")


@_reads("ADD", "SUB", "MUL", "DIV")
def _arithmetic(step: Step) -> KerasMap:
    if step.is_map(0) and step.is_map(1):
        if step.operator.kind == "DIV":
            return step.activated(keras.ops.divide(step.map(0), step.map(1)))
        return step.activated(_joined(step))
    affine = _affine(step)
    x, scale, offset = step.maps[affine.tensor], affine.scale, affine.offset
    if max(len(scale), len(offset)) == 1:
        y = step.add(keras.layers.Rescaling, x, scale=float(scale[0]), offset=float(offset[0]))
    elif affine.tensor == step.file.inputs[0]:
        y = step.add(keras.layers.Rescaling, x, scale=scale.tolist(), offset=offset.tolist())
    else:
        # With a mean of 0 and a variance of 1, gamma and beta are what it multiplies with and adds.
        gamma, beta = np.broadcast_arrays(scale, offset)
        variance = np.full_like(gamma, 1 - _UNIT_EPSILON)
        weights = [gamma, beta, np.zeros_like(gamma), variance]
        kind = keras.layers.BatchNormalization
        y = step.add_weighted(kind, x, weights, epsilon=_UNIT_EPSILON)
    return step.activated(y)


def _joined(step: Step) -> KerasMap:
    layers = keras.layers
    kinds = {
        "ADD": layers.Add,
        "SUB": layers.Subtract,
        "MUL": layers.Multiply,
        "MAXIMUM": layers.Maximum,
        "MINIMUM": layers.Minimum,
    }
    return step.add(kinds[step.operator.kind], step.map(0), step.map(1))


def _affine(step: Step) -> Affine:
    """What an operator with a constant computes, with what those before it do for it alone."""
    kind, place = step.operator.kind, 0 if step.is_map(0) else 1
    values, none = _by_channel(step, 1 - place, step.map(place).shape[-1]), np.zeros(1)
    if kind == "DIV" and (place or not values.all()):
        raise step.refused("it divides a constant, or by 0")
    scale, offset = {
        "ADD": (none + 1, values),
        "SUB": (none - 1, values) if place else (none + 1, -values),
        "MUL": (values, none),
        "DIV": (1 / values if kind == "DIV" else none, none),
    }[kind]
    tensor, output = step.operator.inputs[place], step.operator.outputs[0]
    affine = Affine(tensor, scale, offset)
    if (inner := step.reading.affine.get(tensor)) is not None:
        affine = Affine(inner.tensor, inner.scale * scale, inner.offset * scale + offset)
    if step.activation == "linear" and step.reading.readers[output] == 1:
        step.reading.affine[output] = affine
    return affine


def _by_channel(step: Step, place: int, channels: int) -> NDArray[np.float64]:
    """A constant of one number, or of one for each channel."""
    values = step.constant(place)
    if values.size != 1 and not values.size == values.shape[-1] == channels:
        raise step.refused(f"a constant of {format_shape(values.shape)} for {channels} channels")
    return values.ravel().astype(np.float64)


_ACTIVATIONS = {
    "RELU": "relu",
    "RELU6": "relu6",
    "LOGISTIC": "sigmoid",
    "TANH": "tanh",
    "ELU": "elu",
    "HARD_SWISH": "hard_silu",
}


@_reads(*_ACTIVATIONS)
def _activation(step: Step) -> KerasMap:
    return step.add_activation(_ACTIVATIONS[step.operator.kind], step.x)


@_reads("SOFTMAX")
def _softmax(step: Step) -> KerasMap:
    if step.option("beta") != 1:
        raise step.refused(f"its beta is {step.option('beta'):g}, not 1")
    return step.add_activation("softmax", step.x)


@_reads("LEAKY_RELU")
def _leaky(step: Step) -> KerasMap:
    return step.add(keras.layers.LeakyReLU, step.x, negative_slope=float(step.option("alpha")))


@_reads("PRELU")
def _prelu(step: Step) -> KerasMap:
    slopes, channels = step.constant(1), step.x.shape[-1]
    if slopes.size != channels or slopes.shape[-1] != channels:
        raise step.refused(f"slopes of {format_shape(slopes.shape)} for {channels} channels")
    shared = list(range(1, len(step.x.shape) - 1))
    slopes = slopes.reshape([1] * len(shared) + [channels])
    return step.add_weighted(keras.layers.PReLU, step.x, [slopes], shared_axes=shared or None)


@_reads("QUANTIZE", "DEQUANTIZE", "CAST")
def _same(step: Step) -> KerasMap:
    if step.operator.kind == "CAST" and not step.output.type.startswith("FLOAT"):
        raise step.refused(f"it makes {step.output.type} of its map")
    return step.x


# Shapes


@_reads("PAD", "PADV2")
def _pad(step: Step) -> KerasMap:
    amounts = step.numbers(1)
    if step.has(2) and step.constant(2).any():
        raise step.refused("it pads with other values than 0")
    if len(amounts) != 8 or min(amounts) < 0 or any(amounts[:2] + amounts[6:]):
        raise step.refused(f"it pads by {amounts}, not height and width alone")
    rows, columns = tuple(amounts[2:4]), tuple(amounts[4:6])
    return step.add(keras.layers.ZeroPadding2D, step.x, padding=(rows, columns))


@_reads("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
def _reshape(step: Step) -> KerasMap:
    batch, *target = step.output.shape or (0,)
    here = _known(step, step.x)
    if batch != step.file.tensors[step.file.inputs[0]].shape[0] or prod(target) != prod(here):
        raise step.refused(
            f"it makes {format_shape(step.output.shape)} of {format_shape(here)} for each picture"
        )
    if target == here:
        return step.x
    if len(target) == 1 and len(here) == 3:
        return step.add(keras.layers.Flatten, step.x)
    return step.add(keras.layers.Reshape, step.x, target_shape=target)


@_reads("TRANSPOSE")
def _transposed_axes(step: Step) -> KerasMap:
    source, axes = step.reading.orders.get(
        step.operator.inputs[0], (step.operator.inputs[0], list(range(len(step.x.shape))))
    )
    order = step.numbers(1)
    if sorted(order) != sorted(axes) or order[0] != 0:
        raise step.refused(f"it moves axes to {order}")
    order = [axes[axis] for axis in order]
    step.reading.orders[step.operator.outputs[0]] = source, order
    x = step.maps[source]
    if order == sorted(order):  # it is undone
        return x
    return step.add(keras.layers.Permute, x, dims=order[1:])


@_reads("CONCATENATION")
def _concatenated(step: Step) -> KerasMap:
    maps = [step.map(i) for i in range(len(step.operator.inputs))]
    rank = len(maps[0].shape)
    axis = step.option("axis")
    axis += rank if axis < 0 else 0
    if not 0 < axis < rank:
        raise step.refused(f"it joins along axis {axis}")
    axis = -1 if axis == rank - 1 else axis
    return step.activated(
        step.add(keras.layers.Concatenate, *maps, axis=axis) if len(maps) > 1 else maps[0]
    )


@_reads("SPLIT")
def _split(step: Step) -> list[KerasMap]:
    (axis,), count = step.numbers(0), len(step.operator.outputs)
    x = step.map(1)
    length = x.shape[axis % len(x.shape)]
    return _parts(step, x, axis, [length // count] * count)


@_reads("SPLIT_V")
def _split_unevenly(step: Step) -> list[KerasMap]:
    (axis,) = step.numbers(2)
    return _parts(step, step.x, axis, step.numbers(1))


def _parts(step: Step, x: KerasMap, axis: int, lengths: Sequence[int]) -> list[KerasMap]:
    axis %= len(x.shape)
    if not axis or min(lengths) < 1 or sum(lengths) != x.shape[axis]:
        raise step.refused(f"it splits {format_shape(x.shape[1:])} into {list(lengths)}")
    ends = np.cumsum(lengths).tolist()
    before = (slice(None),) * axis
    return [
        x[(*before, slice(end - length, end))] for end, length in zip(ends, lengths, strict=True)
    ]


@_reads("SLICE")
def _slice(step: Step) -> KerasMap:
    begin, size = step.numbers(1), step.numbers(2)
    if len(begin) != len(step.x.shape) or len(size) != len(begin):
        raise step.refused(f"it begins at {begin} of {format_shape(step.x.shape[1:])}")
    ends = [None if n == -1 else b + n for b, n in zip(begin, size, strict=True)]
    return _sliced(step, [slice(b, e) for b, e in zip(begin, ends, strict=True)])


@_reads("STRIDED_SLICE")
def _strided_slice(step: Step) -> KerasMap:
    begin, end, strides = (step.numbers(i) for i in (1, 2, 3))
    if any(map(step.option, ("ellipsisMask", "newAxisMask", "offset"))):
        raise step.refused("it has an ellipsis, a new axis or offsets")
    if (
        not len(begin) == len(end) == len(strides) <= len(step.x.shape)
        or min(strides, default=1) < 1
    ):
        raise step.refused(f"it begins at {begin}, ends at {end} and goes by {strides}")
    if step.option("shrinkAxisMask"):
        raise step.refused("it takes an axis away")
    return _sliced(
        step,
        [
            slice(
                None if step.option("beginMask") >> i & 1 else b,
                None if step.option("endMask") >> i & 1 else e,
                None if s == 1 else s,
            )
            for i, (b, e, s) in enumerate(zip(begin, end, strides, strict=True))
        ],
    )


def _sliced(step: Step, parts: Sequence[slice]) -> KerasMap:
    shape = _known(step, step.x)
    lengths = [len(range(n)[p]) for n, p in zip(shape, parts[1:], strict=False)]
    batch = step.file.tensors[step.file.inputs[0]].shape[0]
    if not parts or range(batch)[parts[0]] != range(batch) or 0 in lengths:
        raise step.refused("it takes a part of the pictures, or nothing")
    whole = [
        slice(None) if range(n)[p] == range(n) else p
        for n, p in zip(shape, parts[1:], strict=False)
    ]
    return step.x[(slice(None), *whole)]


_METHODS = {"RESIZE_BILINEAR": "bilinear", "RESIZE_NEAREST_NEIGHBOR": "nearest"}


@_reads(*_METHODS)
def _resize(step: Step) -> KerasMap:
    _channels(step)
    here, target = tuple(_known(step, step.x)[:2]), step.output.shape[1:3]
    if here == target:
        return step.x
    factor = [t // h for t, h in zip(target, here, strict=True)]
    is_whole = min(factor) > 0 and tuple(np.multiply(here, factor)) == target
    method = _METHODS[step.operator.kind]
    is_one = here == (1, 1)
    if not is_one and _is_from_corner(step, is_same=is_whole and method == "nearest"):
        if method == "nearest":
            raise step.refused("it takes the nearest pixels from the corner")
        corner = {"align_corners": step.option("alignCorners")}
        return step.add(CornerResizing2D, step.x, height=target[0], width=target[1], **corner)
    if is_whole and not is_one:
        return step.add(keras.layers.UpSampling2D, step.x, size=factor, interpolation=method)
    # Not keras.layers.Resizing, which would say training=True to all behind it.
    return keras.ops.image.resize(step.x, target, interpolation=method)


def _is_from_corner(step: Step, *, is_same: bool) -> bool:
    """Whether places are counted from the corner, and that is not the same as from the centres."""
    if step.option("alignCorners"):
        return True
    return not step.option("halfPixelCenters") and not is_same
