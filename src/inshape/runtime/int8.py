"""Full-integer LiteRT files whose answers stay near the model's.

`ai-edge-quantizer` writes the file. What is added to it: the channels of a map are first brought to
like sizes; each tensor's range goes half of the way from its smallest and largest value, which are
the usual choice and spend most of the 256 levels on a few outliers, to the range that rounds and
clips its values with the least square error; then each convolution's bias takes up what rounding
shifted the mean of its output by, layer after layer, so that later layers see corrected inputs
(Nagel et al., arXiv 1906.04721, section 4.2, with measured means).
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..geometry.operators import Granularity, Io
from ..importing.litert_file import litert_schema
from ..progress import Advance
from .equalise import equalised
from .flatbuffer import pack_model, read_model
from .hard_swish import floors_of
from .insides import (
    alive,
    constants_of,
    expose,
    float_outputs,
    has_kernel,
    kind_of,
    name_of,
    section,
)

_LEVELS = 256
_BINS = 2048
_SHRUNK = np.linspace(0.2, 1.0, 33)
_VALUES_PER_PICTURE = 1000
_BIAS_PICTURES = 200
_HELD_BYTES = 2**30
_PIXELS = (0.0, 255.0)
_GRANULARITIES = {"per-channel": "CHANNELWISE", "per-tensor": "TENSORWISE"}
_LOST = 0.1
"""Of what an output is made of, and of a layer's outputs: of a network as they are, one in 1,000 at
most."""
_WIPED_OUT = 0.5
"""Of the channels of a map; of a network as they are, one in 50 at most."""
_MOST_STEPS = 2**30
"""Of a bias, so that what is added to it fits into 32 bits as well."""


def int8_content(
    content: bytes,
    pictures: Sequence[NDArray[np.float32]],
    io: Io = "float32",
    granularity: Granularity = "per-channel",
    *,
    equal: bool = True,
    split: bool = True,
    clipped: bool = True,
    corrected: bool = True,
    progress: Advance | None = None,
) -> bytes | None:
    """Quantise a float32 LiteRT file to int8: weights as asked for, the rest per tensor.

    The file takes one picture in [0, 255]; there is at least one ``(1, height, width, channels)``
    to calibrate on. Without ``equal``, channels keep their sizes; without ``split``, the file
    has the network's own operators; without ``clipped``, ranges are
    the smallest and largest value; without ``corrected``, biases stay. ``None`` if
    `ai-edge-quantizer` has no int8 kernel for one of the operators.
    """
    if equal:
        content = equalised(content, pictures, granularity, split=split)
    ranges = _ranges_of(content, pictures, clipped=clipped)
    int8 = _quantise(content, ranges, io, granularity)
    if int8 is None:
        return None
    int8 = _fit_biases(int8, content)
    if not corrected:
        return int8
    return _correct_biases(int8, content, pictures, progress)


def _ranges_of(
    content: bytes, pictures: Sequence[NDArray[np.float32]], *, clipped: bool
) -> dict[str, tuple[float, float]]:
    """The smallest and largest value that each tensor's 256 levels stand for, by its name."""
    model = read_model(content)
    graph, floors = model.subgraphs[0], floors_of(model)
    tensors = float_outputs(model)
    run = expose(model, tensors)
    draw = np.random.default_rng(0)
    # A part of each picture's values: all of them would not fit in memory.
    samples: dict[int, list[NDArray[np.float32]]] = {index: [] for index in tensors}
    ends: dict[int, tuple[float, float]] = dict.fromkeys(tensors, (0.0, 0.0))
    for picture in pictures:
        for index, values in zip(tensors, run.all_outputs(picture), strict=True):
            if index in floors:
                values = np.maximum(values, floors[index])
            low, high = ends[index]
            ends[index] = min(low, float(values.min())), max(high, float(values.max()))
            flat = values.ravel()
            if len(flat) > _VALUES_PER_PICTURE:
                flat = flat[draw.integers(len(flat), size=_VALUES_PER_PICTURE)]
            samples[index].append(flat)
    copies = _copies_of_picture(model)
    ranges = {name_of(graph, index): _PIXELS for index in (int(graph.inputs[0]), *copies)}
    for index, parts in samples.items():
        low, high = ends[index]
        if index in copies:
            continue
        if low == high:  # only zeros, which any range shows; XNNPACK refuses one of nothing
            low, high = 0.0, 1.0
        elif clipped:
            # Half of what may be clipped is not: pictures that were not seen reach farther.
            least = least_error(np.concatenate(parts), low, high)
            low, high = (low + least[0]) / 2, (high + least[1]) / 2
        ranges[name_of(graph, index)] = (low, high)
    return ranges


