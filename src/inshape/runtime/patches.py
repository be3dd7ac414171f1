"""A LiteRT file that computes its early maps piece by piece, with the same answers to the last bit.

The operators between two maps are written once for every piece, each with a part of the map and
with the weights, scales and zero points that are there: nothing is calibrated or stored twice. They
stand in the order in which the interpreter runs them, one piece after the other. See
`geometry.patches` for the arithmetic.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError
from ..geometry.lengths import same_padding
from ..geometry.patches import Patches, Region, Step, find_spans, relative, size_of, steps_of
from ..geometry.rules import Map
from ..geometry.spec import NO_PADS, GraphSpec, LayerSpec, OpKind, Pads
from ..importing.litert_file import litert_schema
from ..shapes import InputShape
from ..text import format_shape
from .flatbuffer import pack_model, read_model
from .insides import (
    is_constant,
    kind_of,
    new_constant,
    new_map,
    new_operator,
    put_in_order,
    values_of,
)

_SAME, _VALID = 0, 1
_VERSION = 2
"""Of the operators that are put in: the first that takes int8."""
_KINDS: dict[OpKind, tuple[str, ...]] = {
    "conv": ("CONV_2D",),
    "depthwise": ("DEPTHWISE_CONV_2D",),
    "max_pool": ("MAX_POOL_2D",),
    "avg_pool": ("AVERAGE_POOL_2D",),
    "pad": ("PAD",),
    "activation": (
        *("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "HARD_SWISH", "LOGISTIC"),
        *("TANH", "ELU", "GELU", "ABS", "NEG", "QUANTIZE", "DEQUANTIZE", "CAST"),
    ),
    "elementwise": (
        "ADD",
        "SUB",
        "MUL",
        "DIV",
        "MAXIMUM",
        "MINIMUM",
        "SQUARED_DIFFERENCE",
        "PRELU",
    ),
    "concat": ("CONCATENATION",),
}


def in_patches(
    content: bytes, spec: GraphSpec, shapes: Sequence[Map], regions: Sequence[Patches]
) -> bytes:
    """The file of a network of which regions are computed piece by piece.

    Args:
        content: the file of the whole network, of a fixed size.
        spec: the network that it was made of.
        shapes: of the maps of that.
        regions: where that is cut.

    Raises:
        GraphError: if the file has no map in the place of one at which pieces are put together.
    """
    model = read_model(content)
    # The last first, which leaves what stands before it as it is.
    for patches in sorted(regions, key=lambda region: -region.end):
        file_spec, file_shapes, tensors = _read(model)
        own = _in_file(patches, (spec, shapes), (file_spec, file_shapes))
        if own is None:
            shape = format_shape(shapes[patches.end])
            raise GraphError(
                f'patches down to "{spec[patches.end].name}": the converted file has no such map '
                f"of {shape} that everything passes through; expected one; leave max_ram out, or "
                "choose another network"
            )
        _Writer(model, file_spec, tensors).write(own, steps_of(file_spec, file_shapes, own))
    return pack_model(model)


_Network: TypeAlias = tuple[GraphSpec, Sequence[Map]]


def _in_file(patches: Patches, network: _Network, file: _Network) -> Patches | None:
    """Where a file is to be cut, which has the network's maps but not all of its calls."""
    wanted = _mark(network, patches.end)
    places = [(span.start, end) for span in find_spans(*file) for end in span.ends]
    ends = [place for place in places if _mark(file, place[1]) == wanted]
    return Patches(patches.grid_hw, *ends[0]) if ends else None


def _mark(network: _Network, at: int) -> tuple[int, Map]:
    """What a map is known by in a file: the kernels before it, and its shape."""
    spec, shapes = network
    return _kernels(spec, at), tuple(shapes[at])


def _kernels(spec: GraphSpec, end: int) -> int:
    """How many kernels stand before the end of a call; a file keeps their number and order."""
    needed = spec.needed()
    before = [x for x in spec.layers[: end + 1] if x.index in needed]
    return sum(1 + (x.op == "separable") for x in before if x.is_conv)


