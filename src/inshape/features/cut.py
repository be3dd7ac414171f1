"""Where a network can be cut in two: places at which everything passes through one tensor."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import keras
from keras import tree

from ..errors import GraphError, UnknownName
from ..graph.walk import nodes_in_order, picture_model

HEAD_PREFIX = "head_"
"""How the names of a head's layers begin; everything else is the backbone."""

_SAME_RESOLUTION = 0.7

Unfreeze: TypeAlias = Literal["none", "last", "all"] | int | str


@dataclass(frozen=True, slots=True)
class Cut:
    """A place between two calls at which one tensor carries everything.

    Attributes:
        layer: the layer that puts the tensor out; ``""`` is the picture itself.
        position: how many calls stand before it.
        map_hw: height and width of the tensor at the picture's size; ``None`` for a vector.
        channels: its last axis.
        kernels: how many weighted kernels (convolutions, dense layers) stand before it.
    """

    layer: str
    position: int
    map_hw: tuple[int, int] | None
    channels: int
    kernels: int


def cuts(model: keras.Model, size_hw: tuple[int, int]) -> tuple[Cut, ...]:
    """Every place at which a model can be cut, the picture first and the output left out.

    Args:
        model: a functional model that takes one picture; nested models are not opened.
        size_hw: the height and width in pixels at which maps are measured.

    Returns:
        The cuts in the order of the graph.

    Raises:
        GraphError: if the model is not functional.

    Example:
        >>> image = keras.Input((97, 64, 1))
        >>> x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(image)
        >>> branch = keras.layers.Conv2D(8, 1, name="inside")(x)
        >>> x = keras.layers.Add(name="sum")([x, branch])
        >>> x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        >>> model = keras.Model(image, keras.layers.Dense(3)(x))
        >>> [(c.layer, c.map_hw) for c in cuts(model, (97, 64))]
        [('', (97, 64)), ('stem', (49, 32)), ('sum', (49, 32)), ('pool', None)]
    """
    graph = picture_model(model)
    found = _single_tensors(graph)
    shape = (1, *size_hw, int(graph.inputs[0].shape[-1]))
    shapes = _shapes_at(graph, [tensor for tensor, *_ in found], shape)
    made = [Cut("", 0, size_hw, shape[-1], 0)]
    for (tensor, position, kernels), at_size in zip(found, shapes, strict=True):
        map_hw = (at_size[1], at_size[2]) if len(at_size) == 4 else None
        name = tensor._keras_history.operation.name
        made.append(Cut(name, position, map_hw, int(at_size[-1]), kernels))
    return tuple(made)


def section(model: keras.Model, start: Cut | None, end: Cut | None) -> keras.Model:
    """The part of a model between two cuts, sharing the model's weights.

    Args:
        model: as in `cuts`.
        start: one of its cuts; ``None`` is the picture.
        end: a later one; ``None`` is the model's output.

    Returns:
        A model whose input is the tensor at the start; training it trains the whole.

    Raises:
        GraphError: if a cut is not one of this model's.

    Example:
        >>> image = keras.Input((9, 7, 1))
        >>> x = keras.layers.Conv2D(4, 3, name="stem")(image)
        >>> model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
        >>> stem = cuts(model, (9, 7))[1]
        >>> section(model, None, stem).output_shape, section(model, stem, None).input_shape
        ((None, 7, 5, 4), (None, 7, 5, 4))
    """
    graph = picture_model(model)
    first = graph.inputs[0] if start is None else _tensor_at(graph, model.name, start)
    last = graph.outputs[0] if end is None else _tensor_at(graph, model.name, end)
    return keras.Model(first, last)


def head_cut(model: keras.Model, size_hw: tuple[int, int]) -> Cut:
    """The last cut before anything that is trained or random in the head.

    Args:
        model: a model with a head, whose layers are named ``head_...``.
        size_hw: height and width in pixels.

    Returns:
        The cut: behind the pooling where that has no weights, else behind the backbone.

    Raises:
        GraphError: if the model has no head.
    """
    graph = picture_model(model)
    nodes = list(nodes_in_order(graph))
    for position, node in enumerate(nodes, start=1):
        operation = node.operation
        in_head = operation.name.startswith(HEAD_PREFIX)
        if in_head and (getattr(operation, "weights", None) or _is_random(operation)):
            return [c for c in cuts(model, size_hw) if c.position < position][-1]
    raise GraphError(
        f"model {model.name!r} has no head to train; expected layers named {HEAD_PREFIX}...; "
        "adapt it with classes=..."
    )


