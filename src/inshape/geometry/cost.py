"""What a network costs at an input shape: multiplications, parameters, memory."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from ..shapes import InputShape
from .amounts import product, times, total_of
from .rules import Map, read_map, spatial
from .sizes import map_shapes
from .spec import NO_PADS, GraphSpec, LayerSpec

_ALIASES = ("identity", "reshape", "flatten")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call costs; ``None`` is unknown.

    Attributes:
        macs: multiply-accumulate operations of convolutions and dense layers for one picture;
            everything else counts as 0.
        params: parameters, all of them on the first needed call of a shared layer.
    """

    macs: int | None
    params: int | None


@dataclass(frozen=True, slots=True)
class Memory:
    """Activations that are alive together when the calls run one after the other.

    Attributes:
        live_values: for each call, the values alive while it runs; ``None`` is unknown.
        peak_values: the most of them.
        peak_at: the call that runs at the peak.
    """

    live_values: tuple[int | None, ...]
    peak_values: int | None
    peak_at: int | None


def costs(spec: GraphSpec, shape: InputShape) -> tuple[Cost, ...]:
    """Multiplications and parameters of every call at an input shape.

    Parameters of convolutions and dense layers follow from the shape, since their input channels
    may have changed; those of other layers are as read. The input's own cost is that of a 1x1
    convolution in ``spec.input_layers``. Calls that no output needs cost nothing; of a call's
    several outputs the first that is needed carries its cost.

    Example:
        >>> picture = LayerSpec(index=0, name="image", op="input", inputs=(), layer=0)
        >>> stem = LayerSpec(index=1, name="stem", op="conv", inputs=(0,), layer=1,
        ...                  kernel_hw=(3, 3), stride_hw=(2, 2), padding="same", out_channels=16)
        >>> spec = GraphSpec("tiny", (picture, stem), (1,), InputShape.of("224x224x3"))
        >>> costs(spec, InputShape.of("97x64x1"))[1]        # 49 * 32 * 9 * 16 and 9 * 16
        Cost(macs=225792, params=144)
    """
    shapes = map_shapes(spec, shape)
    needed = spec.needed()
    counted: set[int] = set()
    calls: set[int] = set()
    by_call: list[Cost] = []
    for layer in spec:
        call = layer.index - (layer.answering.output if layer.answering else 0)
        if layer.index not in needed or call in calls:
            by_call.append(Cost(0, 0))
            continue
        calls.add(call)
        cost = _cost(spec, layer, shapes)
        if layer.op == "input":
            cost = _input_cost(spec, shape, shapes[layer.index])
        by_call.append(Cost(cost.macs, 0) if layer.layer in counted else cost)
        counted.add(layer.layer)
    return tuple(by_call)


def _cost(spec: GraphSpec, layer: LayerSpec, shapes: Sequence[Map]) -> Cost:
    if layer.answering is not None:
        read = [shapes[i] for i in layer.inputs]
        return Cost(layer.answering.macs(read, shapes[layer.index]), spec[layer.layer].params)
    if layer.op == "conv_transpose":
        # Every place that is read is multiplied by the whole kernel.
        read = shapes[layer.inputs[0]]
        (kernel,) = _kernel_sizes(layer, read)
        bias = shapes[layer.index][-1] if layer.use_bias else 0
        return Cost(times(product(read[:-1]), kernel), total_of([kernel, bias]))
    if not (layer.is_conv or layer.op == "dense"):
        return Cost(0, _kept_params(spec[layer.layer], shapes))
    out = shapes[layer.index]
    weights = _kernel_sizes(layer, read_map(layer, shapes[layer.inputs[0]]))
    bias = out[-1] if layer.use_bias else 0
    if not layer.is_plain:  # it may hold more, such as a gain or an adapter
        return Cost(times(product(out[:-1]), total_of(weights)), spec[layer.layer].params)
    return Cost(times(product(out[:-1]), total_of(weights)), total_of([*weights, bias]))


def _kept_params(layer: LayerSpec, shapes: Sequence[Map]) -> int | None:
    """Parameters of a layer whose channels alone may have changed."""
    if not layer.params_per_channel:
        return layer.params
    now, native = shapes[layer.index][-1], layer.native_shape[-1]
    if now is None or native is None:
        return None
    return layer.params + layer.params_per_channel * (now - native)


