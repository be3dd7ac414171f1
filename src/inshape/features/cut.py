"""Where a network can be cut in two: places at which everything passes through one tensor.

Of a head that reads several maps, as one that draws masks does, the earlier ones pass by the rest
of the backbone. A cut behind one of them takes it along: all that passes is one long row then.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, Literal, TypeAlias

import keras
from keras import tree

from ..errors import GraphError, UnknownName
from ..graph.walk import nodes_in_order, picture_model
from ..heads import LOGITS
from ..shapes import InputShape

HEAD_PREFIX = "head_"
"""How the names of a head's layers begin; everything else is the backbone."""

_SAME_RESOLUTION = 0.7
_PROBED_STAGES = 2

Unfreeze: TypeAlias = Literal["none", "last", "all"] | int | str


@dataclass(frozen=True, slots=True)
class Cut:
    """A place between two calls at which one tensor carries everything."""

    layer: str
    """The layer that puts the tensor out; ``""`` is the picture itself."""
    position: int
    """How many calls stand before it."""
    map_hw: tuple[int, int] | None
    """Height and width of the tensor at the picture's size; ``None`` for a vector."""
    channels: int
    kernels: int
    """How many weighted kernels (convolutions, dense layers) stand before it."""
    beside: tuple[tuple[int, ...], ...] = ()
    """The shapes of the earlier maps, at the picture's size, that go along for the head."""

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of all that passes, the tensor itself first; only where something goes along."""
        assert self.map_hw is not None
        return [(*self.map_hw, self.channels), *self.beside]


def cuts(model: keras.Model, size_hw: tuple[int, int]) -> tuple[Cut, ...]:
    """Every place at which a model can be cut, the picture first and the output left out.

    Maps are measured at a picture of this size; nested models are not opened.

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
    tensors = _single_tensors(graph)
    shape = (1, *size_hw, int(graph.inputs[0].shape[-1]))
    read = [tensor for single in tensors for tensor in single.tensors]
    shapes = iter(_shapes_at(graph, read, shape))
    places = [Cut(layer="", position=0, map_hw=size_hw, channels=shape[-1], kernels=0)]
    for single in tensors:
        at_size, *beside = (next(shapes) for _ in single.tensors)
        cut = Cut(
            layer=single.layer,
            position=single.position,
            map_hw=(at_size[1], at_size[2]) if len(at_size) == 4 else None,
            channels=int(at_size[-1]),
            kernels=single.kernels,
            beside=tuple(one[1:] for one in beside),
        )
        places.append(cut)
    return tuple(places)