def unfrozen_from(model: keras.Model, unfreeze: Unfreeze, size_hw: tuple[int, int]) -> Cut | None:
    """Where the part of the backbone that is trained begins.

    Args:
        model: a model with a head.
        unfreeze: ``"none"``; ``"last"`` (the layers at the last map's resolution); a number of such
            stages counted from the last; the name of a layer, which is the first to be trained;
            ``"all"``.
        size_hw: height and width in pixels.

    Returns:
        The cut behind the frozen part (its position is 0 if all is trained), or ``None`` if the
        whole backbone stays frozen.

    Raises:
        UnknownName: if there is no such layer or word.
    """
    if unfreeze == "none" or unfreeze == 0:
        return None
    maps = _maps(model, size_hw)
    if unfreeze == "all":
        return maps[0]
    if unfreeze == "last":
        unfreeze = 1
    if isinstance(unfreeze, int):
        return _before_stages(maps, unfreeze)
    nodes = list(nodes_in_order(picture_model(model)))
    for position, node in enumerate(nodes):
        if node.operation.name == unfreeze:
            return [c for c in maps if c.position <= position][-1]
    names = [n.operation.name for n in nodes if getattr(n.operation, "weights", None)]
    raise UnknownName("part to unfreeze", unfreeze, ("none", "last", "all", *names))


def stage_ends(model: keras.Model, size_hw: tuple[int, int], count: int) -> tuple[Cut, ...]:
    """Where the backbone's last stages end: one narrow map each.

    Args:
        model: a model with a head.
        size_hw: height and width in pixels.
        count: how many stages, from the last.

    Returns:
        The cuts from the first to the last; fewer where there are fewer stages, none where the
        backbone has no map larger than 1x1.
    """
    maps = _maps(model, size_hw)
    ends = [_narrow(maps, last) for last in _ends(maps)[-count:]]
    return tuple(c for c in ends if c.position)


def _maps(model: keras.Model, size_hw: tuple[int, int]) -> list[Cut]:
    """The cuts before the head at which the tensor is a map."""
    end = head_cut(model, size_hw)
    return [c for c in cuts(model, size_hw) if c.map_hw is not None and c.position <= end.position]


def _tensor_at(graph: Any, name: str, cut: Cut) -> Any:
    if cut.position == 0:
        return graph.inputs[0]
    for tensor, position, _ in _single_tensors(graph):
        if position == cut.position and tensor._keras_history.operation.name == cut.layer:
            return tensor
    raise GraphError(
        f"model {name!r} cannot be cut behind {cut.layer!r}; expected one of its own cuts; "
        "call cuts(model, size_hw) again"
    )


def _before_stages(maps: list[Cut], count: int) -> Cut:
    """The best cut before the last so many resolutions."""
    ends = _ends(maps)
    return _narrow(maps, ends[-count - 1]) if count < len(ends) else maps[0]


def _ends(maps: list[Cut]) -> list[Cut]:
    """The last map of every resolution."""
    changes = [earlier for earlier, later in pairwise(maps) if not _alike(earlier, later)]
    # The head may pool to a 1x1 map, which is no stage of the backbone's.
    return [c for c in (*changes, maps[-1]) if c.map_hw != (1, 1)]


def _narrow(maps: list[Cut], last: Cut) -> Cut:
    """The narrowest cut near the end of a stage.

    A block often widens its input just before it strides; its narrow input holds the same in a
    fraction of the bytes, at the cost of one more convolution in the tail.
    """
    near = [
        c
        for c in maps
        if _alike(c, last) and c.position <= last.position and last.kernels - c.kernels <= 1
    ]
    return min(near, key=lambda c: (c.channels, -c.position))


def _alike(one: Cut, other: Cut) -> bool:
    """Whether two maps have the same resolution; a convolution without padding trims a little."""
    assert one.map_hw is not None
    assert other.map_hw is not None
    pairs = zip(one.map_hw, other.map_hw, strict=True)
    return all(min(a, b) > _SAME_RESOLUTION * max(a, b) for a, b in pairs)


def _single_tensors(graph: Any) -> list[tuple[Any, int, int]]:
    """The tensors that carry everything, with the calls and kernels before each."""
    nodes = list(nodes_in_order(graph))
    last_read: dict[int, int] = {}
    for position, node in enumerate(nodes, start=1):
        for tensor in node.input_tensors:
            last_read[id(tensor)] = position
    for tensor in graph.outputs:
        last_read[id(tensor)] = len(nodes) + 1
    live = {id(t) for t in graph.inputs}
    kernels = 0
    found: list[tuple[Any, int, int]] = []
    for position, node in enumerate(nodes, start=1):
        live |= {id(t) for t in node.outputs}
        live = {t for t in live if last_read.get(t, 0) > position}
        kernels += _kernels(node.operation)
        is_pad = type(node.operation).__name__ == "ZeroPadding2D"  # cut before it rather
        if not is_pad and len(node.outputs) == 1 and live == {id(node.outputs[0])}:
            found.append((node.outputs[0], position, kernels))
    return found[:-1] if found and found[-1][1] == len(nodes) else found


def _kernels(operation: Any) -> int:
    return sum(len(w.shape) >= 2 for w in getattr(operation, "weights", ()))


def _is_random(operation: Any) -> bool:
    return "Dropout" in type(operation).__name__ or "Noise" in type(operation).__name__


def _shapes_at(graph: Any, tensors: list[Any], shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    if not tensors:
        return []
    if all(None not in t.shape[1:] for t in tensors) and graph.inputs[0].shape[1:] == shape[1:]:
        return [(1, *t.shape[1:]) for t in tensors]
    model = keras.Model(graph.inputs[0], tensors)
    return [tuple(s) for s in tree.map_shape_structure(tuple, model.compute_output_shape(shape))]
