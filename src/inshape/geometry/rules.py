"""The output shape of one call, given the shapes that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeAlias

from ..errors import FixedShape, GraphError, MapMismatch, VanishingMap
from ..text import format_shape
from .lengths import output_length
from .spec import LayerSpec

Map: TypeAlias = tuple[int | None, ...]
"""A shape without the batch axis, such as ``(7, 7, 576)``; ``None`` is unknown until run time."""


def output_shape(layer: LayerSpec, shapes: Sequence[Map], sources: Sequence[LayerSpec]) -> Map:
    """The output shape of one call.

    Args:
        layer: the call; anything but the picture's input.
        shapes: the shapes of the maps that it reads.
        sources: the calls that put them out.

    Returns:
        Its shape without the batch axis.

    Raises:
        VanishingMap, MapMismatch, FixedShape: if no such map exists.
        GraphError: if the record is incomplete.

    Example:
        >>> pool = LayerSpec(1, "pool", "max_pool", (0,), 1, kernel_hw=(3, 2), stride_hw=(2, 2))
        >>> output_shape(pool, [(97, 64, 1)], [pool])
        (48, 32, 1)
    """
    if not shapes:
        return _as_read(layer)
    shape = read_map(layer, shapes[0])
    if layer.is_window:
        return _window(layer, shape)
    match layer.op:
        case "pad" | "crop":
            return _padded(layer, shape)
        case "upsample":
            height, width, channels = spatial(layer, shape)
            return _times(height, layer.stride_hw[0]), _times(width, layer.stride_hw[1]), channels
        case "resize" | "adaptive_pool":
            if layer.target_hw is None:
                raise GraphError(_incomplete(layer, "target_hw"))
            return *layer.target_hw, spatial(layer, shape)[2]
        case "global_pool":
            return (*(1,) * (len(shape) - 1), shape[-1]) if layer.keepdims else shape[-1:]
        case "dense":
            return _dense(layer, shape)
        case "elementwise":
            return _broadcast(layer, [shape, *shapes[1:]], sources)
        case "concat":
            return _concatenated(layer, [shape, *shapes[1:]], sources)
        case "flatten":
            return (_product(shape),)
        case "reshape":
            return _reshaped(layer, shape)
        case "opaque":
            return _opaque(layer, shapes, sources)
        case _:
            return shape


def read_map(layer: LayerSpec, shape: Map) -> Map:
    """What a layer's own arithmetic reads: its input, pooled to ``grid_first`` where that is set.

    Args:
        layer: the call.
        shape: the shape of its first input.

    Returns:
        The shape after the grid.

    Raises:
        GraphError: if a grid is asked for and the input is not a map.
    """
    if layer.grid_first is None:
        return shape
    return *layer.grid_first, spatial(layer, shape)[2]


def spatial(layer: LayerSpec, shape: Map) -> tuple[int | None, int | None, int | None]:
    """A map's height, width and channels.

    Args:
        layer: the call that reads it, for the message.
        shape: its shape.

    Returns:
        The three axes.

    Raises:
        GraphError: if it is not a map.
    """
    if len(shape) != 3:
        raise GraphError(
            f"layer {layer.name!r} ({layer.op}) reads {format_shape(shape)}, expected a map of "
            "height x width x channels; check the model"
        )
    return shape[0], shape[1], shape[2]


def _window(layer: LayerSpec, shape: Map) -> Map:
    *hw, channels = spatial(layer, shape)
    lengths = [
        output_length(n, k, s, dilation_px=d, padding=layer.padding, pads_px=pads)
        for n, k, s, d, pads in zip(
            hw, layer.kernel_hw, layer.stride_hw, layer.dilation_hw, layer.pads, strict=True
        )
    ]
    _check_left(layer, lengths)
    if layer.op in ("max_pool", "avg_pool"):
        return *lengths, channels
    if layer.op == "depthwise":
        return *lengths, _times(channels, layer.multiplier)
    return *lengths, _out_channels(layer)


def _padded(layer: LayerSpec, shape: Map) -> Map:
    *hw, channels = spatial(layer, shape)
    sign = 1 if layer.op == "pad" else -1
    lengths = [
        None if n is None else n + sign * sum(pads) for n, pads in zip(hw, layer.pads, strict=True)
    ]
    _check_left(layer, lengths)
    return *lengths, channels


def _check_left(layer: LayerSpec, lengths: Sequence[int | None]) -> None:
    left = tuple(n if n is None else max(0, n) for n in lengths)
    if 0 in left:
        raise VanishingMap(f'map at "{layer.name}" would be {format_shape(left)} pixels')


def _dense(layer: LayerSpec, shape: Map) -> Map:
    if shape[-1] is None:
        raise FixedShape(
            f'dense layer "{layer.name}" would read a vector whose length is unknown, expected a '
            "fixed one"
        )
    return *shape[:-1], _out_channels(layer)


def _broadcast(layer: LayerSpec, shapes: Sequence[Map], sources: Sequence[LayerSpec]) -> Map:
    rank = max(len(s) for s in shapes)
    aligned = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    axes: list[int | None] = []
    for lengths in zip(*aligned, strict=True):
        # One, or unknown until run time, both give way to a length that is known and not one.
        known = {n for n in lengths if n is not None and n != 1}
        if len(known) > 1:
            raise MapMismatch(_mismatch(layer, shapes, sources, lengths))
        axes.append(known.pop() if known else (None if None in lengths else 1))
    return tuple(axes)


def _concatenated(layer: LayerSpec, shapes: Sequence[Map], sources: Sequence[LayerSpec]) -> Map:
    if len({len(s) for s in shapes}) > 1:
        raise MapMismatch(_mismatch(layer, shapes, sources, [len(s) for s in shapes]))
    axes: list[int | None] = []
    for lengths in zip(*(s[:-1] for s in shapes), strict=True):
        known = {n for n in lengths if n is not None}
        if len(known) > 1:
            raise MapMismatch(_mismatch(layer, shapes, sources, lengths))
        axes.append(known.pop() if known else None)
    channels = [s[-1] for s in shapes]
    return *axes, None if None in channels else sum(c for c in channels if c is not None)


def _mismatch(
    layer: LayerSpec,
    shapes: Sequence[Map],
    sources: Sequence[LayerSpec],
    lengths: Sequence[int | None],
) -> str:
    """Name the first map of the odd axis and the first one that disagrees with it."""
    pool = [i for i, n in enumerate(lengths) if n is not None and (n != 1 or layer.op == "concat")]
    first = pool[0]
    other = next(i for i in pool if lengths[i] != lengths[first])
    return (
        f'"{layer.name}" joins "{sources[first].name}" ({format_shape(shapes[first])}) and '
        f'"{sources[other].name}" ({format_shape(shapes[other])}), expected equal sizes'
    )


def _reshaped(layer: LayerSpec, shape: Map) -> Map:
    target = layer.target_shape
    if target is None:
        raise GraphError(_incomplete(layer, "target_shape"))
    fixed = prod(n for n in target if n != -1)
    values = _product(shape)
    known = prod(n for n in shape if n is not None)
    if values is None and -1 in target and known % fixed == 0:
        return tuple(None if n == -1 else n for n in target)
    if values is None:
        raise FixedShape(
            f'reshape "{layer.name}" is fixed to {_target_word(target)} but reads '
            f"{format_shape(shape)}, whose size is unknown"
        )
    if values % fixed or (-1 not in target and values != fixed):
        raise FixedShape(
            f'reshape "{layer.name}" is fixed to {_target_word(target)} but reads '
            f"{format_shape(shape)} ({values} values)"
        )
    return tuple(values // fixed if n == -1 else n for n in target)


def _target_word(target: Sequence[int]) -> str:
    return format_shape(tuple(None if n == -1 else n for n in target))


def _opaque(layer: LayerSpec, shapes: Sequence[Map], sources: Sequence[LayerSpec]) -> Map:
    native = _as_read(layer)
    read = [source.native_shape for source in sources]
    if list(shapes) == read or len(native) < 2:
        return native
    if native == read[0]:
        return shapes[0]
    if len(native) == 3 and native[:2] == read[0][:2]:
        return *shapes[0][:2], native[2]
    return *(None,) * (len(native) - 1), native[-1]


def _as_read(layer: LayerSpec) -> Map:
    if not layer.native_shape:
        raise GraphError(_incomplete(layer, "native_shape"))
    return layer.native_shape


def _out_channels(layer: LayerSpec) -> int:
    if layer.out_channels is None:
        raise GraphError(_incomplete(layer, "out_channels"))
    return layer.out_channels


def _incomplete(layer: LayerSpec, field: str) -> str:
    return f"layer {layer.name!r} ({layer.op}) has no {field}, expected one; check the record"


def _times(length: int | None, factor: int) -> int | None:
    return None if length is None else length * factor


def _product(shape: Map) -> int | None:
    known = [n for n in shape if n is not None]
    return prod(known) if len(known) == len(shape) else None
