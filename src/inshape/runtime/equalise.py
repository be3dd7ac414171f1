"""A float32 LiteRT file with the same answers, whose channels are alike in size.

A map has one scale for all of its channels, so that a channel a hundred times smaller than another
keeps two or three of the 256 levels. Where a map comes from a convolution, through nothing but
ReLUs, sums and pooling, and goes into convolutions only, each channel can be divided by a factor
that the next kernels take back (Nagel et al., arXiv 1906.04721, section 4.1). A depthwise kernel
takes any factor for nothing, since each of its channels has its own scale; for other kernels, whose
input channels share one, the factor is shared between map and kernel (Xiao et al., arXiv
2211.10438).
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .flatbuffer import litert_schema, pack_model, read_model
from .insides import expose, has_kernel, is_constant, name_of

_LEAST = 1 / 64
"""Of the largest channel: one that hardly fires on these pictures may do so on others."""


def equalised(content: bytes, pictures: Sequence[NDArray[np.float32]]) -> bytes:
    """The same network with channels of like size, as measured on ``(1, height, width, channels)``.

    Its answers differ by float32's rounding alone.
    """
    model = read_model(content)
    _part_constants(model)
    groups = _Network(model).groups()
    tensors = sorted({tensor for group in groups for tensor in group.tensors})
    if not tensors:
        return content
    run = expose(model, tensors)
    largest: dict[int, Any] = dict.fromkeys(tensors, 0.0)
    for picture in pictures:
        for tensor, values in zip(tensors, run.all_outputs(picture), strict=True):
            of_channels = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
            largest[tensor] = np.maximum(largest[tensor], of_channels)
    weights = _Weights(model)
    for group in groups:
        factors = _factors(group, largest, weights)
        for kernel, bias, is_depthwise in group.writers:
            weights.divide(kernel, factors, axis=-1 if is_depthwise else 0)
            if bias >= 0:
                weights.divide(bias, factors, axis=0)
        for kernel, _, _ in group.readers:
            weights.divide(kernel, 1 / factors, axis=-1)
    return pack_model(model)


def _part_constants(model: Any) -> None:
    """Give each layer constants of its own; converters write equal ones once."""
    graph, owned = model.subgraphs[0], set[int]()
    for number, operator in enumerate(graph.operators):
        if not has_kernel(model, operator):
            continue
        for slot, index in enumerate(operator.inputs[1:], 1):
            tensor = graph.tensors[index]
            if index < 0 or not tensor.buffer or tensor.buffer not in owned:
                owned.add(tensor.buffer)
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


class _Network:
    """Which maps of a graph hang together, and which may be changed."""

    def __init__(self, model: Any) -> None:
        self._model = model
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
        return [
            group
            for group in found.values()
            if group.writers and group.readers and not group.tensors & self._fixed
        ]

    def _read(self, operator: Any) -> None:
        builtin = litert_schema().BuiltinOperator
        kind = self._model.operatorCodes[operator.opcodeIndex].builtinCode
        inputs = [int(index) for index in operator.inputs]
        maps = [n for n in inputs if n >= 0 and not is_constant(self._model, n)]
        outputs = [int(index) for index in operator.outputs]
        if has_kernel(self._model, operator) and len(maps) == 1:
            self._read_kernel(operator, kind == builtin.DEPTHWISE_CONV_2D)
        elif self._is_homogeneous(operator) and (
            (kind == builtin.ADD and self._are_alike(maps) and len(maps) == len(inputs))
            or kind in (builtin.MEAN, builtin.PAD, builtin.AVERAGE_POOL_2D, builtin.MAX_POOL_2D)
        ):
            self._join([*maps, *outputs])
        else:
            self._fixed.update(maps, outputs)

    def _read_kernel(self, operator: Any, is_depthwise: bool) -> None:
        """Note a convolution or dense layer at the end of what it reads and of what it writes."""
        read, kernel, *bias = map(int, operator.inputs)
        (written,) = map(int, operator.outputs)
        layer = (kernel, bias[0] if bias else -1, is_depthwise)
        if self._channels(kernel) == self._channels(read):
            self._readers[read].append(layer)
        else:  # in groups, or with several outputs for each input
            self._fixed.add(read)
        if self._is_homogeneous(operator):
            self._writers[written].append(layer)
        else:
            self._fixed.add(written)

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
        # Channels are the last axis; a mean over it would leave another number of them.
        if len({self._channels(index) for index in tensors}) > 1:
            self._fixed.update(tensors)
        for tensor in tensors:
            self._next[self._root(tensor)] = self._root(tensors[0])


class _Weights:
    """The float32 constants of a model, each changed in a buffer of its own."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._tensors = model.subgraphs[0].tensors

    def of(self, index: int) -> NDArray[np.float32]:
        tensor = self._tensors[index]
        return self._model.buffers[tensor.buffer].data.view(np.float32).reshape(tensor.shape)

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


def _relative(sizes: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Sizes beside the largest, and none of next to nothing."""
    top = float(sizes.max())
    return np.maximum(np.asarray(sizes, np.float64) / (top or 1.0), _LEAST)
