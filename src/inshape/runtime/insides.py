"""The layers, weights and maps inside of a LiteRT file."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..importing.litert_file import litert_schema
from ..processor import count_cores
from .flatbuffer import pack_model
from .litert import LiteRTModel

_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def has_kernel(model: Any, operator: Any) -> bool:
    """Whether an operator multiplies its input by a kernel and may add a bias."""
    kinds = {getattr(litert_schema().BuiltinOperator, name) for name in _KERNELS}
    return model.operatorCodes[operator.opcodeIndex].builtinCode in kinds


def is_constant(model: Any, index: int) -> bool:
    """Whether the values of a tensor stand in the file."""
    return values_of(model, index) is not None


def values_of(model: Any, index: int) -> Any:
    """The bytes of a constant tensor, as an array of them; ``None`` of any other."""
    return model.buffers[model.subgraphs[0].tensors[index].buffer].data


def constants_of(model: Any) -> dict[str, NDArray[np.float64]]:
    """The values of every constant float32 tensor, by its name."""
    graph, float32 = model.subgraphs[0], litert_schema().TensorType.FLOAT32
    return {
        name_of(graph, index): values_of(model, index).view(np.float32).astype(np.float64)
        for index, tensor in enumerate(graph.tensors)
        if tensor.type == float32 and is_constant(model, index)
    }


def expose(model: Any, tensors: Sequence[int], operators: int | None = None) -> LiteRTModel:
    """A model that puts out tensors from its inside, run up to so many operators."""
    # XNNPACK's fast kernels keep to themselves whatever is no output.
    graph = copy.copy(model.subgraphs[0])
    graph.operators = graph.operators[:operators]
    graph.outputs = np.asarray(tensors, np.int32)
    exposed = copy.copy(model)
    exposed.subgraphs, exposed.signatureDefs = [graph, *model.subgraphs[1:]], []
    return LiteRTModel(pack_model(exposed), threads=count_cores())


def float_outputs(model: Any) -> list[int]:
    """The float32 tensors that operators write."""
    graph, float32 = model.subgraphs[0], litert_schema().TensorType.FLOAT32
    outputs = [int(index) for operator in graph.operators for index in operator.outputs]
    return [index for index in outputs if graph.tensors[index].type == float32]


def name_of(graph: Any, index: int) -> str:
    """The name of a tensor."""
    name = graph.tensors[index].name
    return name.decode() if isinstance(name, bytes) else name
