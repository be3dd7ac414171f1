"""The output shape of one call, given the shapes that it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeAlias

from ..errors import FixedShape, GraphError, MapMismatch, VanishingMap
from ..text import format_shape
from .amounts import product, times, total_of
from .lengths import output_length
from .spec import LayerSpec, OpKind

Map: TypeAlias = tuple[int | None, ...]
"""A shape without the batch axis, such as ``(7, 7, 576)``; ``None`` is unknown until run time."""


def output_shape(layer: LayerSpec, shapes: Sequence[Map], sources: Sequence[LayerSpec]) -> Map:
    """The output shape of one call.

    Example:
        >>> pool = LayerSpec(1, "pool", "max_pool", (0,), 1, kernel_hw=(3, 2), stride_hw=(2, 2))
        >>> output_shape(pool, [(97, 64, 1)], [pool])
        (48, 32, 1)
    """
    if not shapes:
        return _as_read(layer)
    read = [read_map(layer, shapes[0]), *shapes[1:]]
    if layer.answering is not None:
        return layer.answering.output_shape(shapes)
    if layer.op == "opaque":
        return _opaque(layer, shapes, sources)
    if layer.op in _JOINS:
        return _JOINS[layer.op](layer, read, sources)
    if layer.is_window:
        return _window(layer, read[0])
    return _RULES[layer.op](layer, read[0]) if layer.op in _RULES else read[0]


def check_weights(layer: LayerSpec, shapes: Sequence[Map], sources: Sequence[LayerSpec]) -> None:
    """Refuse to read another number of channels or values than a layer has weights for."""
    if not layer.params or not (layer.is_conv or layer.op in ("dense", "conv_transpose")):
        return
    native = sources[0].native_shape
    has, reads = native[-1] if native else None, shapes[0][-1] if shapes[0] else None
    if layer.grid_first is None and None not in (has, reads) and has != reads:
        raise FixedShape(f'"{layer.name}" has weights for {has} values and would read {reads}')


def read_map(layer: LayerSpec, shape: Map) -> Map:
    """What a layer's own arithmetic reads: its input, pooled to ``grid_first`` if that is set."""
    if layer.grid_first is None:
        return shape
    return *layer.grid_first, spatial(layer, shape)[2]


def spatial(layer: LayerSpec, shape: Map) -> tuple[int | None, int | None, int | None]:
    """A map's height, width and channels."""
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
        return *lengths, times(channels, layer.multiplier)
    return *lengths, _out_channels(layer)


def _transposed(layer: LayerSpec, shape: Map) -> Map:
    *hw, _ = spatial(layer, shape)
    lengths: list[int | None] = []
    for n, kernel, stride, dilation in zip(
        hw, layer.kernel_hw, layer.stride_hw, layer.dilation_hw, strict=True
    ):
        beyond = max(0, (kernel - 1) * dilation + 1 - stride) if layer.padding == "valid" else 0
        lengths.append(None if n is None else n * stride + beyond)
    return *lengths, _out_channels(layer)


def _upsampled(layer: LayerSpec, shape: Map) -> Map:
    height, width, channels = spatial(layer, shape)
    return times(height, layer.stride_hw[0]), times(width, layer.stride_hw[1]), channels


def _to_grid(layer: LayerSpec, shape: Map) -> Map:
    if layer.target_hw is None:
        raise GraphError(_incomplete(layer, "target_hw"))
    return *layer.target_hw, spatial(layer, shape)[2]


def _pooled(layer: LayerSpec, shape: Map) -> Map:
    return (*(1,) * (len(shape) - 1), shape[-1]) if layer.keepdims else shape[-1:]


def _flattened(_: LayerSpec, shape: Map) -> Map:
    return (product(shape),)


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


def _sliced(layer: LayerSpec, shape: Map) -> Map:
    lengths: list[int | None] = []
    for part, length in zip(layer.slices, shape, strict=False):
        if len(part) == 1:  # a single place, whose axis goes
            if length is not None and not -length <= (part[0] or 0) < length:
                raise FixedShape(
                    f'slice "{layer.name}" takes place {part[0]} of {format_shape(shape)}'
                )
            continue
        lengths.append(None if length is None else len(range(*slice(*part).indices(length))))
    _check_left(layer, lengths)
    return *lengths, *shape[len(layer.slices) :]


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
    # One, or unknown until run time, both give way to a length that is known and not one.
    lengths = zip(*aligned, strict=True)
    return tuple(_joined(layer, shapes, sources, axis, gives_way=1) for axis in lengths)


def _concatenated(layer: LayerSpec, shapes: Sequence[Map], sources: Sequence[LayerSpec]) -> Map:
    if len({len(s) for s in shapes}) > 1:
        raise MapMismatch(_mismatch(layer, shapes, sources, [len(s) for s in shapes]))
    joined = layer.axis % len(shapes[0])
    return tuple(
        total_of(lengths) if axis == joined else _joined(layer, shapes, sources, lengths)
        for axis, lengths in enumerate(zip(*shapes, strict=True))
    )


def _joined(
    layer: LayerSpec,
    shapes: Sequence[Map],
    sources: Sequence[LayerSpec],
    lengths: Sequence[int | None],
    *,
    gives_way: int | None = None,
) -> int | None:
    """The one length of several maps along an axis."""
    known = {n for n in lengths if n not in (None, gives_way)}
    if len(known) > 1:
        raise MapMismatch(_mismatch(layer, shapes, sources, lengths))
    return known.pop() if known else (None if None in lengths else gives_way)


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
    values = product(shape)
    known = prod(n for n in shape if n is not None)
    fixed = prod(n for n in target if n != -1)
    divides = known % fixed == 0 if -1 in target else values == fixed
    if divides:
        return _filled(target, None if values is None else values // fixed)
    size = ", whose size is unknown" if values is None else f" ({values} values)"
    raise FixedShape(
        f'reshape "{layer.name}" is fixed to {format_shape(_filled(target, None))} but reads '
        f"{format_shape(shape)}{size}"
    )


def _filled(target: Sequence[int], rest: int | None) -> Map:
    return tuple(rest if n == -1 else n for n in target)


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


_RULES: dict[OpKind, Callable[[LayerSpec, Map], Map]] = {
    "pad": _padded,
    "crop": _padded,
    "slice": _sliced,
    "upsample": _upsampled,
    "conv_transpose": _transposed,
    "resize": _to_grid,
    "adaptive_pool": _to_grid,
    "global_pool": _pooled,
    "dense": _dense,
    "flatten": _flattened,
    "reshape": _reshaped,
}
"""Layers that read one map; those that are not listed keep its shape."""

_JOINS: dict[OpKind, Callable[[LayerSpec, Sequence[Map], Sequence[LayerSpec]], Map]] = {
    "elementwise": _broadcast,
    "concat": _concatenated,
}
