"""Takes strides away from late layers and dilates what follows (à trous)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import MapMismatch, StrategyError
from ..geometry.paths import final_call
from ..geometry.receptive import receptive_fields
from ..geometry.rules import output_shape
from ..geometry.sizes import map_shapes, network_shape
from ..geometry.spec import NO_PADS, GraphSpec, LayerSpec, Pads
from ..shapes import InputShape
from ..text import format_shape, join_some
from .layers import pads_at

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Grid:
    """How a call's output is sampled: stride in pixels, and how much denser than before."""

    stride_hw: Pair = (1, 1)
    denser_hw: Pair = (1, 1)

    @property
    def is_denser(self) -> bool:
        return self.denser_hw != (1, 1)


def dilated(spec: GraphSpec, target: InputShape, output_stride: int) -> GraphSpec:
    """The graph with the map's stride kept at ``output_stride`` at most.

    A layer whose stride would pass it loses that stride and keeps its own dilation; every later
    convolution is dilated by the strides lost so far. The old left padding is kept, multiplied by
    that dilation, and the right one extended, so that the old map is exactly every f-th value of
    the new one, ``[:, ::f, ::f]``. Chen et al.: DeepLab, arXiv 1606.00915; the à trous algorithm of
    Holschneider et al. 1989.

    Example:
        >>> picture = LayerSpec(0, "image", "input", (), 0)
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3), stride_hw=(2, 2),
        ...                  padding="same", out_channels=8)
        >>> spec = GraphSpec("tiny", (picture, conv), (1,), InputShape(64, 64, 3))
        >>> dense = dilated(spec, InputShape(64, 64, 3), 1)[1]
        >>> dense.stride_hw, dense.padding, dense.pads
        ((1, 1), 'valid', ((0, 2), (0, 2)))
    """
    return _Dilation(spec, target, output_stride).run()


def shortened(spec: GraphSpec, target: InputShape, output_stride: int) -> str | None:
    """Why the last map is smaller than the picture divided by its stride, if it is.

    Those who build on it expect the size that ``padding="same"`` gives: rounded up.
    """
    shapes, fields = map_shapes(spec, target), receptive_fields(spec, target)
    last = final_call(spec, fields)
    picture = network_shape(spec, target).hw

    def whole(index: int) -> tuple[int, ...]:
        jumps = fields[index].stride_hw
        return tuple(math.ceil((n or 0) / (j or 1)) for n, j in zip(picture, jumps, strict=True))

    def loses(layer: LayerSpec) -> bool:
        source = layer.inputs[0]
        lengths = zip(shapes[source][:2], whole(source), layer.stride_hw, strict=True)
        least = [math.ceil(min(n or 0, most) / stride) for n, most, stride in lengths]
        return _is_short(shapes[layer.index][:2], least)

    expected, found = whole(last), shapes[last][:2]
    if not _is_short(found, expected) or fields[last].stride_hw != (output_stride,) * 2:
        return None
    on_the_way = sorted(spec.but(outputs=(last,)).needed())
    names = [spec[i].name for i in on_the_way if spec[i].is_window and loses(spec[i])]
    return (
        f"the map is {format_shape(found)}, not {format_shape(expected)} = "
        f"{format_shape(picture)} / {output_stride}, because of windows that pad no zeros "
        f'(padding="valid"): {join_some(names)}'
    )


def _is_short(lengths: Sequence[int | None], least: Sequence[int]) -> bool:
    return any((n or 0) < m for n, m in zip(lengths, least, strict=True))


