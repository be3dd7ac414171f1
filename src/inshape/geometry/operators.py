"""A network as the operators of its full-integer LiteRT file, before there is one.

The rules are those by which TensorFlow's converter lays a graph out
(``tensorflow/compiler/mlir/lite/transforms``: ``optimize.cc`` and ``optimize_patterns.td`` fuse
activations, constants and padding, ``legalize_tf.cc`` chooses operators) and `ai-edge-quantizer`
makes it whole numbers. `benchmarks.footprint` holds what they give beside converted files.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal, TypeAlias

from ..shapes import InputShape
from .cost import kernel_sizes
from .lengths import same_padding
from .rules import Map, read_map
from .sizes import map_shapes
from .spec import NO_PADS, GraphSpec, LayerSpec, OpKind, Pads

Io: TypeAlias = Literal["float32", "int8", "uint8"]
"""What a full-integer file takes and gives."""
Granularity: TypeAlias = Literal["per-channel", "per-tensor"]
"""What has a scale of its own: each output channel of a layer's weights, or all of them."""

_FLOAT32 = 4
_FUSED = ("relu", "relu6")
"""Activations that the operator before them takes over."""
_TAKE_ACTIVATION = (
    *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"),
    *("ADD", "SUB", "MUL", "MAX_POOL_2D", "AVERAGE_POOL_2D"),
)
_ONE_SCALE = ("CONCATENATION", "MAXIMUM", "MINIMUM")
"""Operators whose inputs have the scale of their output."""


@dataclass(slots=True)
class Kernel:
    """The weights of an operator."""

    layer: int
    """The call that they belong to; a shared layer's are stored once."""
    part: int
    """Which of its layer's kernels it is."""
    values: int
    channels: int
    """Of the output, each of which has a bias, and scales unless the tensor has one for all."""


@dataclass(slots=True)
class Operator:
    """One operator and the tensor that it writes; the picture is an operator that reads nothing."""

    kind: str
    """By LiteRT's name."""
    reads: list[Operator]
    shape: tuple[int, ...]
    calls: list[int] = field(default_factory=list[int])
    """The layers that it computes, once for each of their operations in TensorFlow's graph; its
    tensors are named after all of them."""
    kernel: Kernel | None = None
    constants: tuple[int, ...] = ()
    """Bytes of each constant tensor that it reads, a kernel and its bias apart."""
    value_bytes: int = 1
    is_scalar: bool = False
    """Whether it adds or multiplies by a single number."""
    is_activated: bool = False
    is_shared: bool = False
    """Whether more than one layer reads what it writes, so that none of them can be merged."""
    pads: Pads = NO_PADS

    @property
    def tensor_bytes(self) -> int:
        """Of what it writes."""
        return prod(self.shape) * self.value_bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """The operators of a file in the order in which they run."""

    operators: tuple[Operator, ...]
    """The first is the picture."""
    outputs: tuple[Operator, ...]


PRODUCTS_SHARE = 0.0475
"""Of a file's flash and of its RAM, the most that products may add to it."""


def with_products(plain: Layout) -> Layout:
    """The operators where every hard-swish that may be is a gate and a product.

    `runtime.hard_swish` writes some of them so, where the pictures that a file is calibrated on
    show that int8 needs it, and gives sums beside a convolution a copy of their own.
    """
    readers: defaultdict[int, list[Operator]] = defaultdict(list)
    for x in plain.operators:
        for source in x.reads:
            readers[id(source)].append(x)
    new: dict[int, Operator] = {}
    copies: dict[int, Operator] = {}
    operators: list[Operator] = []
    for x in plain.operators:
        reads = [
            copies[id(source)] if id(source) in copies and not _follows(x) else new[id(source)]
            for source in x.reads
        ]
        written = new[id(x)] = replace(x, reads=reads)
        if x.kind == "HARD_SWISH" and _is_free(x):
            gate = _of_channels(x, reads, -2 * len(operators) - 2)
            gate.calls = reads[0].calls[:1]
            operators.append(gate)
            written.kind, written.reads = "MUL", [*reads, gate]
            if len({_follows(reader) for reader in readers[id(x)]}) > 1:
                copies[id(x)] = _of_channels(x, [written], -2 * len(operators) - 3)
        operators += [written, copies[id(x)]] if id(x) in copies else [written]
    return Layout(tuple(operators), tuple(new[id(x)] for x in plain.outputs))


