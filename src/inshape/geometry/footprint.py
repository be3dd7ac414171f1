"""What a network takes on a micro-controller as an int8 LiteRT file, before there is one."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..shapes import InputShape
from ..text import format_bytes
from .amounts import total_of
from .arena import record_bytes, tensor_bytes, unmeasured
from .cost import costs
from .operators import (
    PRODUCTS_SHARE,
    Granularity,
    Io,
    Layout,
    layout,
    unknown_operator,
    with_products,
)
from .spec import GraphSpec

_FILE, _CARD = 760, 1400
"""Bytes of a file without a network, and of what `export` says in it of its use."""
_OPERATOR, _CONSTANT, _KERNEL = 84, 126, 221
"""Bytes of an operator with the tensor that it writes, of a small constant, and of a kernel with
its bias, without values and names; fitted to files, over which these tables are spread."""
_PRODUCT = 56
"""What a gate or a copy takes besides: the names of its kernel and bias are longer than others'."""
_NAME = 20
"""What stands in a tensor's name between two layers: ``_1/batchnorm/add_1;`` and the like."""
_WITH_NAMED_CONSTANTS = ("ADD", "MUL", "SUB", "PAD")
"""The axes of a mean and places of a slice have no names."""
_BY_CONVERTER = ("REDUCE_MAX", "POW")
"""Operators that `ai-edge-quantizer` does not know, whose files TensorFlow's converter writes."""
_ALIGNMENT = 16
_BIAS, _SCALES, _ZERO_POINT = 4, 8, 8
"""A bias of int32, its scale and the weights' scale as float32, and a zero point of int64."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a network takes on a device as an int8 LiteRT file; ``None`` is unknown.

    The file is the one that `export` writes; by default it takes and gives float32 numbers.

    Attributes:
        flash_bytes: of the file.
        ram_bytes: of the arena that TensorFlow Lite for Microcontrollers takes to run it.
        tensor_bytes: of them, those for tensors; the others are the interpreter's records.
        float32_bytes: of the weights as float32.
        more_flash_bytes: that the file may take besides, where the pictures that it is calibrated
            on show that 8 bits need a hard-swish as two operators; at most 4.75 %, and nothing with
            a limit of either.
        more_ram_bytes: likewise, all of it records.
    """

    flash_bytes: int | None
    ram_bytes: int | None
    tensor_bytes: int | None
    float32_bytes: int | None
    more_flash_bytes: int = 0
    more_ram_bytes: int = 0

    def as_dict(self) -> dict[str, int | None]:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        ram = format_bytes(self.ram_bytes)
        if self.ram_bytes is not None and self.tensor_bytes is not None:
            records = format_bytes(self.ram_bytes - self.tensor_bytes)
            ram += f" ({format_bytes(self.tensor_bytes)} of tensors, {records} of records)"
        text = (
            f"as an int8 file: flash {format_bytes(self.flash_bytes)}, RAM {ram}; "
            f"float32 weights: {format_bytes(self.float32_bytes)}"
        )
        if self.more_flash_bytes:
            text += (
                f"\n  where 8 bits need hard-swish as two operators, which export measures: up to "
                f"{format_bytes(self.more_flash_bytes)} of flash and "
                f"{format_bytes(self.more_ram_bytes)} of RAM more"
            )
        return text


def footprint(
    spec: GraphSpec,
    shape: InputShape,
    io: Io = "float32",
    granularity: Granularity = "per-channel",
) -> Footprint:
    """Flash and RAM of a network at an input shape.

    Both are within 2 % of converted files of MobileNets, measured by ``benchmarks.footprint``.
    """
    params = total_of(cost.params for cost in costs(spec, shape))
    float32 = None if params is None else 4 * params
    operators = layout(spec, shape, io)
    if operators is None:
        return Footprint(None, None, None, float32)
    tensors, records = tensor_bytes(operators), record_bytes(operators, granularity)
    ram = None if records is None else tensors + records
    flash = _file_bytes(spec, operators, granularity)
    more_flash = more_ram = 0
    if granularity == "per-channel":
        products = with_products(operators)
        added = len(products.operators) - len(operators.operators)
        more_flash = _file_bytes(spec, products, granularity) + _PRODUCT * added - flash
        more_ram = (record_bytes(products, granularity) or 0) - (records or 0)
        more_flash = min(more_flash, round(PRODUCTS_SHARE * flash))
        more_ram = min(more_ram, round(PRODUCTS_SHARE * (ram or 0)))
    return Footprint(flash, ram, tensors, float32, more_flash, more_ram)


def why_unknown(spec: GraphSpec, shape: InputShape) -> str:
    """Which layer keeps flash and RAM, or RAM alone, from being known; empty if a size does."""
    operators = layout(spec, shape)
    if operators is None:
        name = unknown_operator(spec, shape)
        return f"the operators of {name!r} are not known" if name else ""
    operator = unmeasured(operators)
    if operator is None:
        return ""
    name = spec[operator.calls[-1]].name
    return f"what tflite-micro takes for {operator.kind} ({name}) is not known"


def _file_bytes(spec: GraphSpec, operators: Layout, granularity: Granularity) -> int:
    """The size of the file, in which equal vectors stand once."""
    total = _FILE + _CARD + _OPERATOR * (len(operators.operators) - 1)
    weights: dict[tuple[int, int], int] = {}
    scales: list[int] = []
    for operator in operators.operators:
        names = [_NAME + len(spec.name) + len(spec[call].name) for call in operator.calls]
        total += sum(names) + sum(operator.constants)
        is_named = operator.kind in _WITH_NAMED_CONSTANTS
        total += len(operator.constants) * (_CONSTANT + (names[0] if is_named else 0))
        kernel = operator.kernel
        if kernel is None:
            continue
        # A bias is named as the output is, a kernel by its layer, and a norm if that changes it.
        is_scaled = operator.kind == "DEPTHWISE_CONV_2D" and len(names) > 2
        total += _KERNEL + sum(names) + names[0] * (3 if is_scaled else 1)
        size = -(-kernel.values // _ALIGNMENT) * _ALIGNMENT
        scales.append(kernel.channels if granularity == "per-channel" else 1)
        vectors = _BIAS * kernel.channels + _SCALES * scales[-1]
        weights[kernel.layer, kernel.part] = size + vectors
    # All are 0: inshape writes as many of them once, TensorFlow's converter for weights and biases.
    by_converter = any(operator.kind in _BY_CONVERTER for operator in operators.operators)
    zero_points = 2 * sum(scales) if by_converter else sum(set(scales))
    return total + sum(weights.values()) + _ZERO_POINT * zero_points