def _copies_of_picture(model: Any) -> set[int]:
    """Maps that repeat the picture, or put bars beside it, whose scale needs no change."""
    graph, kind = model.subgraphs[0], litert_schema().BuiltinOperator.CONCATENATION
    picture = int(graph.inputs[0])
    constants = constants_of(model)

    def holds_pixels(index: int) -> bool:
        values = constants.get(name_of(graph, index))
        if values is None:
            return index == picture
        return bool(_PIXELS[0] <= values.min() and values.max() <= _PIXELS[1])

    return {
        int(operator.outputs[0])
        for operator in graph.operators
        if kind_of(model, operator) == kind
        and all(holds_pixels(int(index)) for index in operator.inputs)
    }


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


def _quantise(
    content: bytes, ranges: dict[str, tuple[float, float]], io: Io, granularity: Granularity
) -> bytes | None:
    tools: Any = importlib.import_module("ai_edge_quantizer.quantizer")
    types: Any = importlib.import_module("ai_edge_quantizer.qtyping")
    quantizer: Any = tools.Quantizer(bytearray(content))
    quantizer.add_static_config(
        ".*", types.TFLOperationName.ALL_SUPPORTED, 8, 8,
        weight_granularity=types.QuantGranularity[_GRANULARITIES[granularity]],
    )  # fmt: skip
    _set_ends(quantizer, tools, types, io)
    graph = read_model(content).subgraphs[0]
    ranks = {name_of(graph, n): len(tensor.shape) for n, tensor in enumerate(graph.tensors)}
    # Of the tensor's rank: constants beside it, such as a letterbox's bars, take over its scale.
    statistics = {
        name: {
            "min": np.full((1,) * ranks[name], low, np.float32),
            "max": np.full((1,) * ranks[name], high, np.float32),
        }
        for name, (low, high) in ranges.items()
    }
    # Older versions show their second progress bar whatever they are asked for.
    # A bias beyond 32 bits is cast, which `_fit_biases` mends.
    with warnings.catch_warnings(), redirect_stderr(StringIO()), np.errstate(invalid="ignore"):
        # Its own interpreter keeps all tensors, and says that this is for debugging.
        warnings.filterwarnings("ignore", ".*experimental_preserve_all_tensors")
        result = quantizer.quantize(
            statistics, enable_progress_bar=False, enable_progress_report=False
        )
    int8 = bytes(result.quantized_model)
    return None if _works_in_float(read_model(int8)) else int8


def _set_ends(quantizer: Any, tools: Any, types: Any, io: Io) -> None:
    """Have the input and output of another type than int8, which is the recipe's."""
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
        is_end = kind_of(model, operator) in ends
        if floats and not (is_end and floats <= outside):
            return True
    return False


def _fit_biases(content: bytes, reference: bytes) -> bytes:
    """Give channels coarser weights where their bias has no room in 32 bits.

    A bias counts steps of the input times those of the channel's weights. Beside weights of next to
    nothing, as batch norm leaves them in a channel that never fires, these steps are so small that
    the quantizer lets a bias of ordinary size wrap around to -2147483648.
    """
    biases = constants_of(read_model(reference))
    model = read_model(content)
    graph = model.subgraphs[0]
    factors: dict[int, Any] = {}
    fitted: list[tuple[int, Any, NDArray[np.float64]]] = []
    for place, index in _with_bias(model):
        _, kernel, at = (int(n) for n in graph.operators[place].inputs[:3])
        values = biases.get(name_of(graph, at))
        if values is None:
            continue
        bias = graph.tensors[at]
        scale = np.asarray(bias.quantization.scale, np.float64)
        # A correction may be as large as what the output can show.
        shown = float(graph.tensors[index].quantization.scale[0]) * (_LEVELS - 1)
        factor = np.maximum(np.abs(values), shown) / (scale * _MOST_STEPS)
        factor = factor if len(scale) > 1 else factor.max(keepdims=True)
        factors[kernel] = np.maximum(np.maximum(factor, 1.0), factors.get(kernel, 1.0))
        fitted.append((kernel, bias, values))
    for kernel, factor in factors.items():
        tensor = graph.tensors[kernel]
        buffer, shape = model.buffers[tensor.buffer], np.ones(len(tensor.shape), int)
        shape[tensor.quantization.quantizedDimension] = len(factor)
        steps = buffer.data.view(np.int8).reshape(tensor.shape) / factor.reshape(shape)
        buffer.data = np.round(steps).astype(np.int8).view(np.uint8).ravel()
        _scale_by(tensor, factor)
    for kernel, bias, values in fitted:
        _scale_by(bias, factors[kernel])
        steps = np.round(values / np.asarray(bias.quantization.scale, np.float64))
        model.buffers[bias.buffer].data = _as_int32(steps)
    return pack_model(model)


def _scale_by(tensor: Any, factor: NDArray[np.float64]) -> None:
    scale = np.asarray(tensor.quantization.scale, np.float64) * factor
    tensor.quantization.scale = scale.astype(np.float32)


