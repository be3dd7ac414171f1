"""The layers, weights and maps inside of a LiteRT file."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..importing.litert_file import litert_schema
from ..processor import count_cores
from .flatbuffer import pack_model
from .litert import LiteRTModel, Section

_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def has_kernel(model: Any, operator: Any) -> bool:
    """Whether an operator multiplies its input by a kernel and may add a bias."""
    kinds = {getattr(litert_schema().BuiltinOperator, name) for name in _KERNELS}
    return kind_of(model, operator) in kinds


def is_constant(model: Any, index: int) -> bool:
    """Whether the values of a tensor stand in the file."""
    return values_of(model, index) is not None


def values_of(model: Any, index: int) -> Any:
    """The bytes of a constant tensor, as an array of them; ``None`` of any other."""
    return model.buffers[model.subgraphs[0].tensors[index].buffer].data


def kind_of(model: Any, operator: Any) -> int:
    """The code of what an operator computes."""
    return model.operatorCodes[operator.opcodeIndex].builtinCode


def maps_of(model: Any, operator: Any) -> list[int]:
    """The tensors that an operator reads and that are no constants."""
    return [int(n) for n in operator.inputs if n >= 0 and not is_constant(model, int(n))]


def constants_of(model: Any) -> dict[str, NDArray[np.float64]]:
    """The values of every constant float32 tensor, by its name."""
    graph, float32 = model.subgraphs[0], litert_schema().TensorType.FLOAT32
    return {
        name_of(graph, index): values_of(model, index).view(np.float32).astype(np.float64)
        for index, tensor in enumerate(graph.tensors)
        if tensor.type == float32 and is_constant(model, index)
    }


def expose(model: Any, tensors: Sequence[int]) -> LiteRTModel:
    """A model that puts out tensors from its inside."""
    # XNNPACK's fast kernels keep to themselves whatever is no output.
    graph = model.subgraphs[0]
    return LiteRTModel(_part(model, graph.operators, graph.inputs, tensors), threads=count_cores())


def section(model: Any, places: slice, reads: Sequence[int], writes: Sequence[int]) -> Section:
    """Some of a model's operators, between tensors that they read and write."""
    operators = model.subgraphs[0].operators[places]
    return Section(_part(model, operators, reads, writes), threads=count_cores())


def _part(
    model: Any, operators: Sequence[Any], reads: Sequence[int], writes: Sequence[int]
) -> bytes:
    graph, part = copy.copy(model.subgraphs[0]), copy.copy(model)
    graph.operators = operators
    graph.inputs, graph.outputs = np.asarray(reads, np.int32), np.asarray(writes, np.int32)
    part.subgraphs, part.signatureDefs = [graph, *model.subgraphs[1:]], []
    return pack_model(part)


def float_outputs(model: Any) -> list[int]:
    """The float32 tensors that operators write."""
    graph, float32 = model.subgraphs[0], litert_schema().TensorType.FLOAT32
    outputs = [int(index) for operator in graph.operators for index in operator.outputs]
    return [index for index in outputs if graph.tensors[index].type == float32]


def name_of(graph: Any, index: int) -> str:
    """The name of a tensor."""
    name = graph.tensors[index].name
    return name.decode() if isinstance(name, bytes) else name


def new_operator(
    model: Any,
    kind: str,
    inputs: Sequence[int],
    outputs: Sequence[int],
    version: int,
    **options: int,
) -> Any:
    """An operator that is in no graph yet, of a kernel's version or a later one."""
    schema = litert_schema()
    operator = schema.OperatorT()
    operator.opcodeIndex = _code_of(model, getattr(schema.BuiltinOperator, kind), version)
    operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    name = f"{kind.title().replace('_', '')}Options"
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
    operator.builtinOptions = getattr(schema, f"{name}T")()
    for option, value in options.items():
        setattr(operator.builtinOptions, option, value)
    return operator


def _code_of(model: Any, kind: int, version: int) -> int:
    codes = model.operatorCodes
    for index, known in enumerate(codes):
        if known.builtinCode == kind and known.version >= version:
            return index
    code = litert_schema().OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = version
    codes.append(code)
    return len(codes) - 1


def new_constant(model: Any, values: NDArray[Any], name: str) -> int:
    """A tensor of int32 or float32 numbers that stand in the file."""
    schema, tensors = litert_schema(), model.subgraphs[0].tensors
    buffer, tensor = schema.BufferT(), schema.TensorT()
    buffer.data = values.view(np.uint8).ravel()
    is_float = values.dtype == np.float32
    tensor.type = schema.TensorType.FLOAT32 if is_float else schema.TensorType.INT32
    tensor.shape = np.array(values.shape, np.int32)
    tensor.buffer, tensor.name = len(model.buffers), name
    model.buffers.append(buffer)
    tensors.append(tensor)
    return len(tensors) - 1


def new_map(model: Any, like: int, name: str) -> int:
    """A tensor that an operator may write, of the type and the shape of another one."""
    tensors = model.subgraphs[0].tensors
    tensors.append(copy.copy(tensors[like]))
    tensors[-1].name = name
    return len(tensors) - 1


def put_in_order(model: Any) -> None:
    """Number tensors as operators write them, and leave out those that none has to do with.

    An interpreter places tensors of one size by their number, and keeps records of all.
    """
    graph = model.subgraphs[0]
    order = _order(model)
    places = {-1: -1, **{old: new for new, old in enumerate(order)}}
    graph.tensors = [graph.tensors[old] for old in order]
    for holder in (*graph.operators, graph):
        for side in ("inputs", "outputs"):
            numbers = [places[int(i)] for i in getattr(holder, side)]
            setattr(holder, side, np.array(numbers, np.int32))
    for signature in model.signatureDefs or ():
        for entry in (*signature.inputs, *signature.outputs):
            entry.tensorIndex = places[int(entry.tensorIndex)]


def _order(model: Any) -> list[int]:
    graph, builtin = model.subgraphs[0], litert_schema().BuiltinOperator
    ends = (builtin.QUANTIZE, builtin.DEQUANTIZE)
    written: list[int] = []
    last: list[int] = []  # as the quantizer has them
    for operator in graph.operators:
        to = last if kind_of(model, operator) in ends else written
        to.extend(map(int, operator.outputs))
    read = {int(i) for operator in graph.operators for i in operator.inputs if i >= 0}
    others = (read | {int(i) for i in (*graph.inputs, *graph.outputs)}) - {*written, *last}
    return [*sorted(others), *written, *last]


def alive(
    operators: Sequence[Any], sizes: Mapping[int, int], ends: tuple[Sequence[int], Sequence[int]]
) -> list[int]:
    """For each operator, how much there is of what was written by then and is read then or later.

    ``sizes`` are of the tensors that count; ``ends`` are the inputs and outputs of the network.
    """
    born = {int(index): n for n, step in enumerate(operators) for index in step.outputs}
    born.update((int(index), -1) for index in ends[0])
    last_read = {int(index): n for n, step in enumerate(operators) for index in step.inputs}
    last_read.update((int(index), len(operators)) for index in ends[1])
    return [
        sum(sizes[i] for i, first in born.items() if first <= n <= last_read.get(i, first))
        for n in range(len(operators))
    ]
