"""Finds the stem: the one convolution that reads the picture."""

from __future__ import annotations

from ..errors import AmbiguousStem
from ..geometry.spec import GraphSpec, LayerSpec

_PASSES = frozenset(
    (
        "pad",
        "crop",
        "rescale",
        "identity",
        "activation",
        "elementwise",
        "resize",
        "upsample",
        "norm",
        "opaque",
    )
)


def find_stem(spec: GraphSpec) -> tuple[LayerSpec, tuple[LayerSpec, ...]]:
    """The stem, and the layers between it and the picture.

    Args:
        spec: a graph as read.

    Returns:
        The convolution's first call, and the calls on the way to it in the order of the graph.

    Raises:
        AmbiguousStem: if several convolutions read the picture, or none does.

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
    readers = spec.consumers()
    before: set[int] = set()
    stems: dict[int, LayerSpec] = {}
    others: list[str] = []
    todo = [layer.index for layer in spec if layer.op == "input"]
    while todo:
        for index in readers[todo.pop()]:
            layer = spec[index]
            if layer.is_conv:
                stems.setdefault(layer.layer, layer)
            elif layer.op in _PASSES:
                if index not in before:
                    before.add(index)
                    todo.append(index)
            else:
                others.append(layer.name)
    if len(stems) != 1 or others:
        raise AmbiguousStem([*(s.name for s in stems.values()), *others])
    (stem,) = stems.values()
    return stem, tuple(spec[i] for i in sorted(before))
