"""Full-integer LiteRT files whose answers stay near the model's.

`ai-edge-quantizer` writes the file. What is added to it: each tensor's range is the one that
rounds and clips its values with the least square error (the smallest and largest value, which is
the usual choice, spend most of the 256 levels on a few outliers); then each convolution's bias
takes up what rounding shifted the mean of its output by, layer after layer, so that later layers
see corrected inputs (Nagel et al., arXiv 1906.04721, section 4.2, with measured means).
"""

from __future__ import annotations

import copy
import importlib
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from .formats import Io
from .runners import dequantised, quantised

CORRECTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""Operators that have a bias to correct."""

_LEVELS = 256
_BINS = 2048
_SHRUNK = np.linspace(0.2, 1.0, 33)
_VALUES_PER_PICTURE = 1000
_BIAS_PICTURES = 200
_PIXELS = (0.0, 255.0)


def int8_content(
    content: bytes,
    pictures: Sequence[NDArray[np.float32]],
    io: Io = "float32",
    *,
    clipped: bool = True,
    corrected: bool = True,
    told: Callable[[int, int], None] | None = None,
) -> bytes | None:
    """Quantise a LiteRT file to int8: weights per output channel, everything else per tensor.

    Args:
        content: of the float32 file, which takes one picture in [0, 255].
        pictures: to calibrate on, each ``(1, height, width, channels)``; at least one.
        io: type of the input and output.
        clipped: whether ranges are chosen by error; else they are the smallest and largest value.
        corrected: whether biases are corrected.
        told: is called with the layers corrected and all layers.

    Returns:
        The new file; ``None`` if ``ai-edge-quantizer`` has no int8 kernel for one of the operators.
    """
    made = _quantised(content, _ranges(content, pictures, clipped=clipped), io)
    if made is None or not corrected:
        return made
    # From all over: the first ones may be of one class.
    places = np.linspace(0, len(pictures) - 1, min(len(pictures), _BIAS_PICTURES)).round()
    chosen = [pictures[int(place)] for place in places]
    return _with_corrected_biases(made, content, chosen, told)


def _ranges(
    content: bytes, pictures: Sequence[NDArray[np.float32]], *, clipped: bool
) -> dict[str, tuple[float, float]]:
    """The smallest and largest value that each tensor's 256 levels stand for, by its name."""
    model = _read(content)
    tensors = _float_outputs(model)
    run = _Exposed(model, tensors, pictures[0].shape)
    draw = np.random.default_rng(0)
    kept: dict[int, list[NDArray[np.float32]]] = {index: [] for index in tensors}
    ends: dict[int, tuple[float, float]] = dict.fromkeys(tensors, (0.0, 0.0))
    for picture in pictures:
        for index, values in zip(tensors, run(picture), strict=True):
            low, high = ends[index]
            ends[index] = min(low, float(values.min())), max(high, float(values.max()))
            flat = values.ravel()
            if len(flat) > _VALUES_PER_PICTURE:
                flat = flat[draw.integers(len(flat), size=_VALUES_PER_PICTURE)]
            kept[index].append(flat)
    graph = model.subgraphs[0]
    found = {_name(graph, int(graph.inputs[0])): _PIXELS}
    for index, parts in kept.items():
        low, high = ends[index]
        if low == high:  # only zeros, which any range shows; XNNPACK refuses one of nothing
            low, high = 0.0, 1.0
        elif clipped:
            low, high = least_error(np.concatenate(parts), low, high)
        found[_name(graph, index)] = (low, high)
    return found


def least_error(values: NDArray[np.floating[Any]], low: float, high: float) -> tuple[float, float]:
    """The range within which 256 levels show values with the least square error.

    Args:
        values: what is to be shown.
        low: the smallest value that may be shown, at most 0, which always is.
        high: the largest, at least 0.

    Returns:
        The two ends, each no further out than asked for.

    Example:
        >>> values = np.append(np.linspace(0, 1, 100_000), 20.0)
        >>> low, high = least_error(values, 0.0, 20.0)
        >>> low, high < 20.0
        (0.0, True)
    """
    if low == high:
        return low, high
    counts, edges = np.histogram(values, _BINS, (low, high))
    seen = counts > 0
    centres, weights = ((edges[1:] + edges[:-1]) / 2)[seen], counts[seen]
    best, error = (low, high), np.inf
    for bottom in _SHRUNK * low if low else [0.0]:
        for top in _SHRUNK * high if high else [0.0]:
            step = (top - bottom) / (_LEVELS - 1)
            shown = np.round(np.clip(centres, bottom, top) / step) * step
            missed = float(weights @ (shown - centres) ** 2)
            if missed < error:
                best, error = (float(bottom), float(top)), missed
    return best


def _quantised(content: bytes, ranges: dict[str, tuple[float, float]], io: Io) -> bytes | None:
    tools: Any = importlib.import_module("ai_edge_quantizer.quantizer")
    types: Any = importlib.import_module("ai_edge_quantizer.qtyping")
    recipes: Any = importlib.import_module("ai_edge_quantizer.recipe")
    work: Any = tools.Quantizer(bytearray(content), recipes.static_wi8_ai8())
    for end in (types.TFLOperationName.INPUT, types.TFLOperationName.OUTPUT):
        if io == "float32":
            work.update_quantization_recipe(
                ".*", end, algorithm_key=tools.AlgorithmName.NO_QUANTIZE
            )
        elif io == "uint8":
            byte = types.TensorQuantizationConfig(
                num_bits=8, symmetric=False, dtype=types.TensorDataType.UINT
            )
            weight = types.TensorQuantizationConfig(
                num_bits=8, granularity=types.QuantGranularity.CHANNELWISE
            )
            work.update_quantization_recipe(
                ".*",
                end,
                types.OpQuantizationConfig(
                    activation_tensor_config=byte,
                    weight_tensor_config=weight,
                    compute_precision=types.ComputePrecision.INTEGER,
                ),
            )
    known = {
        name: {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}
        for name, (low, high) in ranges.items()
    }
    # Its second progress bar is shown whatever it is told.
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        # Its interpreter is told to keep all tensors, and says that this is for debugging.
        warnings.filterwarnings("ignore", ".*experimental_preserve_all_tensors")
        done = work.quantize(known, enable_progress_bar=False, enable_progress_report=False)
    made = bytes(done.quantized_model)
    return None if _works_in_float(_read(made)) else made