def _as_int32(steps: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The bytes of a bias; NumPy makes -2147483648 of what lies beyond either end."""
    limits = np.iinfo(np.int32)
    return np.clip(steps, limits.min, limits.max).astype(np.int32).view(np.uint8)


def _correct_biases(
    content: bytes,
    reference: bytes,
    pictures: Sequence[NDArray[np.float32]],
    progress: Advance | None,
) -> bytes:
    plain, model = read_model(reference), read_model(content)
    floors = {name_of(plain.subgraphs[0], n): floor for n, floor in floors_of(plain).items()}
    chosen = _from_all_over(pictures, _fit_in_memory(model, pictures[0]))
    target = _channel_means(plain, chosen, floors)
    graph = model.subgraphs[0]
    layers = [
        (place, index)
        for place, index in _with_bias(model)
        if name_of(graph, index) in target and not _is_exact(graph, graph.operators[place])
    ]
    steps = _StepwiseRun(model, chosen)
    for count, (place, index) in enumerate(layers, 1):
        name = name_of(graph, index)
        # After the corrections before it: a layer's error is partly that of its input.
        means = steps.channel_means(place, index, floors.get(name))
        bias = graph.tensors[graph.operators[place].inputs[2]]
        missing = (target[name] - means) / np.asarray(bias.quantization.scale)
        buffer = model.buffers[bias.buffer]
        buffer.data = _as_int32(buffer.data.view(np.int32) + np.round(missing))
        if progress is not None:
            progress(count, len(layers))
    return pack_model(model)


def _from_all_over(pictures: Sequence[NDArray[np.float32]], most: int) -> list[NDArray[np.float32]]:
    """At most so many: the first ones may be of one class."""
    places = np.linspace(0, len(pictures) - 1, min(len(pictures), most)).round()
    return [pictures[int(place)] for place in places]


def _fit_in_memory(model: Any, picture: NDArray[np.float32]) -> int:
    """For how many pictures of one size the maps between two operators are held."""
    graph = model.subgraphs[0]
    written = _written(graph.operators)
    maps = section(model, slice(None), graph.inputs, written)([picture])
    sizes = {n: values.nbytes for n, values in zip(written, maps, strict=True)}
    largest = max(alive(graph.operators, sizes, ((), graph.outputs)))
    return min(_BIAS_PICTURES, max(1, _HELD_BYTES // largest))


class _StepwiseRun:
    """Pictures on their way through a model that is changed behind them.

    What each operator made of them is held until no later one reads it, so that none runs for a
    layer that is far behind it.
    """

    def __init__(self, model: Any, pictures: Sequence[NDArray[np.float32]]) -> None:
        self._model, self._place = model, 0
        (first,) = model.subgraphs[0].inputs
        self._held: list[dict[int, NDArray[Any]]] = [{int(first): x} for x in pictures]

    def channel_means(
        self, place: int, index: int, floor: NDArray[np.floating[Any]] | None
    ) -> NDArray[np.float64]:
        """What each channel of an operator's output is on average; the pictures stay before it."""
        operators = self._model.subgraphs[0].operators
        needed = _read(operators[place:])
        read = _read(operators[self._place : place + 1])
        reads = [n for n in self._held[0] if n in read]
        kept = [n for n in _written(operators[self._place : place]) if n in needed]
        steps, total = slice(self._place, place + 1), 0.0
        run = section(self._model, steps, reads, [index, *kept])
        for maps in self._held:
            output, *written = run([maps[n] for n in reads])
            total += _of_channels(run.as_numbers(output, 0), floor)
            for passed in maps.keys() - needed:
                del maps[passed]
            maps.update(zip(kept, written, strict=True))
        self._place = place
        return np.asarray(total / len(self._held))


def _read(operators: Sequence[Any]) -> set[int]:
    return {int(n) for operator in operators for n in operator.inputs}


def _written(operators: Sequence[Any]) -> list[int]:
    return [int(n) for operator in operators for n in operator.outputs]


def _is_exact(graph: Any, operator: Any) -> bool:
    """Whether a kernel has one weight per channel, which its scale shows without rounding."""
    shape = graph.tensors[int(operator.inputs[1])].shape
    return int(np.prod(shape)) == int(graph.tensors[int(operator.outputs[0])].shape[-1])


def _channel_means(
    model: Any,
    pictures: Sequence[NDArray[np.float32]],
    floors: Mapping[str, NDArray[np.floating[Any]]],
) -> dict[str, NDArray[np.float64]]:
    """What each channel of every output with a bias is on average, by the output's name.

    What lies below a floor counts as if it lay there.
    """
    outputs = [index for _, index in _with_bias(model)]
    run = expose(model, outputs)
    names = [name_of(model.subgraphs[0], index) for index in outputs]
    sums: list[Any] = [0.0] * len(outputs)
    for picture in pictures:
        for n, values in enumerate(run.all_outputs(picture)):
            sums[n] = sums[n] + _of_channels(values, floors.get(names[n]))
    return {name: total / len(pictures) for name, total in zip(names, sums, strict=True)}


def _of_channels(
    values: NDArray[np.float32], floor: NDArray[np.floating[Any]] | None
) -> NDArray[np.float64]:
    if floor is not None:
        values = np.maximum(values, floor)
    return values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Hidden:
    """What 8 bits cannot show beside something larger that has the same scale."""

    kind: Literal["weights", "values"]
    tensor: str
    """The name of the layer's weights or output in the file."""
    largest: float
    typical: float
    """The median weight, or how much half of the channels vary by at most."""


def find_hidden(content: bytes, pictures: Sequence[NDArray[np.float32]]) -> tuple[Hidden, ...]:
    """The weights and values of a float32 file that rounding to 8 bits would wipe out.

    Weights are counted by what they add to an output, which is their size times how much their
    input varies over the pictures: a large weight of a channel that never fires adds nothing, but
    decides the scale of all others.
    """
    model = read_model(content)
    graph, constants, builtin = (
        model.subgraphs[0],
        constants_of(model),
        litert_schema().BuiltinOperator,
    )
    spreads, ends = _spreads_of(model, pictures)
    hidden: list[Hidden] = []
    for operator in graph.operators:
        if kind_of(model, operator) not in (
            builtin.CONV_2D,
            builtin.FULLY_CONNECTED,
        ):
            continue
        source, kernel = (int(index) for index in operator.inputs[:2])
        name, shape = name_of(graph, kernel), graph.tensors[kernel].shape
        if name not in constants or len(spreads.get(source, ())) != shape[-1]:
            continue
        weights = np.abs(constants[name].reshape(shape[0], -1, shape[-1]))
        added = (weights * spreads[source]) ** 2
        largest = weights.max(axis=(1, 2), keepdims=True)
        lost = (added * (weights < largest / (_LEVELS - 2))).sum(axis=(1, 2))
        share = (lost > _LOST * added.sum(axis=(1, 2))).mean()
        if share >= _LOST:
            hidden.append(Hidden("weights", name, float(largest.max()), float(np.median(weights))))
    for index, (low, high) in ends.items():
        firing = spreads[index][spreads[index] > 0]
        step = (high - low) / (_LEVELS - 1)
        if len(firing) and (firing < step / 4).mean() >= _WIPED_OUT:
            name = name_of(graph, index)
            hidden.append(Hidden("values", name, max(high, -low), float(np.median(firing))))
    return tuple(hidden)


def _spreads_of(
    model: Any, pictures: Sequence[NDArray[np.float32]]
) -> tuple[dict[int, NDArray[np.float64]], dict[int, tuple[float, float]]]:
    """How much each channel of each tensor varies, and the ends of each tensor's values."""
    picture = int(model.subgraphs[0].inputs[0])
    tensors = float_outputs(model)
    run = expose(model, tensors)
    sums: dict[int, list[Any]] = {index: [0, 0.0, 0.0] for index in (picture, *tensors)}
    ends = dict.fromkeys(tensors, (0.0, 0.0))
    for pixels in pictures:
        maps = [pixels, *run.all_outputs(pixels)]
        for index, values in zip((picture, *tensors), maps, strict=True):
            channels = values.shape[-1] if values.ndim else 1
            rows = np.asarray(values, np.float64).reshape(-1, channels)
            new = (len(rows), rows.sum(axis=0), (rows**2).sum(axis=0))
            sums[index] = [a + b for a, b in zip(sums[index], new, strict=True)]
            if index in ends:
                low, high = ends[index]
                ends[index] = min(low, float(rows.min())), max(high, float(rows.max()))
    spreads = {
        index: np.sqrt(np.maximum(squares / count - (linear / count) ** 2, 0.0))
        for index, (count, linear, squares) in sums.items()
    }
    return spreads, ends


def largest_weight(content: bytes) -> tuple[str, float]:
    """The name of the tensor with the largest constant of a float32 file, and its size."""
    sizes = {
        name: float(np.abs(v).max(initial=0.0))
        for name, v in constants_of(read_model(content)).items()
    }
    return max(sizes.items(), key=lambda item: item[1], default=("", 0.0))


def _with_bias(model: Any) -> list[tuple[int, int]]:
    """The place and the output of every operator whose bias can be corrected."""
    return [
        (place, int(operator.outputs[0]))
        for place, operator in enumerate(model.subgraphs[0].operators)
        if has_kernel(model, operator) and len(operator.inputs) > 2 and operator.inputs[2] >= 0
    ]