def section(
    model: keras.Model, start: Cut | None, end: Cut | None, shown: Cut | None = None
) -> keras.Model:
    """The part of a model between two of its cuts, sharing the model's weights.

    Without a start it begins at the picture, without an end it ends at the output. A cut between
    them that is ``shown`` is a second output. Training the part trains the whole.

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
    first = graph.inputs if start is None else _tensors_at(graph, model.name, start)
    last = graph.outputs if end is None else _tensors_at(graph, model.name, end)
    if end is not None and end.beside:
        last = [_as_row(last, end)]
    if shown is not None:
        last = [*last, *_tensors_at(graph, model.name, shown)]
    if start is not None and start.beside:
        row = keras.Input((sum(map(prod, start.shapes)),))
        return keras.Model(row, keras.Model(first, last[0])(_from_row(row, start)))
    return keras.Model(first[0], last if shown is not None else last[0])


def _as_row(tensors: list[Any], cut: Cut) -> Any:
    """All that passes at a cut as one vector."""
    flat = [
        keras.layers.Reshape((prod(shape),))(tensor)
        for tensor, shape in zip(tensors, cut.shapes, strict=True)
    ]
    return keras.layers.Concatenate()(flat)


def _from_row(row: Any, cut: Cut) -> list[Any]:
    """What a vector was made of."""
    tensors: list[Any] = []
    start = 0
    for shape in cut.shapes:
        tensors.append(keras.layers.Reshape(shape)(row[:, start : start + prod(shape)]))
        start += prod(shape)
    return tensors


def head_cut(model: keras.Model, size_hw: tuple[int, int]) -> Cut:
    """The last cut before anything in the head that is trained or random.

    It is behind the pooling where that has no weights, else behind the backbone.

    Raises:
        GraphError: if the model has no layers named ``head_...``.
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
    """The cut before the part of the backbone that is trained; ``None`` if that is nothing.

    That part is ``"all"``, ``"none"``, ``"last"`` (the layers at the last map's resolution), so
    many such stages counted from the last, or whatever comes from the layer of a name on.

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
    return _before_layer(model, maps, unfreeze)


def _before_layer(model: keras.Model, maps: list[Cut], name: str) -> Cut:
    nodes = list(nodes_in_order(picture_model(model)))
    for position, node in enumerate(nodes):
        if node.operation.name == name:
            return [cut for cut in maps if cut.position <= position][-1]
    names = [n.operation.name for n in nodes if getattr(n.operation, "weights", None)]
    raise UnknownName("part to unfreeze", name, ("none", "last", "all", *names))


def stage_ends(model: keras.Model, size_hw: tuple[int, int], count: int) -> tuple[Cut, ...]:
    """Where the backbone's last stages end: one narrow map each, in their order.

    There are fewer where there are fewer stages, and none where no map is larger than 1x1.
    """
    maps = _maps(model, size_hw)
    ends = [_narrow(maps, last) for last in _ends(maps)[-count:]]
    return tuple(c for c in ends if c.position)


def features_of(model: keras.Model, shape: InputShape) -> keras.Model:
    """The network up to what is probed: the means of the maps that its last two stages end in.

    Under a decoder it is the maps that the decoder reads, side by side at the finest one's size.
    """
    # What comes after them is the part of a network that fine-tuning changes most, and that knows
    # the pretrained size of objects best. A classifier on the last features alone therefore favours
    # candidates that enlarge small pictures, which fine-tuning does not
    # (benchmarks.probe_fidelity).
    logits = keras.Model(model.inputs[0], model.get_layer(LOGITS).output)
    size_hw = shape.as_static_tuple()[:2]
    if len(logits.output_shape) == 4:
        return _read_maps(logits, head_cut(logits, size_hw))
    ends = stage_ends(logits, size_hw, _PROBED_STAGES)
    if not ends:
        return section(logits, None, head_cut(logits, size_hw))
    maps = [section(logits, None, cut).outputs[0] for cut in ends]
    means = [keras.layers.GlobalAveragePooling2D()(x) for x in maps]
    together = keras.layers.Concatenate()(means) if len(means) > 1 else means[0]
    return keras.Model(logits.inputs[0], together)


def _read_maps(model: keras.Model, cut: Cut) -> keras.Model:
    graph = picture_model(model)
    rows, columns = max(shape[:2] for shape in cut.shapes)
    together = [
        tensor if shape[:2] == (rows, columns) else keras.layers.Resizing(rows, columns)(tensor)
        for tensor, shape in zip(_tensors_at(graph, model.name, cut), cut.shapes, strict=True)
    ]
    return keras.Model(graph.inputs[0], keras.layers.Concatenate()(together))


def _maps(model: keras.Model, size_hw: tuple[int, int]) -> list[Cut]:
    """The cuts before the head at which the tensor is a map."""
    end = head_cut(model, size_hw)
    return [c for c in cuts(model, size_hw) if c.map_hw is not None and c.position <= end.position]


def _tensors_at(graph: Any, name: str, cut: Cut) -> list[Any]:
    if cut.position == 0:
        return graph.inputs
    for single in _single_tensors(graph):
        if (single.position, single.layer) == (cut.position, cut.layer):
            return single.tensors
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


@dataclass(frozen=True, slots=True)
class _Single:
    """A tensor that carries everything but what goes by, with the calls and kernels before it."""

    tensors: list[Any]
    """It, and what the head reads besides."""
    position: int
    kernels: int

    @property
    def layer(self) -> str:
        return self.tensors[0]._keras_history.operation.name


def _single_tensors(graph: Any) -> list[_Single]:
    nodes = list(nodes_in_order(graph))
    last_read, for_head = _last_reads(graph, nodes), _read_by_head(nodes)
    # Of tensors by their identity: those that exist and are still to be read.
    alive = set(map(id, graph.inputs))
    kernels = 0
    singles: list[_Single] = []
    for position, node in enumerate(nodes[:-1], start=1):
        alive.update(map(id, node.outputs))
        alive = {tensor for tensor in alive if last_read.get(tensor, 0) > position}
        kernels += _kernels(node.operation)
        first = id(node.outputs[0])
        beside, may_be_beside = alive - {first}, set() if _is_of_head(node) else for_head.keys()
        if _is_end(node) and first in alive and beside <= may_be_beside:
            earlier = [tensor for key, tensor in for_head.items() if key in beside]
            singles.append(_Single([node.outputs[0], *earlier], position, kernels))
    return singles


def _is_end(node: Any) -> bool:
    """Whether a cut may come behind a call; one before a padding stores less."""
    return len(node.outputs) == 1 and type(node.operation).__name__ != "ZeroPadding2D"


def _is_of_head(node: Any) -> bool:
    return node.operation.name.startswith(HEAD_PREFIX)


def _read_by_head(nodes: list[Any]) -> dict[int, Any]:
    """The tensors of the backbone that layers of the head read, by their identity."""
    of_head = [node for node in nodes if _is_of_head(node)]
    own = {id(output) for node in of_head for output in node.outputs}
    read = [tensor for node in of_head for tensor in node.input_tensors]
    return {id(tensor): tensor for tensor in read if id(tensor) not in own}


def _last_reads(graph: Any, nodes: list[Any]) -> dict[int, int]:
    """The position of the last call that reads each tensor; the output is read after all."""
    last_read = {
        id(tensor): position
        for position, node in enumerate(nodes, start=1)
        for tensor in node.input_tensors
    }
    return last_read | {id(tensor): len(nodes) + 1 for tensor in graph.outputs}


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
