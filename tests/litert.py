"""LiteRT files made operator by operator, which no converter would write so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inshape.importing.litert_file import litert_schema
from inshape.runtime.flatbuffer import pack_model

_TYPES = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "int8": "INT8",
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
}
_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "CONCATENATION": "ConcatenationOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SOFTMAX": "SoftmaxOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "RESHAPE": "ReshapeOptions",
    "SPLIT": "SplitOptions",
    "SPLIT_V": "SplitVOptions",
    "ARG_MAX": "ArgMaxOptions",
    "CAST": "CastOptions",
    **{kind: f"{kind.title()}Options" for kind in ("ADD", "SUB", "MUL", "DIV")},
}


class LiteRTNet:
    """A file under construction; tensors are known by their numbers."""

    def __init__(self, shape: Sequence[int], **picture: Any) -> None:
        """Begin with a picture of ``(height, width, channels)``."""
        schema = litert_schema()
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.buffers = 3, [schema.BufferT()]
        self.model.subgraphs, self.model.operatorCodes = [self.graph], []
        self.graph.tensors, self.graph.operators = [], []
        self.picture = self.tensor((1, *shape), name="picture", **picture)
        self.graph.inputs = np.array([self.picture], np.int32)

    def tensor(
        self,
        shape: Sequence[int],
        values: Any = None,
        *,
        name: str = "",
        dtype: str = "float32",
        scale: Any = None,
        zero: Any = 0,
        axis: int = 0,
    ) -> int:
        """Add a tensor, which is a constant if it has values; its number."""
        schema = litert_schema()
        tensor = schema.TensorT()
        tensor.shape, tensor.buffer = np.array(shape, np.int32), 0
        tensor.type = getattr(schema.TensorType, _TYPES[dtype])
        tensor.name = name or f"tensor{len(self.graph.tensors)}"
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.asarray(values, dtype).tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
            zeros = np.broadcast_to(np.asarray(zero, np.int64), tensor.quantization.scale.shape)
            tensor.quantization.zeroPoint = zeros.copy()
            tensor.quantization.quantizedDimension = axis
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, values: Any, dtype: str = "float32", **facts: Any) -> int:
        """Add a constant."""
        values = np.asarray(values, dtype)
        return self.tensor(values.shape, values, dtype=dtype, **facts)

    def add(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        *,
        custom: bool = False,
        count: int = 1,
        output: dict[str, Any] | None = None,
        **options: Any,
    ) -> int:
        """Add an operator; the number of its first output, of the shape but for the batch."""
        schema = litert_schema()
        code: Any = schema.OperatorCodeT()
        number = schema.BuiltinOperator.CUSTOM if custom else getattr(schema.BuiltinOperator, kind)
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        code.version, code.customCode = 1, kind if custom else None
        self.model.operatorCodes.append(code)
        operator: Any = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs = np.array(inputs, np.int32)
        outputs = [self.tensor((1, *shape), **(output or {})) for _ in range(count)]
        operator.outputs = np.array(outputs, np.int32)
        if kind in _OPTIONS:
            name = _OPTIONS[kind]
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = getattr(schema, f"{name}T")()
            for option, value in options.items():
                setattr(operator.builtinOptions, option, value)
        self.graph.operators.append(operator)
        return outputs[0]

    def content(self, *outputs: int) -> bytes:
        """The file, which puts these out."""
        self.graph.outputs = np.array(outputs, np.int32)
        return pack_model(self.model)


def small_net() -> LiteRTNet:
    """A quantised classifier of a few operators; its scores are tensor ``graph.outputs``."""
    rng = np.random.default_rng(0)
    net = LiteRTNet((9, 8, 3), dtype="uint8", scale=1 / 128, zero=128)
    kernel = net.constant(
        rng.integers(0, 255, (4, 3, 3, 3)), "uint8", scale=0.01, zero=120, name="kernel"
    )
    bias = net.constant(rng.integers(-900, 900, 4), "int32", scale=0.01 / 128)
    x = net.add(
        "CONV_2D", [net.picture, kernel, bias], (5, 4, 4),
        output={"dtype": "uint8", "scale": 6 / 255, "name": "net/stem/Relu6;net/stem/Conv2D"},
        padding=0, strideH=2, strideW=2,
    )  # fmt: skip
    x = net.add(
        "AVERAGE_POOL_2D", [x], (1, 1, 4), output={"dtype": "uint8", "scale": 6 / 255},
        padding=1, strideH=1, strideW=1, filterHeight=5, filterWidth=4,
    )  # fmt: skip
    weights = net.constant(rng.integers(0, 255, (2, 4)), "uint8", scale=0.02, zero=128)
    output = {"dtype": "uint8", "scale": 0.05, "zero": 128, "name": "scores"}
    net.content(net.add("FULLY_CONNECTED", [x, weights, -1], (2,), output=output))
    return net