def activation_memory(spec: GraphSpec, shape: InputShape) -> Memory:
    """Activation memory of a sequential schedule in the graph's own order.

    A map lives from the call that puts it out until its last reader; the model's outputs live to
    the end. Identities, reshapes and flattens share their input's memory; nothing else works in
    place. A padded or pooled copy in front of a layer (``pads``, ``grid_first``) lives while that
    layer runs, and the picture until ``spec.input_layers`` has resized it.

    Example:
        >>> picture = LayerSpec(index=0, name="image", op="input", inputs=(), layer=0)
        >>> stem = LayerSpec(index=1, name="stem", op="conv", inputs=(0,), layer=1,
        ...                  kernel_hw=(3, 3), stride_hw=(2, 2), padding="same", out_channels=16)
        >>> spec = GraphSpec("tiny", (picture, stem), (1,), InputShape.of("224x224x3"))
        >>> activation_memory(spec, InputShape.of("97x64x1")).peak_values
        31296
    """
    shapes = map_shapes(spec, shape)
    needed = spec.needed()
    values = _map_values(shapes, needed)
    if values is None:
        return Memory((None,) * len(shapes), None, None)
    buffers = _buffers(spec)
    last_read = _last_reads(spec, buffers)
    alive: dict[int, int] = {}
    live: list[int] = []
    for layer, owner, size in zip(spec, buffers, values, strict=True):
        before = sum(alive.values())
        if owner == layer.index:
            alive[owner] = size
        now = sum(alive.values())
        if layer.op == "input":
            now = _input_values(spec, shape, shapes[layer.index])
        copy = _copied_values(layer, shapes, needed)
        if copy:
            # First the copy is made of the input, then the layer reads the copy alone.
            read = {buffers[i] for i in layer.inputs if last_read[buffers[i]] <= layer.index}
            now = copy + max(before, now - sum(map(alive.__getitem__, read)))
        live.append(now)
        alive = {b: n for b, n in alive.items() if last_read[b] > layer.index}
    peak = max(range(len(live)), key=live.__getitem__)
    return Memory(tuple(live), live[peak], peak)


def _map_values(shapes: Sequence[Map], needed: Container[int]) -> list[int] | None:
    """Values of each map, none where nothing needs it; nothing if one's size is unknown."""
    values: list[int] = []
    for index, shape in enumerate(shapes):
        size = product(shape) if index in needed else 0
        if size is None:
            return None
        values.append(size)
    return values


def _input_cost(spec: GraphSpec, shape: InputShape, working: Map) -> Cost:
    """A 1x1 convolution without a bias behind the resizing layer, where channels are projected."""
    if spec.input_layers.channels != "project":
        return Cost(0, 0)
    kernel = shape.channels * spec.input_layers.network_channels
    places = product(working[:2])
    return Cost(times(places, kernel), kernel)


def _kernel_sizes(layer: LayerSpec, read: Map) -> list[int | None]:
    """Weights per kernel of one layer, which is what each output place multiplies by."""
    taps = prod(layer.kernel_hw)
    out = layer.out_channels
    if layer.op == "dense":
        return [times(read[-1], out)]
    channels = spatial(layer, read)[2]
    match layer.op:
        case "depthwise":
            return [times(channels, taps * layer.multiplier)]
        case "separable":
            deep = times(channels, layer.multiplier)
            return [times(deep, taps), times(deep, out)]
        case _:
            per_group = None if channels is None else channels // layer.groups
            return [times(per_group, taps * out if out is not None else None)]


def _input_values(spec: GraphSpec, shape: InputShape, working: Map) -> int:
    """The most values alive while the picture is resized and its channels are changed."""
    steps: list[Map] = [shape.as_tuple()]
    if spec.input_layers.resize_hw is not None:
        steps.append((*spec.input_layers.resize_hw, shape.channels))
    if spec.input_layers.channels is not None:
        steps.append(working)
    sizes = [product(step) or 0 for step in steps]
    return max(map(sum, pairwise(sizes)), default=sizes[0])


def _copied_values(layer: LayerSpec, shapes: Sequence[Map], needed: Container[int]) -> int:
    """Values of the padded or pooled copy that a layer reads instead of its input."""
    pads = layer.pads if layer.is_window else NO_PADS
    is_copied = layer.grid_first is not None or pads != NO_PADS
    if layer.index not in needed or not layer.inputs or not is_copied:
        return 0
    read = read_map(layer, shapes[layer.inputs[0]])
    if pads != NO_PADS:
        height, width, channels = spatial(layer, read)
        (top, bottom), (left, right) = pads
        read = (height or 0) + top + bottom, (width or 0) + left + right, channels
    return product(read) or 0


def _buffers(spec: GraphSpec) -> tuple[int, ...]:
    """For each call, the call whose memory holds its output."""
    owners: list[int] = []
    for layer in spec:
        alias = layer.op in _ALIASES and layer.inputs and layer.grid_first is None
        owners.append(owners[layer.inputs[0]] if alias else layer.index)
    return tuple(owners)


def _last_reads(spec: GraphSpec, buffers: Sequence[int]) -> tuple[int, ...]:
    """For each buffer, the last call that reads it; beyond the end for the model's outputs."""
    last = list(range(len(spec)))
    needed = spec.needed()
    for layer in spec:
        for source in layer.inputs if layer.index in needed else ():
            last[buffers[source]] = max(last[buffers[source]], layer.index)
    for output in spec.outputs:
        last[buffers[output]] = len(spec)
    return tuple(last)
