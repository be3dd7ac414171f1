"""What a network costs at an input shape: multiplications and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ..shapes import InputShape
from .amounts import product, times, total_of
from .rules import Map, read_map, spatial
from .sizes import map_shapes
from .spec import GraphSpec, LayerSpec


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
        (kernel,) = kernel_sizes(layer, read)
        bias = shapes[layer.index][-1] if layer.use_bias else 0
        return Cost(times(product(read[:-1]), kernel), total_of([kernel, bias]))
    if not (layer.is_conv or layer.op == "dense"):
        return Cost(0, _kept_params(spec[layer.layer], shapes))
    out = shapes[layer.index]
    weights = kernel_sizes(layer, read_map(layer, shapes[layer.inputs[0]]))
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


def _input_cost(spec: GraphSpec, shape: InputShape, working: Map) -> Cost:
    """A 1x1 convolution without a bias behind the resizing layer, where channels are projected."""
    if spec.input_layers.channels != "project":
        return Cost(0, 0)
    kernel = shape.channels * spec.input_layers.network_channels
    places = product(working[:2])
    return Cost(times(places, kernel), kernel)


def kernel_sizes(layer: LayerSpec, read: Map) -> list[int | None]:
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
