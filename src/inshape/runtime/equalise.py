"""A float32 LiteRT file with the same answers, whose channels are alike in size.

A map has one scale for all of its channels, so that a channel a hundred times smaller than another
keeps two or three of the 256 levels. Where a map comes from a convolution, through nothing but
ReLUs, sums and pooling, and goes into convolutions only, each channel can be divided by a factor
that the next kernels take back (Nagel et al., arXiv 1906.04721, section 4.1). A depthwise kernel
takes any factor for nothing, since each of its channels has its own scale; for other kernels, whose
input channels share one, the factor is shared between map and kernel (Xiao et al., arXiv
2211.10438). A hard-swish becomes a product where that leaves its map less noise (`hard_swish`), and
a product hands on the factors of the map that it scales. Where all weights of a layer share a
scale, small channels of a kernel are lost before those of a map: factors then bring the channels of
the kernels at both ends to like sizes.
"""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry.operators import Granularity
from ..importing.litert_file import litert_schema
from .flatbuffer import pack_model, read_model
from .hard_swish import TOP, fits, floors_of, free_swishes, noise, put_copies, split_swishes
from .insides import expose, has_kernel, is_constant, kind_of, maps_of, name_of, values_of

_LEAST = 1 / 64
"""Of the largest channel: one that hardly fires on these pictures may do so on others."""
_LEVELS = 255
_ROUNDS = 20
"""Of going through all maps."""
_GAIN, _AUDIBLE = 1.5, 0.002
"""How many times less noise a product's two operators must be worth, and how much of the channels
of a map nobody misses."""
_HEARD_PICTURES, _HEARD_PLACES = 16, 256
"""By which a map's noise is measured, and places of each."""


def equalised(
    content: bytes,
    pictures: Sequence[NDArray[np.float32]],
    granularity: Granularity = "per-channel",
    *,
    split: bool = True,
) -> bytes:
    """The same network with channels of like size, as measured on ``(1, height, width, channels)``.

    Its answers differ by float32's rounding alone. Without ``split`` it has the same operators.
    """
    model = read_model(content)
    _part_constants(model)
    may_split = split and granularity == "per-channel"  # a gate's weights differ by as much
    copies = put_copies(model) if may_split else {}
    network = _Network(model, free_swishes(model) if may_split else {})
    groups = network.groups()
    low, high = _ends(
        model, sorted({index for group in groups for index in group.tensors}), pictures
    )
    largest = {index: np.maximum(-low[index], high[index]) for index in low}
    weights = _Weights(model)
    if granularity == "per-channel":
        factors = [_factors(group, largest, weights) for group in groups]
        products = _products(model, copies, groups, factors, pictures)
        vain = {copied for copied, output in copies.items() if output not in products}
        for group, channels in zip(groups, factors, strict=True):
            if group.swishes.keys() <= products.keys() and not group.tensors & vain:
                group.divide_by(channels, weights)
        split_swishes(model, copies, products)
    else:
        varied = {index: high[index] - low[index] for index in low}
        _balance(groups, largest, varied, weights)
    return pack_model(model)


def _ends(
    model: Any, tensors: Sequence[int], pictures: Sequence[NDArray[np.float32]]
) -> tuple[dict[int, Any], dict[int, Any]]:
    """The smallest and the largest value of each channel that counts."""
    low: dict[int, Any] = dict.fromkeys(tensors, np.inf)
    high: dict[int, Any] = dict.fromkeys(tensors, -np.inf)
    floors = floors_of(model)
    if not tensors:
        return low, high
    run = expose(model, tensors)
    for picture in pictures:
        for tensor, values in zip(tensors, run.all_outputs(picture), strict=True):
            places = values.reshape(-1, values.shape[-1])
            if tensor in floors:
                places = np.maximum(places, floors[tensor])
            low[tensor] = np.minimum(low[tensor], places.min(axis=0))
            high[tensor] = np.maximum(high[tensor], places.max(axis=0))
    return low, high