def _works_in_float(model: Any) -> bool:
    """Whether an operator other than the conversions at both ends takes or gives float32."""
    schema = _schema()
    ends = (schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE)
    graph = model.subgraphs[0]
    outside = {int(index) for index in (*graph.inputs, *graph.outputs)}
    for operator in graph.operators:
        floats = {
            int(index)
            for index in (*operator.inputs, *operator.outputs)
            if index >= 0 and graph.tensors[index].type == schema.TensorType.FLOAT32
        }
        is_end = model.operatorCodes[operator.opcodeIndex].builtinCode in ends
        if floats and not (is_end and floats <= outside):
            return True
    return False


def _with_corrected_biases(
    content: bytes,
    reference: bytes,
    pictures: Sequence[NDArray[np.float32]],
    told: Callable[[int, int], None] | None,
) -> bytes:
    target = _channel_means(_read(reference), None, pictures)
    model = _read(content)
    graph = model.subgraphs[0]
    todo = [(n, index) for n, index in _with_bias(model) if _name(graph, index) in target]
    for count, (place, index) in enumerate(todo, 1):
        (got,) = _channel_means(model, (place, index), pictures).values()
        bias = graph.tensors[graph.operators[place].inputs[2]]
        missing = (target[_name(graph, index)] - got) / np.asarray(bias.quantization.scale)
        buffer = model.buffers[bias.buffer]
        whole = buffer.data.view(np.int32) + np.round(missing)
        buffer.data = whole.astype(np.int32).view(np.uint8)
        if told is not None:
            told(count, len(todo))
    return _written(model)


def _channel_means(
    model: Any, only: tuple[int, int] | None, pictures: Sequence[NDArray[np.float32]]
) -> dict[str, NDArray[np.float64]]:
    """What each channel of an operator's output is on average, by the output's name.

    One operator, given as its place and its output, or all that have a bias.
    """
    outputs = [index for _, index in ([only] if only else _with_bias(model))]
    run = _Exposed(model, outputs, pictures[0].shape, operators=only[0] + 1 if only else None)
    sums: list[Any] = [0.0] * len(outputs)
    for picture in pictures:
        for n, values in enumerate(run(picture)):
            sums[n] = sums[n] + values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)
    names = [_name(model.subgraphs[0], index) for index in outputs]
    return {name: total / len(pictures) for name, total in zip(names, sums, strict=True)}


class _Exposed:
    """A LiteRT model that gives tensors from its inside.

    They are made outputs of it, because the fast kernels of XNNPACK keep all others to themselves.
    """

    def __init__(
        self, model: Any, tensors: Sequence[int], shape: Sequence[int], operators: int | None = None
    ) -> None:
        from ai_edge_litert.interpreter import (
            Interpreter,  # pyright: ignore[reportMissingTypeStubs]
        )

        graph = copy.copy(model.subgraphs[0])
        graph.operators = graph.operators[:operators]
        graph.outputs = np.asarray(tensors, np.int32)
        opened = copy.copy(model)
        opened.subgraphs, opened.signatureDefs = [graph, *model.subgraphs[1:]], []
        self._run: Any = Interpreter(model_content=_written(opened), num_threads=os.cpu_count())
        (self._input,) = self._run.get_input_details()
        self._run.resize_tensor_input(self._input["index"], shape)
        self._run.allocate_tensors()
        self._outputs = self._run.get_output_details()

    def __call__(self, picture: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        self._run.set_tensor(self._input["index"], quantised(picture, self._input))
        self._run.invoke()
        return [dequantised(self._run.get_tensor(o["index"]), o) for o in self._outputs]


def _with_bias(model: Any) -> list[tuple[int, int]]:
    """The place and the output of every operator whose bias can be corrected."""
    schema = _schema()
    kinds = {getattr(schema.BuiltinOperator, name) for name in CORRECTED}
    return [
        (place, int(operator.outputs[0]))
        for place, operator in enumerate(model.subgraphs[0].operators)
        if model.operatorCodes[operator.opcodeIndex].builtinCode in kinds
        and len(operator.inputs) > 2
        and operator.inputs[2] >= 0
    ]


def _float_outputs(model: Any) -> list[int]:
    graph, float32 = model.subgraphs[0], _schema().TensorType.FLOAT32
    made = [int(index) for operator in graph.operators for index in operator.outputs]
    return [index for index in made if graph.tensors[index].type == float32]


def _name(graph: Any, index: int) -> str:
    name = graph.tensors[index].name
    return name.decode() if isinstance(name, bytes) else name


def _schema() -> Any:
    return importlib.import_module("ai_edge_litert.schema_py_generated")


def _read(content: bytes) -> Any:
    tools: Any = importlib.import_module("ai_edge_litert.tools.flatbuffer_utils")
    model = tools.read_model_from_bytearray(bytearray(content))
    for buffer in model.buffers:  # as arrays they are written whole, otherwise byte by byte
        if buffer.data is not None:
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    return model


def _written(model: Any) -> bytes:
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
