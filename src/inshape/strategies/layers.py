"""What every new height and width needs: padding by parity, and tops tied to a grid."""

from __future__ import annotations

from ..errors import FixedShape
from ..geometry.sizes import fixed_size_advice, map_shapes, network_shape
from ..geometry.spec import NO_PADS, GraphSpec, LayerSpec, Pads
from ..graph.padding import computed_pads
from ..shapes import InputShape
from .numbers import renumbered


def fitted(spec: GraphSpec, target: InputShape) -> GraphSpec:
    """The same layers, right at another height and width.

    Padding that was computed from the parity of the old size becomes ``padding="same"`` of the
    convolution behind it, which is equal at every size (odd kernel, stride 2); where a pooling
    layer reads it, or the kernel is even, it is computed anew. A ``Flatten`` whose map has another
    size than in training gets an adaptive average pooling to the trained grid in front, so that the
    dense layers behind it keep their weights.

    Example:
        >>> picture = LayerSpec(0, "image", "input", (), 0, native_shape=(224, 224, 3))
        >>> pad = LayerSpec(1, "pad", "pad", (0,), 1, pads=((0, 1), (0, 1)), parity_pads=True)
        >>> conv = LayerSpec(2, "conv", "depthwise", (1,), 2, kernel_hw=(3, 3), stride_hw=(2, 2))
        >>> spec = GraphSpec("tiny", (picture, pad, conv), (2,), InputShape(224, 224, 3))
        >>> [(layer.op, layer.padding) for layer in fitted(spec, InputShape(97, 64, 3))]
        [('input', 'valid'), ('identity', 'valid'), ('depthwise', 'same')]
    """
    for layer in spec:
        if layer.op == "pad" and layer.parity_pads:
            spec = _padded_by_parity(spec, target, layer)
    if network_shape(spec, target).is_static:
        spec = renumbered(spec, target)
    return _pooled_to_trained_grids(spec, target)


def without_pad(spec: GraphSpec, pad: LayerSpec) -> GraphSpec:
    """The graph without a zero-padding layer: its input goes straight on."""
    return spec.with_call(pad.index, op="identity", pads=NO_PADS)


def pads_at(layer: LayerSpec, read_shape: tuple[int | None, ...]) -> Pads:
    """The zeros around a window layer's input, which has a known size."""
    pads = layer.pads_at(read_shape)
    assert pads is not None
    return pads


def _padded_by_parity(spec: GraphSpec, target: InputShape, pad: LayerSpec) -> GraphSpec:
    windows = [spec[i] for i in spec.consumers()[pad.index]]
    if all(w.is_conv and w.stride_hw == (2, 2) and _is_odd(w) for w in windows):
        spec = without_pad(spec, pad)
        for window in windows:
            spec = spec.with_call(window.index, padding="same", pads=NO_PADS)
        return spec
    if not network_shape(spec, target).is_static:
        raise FixedShape(
            f"input {target}: layer {pad.name!r} of {spec.name} pads by the size of its map, "
            f"which is unknown until run time; {fixed_size_advice(spec)}"
        )
    (source,) = pad.inputs  # layers behind it may still have the pads of the old size
    height, width, *_ = map_shapes(spec.but(outputs=(source,)), target)[source]
    kernel_h, kernel_w = windows[0].kernel_hw
    pads = (computed_pads(height, kernel_h), computed_pads(width, kernel_w))
    return spec.with_call(pad.index, pads=pads)


def _is_odd(layer: LayerSpec) -> bool:
    return all(k % 2 == 1 for k in layer.kernel_hw)


def _pooled_to_trained_grids(spec: GraphSpec, target: InputShape) -> GraphSpec:
    """The graph with a grid in front of every flatten whose map has not the trained size."""
    trained = {
        layer.index: native
        for layer in spec
        if layer.op == "flatten"
        and len(native := spec[layer.inputs[0]].native_shape) == 3
        and None not in native[:2]
    }
    pooled = spec
    for index, (height, width, _) in trained.items():
        pooled = pooled.with_call(index, grid_first=(height, width))
    if not trained:
        return spec
    shapes = map_shapes(pooled, target)
    for index, native in trained.items():
        if shapes[spec[index].inputs[0]] == native:
            pooled = pooled.with_call(index, grid_first=None)
    return pooled