def _read(model: Any) -> tuple[GraphSpec, list[Map], list[int]]:
    """The operators as a graph: the shapes of their maps, and the tensor of each."""
    graph = model.subgraphs[0]
    picture = int(graph.inputs[0])
    tensors, calls = [picture], {picture: 0}
    layers = [LayerSpec(0, "picture", "input", (), 0)]
    for operator in graph.operators:
        index = len(layers)
        inputs = tuple(calls[int(i)] for i in operator.inputs if int(i) in calls)
        layers.append(
            LayerSpec(index, str(index), inputs=inputs, layer=index, **_facts(model, operator))
        )
        tensors.append(int(operator.outputs[0]))
        calls |= {int(i): index for i in operator.outputs}
    shapes = [tuple(int(n) for n in graph.tensors[t].shape)[1:] for t in tensors]
    outputs = tuple(dict.fromkeys(calls[int(i)] for i in graph.outputs))
    shape = InputShape(*shapes[0])
    return GraphSpec("file", tuple(layers), outputs, shape), list(shapes), tensors


def _facts(model: Any, operator: Any) -> dict[str, Any]:
    op = _kinds_by_code().get(kind_of(model, operator), "opaque")
    options, tensors = operator.builtinOptions, model.subgraphs[0].tensors
    if op in ("conv", "depthwise", "max_pool", "avg_pool"):
        kernel = None if "pool" in op else tensors[operator.inputs[1]]
        return {"op": op, **_window_facts(options, kernel)}
    if op == "pad":
        batch, rows, columns, channels = _numbers(model, operator.inputs[1]).reshape(4, 2).tolist()
        is_local = batch == channels == [0, 0]
        return {"op": op, "pads": (tuple(rows), tuple(columns)), "is_local": is_local}
    if op == "concat":
        rank = len(tensors[operator.outputs[0]].shape)
        return {"op": op, "axis": -1 if options.axis % rank == rank - 1 else options.axis - 1}
    if op in ("elementwise", "activation"):
        constants = [int(i) for i in operator.inputs if i >= 0 and is_constant(model, int(i))]
        # An array with places of its own would have to be cut as well.
        is_local = all(np.prod(tensors[i].shape[:-1], dtype=int) == 1 for i in constants)
        return {"op": op, "is_local": is_local}
    return {"op": op}


def _kinds_by_code() -> dict[int, OpKind]:
    """The names that this version of the schema has, by their numbers."""
    numbers = vars(litert_schema().BuiltinOperator)
    return {numbers[name]: op for op, names in _KINDS.items() for name in names if name in numbers}


def _window_facts(options: Any, kernel: Any | None) -> dict[str, Any]:
    """How a window moves; a pool has no kernel."""
    facts: dict[str, Any] = {
        "stride_hw": (options.strideH, options.strideW),
        "padding": "same" if options.padding == _SAME else "valid",
    }
    if kernel is None:
        return {**facts, "kernel_hw": (options.filterHeight, options.filterWidth)}
    rows, columns = kernel.shape[1:3]
    dilation_hw = options.dilationHFactor, options.dilationWFactor
    return {**facts, "kernel_hw": (int(rows), int(columns)), "dilation_hw": dilation_hw}


def _numbers(model: Any, tensor: int) -> NDArray[np.int64]:
    values = values_of(model, int(tensor))
    is_long = model.subgraphs[0].tensors[tensor].type == litert_schema().TensorType.INT64
    return values.view(np.int64 if is_long else np.int32).astype(np.int64)