def _is_free(hard_swish: Operator) -> bool:
    """Whether a kernel writes the map that it reads, for it alone."""
    (source,) = hard_swish.reads
    return source.kernel is not None and not source.is_shared and len(source.shape) == len("HWC")


def _follows(operator: Operator) -> bool:
    """Whether an operator hands on factors of channels, or takes them into its kernel."""
    follow = ("MUL", "MEAN", "PAD", "AVERAGE_POOL_2D", "MAX_POOL_2D")
    return operator.kernel is not None or operator.kind in follow


def _of_channels(like: Operator, reads: list[Operator], layer: int) -> Operator:
    """A depthwise convolution of one weight per channel."""
    channels = like.shape[-1]
    kernel = Kernel(layer, 0, channels, channels)
    return replace(like, kind="DEPTHWISE_CONV_2D", reads=reads, calls=like.calls[:1], kernel=kernel)


class UnknownOperators(Exception):
    """A layer of which it is not known what operators it becomes."""


def layout(spec: GraphSpec, shape: InputShape, io: Io = "float32") -> Layout | None:
    """The operators of a network's file at an input shape; ``None`` if one of them is not known.

    Example:
        >>> picture = LayerSpec(0, "image", "input", (), 0)
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3), out_channels=8)
        >>> relu = LayerSpec(2, "relu", "activation", (1,), 2, function="relu")
        >>> spec = GraphSpec("tiny", (picture, conv, relu), (2,), InputShape(9, 9, 1))
        >>> [x.kind for x in layout(spec, InputShape(97, 64, 1)).operators]
        ['PICTURE', 'QUANTIZE', 'CONV_2D', 'DEQUANTIZE']
    """
    operators = _laid_out(spec, shape, io)
    return None if isinstance(operators, str) else operators


def unknown_operator(spec: GraphSpec, shape: InputShape) -> str:
    """The layer for which `layout` gives ``None``; empty if there is none, or a size is unknown."""
    operators = _laid_out(spec, shape, "float32")
    return operators if isinstance(operators, str) else ""


def _laid_out(spec: GraphSpec, shape: InputShape, io: Io) -> Layout | str:
    """The operators, or the layer whose operators are not known; empty where a size is not."""
    shapes = map_shapes(spec, shape)
    if not shape.is_static or any(None in shapes[i] for i in spec.needed()):
        return ""
    try:
        return _Builder(spec, shapes, io).run(shape)
    except UnknownOperators as problem:
        return str(problem)


