"""What an int8 file will take, before there is one."""

from __future__ import annotations

from ..geometry.cost import activation_memory, costs, total_of
from ..geometry.sizes import map_shapes
from ..geometry.spec import GraphSpec
from ..shapes import InputShape

_CHANNEL_BYTES = 12
"""A bias of int32, its scale and the weights' scale as float32."""

_LAYER_BYTES = 800
"""Names and records of a convolution and of what goes with it, as measured on exported files."""

_FLOAT32_AND_INT8 = 5


def int8_file_bytes(spec: GraphSpec, shape: InputShape) -> int | None:
    """The size of a LiteRT file whose weights and activations are int8.

    Args:
        spec: the graph with its head.
        shape: the picture's, with known height and width.

    Returns:
        A byte per parameter, and per convolution and dense layer what its output channels and its
        records take; ``None`` if that is not known.
    """
    cost = costs(spec, shape)
    # A layer that is called again has no parameters of its own.
    weighty = [
        layer
        for layer, own in zip(spec, cost, strict=True)
        if (layer.is_conv or layer.op == "dense") and own.params
    ]
    maps = map_shapes(spec, shape)
    params = total_of(own.params for own in cost)
    channels = total_of(maps[layer.index][-1] for layer in weighty)
    if params is None or channels is None:
        return None
    return params + _CHANNEL_BYTES * channels + _LAYER_BYTES * len(weighty)


def int8_ram_bytes(spec: GraphSpec, shape: InputShape) -> int | None:
    """The most int8 activations alive at once, and at least the picture as it comes in.

    An exported file takes float32 pictures unless told otherwise, so that the picture is there
    twice at first. An interpreter's own records are not in it; on the other side it computes
    activation functions in place, which here count as maps of their own.

    Args:
        spec: the graph with its head.
        shape: the picture's, with known height and width.

    Returns:
        Bytes; ``None`` if that is not known.
    """
    peak = activation_memory(spec, shape).int8_bytes
    height, width = shape.hw
    if peak is None or height is None or width is None:
        return None
    return max(peak, _FLOAT32_AND_INT8 * height * width * shape.channels)
