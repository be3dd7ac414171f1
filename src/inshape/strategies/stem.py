"""Finds the stem, or the stems: the convolutions that read the picture."""

from __future__ import annotations

from ..errors import AmbiguousStem, StrategyError
from ..geometry.spec import GraphSpec, LayerSpec

_PASSES = (
    *("pad", "crop", "rescale", "identity", "activation"),
    *("elementwise", "resize", "upsample", "norm", "opaque", "max_pool", "avg_pool"),
)
_MOVES = (
    *("pad", "crop", "resize", "upsample", "opaque", "max_pool", "avg_pool"),
    *("slice", "concat"),
)


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
    """The only stem, and the layers between it and the picture.

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
    stems, before = find_stems(spec)
    if len(stems) != 1:
        raise AmbiguousStem((stem.name for stem in stems), "exactly one convolution")
    return stems[0], before


def find_stems(spec: GraphSpec) -> tuple[tuple[LayerSpec, ...], tuple[LayerSpec, ...]]:
    """The convolutions that read the picture and nothing else, and the layers before them.

    A stem may read the picture's channels several times over, as where every other row and column
    is sliced out and the slices are concatenated.
    """
    before, readers, pictures = _reached(spec)
    calls = [layer for layer in spec if layer.layer in readers]
    if calls and all(x.is_conv and pictures.issuperset(x.inputs) for x in calls):
        return tuple(readers.values()), before
    convolutions_first = sorted(readers.values(), key=lambda reader: not reader.is_conv)
    raise AmbiguousStem((r.name for r in convolutions_first), "convolutions of it alone")


def _reached(
    spec: GraphSpec,
) -> tuple[tuple[LayerSpec, ...], dict[int, LayerSpec], frozenset[int]]:
    """What hands the picture on, what reads it first, and which calls put out it alone."""
    before: list[LayerSpec] = []
    readers: dict[int, LayerSpec] = {}
    pictures, mixtures = {0}, set[int]()
    for layer in spec:  # what a layer reads comes before it
        if not (pictures | mixtures).intersection(layer.inputs):
            continue
        is_picture = pictures.issuperset(layer.inputs)
        if _passes(layer) or (is_picture and _arranges(spec, layer)):
            before.append(layer)
            (pictures if is_picture else mixtures).add(layer.index)
        else:
            readers.setdefault(layer.layer, layer)
    return tuple(before), readers, frozenset(pictures)


def _passes(layer: LayerSpec) -> bool:
    """Whether a layer hands the picture's pixels on."""
    return layer.op in _PASSES and not (layer.op == "opaque" and layer.params)


def _arranges(spec: GraphSpec, layer: LayerSpec) -> bool:
    """Whether a layer takes rows and columns of the picture, or stacks such maps by channels."""
    if layer.op == "concat":  # of maps alone: arrays in it would be channels of their own
        depths = [spec[i].native_shape[-1] or 0 for i in layer.inputs]
        return layer.native_shape[-1] == sum(depths)
    is_map = all(len(part) == 3 for part in layer.slices)
    return layer.op == "slice" and is_map and layer.slices[2:] in ((), ((None, None, None),))