def _products(
    model: Any,
    copies: Mapping[int, int],
    groups: Sequence[_Group],
    factors: Sequence[NDArray[np.float64]],
    pictures: Sequence[NDArray[np.float32]],
) -> dict[int, NDArray[np.float64]]:
    """The hard-swishes that are to be products, by what they write, with their factors.

    Either all of a group or none are, the ones that gain most first.
    """
    of_swish = {
        output: (source, channels)
        for group, channels in zip(groups, factors, strict=True)
        for output, source in group.swishes.items()
    }
    if not of_swish:
        return {}
    gains = _noise(model, of_swish, pictures)
    kept, file_bytes = set[int](), len(pack_model(model))
    loudest = [(sum(gains[o][0] for o in g.swishes), n) for n, g in enumerate(groups) if g.swishes]
    for before, n in sorted(loudest, reverse=True):
        swishes = set(groups[n].swishes)
        after = sum(gains[output][1] for output in swishes)
        is_worth_it = before > max(_AUDIBLE, _GAIN * after)
        if is_worth_it and fits(model, file_bytes, copies, kept | swishes):
            kept |= swishes
    return {output: of_swish[output][1] for output in kept}


def _noise(
    model: Any,
    of_swish: Mapping[int, tuple[int, NDArray[np.float64]]],
    pictures: Sequence[NDArray[np.float32]],
) -> dict[int, tuple[float, float]]:
    """How loud 8 bits are behind each hard-swish, as it is and as a product."""
    sources = [source for source, _ in of_swish.values()]
    rows: dict[int, list[NDArray[np.float32]]] = {source: [] for source in sources}
    run, draw = expose(model, sources), np.random.default_rng(0)
    chosen = np.linspace(0, len(pictures) - 1, min(len(pictures), _HEARD_PICTURES)).round()
    for picture in (pictures[int(place)] for place in chosen):
        for source, values in zip(sources, run.all_outputs(picture), strict=True):
            places = values.reshape(-1, values.shape[-1])
            rows[source].append(places[draw.integers(len(places), size=_HEARD_PLACES)])
    return {
        output: noise(np.concatenate(rows[source]), channels)
        for output, (source, channels) in of_swish.items()
    }


def _part_constants(model: Any) -> None:
    """Give each layer constants of its own; converters write equal ones once."""
    graph = model.subgraphs[0]
    uses = Counter(int(index) for operator in graph.operators for index in operator.inputs)
    holders = Counter(tensor.buffer for tensor in graph.tensors)
    for number, operator in enumerate(graph.operators):
        if not has_kernel(model, operator):
            continue
        for slot, index in enumerate(operator.inputs[1:], 1):
            if index < 0 or not is_constant(model, index):
                continue
            tensor = graph.tensors[index]
            if uses[int(index)] == 1 and holders[tensor.buffer] == 1:
                continue
            own, buffer = copy.copy(tensor), copy.copy(model.buffers[tensor.buffer])
            own.name, own.buffer = f"{name_of(graph, index)}/{number}", len(model.buffers)
            operator.inputs[slot] = len(graph.tensors)
            model.buffers.append(buffer)
            graph.tensors.append(own)


_Layer = tuple[int, int, bool]
"""The tensors of its kernel and its bias (-1 if it has none), and whether it is depthwise."""


@dataclass(slots=True)
class _Group:
    """Maps whose channels must have the same factors, and the convolutions at both ends."""

    tensors: set[int] = field(default_factory=set[int])
    writers: list[_Layer] = field(default_factory=list[_Layer])
    readers: list[_Layer] = field(default_factory=list[_Layer])
    gated: list[_Layer] = field(default_factory=list[_Layer])
    """Those of the writers whose output goes into a hard-swish."""
    swishes: dict[int, int] = field(default_factory=dict[int, int])
    """What each hard-swish between its maps writes, and what it reads."""

    def divide_by(self, factors: NDArray[np.float64], weights: _Weights) -> None:
        """Have the maps' channels divided at one end and multiplied again at the other."""
        for kernel, bias, is_depthwise in self.writers:
            weights.divide(kernel, factors, axis=-1 if is_depthwise else 0)
            if bias >= 0:
                weights.divide(bias, factors, axis=0)
        for kernel, _, _ in self.readers:
            weights.divide(kernel, 1 / factors, axis=-1)
        for kernel, bias, _ in self.gated:
            for index in (kernel, bias) if bias >= 0 else (kernel,):
                weights.divide(index, np.array([TOP]), axis=0)

    def imbalance(self, weights: _Weights) -> NDArray[np.float64]:
        """How much larger each channel is at one end than at the other, halfway."""
        written = [
            _relative(weights.sizes(kernel, -1 if is_depthwise else 0))
            for kernel, _, is_depthwise in self.writers
        ]
        read = [_relative(weights.sizes(kernel, -1)) for kernel, _, _ in self.readers]
        return np.sqrt(np.max(written, axis=0) / np.max(read, axis=0))