class _Writer:
    """Writes the operators of every piece in the place of those of the whole maps."""

    def __init__(self, model: Any, spec: GraphSpec, tensors: Sequence[int]) -> None:
        self._model, self._spec, self._tensors = model, spec, tensors
        self._graph = model.subgraphs[0]
        self._operators: list[Any] = []
        self._constants: dict[bytes, int] = {}

    def write(self, patches: Patches, grid: Sequence[Sequence[Sequence[Step]]]) -> None:
        before, behind = (
            self._graph.operators[: patches.start],
            self._graph.operators[patches.end :],
        )
        end, is_row = self._tensors[patches.end], len(grid) == 1
        rows = [
            self._joined([self._piece(steps, patches) for steps in row], 2, end if is_row else None)
            for row in grid
        ]
        self._joined(rows, 1, end)
        self._graph.operators = [*before, *self._operators, *behind]
        put_in_order(self._model)

    def _piece(self, steps: Sequence[Step], patches: Patches) -> int:
        """Write one piece; the tensor of its part of the last map."""
        start = self._tensors[patches.start]
        height, width = (int(n) for n in self._graph.tensors[start].shape[1:3])
        known: dict[int, tuple[int, Region]] = {patches.start: (start, ((0, height), (0, width)))}
        parts: dict[tuple[int, Region], int] = {}
        for step in steps:
            inputs: dict[int, int] = {}
            for source in self._spec[step.call].inputs:
                key = source, step.read
                if key not in parts:
                    parts[key] = self._part(*known[source], step.read)
                inputs[self._tensors[source]] = parts[key]
            known[step.call] = self._step(step, inputs), step.region
        return known[patches.end][0]

    def _part(self, tensor: int, region: Region, wanted: Region) -> int:
        if region == wanted:
            return tensor
        (top, bottom), (left, right) = relative(region, wanted)
        channels = int(self._graph.tensors[tensor].shape[-1])
        places = [0, top, left, 0], [1, bottom, right, channels], [1, 1, 1, 1]
        inputs = [tensor, *map(self._constant, places)]
        return self._new("STRIDED_SLICE", inputs, [1, *size_of(wanted), channels])

    def _step(self, step: Step, inputs: dict[int, int]) -> int:
        layer, operator = self._spec[step.call], self._graph.operators[step.call - 1]
        (output,) = operator.outputs
        shape = [1, *size_of(step.region), self._graph.tensors[output].shape[-1]]
        if layer.op == "pad":
            (tensor,) = inputs.values()
            return tensor if step.pads == NO_PADS else self._padded(tensor, step.pads)
        operator = copy.copy(operator)
        if layer.is_window and layer.padding == "same" and not _pads_the_same(layer, step):
            operator.builtinOptions = copy.copy(operator.builtinOptions)
            operator.builtinOptions.padding = _VALID
            if step.pads != NO_PADS:
                inputs = {old: self._padded(new, step.pads) for old, new in inputs.items()}
        operator.inputs = np.array([inputs.get(int(i), int(i)) for i in operator.inputs], np.int32)
        return self._write(operator, shape, like=int(output))

    def _padded(self, tensor: int, pads: Pads) -> int:
        _, height, width, channels = self._graph.tensors[tensor].shape
        shape = [1, height + sum(pads[0]), width + sum(pads[1]), channels]
        amounts = self._constant([(0, 0), *pads, (0, 0)])
        return self._new("PAD", [tensor, amounts], shape)

    def _joined(self, tensors: Sequence[int], axis: int, into: int | None = None) -> int:
        if len(tensors) == 1:
            return tensors[0]
        shapes = [self._graph.tensors[tensor].shape for tensor in tensors]
        shape = list(shapes[0])
        shape[axis] = sum(int(s[axis]) for s in shapes)
        return self._new("CONCATENATION", tensors, shape, into, axis=axis)

    def _new(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        into: int | None = None,
        **options: int,
    ) -> int:
        """Write an operator that the file did not have; its output has the scale of its input."""
        operator = new_operator(self._model, kind, inputs, (), _VERSION, **options)
        return self._write(operator, shape, int(inputs[0]), into)

    def _write(
        self, operator: Any, shape: Sequence[int], like: int, into: int | None = None
    ) -> int:
        if into is None:
            into = new_map(self._model, like, f"patch/{len(self._graph.tensors)}")
            tensor = self._graph.tensors[into]
            tensor.shape, tensor.shapeSignature = np.array(shape, np.int32), None
        operator.outputs = np.array([into], np.int32)
        self._operators.append(operator)
        return into

    def _constant(self, values: Any) -> int:
        numbers = np.array(values, np.int32)
        key = numbers.tobytes() + bytes(numbers.shape)
        if key not in self._constants:
            name = f"patch/{len(self._graph.tensors)}"
            self._constants[key] = new_constant(self._model, numbers, name)
        return self._constants[key]


def _pads_the_same(layer: LayerSpec, step: Step) -> bool:
    """Whether the operator's own padding is right for a piece, which then needs no padded copy."""
    lengths = size_of(step.read)
    own = tuple(
        same_padding(n, k, s, d)
        for n, k, s, d in zip(
            lengths, layer.kernel_hw, layer.stride_hw, layer.dilation_hw, strict=True
        )
    )
    return own == step.pads