class _Builder:
    def __init__(self, spec: GraphSpec, shapes: Sequence[Map], io: Io) -> None:
        self.spec = spec
        self.io: Io = io
        self.shapes: list[tuple[int, ...]] = [tuple(n or 0 for n in shape) for shape in shapes]
        self.layers = _without_repeats(_in_order(spec), spec.outputs)
        self.readers = Counter(i for layer in self.layers for i in layer.inputs)
        self.readers.update(spec.outputs)
        self.of_call: dict[int, Operator] = {}
        self.operators: list[Operator] = []

    def run(self, shape: InputShape) -> Layout:
        for layer in self.layers:
            if layer.holds_rows or not layer.is_plain or layer.op not in _LOWERINGS:
                raise UnknownOperators(layer.name)
            is_picture = layer.op == "input"
            x = self.picture(layer, shape) if is_picture else _LOWERINGS[layer.op](self, layer)
            x.is_shared |= self.readers[layer.index] > 1
            self.of_call[layer.index] = x
        outputs: list[Operator] = []
        for index in self.spec.outputs:
            source = self.of_call[index]
            if self.io == "float32":
                source = self.add("DEQUANTIZE", [source], source.shape, index, value_bytes=_FLOAT32)
            elif self.io == "uint8":
                source = self.add("QUANTIZE", [source], source.shape, index)
            outputs.append(source)
        operators = _read_ones(self.operators, outputs)
        if operators[0].kind != "PICTURE":
            raise UnknownOperators(self.spec.name)  # no output depends on it
        return Layout(operators, tuple(outputs))

    def add(
        self, kind: str, reads: Sequence[Operator], shape: Map, *calls: int, **facts: Any
    ) -> Operator:
        operator = Operator(kind, list(reads), tuple(n or 0 for n in shape), list(calls), **facts)
        self.operators.append(operator)
        return operator

    def source(self, layer: LayerSpec) -> Operator:
        """What a layer reads, pooled to its grid if it has one."""
        x = self.of_call[layer.inputs[0]]
        return x if layer.grid_first is None else self.adaptive(x, layer.grid_first, layer.index)

    # The picture

    def picture(self, layer: LayerSpec, shape: InputShape) -> Operator:
        added = self.spec.input_layers
        if self.spec.whole_numbers:
            raise UnknownOperators(layer.name)
        call = layer.index
        value_bytes = _FLOAT32 if self.io == "float32" else 1
        x = self.add("PICTURE", [], shape.as_tuple(), call, value_bytes=value_bytes)
        if self.io != "int8":
            x = self.add("QUANTIZE", [x], x.shape, call)
        if added.resize_hw is not None:
            height, width, channels = x.shape
            if added.fit == "crop":
                x = self.sliced(x, _cropped((height, width), added.resize_hw, channels), call)
            elif added.fit == "letterbox":
                x = self.with_bars(x, added.resize_hw, call)
            x = self.resized(x, (*added.resize_hw, channels), added.interpolation, call)
        if added.channels == "project":
            kernel = Kernel(-1, 0, x.shape[-1] * added.network_channels, added.network_channels)
            x = self.add("CONV_2D", [x], (*x.shape[:2], kernel.channels), call, kernel=kernel)
        elif added.channels == "repeat":
            shape_after = (*x.shape[:2], added.network_channels)
            x = self.add("CONCATENATION", [x] * added.network_channels, shape_after, call)
        return x

    def with_bars(self, x: Operator, to_hw: tuple[int, int], call: int) -> Operator:
        """A picture between two bars, which are one constant, along the axis that is too short."""
        (height, width, channels), (rows, columns) = x.shape, to_hw
        above = (max(height, width * rows // columns) - height) // 2
        beside = (max(width, height * columns // rows) - width) // 2
        for bar in ((above, width, channels), (height, beside, channels)):
            if all(bar):
                shape = (height + 2 * above, width + 2 * beside, channels)
                x = self.add("CONCATENATION", [x], shape, call, constants=(prod(bar),))
        return x

    def resized(self, x: Operator, shape: Map, interpolation: str, call: int) -> Operator:
        kinds = {"bilinear": "RESIZE_BILINEAR", "nearest": "RESIZE_NEAREST_NEIGHBOR"}
        if interpolation not in kinds:
            raise UnknownOperators(interpolation)
        return self.add(kinds[interpolation], [x], shape, call, constants=(8,))

    def sliced(self, x: Operator, shape: Map, call: int) -> Operator:
        # The three vectors, begin, end and strides, are of int32.
        return self.add("STRIDED_SLICE", [x], shape, call, constants=(16, 16, 16))

    # Layers with a kernel

    def kernel_layer(self, layer: LayerSpec) -> Operator:
        x, is_same = self.padded(layer, self.source(layer))
        read = read_map(layer, self.shapes[layer.inputs[0]])
        sizes = [n or 0 for n in kernel_sizes(layer, read)]
        *_, channels = out = self.shapes[layer.index]
        x = self.without_scalars(x, is_same=is_same)
        if layer.op == "separable":
            deep = sizes[0] // prod(layer.kernel_hw)
            kernel = Kernel(layer.layer, 0, sizes[0], deep)
            x = self.add("DEPTHWISE_CONV_2D", [x], (*out[:2], deep), layer.index, kernel=kernel)
        kernel = Kernel(layer.layer, len(sizes) - 1, sizes[-1], channels)
        calls = [layer.index] * (3 if layer.use_bias else 1)
        # A transposed convolution is told its output's shape.
        constants = (16,) if layer.op == "conv_transpose" else ()
        x = self.add(_KERNELS[layer.op], [x], out, *calls, kernel=kernel, constants=constants)
        if layer.function not in ("", "linear"):
            x = self.activated(x, layer)
        return x

    def padded(self, layer: LayerSpec, x: Operator) -> tuple[Operator, bool]:
        """What a window reads, and whether it pads by itself as TensorFlow's "same" does."""
        if not layer.is_window:
            return x, False
        if layer.pads != NO_PADS:
            x = self.pad(layer, x)
        if layer.padding == "same":
            return x, True
        if x.kind != "PAD" or not layer.is_conv:
            return x, False
        height, width, _ = x.reads[0].shape
        same = tuple(
            same_padding(n, k, s, d)
            for n, k, s, d in zip(
                (height, width), layer.kernel_hw, layer.stride_hw, layer.dilation_hw, strict=True
            )
        )
        return (x.reads[0], True) if x.pads == same else (x, False)

    def without_scalars(self, x: Operator, *, is_same: bool) -> Operator:
        """What a kernel reads that takes over numbers added to or multiplied by its input."""
        while x.is_scalar and not x.is_activated and not x.is_shared:
            if x.kind != "MUL" and is_same:
                break  # the padding would have to hold the number too
            x = x.reads[0]
        return x

    def pad(self, layer: LayerSpec, x: Operator) -> Operator:
        height, width, channels = x.shape
        (top, bottom), (left, right) = layer.pads
        shape = (height + top + bottom, width + left + right, channels)
        return self.add("PAD", [x], shape, layer.index, constants=(32,), pads=layer.pads)

    # Layers that the kernel before them takes over

    def norm(self, layer: LayerSpec) -> Operator:
        if layer.function != "batch":
            raise UnknownOperators(layer.name)
        x = self.source(layer)
        if x.kernel is not None and not x.is_activated and not x.is_shared:
            is_split = x.kind == "DEPTHWISE_CONV_2D" or len(x.calls) > 1
            x.calls += [layer.index] * (4 if is_split else 2)
            return x
        constants = (x.shape[-1],)
        x = self.add("MUL", [x], x.shape, layer.index, constants=constants)
        return self.add("ADD", [x], x.shape, layer.index, constants=constants)

    def rescaled(self, layer: LayerSpec) -> Operator:
        kinds = {
            "scale": ["MUL"],
            "scale and offset": ["MUL", "ADD"],
            "standardise": ["SUB", "MUL"],
        }
        if layer.function not in kinds:
            raise UnknownOperators(layer.name)
        values = max((len(values) for _, values in layer.constants), default=1)
        x = self.source(layer)
        for kind in kinds[layer.function]:
            x = self.with_constant(x, layer, kind, values)
        return x

    def with_constant(self, x: Operator, layer: LayerSpec, kind: str, values: int) -> Operator:
        is_per_channel = values in (1, x.shape[-1])
        if x.kernel is not None and is_per_channel and not x.is_activated and not x.is_shared:
            x.calls.append(layer.index)
            return x
        constants = (values,)
        return self.add(kind, [x], x.shape, layer.index, constants=constants, is_scalar=values == 1)

    def activation(self, layer: LayerSpec) -> Operator:
        return self.activated(self.source(layer), layer)

    def activated(self, x: Operator, layer: LayerSpec) -> Operator:
        function, call = layer.function, layer.index
        if function == "linear":
            return x
        if function == "hard_sigmoid":
            x = self.with_constant(x, layer, "ADD", 1)
            x = self.fused(x, layer, "relu6")
            return self.add("MUL", [x], x.shape, call, constants=(1,), is_scalar=True)
        if function in _FUSED:
            return self.fused(x, layer, function)
        if function == "silu":
            gate = self.add("LOGISTIC", [x], x.shape, call)
            return self.add("MUL", [x, gate], x.shape, call)
        kinds = {
            "sigmoid": "LOGISTIC",
            "hard_silu": "HARD_SWISH",
            "softmax": "SOFTMAX",
            "tanh": "TANH",
            "gelu": "GELU",
        }
        if function not in kinds:
            raise UnknownOperators(layer.name)
        count = 4 if function == "hard_silu" else 1
        return self.add(kinds[function], [x], x.shape, *[call] * count)

    def fused(self, x: Operator, layer: LayerSpec, function: str) -> Operator:
        if x.kind in _TAKE_ACTIVATION and not x.is_activated and not x.is_shared:
            x.is_activated = True
            x.calls.append(layer.index)
            return x
        return self.add(function.upper(), [x], x.shape, layer.index, is_activated=True)

    # Layers without a kernel

    def elementwise(self, layer: LayerSpec) -> Operator:
        kinds = {"add": "ADD", "multiply": "MUL", "subtract": "SUB", "average": "ADD"}
        kinds |= {"maximum": "MAXIMUM", "minimum": "MINIMUM"}
        if layer.function not in kinds:
            raise UnknownOperators(layer.name)
        kind, shape = kinds[layer.function], self.shapes[layer.index]
        first, *others = (self.of_call[i] for i in layer.inputs)
        if not others:
            values = max((len(values) for _, values in layer.constants), default=1)
            return self.with_constant(first, layer, kind, values)
        x = first
        for other in others:
            x = self.add(kind, self.of_one_scale(kind, layer, [x, other]), shape, layer.index)
        if layer.function == "average":
            x = self.add("MUL", [x], shape, layer.index, constants=(1,), is_scalar=True)
        return x

    def concat(self, layer: LayerSpec) -> Operator:
        parts = [self.of_call[i] for i in layer.inputs]
        if layer.axis == -1:  # the pieces of a map in patches have one scale already
            parts = self.of_one_scale("CONCATENATION", layer, parts)
        return self.add("CONCATENATION", parts, self.shapes[layer.index], layer.index)

    def of_one_scale(
        self, kind: str, layer: LayerSpec, parts: Sequence[Operator]
    ) -> list[Operator]:
        """Inputs brought to one scale where something else reads them at another."""
        if kind not in _ONE_SCALE or len(set(layer.inputs)) == 1:
            return list(parts)
        return [
            self.add("QUANTIZE", [part], part.shape, *part.calls)
            if part.is_shared or part.kind in _ONE_SCALE
            else part
            for part in parts
        ]

    def pooled(self, layer: LayerSpec) -> Operator:
        x, _ = self.padded(layer, self.source(layer))
        kind = "MAX_POOL_2D" if layer.op == "max_pool" else "AVERAGE_POOL_2D"
        return self.add(kind, [x], self.shapes[layer.index], layer.index)

    def global_pool(self, layer: LayerSpec) -> Operator:
        if layer.function == "gem":
            return self.generalised_mean(layer)
        kinds = {"mean": "MEAN", "max": "REDUCE_MAX"}
        if layer.function not in kinds:
            raise UnknownOperators(layer.name)
        kind, out = kinds[layer.function], self.shapes[layer.index]
        return self.add(kind, [self.source(layer)], out, layer.index, constants=(8,))

    def generalised_mean(self, layer: LayerSpec) -> Operator:
        x = self.source(layer)
        call, out = layer.index, self.shapes[layer.index]
        x = self.add("MAXIMUM", [x], x.shape, call, constants=(1,))
        x = self.power(x, call)
        x = self.add("MEAN", [x], out, call, constants=(8,))
        return self.power(x, call)

    def power(self, x: Operator, call: int) -> Operator:
        """Which has no int8 kernel: it is computed with float32."""
        x = self.add("DEQUANTIZE", [x], x.shape, call, value_bytes=_FLOAT32)
        x = self.add("POW", [x], x.shape, call, value_bytes=_FLOAT32, constants=(4,))
        return self.add("QUANTIZE", [x], x.shape, call)

    def adaptive_pool(self, layer: LayerSpec) -> Operator:
        if layer.function != "mean" or layer.target_hw is None:
            raise UnknownOperators(layer.name)
        return self.adaptive(self.source(layer), layer.target_hw, layer.index)

    def adaptive(self, x: Operator, grid_hw: tuple[int, int], call: int) -> Operator:
        """Strips that are cut out, averaged and put together, along rows and then columns."""
        for axis, cells in enumerate(grid_hw):
            length = x.shape[axis]
            if length == cells:
                continue
            strips: list[Operator] = []
            for i in range(cells):
                strip, one = list(x.shape), list(x.shape)
                strip[axis] = ((i + 1) * length + cells - 1) // cells - (i * length) // cells
                one[axis] = 1
                cut = self.sliced(x, tuple(strip), call)
                strips.append(self.add("MEAN", [cut], tuple(one), call, constants=(4,)))
            x = strips[0]
            if cells > 1:
                whole = (*x.shape[:axis], cells, *x.shape[axis + 1 :])
                x = self.add("CONCATENATION", strips, whole, call)
        return x

    def pad_layer(self, layer: LayerSpec) -> Operator:
        return self.pad(layer, self.source(layer))

    def slice_layer(self, layer: LayerSpec) -> Operator:
        return self.sliced(self.source(layer), self.shapes[layer.index], layer.index)

    def resize_layer(self, layer: LayerSpec) -> Operator:
        if layer.op == "upsample" and layer.function != "bilinear":
            raise UnknownOperators(layer.name)  # each pixel is repeated by broadcasting
        out = self.shapes[layer.index]
        return self.resized(self.source(layer), out, layer.function, layer.index)

    def reshaped(self, layer: LayerSpec) -> Operator:
        x, out = self.source(layer), self.shapes[layer.index]
        if x.shape == out:
            return x
        is_pooled = x.kind in ("MEAN", "REDUCE_MAX") and out[:-1] == (1, 1)
        if not x.is_shared and (is_pooled or x.kind == "RESHAPE"):
            x.shape = out
            return x
        return self.add("RESHAPE", [x], out, layer.index, constants=(4 + 4 * len(out),))

    def same(self, layer: LayerSpec) -> Operator:
        return self.source(layer)


_KERNELS: dict[OpKind, str] = {
    "conv": "CONV_2D",
    "separable": "CONV_2D",
    "depthwise": "DEPTHWISE_CONV_2D",
    "dense": "FULLY_CONNECTED",
    "conv_transpose": "TRANSPOSE_CONV",
}

_LOWERINGS: dict[OpKind, Callable[[_Builder, LayerSpec], Operator]] = {
    "input": _Builder.same,
    "conv": _Builder.kernel_layer,
    "conv_transpose": _Builder.kernel_layer,
    "depthwise": _Builder.kernel_layer,
    "separable": _Builder.kernel_layer,
    "dense": _Builder.kernel_layer,
    "max_pool": _Builder.pooled,
    "avg_pool": _Builder.pooled,
    "global_pool": _Builder.global_pool,
    "adaptive_pool": _Builder.adaptive_pool,
    "pad": _Builder.pad_layer,
    "crop": _Builder.slice_layer,
    "slice": _Builder.slice_layer,
    "resize": _Builder.resize_layer,
    "upsample": _Builder.resize_layer,
    "norm": _Builder.norm,
    "rescale": _Builder.rescaled,
    "activation": _Builder.activation,
    "elementwise": _Builder.elementwise,
    "concat": _Builder.concat,
    "flatten": _Builder.reshaped,
    "reshape": _Builder.reshaped,
    "identity": _Builder.same,
}
"""What is not listed here becomes operators that are not known."""


def _read_ones(operators: Sequence[Operator], outputs: Sequence[Operator]) -> tuple[Operator, ...]:
    """The operators without those that the next ones have taken over."""
    read = {id(output) for output in outputs}
    for operator in reversed(operators):
        if id(operator) in read:
            read.update(map(id, operator.reads))
    return tuple(operator for operator in operators if id(operator) in read)


def _in_order(spec: GraphSpec) -> list[LayerSpec]:
    """The calls that outputs need, as the converter orders them.

    It is TensorFlow's ``GetReversePostOrder``: depth first from the picture, and where a map has
    several readers, they and what is behind them by name.
    """
    needed, readers = spec.needed(), spec.consumers()
    order: list[LayerSpec] = []
    seen: set[int] = set()
    stack = [(layer, False) for layer in spec if not layer.inputs]
    while stack:
        layer, is_left = stack.pop()
        if is_left:
            order.append(layer)
        elif layer.index not in seen:
            seen.add(layer.index)
            stack.append((layer, True))
            # The last by name is left first, and so comes last in the reverse order.
            behind = [spec[i] for i in set(readers[layer.index]) & needed]
            stack += [(x, False) for x in sorted(behind, key=lambda x: (x.name, x.index))]
    return order[::-1]


_REPEATABLE: tuple[OpKind, ...] = ("activation", "max_pool", "avg_pool", "global_pool", "pad")


def _without_repeats(calls: Sequence[LayerSpec], outputs: Sequence[int]) -> list[LayerSpec]:
    """The calls of which none computes the same of the same map as one before it."""
    first: dict[LayerSpec, int] = {}
    stands_for: dict[int, int] = {}
    kept: list[LayerSpec] = []
    for call in calls:
        layer = call.but(inputs=tuple(stands_for[i] for i in call.inputs))
        index = layer.index
        if layer.op in _REPEATABLE and index not in outputs:
            index = first.setdefault(layer.but(index=0, name="", layer=0), index)
        stands_for[call.index] = index
        if index == call.index:
            kept.append(layer)
    return kept


def _cropped(from_hw: tuple[int, int], to_hw: tuple[int, int], channels: int) -> Map:
    """What is cut out of a picture that is to fill another aspect ratio."""
    (height, width), (rows, columns) = from_hw, to_hw
    return min(height, width * rows // columns), min(width, height * columns // rows), channels