class _Network:
    """Which maps of a graph hang together, and which may be changed."""

    def __init__(self, model: Any, swishes: Mapping[int, int]) -> None:
        """``swishes`` are what a hard-swish that may be a product writes, and what it reads."""
        self._model = model
        self._swishes = swishes
        self._graph = model.subgraphs[0]
        self._next: dict[int, int] = {}
        # What the user gives and gets, and whatever an unknown operator reads or writes.
        self._fixed = {int(index) for index in (*self._graph.inputs, *self._graph.outputs)}
        self._writers: defaultdict[int, list[_Layer]] = defaultdict(list)
        self._readers: defaultdict[int, list[_Layer]] = defaultdict(list)
        for operator in self._graph.operators:
            self._read(operator)

    def groups(self) -> list[_Group]:
        """Maps that have convolutions at both ends and nothing else that reads or writes them."""
        found: defaultdict[int, _Group] = defaultdict(_Group)
        for tensor in {*self._writers, *self._readers, *self._next, *self._fixed}:
            group = found[self._root(tensor)]
            group.tensors.add(tensor)
            group.writers += self._writers.get(tensor, ())
            group.readers += self._readers.get(tensor, ())
            if tensor in self._swishes:
                group.swishes[tensor] = self._swishes[tensor]
                group.gated += self._writers.get(self._swishes[tensor], ())
        return [
            group
            for group in found.values()
            if group.writers and group.readers and not group.tensors & self._fixed
        ]

    def _read(self, operator: Any) -> None:
        inputs = [int(index) for index in operator.inputs]
        maps = maps_of(self._model, operator)
        outputs = [int(index) for index in operator.outputs]
        if has_kernel(self._model, operator) and len(maps) == 1:
            self._read_kernel(operator, inputs, outputs)
        elif self._scales_with(operator, maps, inputs):
            self._join([*maps, *outputs])
        elif (scaled := self._scaled(operator, maps)) is not None:
            self._join([scaled, *outputs])
            self._fixed.update(set(maps) - {scaled})
        else:
            self._fixed.update(maps, outputs)

    def _scaled(self, operator: Any, maps: Sequence[int]) -> int | None:
        """The map that a product multiplies by a constant, or by a gate such as one per channel."""
        product = litert_schema().BuiltinOperator.MUL
        if kind_of(self._model, operator) != product or not self._is_homogeneous(operator):
            return None
        whole = [n for n in maps if self._are_alike([n, int(operator.outputs[0])])]
        return whole[0] if whole else None

    def _read_kernel(self, operator: Any, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        depthwise = litert_schema().BuiltinOperator.DEPTHWISE_CONV_2D
        bias = inputs[2] if len(inputs) > 2 else -1
        layer = (inputs[1], bias, kind_of(self._model, operator) == depthwise)
        if self._channels(inputs[1]) == self._channels(inputs[0]):
            self._readers[inputs[0]].append(layer)
        else:  # in groups, or with several outputs for each input
            self._fixed.add(inputs[0])
        if self._is_homogeneous(operator):
            self._writers[outputs[0]].append(layer)
        else:
            self._fixed.update(outputs)

    def _scales_with(self, operator: Any, maps: Sequence[int], inputs: Sequence[int]) -> bool:
        """Whether each channel of the output is as many times larger as that of the input is."""
        builtin = litert_schema().BuiltinOperator
        kind = kind_of(self._model, operator)
        if kind == builtin.HARD_SWISH:
            return int(operator.outputs[0]) in self._swishes
        if kind == builtin.ADD:
            are_maps = len(maps) == len(inputs) and self._are_alike(maps)
            return are_maps and self._is_homogeneous(operator)
        if kind == builtin.MEAN:
            axes = values_of(self._model, inputs[1]).view(np.int32)
            rank = len(self._graph.tensors[inputs[0]].shape)
            return (rank - 1) not in axes % rank
        pools = (builtin.PAD, builtin.AVERAGE_POOL_2D, builtin.MAX_POOL_2D)
        return kind in pools and self._is_homogeneous(operator)

    def _is_homogeneous(self, operator: Any) -> bool:
        """Whether twice as much before an operator's activation is twice as much behind it."""
        kinds = litert_schema().ActivationFunctionType
        fused = getattr(operator.builtinOptions, "fusedActivationFunction", kinds.NONE)
        return fused in (kinds.NONE, kinds.RELU)

    def _channels(self, index: int) -> int:
        return int(self._graph.tensors[index].shape[-1])

    def _are_alike(self, tensors: Sequence[int]) -> bool:
        return len({tuple(self._graph.tensors[index].shape) for index in tensors}) == 1

    def _root(self, tensor: int) -> int:
        while (known := self._next.get(tensor, tensor)) != tensor:
            tensor = known
        return tensor

    def _join(self, tensors: Sequence[int]) -> None:
        for tensor in tensors:
            self._next[self._root(tensor)] = self._root(tensors[0])


class _Weights:
    """The float32 constants of a model, each changed in a buffer of its own."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._tensors = model.subgraphs[0].tensors

    def of(self, index: int) -> NDArray[np.float32]:
        tensor = self._tensors[index]
        return values_of(self._model, index).view(np.float32).reshape(tensor.shape)

    def sizes(self, index: int, axis: int) -> NDArray[np.float32]:
        """The largest weight of each channel along an axis."""
        values = np.abs(self.of(index))
        return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1).max(axis=1)

    def divide(self, index: int, factors: NDArray[np.floating[Any]], axis: int) -> None:
        values = self.of(index)
        shape = np.ones(values.ndim, int)
        shape[axis] = len(factors)
        divided = (values / factors.reshape(shape)).astype(np.float32)
        self._model.buffers[self._tensors[index].buffer].data = divided.view(np.uint8).ravel()


def _factors(
    group: _Group, largest: dict[int, NDArray[np.float32]], weights: _Weights
) -> NDArray[np.float64]:
    """What each channel of a group's maps is divided by; 1 for the largest."""
    sizes = np.max([_relative(largest[tensor]) for tensor in group.tensors], axis=0)
    kernels = [weights.of(kernel) for kernel, _, is_depthwise in group.readers if not is_depthwise]
    if kernels:
        rows = [np.abs(k).reshape(len(k), -1, k.shape[-1]).max(axis=1) for k in kernels]
        of_kernels = np.max([_relative(row) for part in rows for row in part], axis=0)
        sizes = np.sqrt(sizes / of_kernels)
    return np.maximum(sizes / sizes.max(), _LEAST)


def _balance(
    groups: Sequence[_Group],
    largest: dict[int, NDArray[Any]],
    varied: dict[int, NDArray[Any]],
    weights: _Weights,
) -> None:
    """Bring the channels of the kernels at both ends of maps to like sizes.

    A kernel between two groups changes with both of them, hence the rounds. What a kernel gains, a
    map may lose: no channel grows beyond the largest of its map, and those that are a bias and
    hardly anything else do not decide how the others change.
    """
    counts = [
        np.any([_LEVELS * varied[t] > largest[t].max() for t in group.tensors], axis=0)
        for group in groups
    ]
    for _ in range(_ROUNDS):
        for group, is_counted in zip(groups, counts, strict=True):
            factors = group.imbalance(weights)
            factors /= np.exp(np.log(factors[is_counted]).mean()) if is_counted.any() else 1.0
            for tensor in group.tensors:
                factors = np.maximum(factors, largest[tensor] / (largest[tensor].max() or 1.0))
            group.divide_by(factors, weights)
            for tensor in group.tensors:
                largest[tensor] = largest[tensor] / factors


def _relative(sizes: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Sizes beside the largest, and none of next to nothing."""
    top = float(sizes.max())
    return np.maximum(np.asarray(sizes, np.float64) / (top or 1.0), _LEAST)
