"""Edits that every new height and width needs: padding by parity, and tops tied to a grid."""

from __future__ import annotations

from ..errors import FixedShape
from ..geometry.lengths import window_padding
from ..geometry.rules import Map
from ..geometry.sizes import map_shapes
from ..geometry.spec import GraphSpec, LayerSpec, Pads
from ..graph.edits import Bypass, Edit, PoolToGrid, SetPadding, SetPads, applied
from ..graph.padding import computed_pads
from ..shapes import InputShape


def fitted(spec: GraphSpec, target: InputShape) -> tuple[Edit, ...]:
    """Edits that make the same layers right at another height and width.

    Padding that was computed from the parity of the old size becomes ``padding="same"`` of the
    convolution behind it, which is equal at every size (odd kernel, stride 2); where a pooling
    layer reads it, or the kernel is even, it is computed anew. A ``Flatten`` whose map has another
    size than in training gets an adaptive average pooling to the trained grid in front, so that the
    dense layers behind it keep their weights.

    Args:
        spec: a graph as read, possibly with edits applied.
        target: the new input shape.

    Returns:
        The edits.

    Raises:
        FixedShape: if a layer's padding must be computed and the size is unknown.
        VanishingMap: if a map would have no pixels left.

    Example:
        >>> picture = LayerSpec(0, "image", "input", (), 0, native_shape=(224, 224, 3))
        >>> pad = LayerSpec(1, "pad", "pad", (0,), 1, pads=((0, 1), (0, 1)), parity_pads=True)
        >>> conv = LayerSpec(2, "conv", "depthwise", (1,), 2, kernel_hw=(3, 3), stride_hw=(2, 2))
        >>> spec = GraphSpec("tiny", (picture, pad, conv), (2,), InputShape(224, 224, 3))
        >>> fitted(spec, InputShape(97, 64, 3))
        (Bypass(layer=1), SetPadding(layer=2, padding='same'))
    """
    edits: list[Edit] = []
    readers = spec.consumers()
    for pad in spec:
        if pad.op == "pad" and pad.parity_pads:
            edits += _parity_edits(spec, target, pad, [spec[i] for i in readers[pad.index]], edits)
    return (*edits, *_grid_edits(spec, target, edits))


def pads_at(layer: LayerSpec, read_shape: tuple[int | None, ...]) -> Pads:
    """The zeros around a window layer's input, its explicit ones and those of ``"same"``.

    Args:
        layer: a window layer.
        read_shape: the shape of the map that it reads, height and width known.

    Returns:
        ``((top, bottom), (left, right))``.
    """
    top_bottom, left_right = (
        window_padding(n, k, s, dilation_px=d, padding=layer.padding, pads_px=p)
        for n, k, s, d, p in zip(
            read_shape[:2],
            layer.kernel_hw,
            layer.stride_hw,
            layer.dilation_hw,
            layer.pads,
            strict=True,
        )
    )
    assert top_bottom is not None
    assert left_right is not None
    return top_bottom, left_right


def _parity_edits(
    spec: GraphSpec,
    target: InputShape,
    pad: LayerSpec,
    windows: list[LayerSpec],
    before: list[Edit],
) -> list[Edit]:
    if all(w.is_conv and w.stride_hw == (2, 2) and _is_odd(w) for w in windows):
        return [Bypass(pad.index), *(SetPadding(w.index, "same") for w in windows)]
    if not target.is_static:
        raise FixedShape(
            f"input {target}: layer {pad.name!r} of {spec.name} pads by the size of its map, "
            "which is "
            "unknown until run time; give a fixed height and width, or use strategy='resize'"
        )
    edited = applied(spec, before)
    height, width, *_ = map_shapes(edited, target)[pad.inputs[0]]
    kernel_hw = windows[0].kernel_hw
    vertical, horizontal = (
        computed_pads(n, k) for n, k in zip((height, width), kernel_hw, strict=True)
    )
    pads = (vertical, horizontal)
    return [] if pads == pad.pads else [SetPads(pad.index, pads)]


def _is_odd(layer: LayerSpec) -> bool:
    return all(k % 2 == 1 for k in layer.kernel_hw)


def _grid_edits(spec: GraphSpec, target: InputShape, before: list[Edit]) -> list[Edit]:
    """Grids for the flattened maps whose size is not the trained one."""
    trained: dict[int, Map] = {}
    for layer in spec:
        if layer.op == "flatten":
            native = spec[layer.inputs[0]].native_shape
            if len(native) == 3 and native[0] is not None and native[1] is not None:
                trained[layer.index] = native
    grids = [PoolToGrid(index, (h or 0, w or 0)) for index, (h, w, *_) in trained.items()]
    if not grids:
        return []
    shapes = map_shapes(applied(spec, [*before, *grids]), target)
    return [grid for grid in grids if shapes[spec[grid.layer].inputs[0]] != trained[grid.layer]]
