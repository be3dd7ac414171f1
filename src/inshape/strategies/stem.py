"""Finds the stem: the one convolution that reads the picture."""

from __future__ import annotations

from ..errors import AmbiguousStem, StrategyError
from ..geometry.spec import GraphSpec, LayerSpec

_PASSES = (
    *("pad", "crop", "rescale", "identity", "activation"),
    *("elementwise", "resize", "upsample", "norm", "opaque"),
)
_MOVES = ("pad", "crop", "resize", "upsample", "opaque")


def resizable_stem(spec: GraphSpec) -> LayerSpec:
    """The stem, if its stride can be changed together with its kernel."""
    stem, before = find_stem(spec)
    if not stem.is_plain:
        raise StrategyError(
            f"the stem {stem.name!r} computes something of its own with its kernel, so its stride "
            "cannot be changed; use strategy='rebuild' or 'resize'"
        )
    if stem.op != "conv":
        raise StrategyError(
            f"the stem {stem.name!r} is a {stem.op} convolution, expected a plain one; "
            "use strategy='rebuild' or 'resize'"
        )
    if sum(layer.layer == stem.layer for layer in spec) > 1:
        raise StrategyError(
            f"the stem {stem.name!r} is called more than once, expected one call; "
            "use strategy='rebuild' or 'resize'"
        )
    right_before = spec[stem.inputs[0]]
    for layer in before:
        is_its_zeros = layer is right_before and layer.op == "pad" and stem.padding == "valid"
        if layer.op in _MOVES and not is_its_zeros:
            raise StrategyError(
                f"layer {layer.name!r} ({layer.op}) changes the map before the stem "
                f"{stem.name!r}, so its stride cannot be changed; use "
                "strategy='rebuild' or 'resize'"
            )
    return stem


def find_stem(spec: GraphSpec) -> tuple[LayerSpec, tuple[LayerSpec, ...]]:
    """The stem, and the layers between it and the picture.

    Example:
        >>> from inshape.shapes import InputShape
        >>> picture = LayerSpec(0, "image", "input", (), 0)
        >>> scale = LayerSpec(1, "rescaling", "rescale", (0,), 1)
        >>> conv = LayerSpec(2, "conv", "conv", (1,), 2, kernel_hw=(3, 3))
        >>> spec = GraphSpec("tiny", (picture, scale, conv), (2,), InputShape(9, 9, 3))
        >>> stem, before = find_stem(spec)
        >>> stem.name, [layer.name for layer in before]
        ('conv', ['rescaling'])
    """
    before: list[LayerSpec] = []
    readers: dict[int, LayerSpec] = {}
    reached = {0}
    for layer in spec:  # what a layer reads comes before it
        if reached.isdisjoint(layer.inputs):
            continue
        if _passes(layer):
            before.append(layer)
            reached.add(layer.index)
        else:
            readers.setdefault(layer.layer, layer)
    if len(readers) == 1:
        (stem,) = readers.values()
        if stem.is_conv:
            return stem, tuple(before)
    convolutions_first = sorted(readers.values(), key=lambda reader: not reader.is_conv)
    raise AmbiguousStem(reader.name for reader in convolutions_first)


def _passes(layer: LayerSpec) -> bool:
    """Whether a layer hands the picture's pixels on."""
    return layer.op in _PASSES and not (layer.op == "opaque" and layer.params)
