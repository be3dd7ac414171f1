"""Takes strides away from late layers and dilates what follows (à trous)."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import StrategyError
from ..geometry.rules import output_shape
from ..geometry.sizes import map_shapes
from ..geometry.spec import NO_PADS, GraphSpec, LayerSpec, Pads
from ..graph.edits import Bypass, Edit, SetDilation, SetPadding, SetStride
from ..shapes import InputShape
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


def dilated(spec: GraphSpec, target: InputShape, output_stride: int) -> tuple[Edit, ...]:
    """Edits that keep the map's stride at ``output_stride`` at most.

    A layer whose stride would pass it loses that stride and keeps its own dilation; every later
    convolution is dilated by the strides lost so far. The old left padding is kept, multiplied by
    that dilation, and the right one extended, so that the old map is exactly every f-th value of
    the new one, ``[:, ::f, ::f]``. Chen et al.: DeepLab, arXiv 1606.00915; the à trous algorithm of
    Holschneider et al. 1989.

    Args:
        spec: the graph, right at the target shape.
        target: the input shape, height and width known.
        output_stride: pixels of the input per pixel of the last map, such as 16 or 8.

    Returns:
        The edits; none if no layer's stride passes ``output_stride``.

    Raises:
        StrategyError: if strides cannot end at ``output_stride``, or a pooling layer would have to
        be
            dilated.

    Example:
        >>> picture = LayerSpec(0, "image", "input", (), 0)
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3), stride_hw=(2, 2),
        ...                  padding="same", out_channels=8)
        >>> spec = GraphSpec("tiny", (picture, conv), (1,), InputShape(64, 64, 3))
        >>> dilated(spec, InputShape(64, 64, 3), 1)
        (SetStride(layer=1, stride_hw=(1, 1)), SetPadding(layer=1, padding=((0, 2), (0, 2))))
    """
    return _Dilation(spec, target, output_stride).edits()


class _Dilation:
    def __init__(self, spec: GraphSpec, target: InputShape, output_stride: int) -> None:
        self.spec = spec
        self.output_stride = output_stride
        self.old_shapes = map_shapes(spec, target)
        self.readers = spec.consumers()
        self.new_shapes: list[tuple[int | None, ...]] = []
        self.new_layers: list[LayerSpec] = []
        self.grids: list[_Grid] = []

    def edits(self) -> tuple[Edit, ...]:
        found: list[Edit] = []
        for layer in self.spec:
            edits, changed, grid = self._one(layer)
            found += edits
            self.grids.append(grid)
            self.new_layers.append(changed)
            sources = [self.new_layers[i] for i in layer.inputs]
            maps = [self.new_shapes[i] for i in layer.inputs]
            is_input = layer.op == "input"
            self.new_shapes.append(
                self.old_shapes[layer.index] if is_input else output_shape(changed, maps, sources)
            )
        return tuple(dict.fromkeys(found))

    def _one(self, layer: LayerSpec) -> tuple[list[Edit], LayerSpec, _Grid]:
        before = self._grid_before(layer)
        if layer.op in ("input", "global_pool", "adaptive_pool", "flatten", "dense"):
            return [], layer, _Grid() if layer.op != "dense" else before
        if layer.op == "pad" and self._is_absorbed(layer):
            return self._absorb(layer, before)
        if not layer.is_window:
            if before.is_denser and layer.op in ("pad", "crop", "resize", "upsample", "reshape"):
                raise self._refusal(layer, "stands where the map has become denser")
            return [], layer, before
        stride_hw, lost_hw = self._split(layer, before)
        after = _Grid(_times(before.stride_hw, stride_hw), _times(before.denser_hw, lost_hw))
        if stride_hw == layer.stride_hw and not before.is_denser and not self._lost_pads(layer):
            return [], layer, after
        if sum(other.layer == layer.layer for other in self.spec) > 1:
            raise self._refusal(layer, "is called more than once, and the calls would differ")
        if layer.op in ("max_pool", "avg_pool"):
            return *self._pool(layer, before, stride_hw), after
        return *self._conv(layer, before, stride_hw), after

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
                    f"{stride} at "
                    f"stride {so_far}, which cannot end there; expected a power of two from "
                    "the stem's stride on, such as 8 or 16"
                )
            kept.append(keep)
            lost.append(stride // keep)
        return (kept[0], kept[1]), (lost[0], lost[1])

    def _is_absorbed(self, pad: LayerSpec) -> bool:
        return all(self.spec[i].is_conv for i in self.readers[pad.index])

    def _absorb(self, pad: LayerSpec, before: _Grid) -> tuple[list[Edit], LayerSpec, _Grid]:
        """Take a padding layer out if the convolutions behind it must be padded otherwise."""
        windows = [self.spec[i] for i in self.readers[pad.index]]
        changes = before.is_denser or any(self._split(w, before)[0] != w.stride_hw for w in windows)
        if not changes:
            return [], pad, before
        return [Bypass(pad.index)], pad.but(op="identity"), before

    def _conv(
        self, layer: LayerSpec, before: _Grid, stride_hw: Pair
    ) -> tuple[list[Edit], LayerSpec]:
        if (
            layer.kernel_hw == (1, 1)
            and stride_hw == layer.stride_hw
            and not self._lost_pads(layer)
        ):
            return [], layer
        dilation_hw = _times(layer.dilation_hw, before.denser_hw)
        edits: list[Edit] = []
        if stride_hw != layer.stride_hw:
            edits.append(SetStride(layer.index, stride_hw))
        if dilation_hw != layer.dilation_hw and layer.kernel_hw != (1, 1):
            edits.append(SetDilation(layer.index, dilation_hw))
        changed = layer.but(stride_hw=stride_hw, dilation_hw=dilation_hw)
        old_pads = self._old_pads(layer)
        if old_pads == NO_PADS and layer.padding == "valid":
            return edits, changed
        new_map = self.new_shapes[layer.inputs[0]]
        pads: list[Pair] = []
        for axis in (0, 1):
            length = new_map[axis]
            if length is None:
                raise self._refusal(layer, "reads a map whose size is not known")
            left = old_pads[axis][0] * before.denser_hw[axis]
            outputs = -(-length // stride_hw[axis])
            reach = (outputs - 1) * stride_hw[axis] + (layer.kernel_hw[axis] - 1) * dilation_hw[
                axis
            ]
            pads.append((left, max(0, reach + 1 - length - left)))
        new_pads: Pads = (pads[0], pads[1])
        edits.append(SetPadding(layer.index, new_pads))
        return edits, changed.but(padding="valid", pads=new_pads)

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

    def _pool(
        self, layer: LayerSpec, before: _Grid, stride_hw: Pair
    ) -> tuple[list[Edit], LayerSpec]:
        if before.is_denser and layer.kernel_hw != (1, 1):
            raise self._refusal(layer, "would have to be dilated, which pooling cannot be")
        changed = layer.but(stride_hw=stride_hw)
        if layer.padding == "same":
            old, new = (pads_at(w, self.old_shapes[layer.inputs[0]]) for w in (layer, changed))
            if [p[0] for p in old] != [p[0] for p in new]:
                raise self._refusal(layer, "would move its window when it loses its stride")
        return [SetStride(layer.index, stride_hw)], changed

    def _refusal(self, layer: LayerSpec, why: str) -> StrategyError:
        return StrategyError(
            f"output_stride={self.output_stride}: layer {layer.name!r} ({layer.op}) {why}; "
            "use a larger output_stride, or strategy='rebuild'"
        )


def _times(a: Pair, b: Pair) -> Pair:
    return a[0] * b[0], a[1] * b[1]
