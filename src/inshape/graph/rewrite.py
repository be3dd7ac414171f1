"""Rebuilds a functional Keras model as another graph: at another shape, with layers changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import tree

from ..geometry.inserted import CLIP, FLOATS, PROJECT, REPEAT, RESIZE, ROUND, WHOLE
from ..geometry.patches import Patches, Region, Step, relative, steps_of
from ..geometry.sizes import map_shapes
from ..geometry.spec import NO_PADS, GraphSpec, InputLayers, LayerSpec, Pads
from ..shapes import InputShape, ShapeLike
from ..text import free_name
from .layers import AdaptivePooling2D
from .padding import FIXED_PAD
from .remake import applied_to, changed_entries, changed_key, remade, trains_by_default
from .walk import (
    Call,
    Value,
    Walk,
    count_calls,
    functional_graph,
    nodes_in_order,
    picture_model,
    sole,
    unwrap,
)


@dataclass(frozen=True, slots=True)
class LayerPair:
    """A layer of the source and the layer that took its place.

    Attributes:
        index: the position of its first call in the source.
        name: the source layer's path.
        source: the source's layer.
        target: the new layer.
    """

    index: int
    name: str
    source: keras.layers.Layer
    target: keras.layers.Layer


@dataclass(frozen=True, slots=True)
class LayerMap:
    """Which layer of the source became which layer of the new model.

    Attributes:
        pairs: one for each layer that was rebuilt, in the order of the graph.
        projection: the new layer that projects channels, if there is one.
    """

    pairs: tuple[LayerPair, ...]
    projection: keras.layers.Layer | None = None


def rebuild(
    model: keras.Model,
    spec: GraphSpec,
    input_shape: ShapeLike,
    *,
    changed: GraphSpec | None = None,
    outputs: Sequence[int] | None = None,
    patches: Sequence[Patches] = (),
    open_nested: bool = False,
    name: str | None = None,
) -> tuple[keras.Model, LayerMap]:
    """Build a model again at another input shape and as another graph, sharing nothing with it.

    Every layer is made anew from its configuration, so the new model's weights are fresh;
    `weights.transplant` carries them over. Nested models stay nested, unless an output inside one
    or ``patches`` are asked for.

    Example:
        >>> import keras
        >>> from inshape.graph.read import read
        >>> image = keras.Input((224, 224, 3))
        >>> source = keras.Model(image, keras.layers.Conv2D(8, 3, strides=2)(image))
        >>> small, layer_map = rebuild(source, read(source), "97x64x1")
        >>> small.output_shape, len(layer_map.pairs)
        ((None, 48, 31, 8), 1)
    """
    graph = picture_model(model)
    changed = changed or spec
    shape = InputShape.of(input_shape)
    for inline in (open_nested or bool(patches), True):
        rewriter = _Rewriter(spec, changed, outputs, inline=inline)
        for region in patches:
            pieces = _Pieces(changed, shape, region)
            rewriter.pieces.update(dict.fromkeys(pieces.steps, pieces))
        dtype = graph.inputs[0].dtype
        picture = keras.Input(shape.as_tuple(), dtype=dtype, name=_input_name(graph.inputs[0]))
        added = _InputLayers(picture, changed)
        rewriter.names |= added.names
        rewriter.projection = added.projection
        results = rewriter.run(graph, [added.result])
        if not rewriter.must_open:
            break
    if outputs is None:
        returned = tree.pack_sequence_as(graph._outputs_struct, results)
    else:
        returned = rewriter.tensors_at(outputs)
    # A picture that is called by a name, or stands in a list, still does.
    structure = tree.pack_sequence_as(graph._inputs_struct, [picture])
    rebuilt = keras.Model(structure, returned, name=name or model.name)
    is_new = changed.input_layers.projection_from is None
    projection = added.projection if is_new else None
    return _frozen_like(model, rebuilt), LayerMap(tuple(rewriter.pairs), projection)


class _InputLayers:
    """The resizing and the channel layers behind the picture.

    They compute with floats. The network then reads what it read before: its own kind of floats, or
    whole numbers if it computes with such.
    """

    def __init__(self, picture: Any, changed: GraphSpec) -> None:
        self.names: set[str] = set()
        self.projection: keras.layers.Layer | None = None
        self.result = picture
        self.floats = keras.backend.result_type(picture.dtype, "float32")
        added = changed.input_layers
        if added.resize_hw is not None:
            self._resize(added)
        if added.channels == "project":
            self._project(added.network_channels)
        if changed.whole_numbers and self.result is not picture:
            self._add(keras.ops.round(self.result), ROUND)
            if self.projection is not None:  # whose weights may be any
                lowest, highest = _RANGES.get(picture.dtype, (None, None))
                self._add(keras.ops.clip(self.result, lowest, highest), CLIP)
        if changed.whole_numbers or "float" in picture.dtype:
            self._cast(picture.dtype, WHOLE)
        if added.channels == "repeat":
            # Without a type of its own it would have the one that is set for new layers.
            dtype = picture.dtype if "float" in picture.dtype else "float32"
            repeat = keras.layers.Concatenate(name=REPEAT, dtype=dtype)
            self._add(repeat([self.result] * added.network_channels), REPEAT)

    def _resize(self, added: InputLayers) -> None:
        self._cast(self.floats, FLOATS)
        # Not keras.layers.Resizing, which would say training=True to all behind it.
        resized = keras.ops.image.resize(
            self.result,
            added.resize_hw,
            interpolation=added.interpolation,
            pad_to_aspect_ratio=added.fit == "letterbox",
            crop_to_aspect_ratio=added.fit == "crop",
        )
        self._add(resized, RESIZE)

    def _project(self, channels: int) -> None:
        self._cast(self.floats, FLOATS)
        self.projection = keras.layers.Conv2D(
            channels, 1, use_bias=False, name=PROJECT, dtype=self.floats
        )
        self._add(self.projection(self.result), PROJECT)

    def _cast(self, dtype: str, name: str) -> None:
        if self.result.dtype != dtype:
            self._add(keras.ops.cast(self.result, dtype), name)

    def _add(self, tensor: Any, name: str) -> None:
        """Go on from a tensor; its operation is known by this name when the model is read again."""
        tensor._keras_history.operation.name = name
        self.names.add(name)
        self.result = tensor


_RANGES = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
}
"""Of whole numbers that floats hold exactly."""


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """A map in pieces: what was computed for each, and which part of the whole map that is."""

    parts: tuple[Any, ...]
    regions: tuple[Region, ...]


class _Pieces:
    """What is computed for each piece of a map, by call."""

    def __init__(self, spec: GraphSpec, shape: InputShape, patches: Patches) -> None:
        grid = steps_of(spec, map_shapes(spec, shape), patches)
        self.patches = patches
        self.columns = patches.grid_hw[1]
        self.steps: dict[int, list[Step]] = {}
        for step in (step for row in grid for piece in row for step in piece):
            self.steps.setdefault(step.call, []).append(step)
        self._slices: dict[tuple[int, Region], Any] = {}

    def read(self, content: Any, number: int, step: Step) -> Any:
        """What the piece of a number reads of a map, whole or in pieces."""
        if isinstance(content, _Cut):
            content, region = content.parts[number], content.regions[number]
        else:
            _, height, width, _ = content.shape
            region = (0, height), (0, width)
        if region == step.read:
            return content
        key = id(content), step.read
        if key not in self._slices:
            rows, columns = (slice(*part) for part in relative(region, step.read))
            self._slices[key] = content[:, rows, columns]
        return self._slices[key]

    def joined(self, cut: _Cut) -> Any:
        """The whole map."""
        starts = range(0, len(cut.parts), self.columns)
        rows = [cut.parts[i : i + self.columns] for i in starts]
        whole = [_concatenated(row, 2) for row in rows]
        return _concatenated(whole, 1)


def _concatenated(maps: Sequence[Any], axis: int) -> Any:
    return keras.layers.Concatenate(axis)(list(maps)) if len(maps) > 1 else maps[0]


class _Rewriter(Walk):
    def __init__(
        self, spec: GraphSpec, changed: GraphSpec, outputs: Sequence[int] | None, *, inline: bool
    ) -> None:
        super().__init__()
        self.spec = spec
        self.changed = changed
        self.returned = frozenset(outputs or ())
        self.needed = None if outputs is None else spec.but(outputs=tuple(outputs)).needed()
        self.inline = inline
        self.tensors: dict[int, Any] = {}
        self.pairs: list[LayerPair] = []
        self.made: dict[int, Any] = {}
        self.models: dict[int, keras.Model] = {}
        self.names: set[str] = set()
        self.projection: keras.layers.Layer | None = None
        self.outer_names: frozenset[str] = frozenset()
        self.must_open = False
        self.pieces: dict[int, _Pieces] = {}
        self.context: dict[str, Any] = {}

    def run(self, graph: Any, contents: list[Any], path: tuple[str, ...] = ()) -> list[Any]:
        if not path:
            self.tensors[0] = contents[0]
            self.outer_names = _names_of_leaves(graph) if self.inline else frozenset()
        return super().run(graph, contents, path)

    def _skips(self, first: int, count: int) -> bool:
        return self.needed is not None and self.needed.isdisjoint(range(first, first + count))

    def _ends_inside(self, call: Call, size: int) -> bool:
        """Whether what is asked for lies inside a nested model, which must then be opened."""
        if self.inline or self.needed is None:
            return False
        own = set(self._inner_outputs(call))
        inside = self.returned.intersection(range(call.index, call.index + size))
        self.must_open |= not (self.needed >= own and inside <= own)
        return self.must_open

    # Calls of nested models

    def nested(self, call: Call, graph: Any) -> Any:
        size = count_calls(graph)
        if self._skips(call.index, size) or self._ends_inside(call, size):
            self.position += size
            return None
        if self.inline:
            outer = self.context
            self.context = {**outer, **_context_of(call)}
            results = self.run(graph, list(call.values), call.path)
            self.context = outer
            return results
        model = self.models.get(id(call.operation))
        if model is None:
            model = self._rebuilt_inside(call, graph)
            self.models[id(call.operation)] = model
        else:
            self.position += size
        args, kwargs = unwrap((call.args, call.kwargs))
        results = tree.flatten(applied_to(model, args, kwargs, call.name, call.inputs))
        for index, tensor in zip(self._inner_outputs(call), results, strict=True):
            self._keep(index, call.path[:-1], tensor)
        return results

    def _rebuilt_inside(self, call: Call, graph: Any) -> keras.Model:
        """Build a nested model anew, at the shapes that now reach it."""
        source = call.operation
        is_called_again = len(source._inbound_nodes) > 1
        inputs = [
            keras.Input(
                batch_shape=_any_size(t.shape, old.shape) if is_called_again else t.shape,
                dtype=t.dtype,
                name=_input_name(old),
            )
            for t, old in zip(call.values, graph.inputs, strict=True)
        ]
        names, self.names = self.names, set()
        results = self.run(graph, inputs, call.path)
        self.names = names
        if isinstance(source, keras.Sequential):
            chain = _as_chain(inputs, results)
            if chain is not None:
                return _frozen_like(source, keras.Sequential([inputs[0], *chain], name=source.name))
        structure = tree.pack_sequence_as(graph._inputs_struct, inputs)
        returned = tree.pack_sequence_as(graph._outputs_struct, results)
        return _frozen_like(source, keras.Model(structure, returned, name=source.name))

    def _inner_outputs(self, call: Call) -> list[int]:
        """The positions that a nested call returns."""
        return _OutputFinder(call.index).outputs(call)

    # Calls of layers

    def leaf(self, call: Call) -> Any:
        if self.must_open or self._skips(call.index, len(call.outputs)):
            return None
        before, after = self.spec[call.index], self.changed[call.index]
        if after.op == "identity" != before.op:
            return self._replaced(call)
        if call.index in self.pieces:
            return self._in_pieces(call, self.pieces[call.index])
        args, kwargs = unwrap((call.args, call.kwargs))
        results = tree.flatten(self._called(call, after, args, kwargs))
        for index, tensor in enumerate(results, call.index):
            self._keep(index, call.path[:-1], tensor)
        return results

    def _in_pieces(self, call: Call, pieces: _Pieces) -> Any:
        """Call a layer once for each piece."""
        after = self.changed[call.index]
        if after.is_window:
            after = after.but(padding="valid")
        parts: list[Any] = []
        steps = pieces.steps[call.index]
        for number, step in enumerate(steps):

            def read(value: Any, number: int = number, step: Step = step) -> Any:
                is_map = isinstance(value, Value)
                return pieces.read(value.content, number, step) if is_map else value

            arguments: Any = tree.map_structure(read, (call.args, call.kwargs))
            args, kwargs = arguments
            if after.op in ("pad", "crop"):
                parts.append(self._padded(call, args[0], step.pads))
            else:
                piece = after.but(pads=step.pads)
                parts.append(tree.flatten(self._called(call, piece, args, kwargs))[0])
        cut = _Cut(tuple(parts), tuple(step.region for step in steps))
        is_end = call.index == pieces.patches.end
        return [self._keep(call.index, call.path[:-1], pieces.joined(cut) if is_end else cut)]

    def _called(
        self, call: Call, after: LayerSpec, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What the new layer of a call gives."""
        args, kwargs = self._arguments(call, after, args, kwargs)
        operation = self._made(call, after)
        accepted = getattr(operation, "_call_context_args", ())
        kwargs |= {k: v for k, v in self.context.items() if k in accepted and kwargs.get(k) is None}
        if trains_by_default(operation):
            kwargs["training"] = False
        return applied_to(operation, args, kwargs, call.name, call.inputs)

    def _replaced(self, call: Call) -> Any:
        """Pass by an input layer that another one has taken the place, or the weights, of."""
        if call.index == self.changed.input_layers.projection_from:
            assert self.projection is not None
            self.projection.trainable = call.operation.trainable
            pair = LayerPair(call.index, call.name, call.operation, self.projection)
            self.pairs.append(pair)
        return self._keep(call.index, call.path[:-1], call.values[0])

    def _arguments(
        self, call: Call, after: LayerSpec, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a layer is called with, behind the layers that its changes put before it."""
        before = self.spec[call.index]
        if after.grid_first is not None:
            pool = AdaptivePooling2D(after.grid_first, name=self._name(call, "_grid"))
            args = (pool(args[0]), *args[1:])
        if after.is_window:
            args = (self._padded(call, args[0], after.pads), *args[1:])
        if after.slices != before.slices:
            args, kwargs = (args[0], changed_key(after)), {}
        if after.op != before.op:  # Resizing is told of training, UpSampling2D is not
            args, kwargs = args[:1], {}
        return args, kwargs

    def _padded(self, call: Call, tensor: Any, pads: Pads) -> Any:
        if pads == NO_PADS:
            return tensor
        # Named so that `padding` does not take it for one that was computed from a size.
        return keras.layers.ZeroPadding2D(pads, name=self._name(call, FIXED_PAD))(tensor)

    def tensors_at(self, outputs: Sequence[int]) -> Any:
        """One tensor, or a list of several."""
        return sole([self.tensors[i] for i in outputs])

    def _keep(self, index: int, models: tuple[str, ...], result: Any) -> Any:
        """Remember a tensor that the outermost model can return."""
        if not models or self.inline:
            self.tensors[index] = result
        return result

    def _made(self, call: Call, after: LayerSpec) -> Any:
        """The new layer for a call, the same one for every call of the same layer."""
        source = call.operation
        if id(source) not in self.made:
            before = self.spec[call.index]
            if before.op == "resize" and after.op == "upsample":
                new = keras.layers.UpSampling2D(
                    after.stride_hw, interpolation=source.interpolation, name=self._name(call)
                )
            else:
                entries = changed_entries(before, after)
                new = remade(source, entries, self._name(call), call.name)
            self.made[id(source)] = new
            if isinstance(source, keras.layers.Layer):
                self.pairs.append(LayerPair(call.index, call.name, source, new))
        return self.made[id(source)]

    def _name(self, call: Call, suffix: str = "") -> str:
        """The source's name; with the path in front, or a number behind, where that is taken."""
        wanted = call.path[-1] + suffix
        is_inner = len(call.path) > 1
        if self.inline and (wanted in self.names or (is_inner and wanted in self.outer_names)):
            wanted = "_".join(call.path) + suffix
        return free_name(wanted, self.names)


class _OutputFinder(Walk):
    """Finds the positions of a nested call's outputs without building anything."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.position = first

    def outputs(self, call: Call) -> list[int]:
        graph = functional_graph(call.operation)
        return self.run(graph, [-1] * len(call.values))

    def leaf(self, call: Call) -> list[int]:
        return list(range(call.index, call.index + len(call.outputs)))

    def nested(self, call: Call, graph: Any) -> list[int]:
        return self.run(graph, list(call.values))


def _names_of_leaves(graph: Any) -> frozenset[str]:
    """The names that stand outside of nested models, which they keep."""
    operations = (node.operation for node in nodes_in_order(graph))
    names = {x.name for x in operations if functional_graph(x) is None}
    return frozenset({_input_name(graph.inputs[0]), *names})


def _input_name(tensor: Any) -> str:
    return tensor._keras_history.operation.name


def _any_size(now: Sequence[int | None], before: Sequence[int | None]) -> tuple[int | None, ...]:
    """The shape that reaches a nested model, unknown where it was built for any size."""
    return tuple(None if old is None else new for new, old in zip(now, before, strict=True))


def _frozen_like(source: keras.Model, model: keras.Model) -> keras.Model:
    if not source.trainable:  # setting True would thaw single layers that were frozen
        model.trainable = False
    return model


def _context_of(call: Call) -> dict[str, Any]:
    training = call.kwargs.get("training")
    return {} if training is None else {"training": training}


def _as_chain(inputs: list[Any], results: list[Any]) -> list[keras.layers.Layer] | None:
    """The layers between one input and one output, if they form a chain of layers."""
    chain: list[keras.layers.Layer] = []
    tensor = results[0]
    while tensor is not inputs[0]:
        operation, node_index, _ = tensor._keras_history
        parents = operation._inbound_nodes[node_index].input_tensors
        if len(parents) != 1 or not isinstance(operation, keras.layers.Layer):
            return None
        chain.append(operation)
        tensor = parents[0]
    chain.reverse()
    return chain if len(set(map(id, chain))) == len(chain) else None