class _Dilation:
    def __init__(self, spec: GraphSpec, target: InputShape, output_stride: int) -> None:
        self.spec = spec
        self.output_stride = output_stride
        self.old_shapes = map_shapes(spec, target)
        self.readers = spec.consumers()
        self.new_shapes: list[tuple[int | None, ...]] = []
        self.new_layers: list[LayerSpec] = []
        self.grids: list[_Grid] = []

    def run(self) -> GraphSpec:
        for layer in self.spec:
            changed, grid = self._changed(layer)
            self.grids.append(grid)
            self.new_layers.append(changed)
            sources = [self.new_layers[i] for i in layer.inputs]
            maps = [self.new_shapes[i] for i in layer.inputs]
            if layer.op == "input":
                self.new_shapes.append(self.old_shapes[layer.index])
                continue
            try:
                self.new_shapes.append(output_shape(changed, maps, sources))
            except MapMismatch:
                raise self._refusal(layer, "joins maps that would differ in size") from None
        return self.spec.but(layers=tuple(self.new_layers))

    def _changed(self, layer: LayerSpec) -> tuple[LayerSpec, _Grid]:
        """The layer as it will be, and how its output is sampled."""
        before = self._grid_before(layer)
        if layer.is_window:
            return self._changed_window(layer, before)
        if layer.op in ("input", "global_pool", "adaptive_pool", "flatten"):
            return layer, _Grid()
        if layer.op == "pad" and self._is_absorbed(layer):
            return self._without_absorbed(layer, before), before
        if before.is_denser and layer.op in ("pad", "crop", "resize", "upsample", "reshape"):
            raise self._refusal(layer, "stands where the map has become denser")
        return layer, before

    def _changed_window(self, layer: LayerSpec, before: _Grid) -> tuple[LayerSpec, _Grid]:
        stride_hw, lost_hw = self._split(layer, before)
        after = _Grid(_times(before.stride_hw, stride_hw), _times(before.denser_hw, lost_hw))
        if stride_hw == layer.stride_hw and not before.is_denser and not self._lost_pads(layer):
            return layer, after
        if sum(other.layer == layer.layer for other in self.spec) > 1:
            raise self._refusal(layer, "is called more than once, and the calls would differ")
        change = self._pool if layer.op in ("max_pool", "avg_pool") else self._conv
        return change(layer, before, stride_hw), after

    def _grid_before(self, layer: LayerSpec) -> _Grid:
        grids = {self.grids[i] for i in layer.inputs if len(self.old_shapes[i]) == 3}
        spatial = {
            self.grids[i]
            for i in layer.inputs
            if len(self.old_shapes[i]) == 3 and self.old_shapes[i][:2] != (1, 1)
        }
        grids = spatial or grids or {_Grid()}
        if len({g.denser_hw for g in grids}) > 1:
            raise self._refusal(layer, "reads maps that have become denser by different factors")
        return max(grids, key=lambda g: g.stride_hw)

    def _split(self, layer: LayerSpec, before: _Grid) -> tuple[Pair, Pair]:
        """The stride that a layer keeps, and the part that it loses, per axis."""
        kept: list[int] = []
        lost: list[int] = []
        for stride, so_far in zip(layer.stride_hw, before.stride_hw, strict=True):
            keep = stride if so_far * stride <= self.output_stride else self.output_stride // so_far
            reached = so_far * keep in (so_far * stride, self.output_stride)
            if keep < 1 or stride % keep or not reached:
                raise StrategyError(
                    f"output_stride={self.output_stride}: layer {layer.name!r} has stride "
                    f"{stride} at stride {so_far}, which cannot end there; expected a power of two "
                    "from the stem's stride on"
                )
            kept.append(keep)
            lost.append(stride // keep)
        return (kept[0], kept[1]), (lost[0], lost[1])

    def _is_absorbed(self, pad: LayerSpec) -> bool:
        return all(self.spec[i].is_conv for i in self.readers[pad.index])

    def _without_absorbed(self, pad: LayerSpec, before: _Grid) -> LayerSpec:
        """No padding layer, if the convolutions behind it must be padded otherwise."""
        windows = [self.spec[i] for i in self.readers[pad.index]]
        changes = before.is_denser or any(self._split(w, before)[0] != w.stride_hw for w in windows)
        return pad.but(op="identity", pads=NO_PADS) if changes else pad

    def _conv(self, layer: LayerSpec, before: _Grid, stride_hw: Pair) -> LayerSpec:
        is_point = layer.kernel_hw == (1, 1)
        if is_point and stride_hw == layer.stride_hw and not self._lost_pads(layer):
            return layer
        dilation_hw = layer.dilation_hw
        if not is_point:
            dilation_hw = _times(dilation_hw, before.denser_hw)
        changed = layer.but(stride_hw=stride_hw, dilation_hw=dilation_hw)
        old_pads = self._old_pads(layer)
        if old_pads == NO_PADS and layer.padding == "valid":
            return changed
        top_bottom, left_right = (
            self._new_pads(changed, axis, old_pads[axis][0] * before.denser_hw[axis])
            for axis in (0, 1)
        )
        return changed.but(padding="valid", pads=(top_bottom, left_right))

    def _new_pads(self, layer: LayerSpec, axis: int, before_px: int) -> Pair:
        """So many zeros in front, and as many behind as the last window needs."""
        length = self.new_shapes[layer.inputs[0]][axis]
        if length is None:
            raise self._refusal(layer, "reads a map whose size is not known")
        stride, reach = layer.stride_hw[axis], (layer.kernel_hw[axis] - 1) * layer.dilation_hw[axis]
        last = (-(-length // stride) - 1) * stride + reach
        return before_px, max(0, last + 1 - length - before_px)

    def _old_pads(self, layer: LayerSpec) -> Pads:
        """The zeros around a convolution's input before any change."""
        own = pads_at(layer, self.old_shapes[layer.inputs[0]])
        if not self._lost_pads(layer):
            return own
        (top, bottom), (left, right) = self.spec[layer.inputs[0]].pads
        return (own[0][0] + top, own[0][1] + bottom), (own[1][0] + left, own[1][1] + right)

    def _lost_pads(self, layer: LayerSpec) -> bool:
        """Whether the padding layer in front was taken out."""
        source = self.spec[layer.inputs[0]]
        return source.op == "pad" and self.new_layers[source.index].op == "identity"

    def _pool(self, layer: LayerSpec, before: _Grid, stride_hw: Pair) -> LayerSpec:
        if before.is_denser and layer.kernel_hw != (1, 1):
            raise self._refusal(layer, "would have to be dilated, which pooling cannot be")
        changed = layer.but(stride_hw=stride_hw)
        if layer.padding == "same":
            old, new = (pads_at(w, self.old_shapes[layer.inputs[0]]) for w in (layer, changed))
            if [p[0] for p in old] != [p[0] for p in new]:
                raise self._refusal(layer, "would move its window when it loses its stride")
        return changed

    def _refusal(self, layer: LayerSpec, why: str) -> StrategyError:
        return StrategyError(
            f"output_stride={self.output_stride}: layer {layer.name!r} ({layer.op}) {why}"
        )


def _times(a: Pair, b: Pair) -> Pair:
    return a[0] * b[0], a[1] * b[1]
