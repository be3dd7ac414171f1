"""What an int8 file will take, before there is one."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..shapes import InputShape
from ..text import format_bytes
from .amounts import total_of
from .cost import activation_memory, costs
from .sizes import map_shapes
from .spec import GraphSpec

_CHANNEL_BYTES = 12
"""A bias of int32, its scale and the weights' scale as float32."""

_LAYER_BYTES = 800
"""Names and records of a convolution and of what goes with it, as measured on exported files."""

_FLOAT32_AND_INT8 = 5


def int8_file_bytes(spec: GraphSpec, shape: InputShape) -> int | None:
    """The size of a LiteRT file whose weights and activations are int8."""
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
    """
    peak = activation_memory(spec, shape).peak_values
    height, width = shape.hw
    if peak is None or height is None or width is None:
        return None
    return max(peak, _FLOAT32_AND_INT8 * height * width * shape.channels)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a network takes on a device as an int8 LiteRT file; ``None`` is unknown.

    Attributes:
        flash_bytes: of the file.
        ram_bytes: of activations at their peak.
        float32_bytes: of the weights as float32.
    """

    flash_bytes: int | None
    ram_bytes: int | None
    float32_bytes: int | None

    def as_dict(self) -> dict[str, int | None]:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"as an int8 file: flash {format_bytes(self.flash_bytes)}, RAM "
            f"{format_bytes(self.ram_bytes)} (float32 weights: {format_bytes(self.float32_bytes)})"
        )


def footprint(spec: GraphSpec, shape: InputShape) -> Footprint:
    """Flash and RAM of a network at an input shape."""
    params = total_of(cost.params for cost in costs(spec, shape))
    float32 = None if params is None else 4 * params
    return Footprint(int8_file_bytes(spec, shape), int8_ram_bytes(spec, shape), float32)
