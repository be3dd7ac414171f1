"""The arena that TensorFlow Lite for Microcontrollers takes for a file, before there is one.

Its head holds tensors and scratch memory, placed by ``greedy_memory_planner.cc`` over the lifetimes
of ``micro_allocation_info.cc``; its tail holds records that stay (``micro_allocator.cc``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .operators import Granularity, Layout, Operator

_ALIGNMENT = 16
"""Of a tensor (``micro_arena_constants.h``)."""
_TENSOR, _NODE, _END, _CHANNEL = 24, 64, 64, 8
"""Bytes for a ``TfLiteEvalTensor``, a ``NodeAndRegistration``, a ``TfLiteTensor`` of an input or
output, and a channel's multiplier and shift (``conv_common.cc``), on a 64-bit machine."""
_INTERPRETER = 536
"""The interpreter's own objects."""
_RECORDS = {
    "ADD": 70, "AVERAGE_POOL_2D": 76, "CONCATENATION": 92, "CONV_2D": 109,
    "DEPTHWISE_CONV_2D": 108, "DEQUANTIZE": 26, "FULLY_CONNECTED": 121, "HARD_SWISH": 30,
    "LOGISTIC": 16, "MAXIMUM": 4, "MAX_POOL_2D": 76, "MEAN": 68, "MINIMUM": 4, "MUL": 58,
    "PAD": 62, "QUANTIZE": 26, "REDUCE_MAX": 68, "RELU": 40, "RELU6": 40, "RESHAPE": 36,
    "RESIZE_BILINEAR": 4, "RESIZE_NEAREST_NEIGHBOR": 4, "SOFTMAX": 86, "STRIDED_SLICE": 124,
    "SUB": 70, "TANH": 11, "TRANSPOSE_CONV": 178,
}  # fmt: skip
"""Bytes of a kernel's parameters and data with what aligns them, as `tflite-micro` 0.dev20261023
records them. It has kernels for more operators, whose records nobody measured."""


class _Buffer(NamedTuple):
    size: int
    first: int
    last: int


def tensor_bytes(layout: Layout) -> int:
    """Bytes of the arena's head: tensors and scratch memory as the planner places them.

    Example:
        >>> from inshape.geometry.operators import Operator
        >>> picture = Operator("PICTURE", [], (9, 9, 1), value_bytes=4)
        >>> end = Operator("QUANTIZE", [picture], (9, 9, 1))
        >>> tensor_bytes(Layout((picture, end), (end,)))        # 324 and 81 bytes, aligned
        432
    """
    buffers = _buffers(layout)
    # The largest first; of equal ones the last that was added.
    order = sorted(range(len(buffers)), key=lambda i: (-buffers[i].size, -i))
    placed: list[tuple[int, _Buffer]] = []  # by offset; of equal ones the first that was placed
    for buffer in (buffers[i] for i in order):
        offset = 0
        for start, other in placed:
            if other.first > buffer.last or buffer.first > other.last:
                continue
            if start - offset >= buffer.size:
                break
            offset = max(offset, start + other.size)
        at = next((n for n, (start, _) in enumerate(placed) if start > offset), len(placed))
        placed.insert(at, (offset, buffer))
    return max(start + buffer.size for start, buffer in placed)


def alive_bytes(layout: Layout) -> list[int]:
    """For each operator, the bytes that are alive while it runs: what no placement can go below."""
    alive = [0] * len(layout.operators)
    for buffer in _buffers(layout):
        for step in range(buffer.first, buffer.last + 1):
            alive[step] += buffer.size
    return alive


def record_bytes(layout: Layout, granularity: Granularity = "per-channel") -> int | None:
    """Bytes of the arena's tail; ``None`` if the records of an operator are not known."""
    if unmeasured(layout) is not None:
        return None
    total = _INTERPRETER + _TENSOR + _END * (1 + len(layout.outputs))
    for operator in layout.operators[1:]:
        tensors = 1 + len(operator.constants)
        if operator.kernel is not None:
            tensors += 2
            # Convolutions take multipliers for all channels even so; the two vectors are aligned.
            is_one = granularity == "per-tensor" and operator.kind == "FULLY_CONNECTED"
            total += -_ALIGNMENT if is_one else _CHANNEL * operator.kernel.channels
        total += _RECORDS[operator.kind] + _NODE + _TENSOR * tensors
    return total


def unmeasured(layout: Layout) -> Operator | None:
    """The first operator whose records are not known, if there is one."""
    return next((x for x in layout.operators[1:] if x.kind not in _RECORDS), None)


def _buffers(layout: Layout) -> Sequence[_Buffer]:
    """What is placed, in the order of the file's tensors, with its first and last step."""
    first = {id(operator): step for step, operator in enumerate(layout.operators)}
    last = dict(first)
    for step, operator in enumerate(layout.operators):
        last.update((id(source), step) for source in operator.reads)
    last.update((id(output), len(layout.operators) - 1) for output in layout.outputs)
    # The quantizer adds its operators' tensors behind those of the converter.
    tensors = sorted(layout.operators, key=lambda x: x.kind in ("QUANTIZE", "DEQUANTIZE"))
    buffers = [_Buffer(_aligned(x.tensor_bytes), first[id(x)], last[id(x)]) for x in tensors]
    scratch = [
        _Buffer(_aligned(size), step, step)
        for step, operator in enumerate(layout.operators)
        if (size := _scratch_bytes(operator))
    ]
    return [*buffers, *scratch]


def _scratch_bytes(operator: Operator) -> int:
    """Sums of int32, of a mean or a transposed convolution, or the places of a maximum.

    See ``reduce_common.cc`` and ``transpose_conv.cc``.
    """
    if operator.kind in ("MEAN", "TRANSPOSE_CONV"):
        return 4 * operator.tensor_bytes
    return 2 * _ALIGNMENT if operator.kind == "REDUCE_MAX" else 0


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
