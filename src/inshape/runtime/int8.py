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
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..processor import count_cores
from ..progress import Advance
from .flatbuffer import litert_schema, pack_model, read_model
from .formats import Io
from .litert import LiteRTModel

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
    progress: Advance | None = None,
) -> bytes | None:
    """Quantise a float32 LiteRT file to int8: weights per output channel, the rest per tensor.

    The file takes one picture in [0, 255]; there is at least one ``(1, height, width, channels)``
    to calibrate on. Without ``clipped``, ranges are the smallest and largest value; without
    ``corrected``, biases stay. ``None`` if `ai-edge-quantizer` has no int8 kernel for one of the
    operators.
    """
    int8 = _quantise(content, _ranges_of(content, pictures, clipped=clipped), io)
    if int8 is None or not corrected:
        return int8
    # From all over: the first ones may be of one class.
    places = np.linspace(0, len(pictures) - 1, min(len(pictures), _BIAS_PICTURES)).round()
    chosen = [pictures[int(place)] for place in places]
    return _correct_biases(int8, content, chosen, progress)


def _ranges_of(
    content: bytes, pictures: Sequence[NDArray[np.float32]], *, clipped: bool
) -> dict[str, tuple[float, float]]:
    """The smallest and largest value that each tensor's 256 levels stand for, by its name."""
    model = read_model(content)
    graph = model.subgraphs[0]
    tensors = _float_outputs(model)
    run = _expose(model, tensors)
    draw = np.random.default_rng(0)
    # A part of each picture's values: all of them would not fit in memory.
    samples: dict[int, list[NDArray[np.float32]]] = {index: [] for index in tensors}
    ends: dict[int, tuple[float, float]] = dict.fromkeys(tensors, (0.0, 0.0))
    for picture in pictures:
        for index, values in zip(tensors, run.all_outputs(picture), strict=True):
            low, high = ends[index]
            ends[index] = min(low, float(values.min())), max(high, float(values.max()))
            flat = values.ravel()
            if len(flat) > _VALUES_PER_PICTURE:
                flat = flat[draw.integers(len(flat), size=_VALUES_PER_PICTURE)]
            samples[index].append(flat)
    ranges = {_name(graph, int(graph.inputs[0])): _PIXELS}
    for index, parts in samples.items():
        low, high = ends[index]
        if low == high:  # only zeros, which any range shows; XNNPACK refuses one of nothing
            low, high = 0.0, 1.0
        elif clipped:
            low, high = least_error(np.concatenate(parts), low, high)
        ranges[_name(graph, index)] = (low, high)
    return ranges


def least_error(values: NDArray[np.floating[Any]], low: float, high: float) -> tuple[float, float]:
    """The range within which 256 levels show values with the least square error.

    It lies within [low, high], which holds 0: a zero, as padding has it, must be shown exactly.

    Example:
        >>> values = np.append(np.linspace(0, 1, 100_000), 20.0)
        >>> low, high = least_error(values, 0.0, 20.0)
        >>> low, high < 20.0
        (0.0, True)
    """
    if low == high:
        return low, high
    counts, edges = np.histogram(values, _BINS, (low, high))
    filled = counts > 0
    centres, weights = ((edges[1:] + edges[:-1]) / 2)[filled], counts[filled]
    best, error = (low, high), np.inf
    for bottom in _SHRUNK * low if low else [0.0]:
        for top in _SHRUNK * high if high else [0.0]:
            step = (top - bottom) / (_LEVELS - 1)
            shown = np.round(np.clip(centres, bottom, top) / step) * step
            missed = float(weights @ (shown - centres) ** 2)
            if missed < error:
                best, error = (float(bottom), float(top)), missed
    return best


def _quantise(content: bytes, ranges: dict[str, tuple[float, float]], io: Io) -> bytes | None:
    tools: Any = importlib.import_module("ai_edge_quantizer.quantizer")
    recipes: Any = importlib.import_module("ai_edge_quantizer.recipe")
    quantizer: Any = tools.Quantizer(bytearray(content), recipes.static_wi8_ai8())
    _set_ends(quantizer, tools, io)
    statistics = {
        name: {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}
        for name, (low, high) in ranges.items()
    }
    # Older versions show their second progress bar whatever they are asked for.
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        # Its own interpreter keeps all tensors, and says that this is for debugging.
        warnings.filterwarnings("ignore", ".*experimental_preserve_all_tensors")
        result = quantizer.quantize(
            statistics, enable_progress_bar=False, enable_progress_report=False
        )
    int8 = bytes(result.quantized_model)
    return None if _works_in_float(read_model(int8)) else int8


