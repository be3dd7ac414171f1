"""LiteRT files taken apart and put together again."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 16
"""Of weights, by LiteRT's schema, which its Python code leaves to the writer."""

_NEEDED = {3: 2, 4: 2, 9: 2}
"""Inputs of a CONV_2D, a DEPTHWISE_CONV_2D and a FULLY_CONNECTED, by their codes."""


def read_model(content: bytes) -> Any:
    """A file as a tree of the schema's objects."""
    tools: Any = importlib.import_module("ai_edge_litert.tools.flatbuffer_utils")
    model = tools.read_model_from_bytearray(bytearray(content))
    for buffer in model.buffers:  # as arrays they are written whole, otherwise byte by byte
        if buffer.data is not None:
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    return model


def fault_of(content: bytes) -> str:
    """What LiteRT's interpreter would look for outside of its memory; empty if nothing.

    It checks that what is in a file lies inside it, not that an operator has the inputs it needs.
    """
    model = read_model(content)
    if not model.subgraphs:
        return "it holds no network"
    for graph in model.subgraphs:
        count = len(graph.tensors or ())
        for number, operator in enumerate(graph.operators or ()):
            fault = _operator_fault(operator, model.operatorCodes or (), count)
            if fault:
                return f"operator {number} {fault}"
    return ""


def _operator_fault(operator: Any, codes: Sequence[Any], tensors: int) -> str:
    """What is wrong with an operator of a graph of so many tensors."""
    if not 0 <= operator.opcodeIndex < len(codes):
        return "is of no kind"
    inputs, outputs = _listed(operator.inputs), _listed(operator.outputs)
    needed = _NEEDED.get(codes[operator.opcodeIndex].builtinCode, 1)
    # A bias may be left out, as -1; no kernel looks whether anything else is.
    is_there = all(0 <= index < tensors for index in (*inputs[:2], *outputs))
    if not is_there or len(inputs) < needed or not outputs or max(inputs) >= tensors:
        return "lacks inputs or outputs"
    return ""


def _listed(indices: Any) -> list[int]:
    return [] if indices is None else [int(index) for index in indices]


def pack_model(model: Any) -> bytes:
    """The file of a tree."""
    builder = _Sharing(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _Sharing(flatbuffers.Builder):
    """Writes equal vectors once.

    Every channel of a layer's weights has a zero point of eight bytes, which is 0: in a small
    network they are a tenth of the file.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._places: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:
        key = (x.dtype.str, x.tobytes())
        if key not in self._places:
            self._places[key] = super().CreateNumpyVector(x)
        return self._places[key]

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        # Bytes are the weights of layers, which some kernels read sixteen at a time.
        return super().StartVector(elemSize, numElems, _ALIGNMENT if elemSize == 1 else alignment)
