"""Hard-swish in a float32 LiteRT file as a gate and a product, which factors of channels pass.

What hard-swish gives below zero lies in [-0.375, 0]. A map that also holds values of 30 has three
of its 256 levels there, and a depthwise kernel behind it amplifies channels that live on them.
Factors of channels, as `equalise` finds them, do not pass ``x * relu6(x + 3) / 6`` as they pass a
ReLU, but they do pass a product: of ``x' = x / (6 s)``, which the convolution before it writes as
well as ``x``, ``x' * relu6(6 s x' + 3)`` is what hard-swish gave, divided by ``s``. The gate is a
depthwise convolution of one weight per channel, each with a scale of its own, and its activation.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry.operators import PRODUCTS_SHARE
from ..importing.litert_file import litert_schema
from .insides import (
    alive,
    has_kernel,
    kind_of,
    maps_of,
    name_of,
    new_constant,
    new_map,
    new_operator,
    put_in_order,
    values_of,
)

TOP = 6.0
"""Of the gate."""
_OFF = -3.0
"""Hard-swish is 0 up to here."""
_LEVELS = 255
_FLOAT_BYTES = 4
_FLASH_OF_CHANNEL, _RAM_OF_CHANNEL = 14.5, 9
"""Bytes for each channel of a kernel of one weight per channel, its scales and records included."""
_SCALES_OF_CHANNEL, _RECORDS_OF_CHANNEL = 12, 10
"""Bytes of flash beside weights and of RAM beside maps, for each channel that a kernel writes."""
_RANK = 4
"""Of a map, as a convolution takes it."""
_FOLLOW = ("MUL", "MEAN", "PAD", "AVERAGE_POOL_2D", "MAX_POOL_2D")

Channels = NDArray[np.floating[Any]]


def free_swishes(model: Any) -> dict[int, int]:
    """What a hard-swish writes, and the map that it reads, if a kernel writes that for it alone.

    A vector is no map.
    """
    graph, hard_swish = model.subgraphs[0], litert_schema().BuiltinOperator.HARD_SWISH
    readers = _readers(model)
    written = {int(x.outputs[0]) for x in graph.operators if has_kernel(model, x)}
    return {
        int(x.outputs[0]): int(x.inputs[0])
        for x in graph.operators
        if kind_of(model, x) == hard_swish
        and int(x.inputs[0]) in written - {int(n) for n in graph.outputs}
        and len(readers[int(x.inputs[0])]) == 1
        and len(graph.tensors[int(x.inputs[0])].shape) == _RANK
    }


def floors_of(model: Any) -> dict[int, Channels]:
    """Up to where a map's channels give 0, whatever they are there; of maps that only gates read.

    Levels below that would show nothing, and to be clipped there is no error.
    """
    builtin = litert_schema().BuiltinOperator
    floors: dict[int, Channels] = {}
    for index, operators in _readers(model).items():
        kinds = [kind_of(model, operator) for operator in operators]
        if kinds == [builtin.HARD_SWISH]:
            floors[index] = np.array([_OFF], np.float32)
        elif kinds == [builtin.DEPTHWISE_CONV_2D, builtin.MUL] and _are_split(model, *operators):
            floors[index] = _OFF / values_of(model, int(operators[0].inputs[1])).view(np.float32)
    return floors


def _are_split(model: Any, gate: Any, product: Any) -> bool:
    constants = [values_of(model, int(n)) for n in gate.inputs[1:]]
    if len(constants) < 2 or int(gate.outputs[0]) not in product.inputs:
        return False
    kernel, bias = (values.view(np.float32) for values in constants)
    relu6 = litert_schema().ActivationFunctionType.RELU6
    is_clipped = gate.builtinOptions.fusedActivationFunction == relu6
    return is_clipped and len(kernel) == len(bias) and bool((bias == -_OFF).all())


def put_copies(model: Any) -> dict[int, int]:
    """Give sums and whatever else reads the same map as a kernel one of their own.

    It would tie that map's channels to those of others. A kernel of ones writes the copy. The
    copies, and of what they are.
    """
    graph, readers = model.subgraphs[0], _readers(model)
    follow = {getattr(litert_schema().BuiltinOperator, name) for name in _FOLLOW}
    free, operators, copies = free_swishes(model), list[Any](), dict[int, int]()
    for x in graph.operators:
        operators.append(x)
        output = int(x.outputs[0])
        if output not in free:
            continue
        others = [
            r
            for r in readers[output]
            if not has_kernel(model, r) and kind_of(model, r) not in follow
        ]
        if others and len(others) < len(readers[output]):
            zeros = np.zeros(graph.tensors[output].shape[-1], np.float32)
            copied = _depthwise(model, output, "copy", zeros + 1, zeros)
            operators.append(copied)
            copies[int(copied.outputs[0])] = output
            for reader in others:
                inputs = [copied.outputs[0] if n == output else n for n in reader.inputs]
                reader.inputs = np.array(inputs, np.int32)
    graph.operators = operators
    return copies


def fits(model: Any, file_bytes: int, copies: Mapping[int, int], split: Collection[int]) -> bool:
    """Whether a float32 file takes hardly more if the hard-swishes of these outputs are products.

    As int8, no more in memory at once, and little more of flash and of records.
    """
    graph, before = model.subgraphs[0], _most_alive(model, copies, ())
    channels = {n: int(t.shape[-1]) for n, t in enumerate(graph.tensors) if len(t.shape)}
    kernels = [channels[int(x.outputs[0])] for x in graph.operators if has_kernel(model, x)]
    constants = sum(len(x.data) for x in model.buffers if x.data is not None)
    shorter = constants * (1 - 1 / _FLOAT_BYTES)
    flash = file_bytes - shorter + _SCALES_OF_CHANNEL * sum(kernels)
    ram = before + _RECORDS_OF_CHANNEL * sum(kernels)
    more = sum(channels[n] for n in split)
    more += sum(channels[n] for n, output in copies.items() if output in split)
    is_small = max(more * _FLASH_OF_CHANNEL / flash, more * _RAM_OF_CHANNEL / ram) <= PRODUCTS_SHARE
    return is_small and _most_alive(model, copies, split) <= before


def _most_alive(model: Any, copies: Mapping[int, int], split: Collection[int]) -> int:
    graph = model.subgraphs[0]
    sizes = {n: int(np.prod(t.shape, dtype=np.int64)) for n, t in enumerate(graph.tensors)}
    operators = _without_copies(model, copies, split)
    amounts = alive(operators, sizes, (graph.inputs, graph.outputs))
    gates = [sizes[out] if (out := int(x.outputs[0])) in split else 0 for x in operators]
    return max((a + b for a, b in zip(amounts, gates, strict=True)), default=0)


def split_swishes(model: Any, copies: Mapping[int, int], factors: Mapping[int, Channels]) -> None:
    """Write hard-swishes as products by the factors of what they write; leave out vain copies.

    What they read has been divided by these factors and by the gate's end.
    """
    graph, operators = model.subgraphs[0], list[Any]()
    for x in _without_copies(model, copies, factors):
        output = int(x.outputs[0])
        if output not in factors:
            operators.append(x)
            continue
        weights = TOP * factors[output]
        gate = _depthwise(
            model, int(x.inputs[0]), "gate", weights, np.full(len(weights), -_OFF), clipped=True
        )
        inputs = int(x.inputs[0]), int(gate.outputs[0])
        operators += [gate, new_operator(model, "MUL", inputs, x.outputs, 1)]
    graph.operators = operators
    if copies or factors:
        put_in_order(model)


def _without_copies(model: Any, copies: Mapping[int, int], split: Collection[int]) -> list[Any]:
    """The operators without the copies of what is not split."""
    vain = {copied: output for copied, output in copies.items() if output not in split}
    graph = model.subgraphs[0]
    operators: list[Any] = []
    for x in (copy.copy(x) for x in graph.operators if int(x.outputs[0]) not in vain):
        x.inputs = np.array([vain.get(int(n), int(n)) for n in x.inputs], np.int32)
        operators.append(x)
    return operators


def _depthwise(
    model: Any, source: int, word: str, kernel: Channels, bias: Channels, *, clipped: bool = False
) -> Any:
    """A kernel of one weight per channel, which writes a new map."""
    graph, kinds = model.subgraphs[0], litert_schema().ActivationFunctionType
    name = f"{name_of(graph, source).rpartition(';')[2]}/{word}"
    inputs = (
        source,
        new_constant(model, kernel.astype(np.float32).reshape(1, 1, 1, -1), f"{name}_kernel"),
        new_constant(model, bias.astype(np.float32), f"{name}_bias"),
    )
    return new_operator(
        model, "DEPTHWISE_CONV_2D", inputs, [new_map(model, source, name)], 1,
        strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1, depthMultiplier=1,
        fusedActivationFunction=kinds.RELU6 if clipped else kinds.NONE,
    )  # fmt: skip


def noise(x: Channels, factors: Channels) -> tuple[float, float]:
    """How much of its channels a map loses in 8 bits behind hard-swish and behind a product.

    ``x`` is what is read at some ``(places, channels)``. The noise of a channel is counted by how
    much the channel varies, since what reads it may live on it alone; at most all of it is lost.
    """
    exact = x * np.clip(x - _OFF, 0, TOP) / TOP
    heard = np.maximum(x, _OFF)
    shown = _in_levels(heard)
    swished = _in_levels(shown * np.clip(shown - _OFF, 0, TOP) / TOP, exact)
    shown = _in_levels(heard / factors)
    gate = _in_levels(np.clip(shown * factors - _OFF, 0, TOP))
    product = _in_levels(shown * gate / TOP, exact / factors) * factors
    variance = exact.var(axis=0)
    counts = variance > 0

    def lost(values: Channels) -> float:
        shares = (values - exact).var(axis=0)[counts] / variance[counts]
        return float(np.minimum(shares, 1.0).mean())

    return (lost(swished), lost(product)) if counts.any() else (0.0, 0.0)


def _in_levels(values: Channels, of: Channels | None = None) -> Channels:
    """Values as 256 levels show them, over the range of these or of others."""
    of = values if of is None else of
    low, high = min(0.0, float(of.min())), max(0.0, float(of.max()))
    step = (high - low) / _LEVELS or 1.0
    return np.round(np.clip(values, low, high) / step) * step


def _readers(model: Any) -> defaultdict[int, list[Any]]:
    readers: defaultdict[int, list[Any]] = defaultdict(list)
    for operator in model.subgraphs[0].operators:
        for index in maps_of(model, operator):
            readers[index].append(operator)
    return readers