def _set_ends(quantizer: Any, tools: Any, io: Io) -> None:
    """Have the input and output of another type than int8, which is the recipe's."""
    types: Any = importlib.import_module("ai_edge_quantizer.qtyping")
    byte = types.TensorQuantizationConfig(
        num_bits=8, symmetric=False, dtype=types.TensorDataType.UINT
    )
    weight = types.TensorQuantizationConfig(
        num_bits=8, granularity=types.QuantGranularity.CHANNELWISE
    )
    unsigned = types.OpQuantizationConfig(
        activation_tensor_config=byte,
        weight_tensor_config=weight,
        compute_precision=types.ComputePrecision.INTEGER,
    )
    for end in (types.TFLOperationName.INPUT, types.TFLOperationName.OUTPUT):
        if io == "float32":
            key = tools.AlgorithmName.NO_QUANTIZE
            quantizer.update_quantization_recipe(".*", end, algorithm_key=key)
        elif io == "uint8":
            quantizer.update_quantization_recipe(".*", end, unsigned)


def _works_in_float(model: Any) -> bool:
    """Whether an operator other than the conversions at both ends takes or gives float32."""
    schema = litert_schema()
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


def _correct_biases(
    content: bytes,
    reference: bytes,
    pictures: Sequence[NDArray[np.float32]],
    progress: Advance | None,
) -> bytes:
    target = _channel_means(read_model(reference), None, pictures)
    model = read_model(content)
    graph = model.subgraphs[0]
    layers = [(n, index) for n, index in _with_bias(model) if _name(graph, index) in target]
    for count, (place, index) in enumerate(layers, 1):
        # After the corrections before it: a layer's error is partly that of its input.
        (means,) = _channel_means(model, (place, index), pictures).values()
        bias = graph.tensors[graph.operators[place].inputs[2]]
        missing = (target[_name(graph, index)] - means) / np.asarray(bias.quantization.scale)
        buffer = model.buffers[bias.buffer]
        steps = buffer.data.view(np.int32) + np.round(missing)
        buffer.data = steps.astype(np.int32).view(np.uint8)
        if progress is not None:
            progress(count, len(layers))
    return pack_model(model)


def _channel_means(
    model: Any, only: tuple[int, int] | None, pictures: Sequence[NDArray[np.float32]]
) -> dict[str, NDArray[np.float64]]:
    """What each channel of an operator's output is on average, by the output's name.

    One operator, named by its place and its output, or all that have a bias.
    """
    outputs = [index for _, index in ([only] if only else _with_bias(model))]
    run = _expose(model, outputs, operators=only[0] + 1 if only else None)
    sums: list[Any] = [0.0] * len(outputs)
    for picture in pictures:
        for n, values in enumerate(run.all_outputs(picture)):
            sums[n] = sums[n] + values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)
    names = [_name(model.subgraphs[0], index) for index in outputs]
    return {name: total / len(pictures) for name, total in zip(names, sums, strict=True)}


def _expose(model: Any, tensors: Sequence[int], operators: int | None = None) -> LiteRTModel:
    """A model that puts out tensors from its inside, run up to so many operators."""
    # XNNPACK's fast kernels keep to themselves whatever is no output.
    graph = copy.copy(model.subgraphs[0])
    graph.operators = graph.operators[:operators]
    graph.outputs = np.asarray(tensors, np.int32)
    exposed = copy.copy(model)
    exposed.subgraphs, exposed.signatureDefs = [graph, *model.subgraphs[1:]], []
    return LiteRTModel(pack_model(exposed), threads=count_cores())


def _with_bias(model: Any) -> list[tuple[int, int]]:
    """The place and the output of every operator whose bias can be corrected."""
    schema = litert_schema()
    kinds = {getattr(schema.BuiltinOperator, name) for name in CORRECTED}
    return [
        (place, int(operator.outputs[0]))
        for place, operator in enumerate(model.subgraphs[0].operators)
        if model.operatorCodes[operator.opcodeIndex].builtinCode in kinds
        and len(operator.inputs) > 2
        and operator.inputs[2] >= 0
    ]


def _float_outputs(model: Any) -> list[int]:
    graph, float32 = model.subgraphs[0], litert_schema().TensorType.FLOAT32
    outputs = [int(index) for operator in graph.operators for index in operator.outputs]
    return [index for index in outputs if graph.tensors[index].type == float32]


def _name(graph: Any, index: int) -> str:
    name = graph.tensors[index].name
    return name.decode() if isinstance(name, bytes) else name
