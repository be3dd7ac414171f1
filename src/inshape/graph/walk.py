"""One walk over a functional graph, which the reader and the rewriter share.

The walk numbers every call of every layer, nested models opened, so that a position means the same
call in a `GraphSpec` and while the model is rebuilt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import tree

from ..errors import GraphError


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one layer or operation.

    Attributes:
        index: its position among all calls; one with several outputs takes a position for each.
        path: names of the models around it and its own.
        operation: the Keras layer or operation.
        args: positional arguments, KerasTensors replaced by the walk's values.
        kwargs: keyword arguments, likewise.
        values: the walk's values among the arguments, in order.
        inputs: the KerasTensors among the arguments when the model was built, in the same order.
        outputs: the KerasTensors that the call put out when the model was built.
    """

    index: int
    path: tuple[str, ...]
    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    values: tuple[Any, ...]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    @property
    def name(self) -> str:
        """The path for display."""
        return "/".join(self.path)


@dataclass(frozen=True, slots=True)
class Value:
    """What flows along an edge of the graph during a walk."""

    content: Any


def functional_graph(operation: Any) -> Any | None:
    """The functional graph inside a model, or ``None`` if there is none to be opened.

    A model whose ``call`` was overridden computes something else than its graph says, so it stays
    closed.
    """
    if isinstance(operation, keras.Sequential):
        return getattr(operation, "_functional", None)
    if not isinstance(operation, keras.Model) or not hasattr(operation, "_nodes_by_depth"):
        return None
    functional = next(c for c in type(operation).__mro__ if c.__name__ == "Functional")
    return operation if type(operation).call is functional.call else None


def picture_model(model: Any) -> Any:
    """Check that a model can be walked: functional, with one picture as its input."""
    if not isinstance(model, keras.Model):
        raise GraphError(f"got {what_it_is(model)}")
    graph = functional_graph(model)
    if graph is None and isinstance(model, keras.Sequential):
        raise GraphError(
            f"model {model.name!r} is a keras.Sequential without an input, expected one of known "
            "shape; call model.build((None, height, width, channels)) first"
        )
    if graph is None:
        raise GraphError(
            f"model {model.name!r} ({type(model).__name__}) has no functional graph, so its layers "
            "cannot be rewired; build it with keras.Model(inputs, outputs) instead of a call() of "
            "its own"
        )
    if len(graph.inputs) != 1 or len(graph.inputs[0].shape) != 4:
        shapes = ", ".join(str(tuple(t.shape)) for t in graph.inputs)
        raise GraphError(
            f"model {model.name!r} takes {len(graph.inputs)} inputs ({shapes}), "
            "expected one picture "
            "(batch, height, width, channels)"
        )
    return graph


def what_it_is(value: Any) -> str:
    """What stands where a model is expected, and what to give instead."""
    kind = value if isinstance(value, type) else type(value)
    modules = [parent.__module__ for parent in kind.__mro__]
    expected = "expected a keras.Model, a backbone's name or a .keras file"
    if _come_from(modules, _KERAS_2):
        return (
            f"{kind.__name__} of Keras 2 ({kind.__module__.split('.')[0]}), {expected}; save it "
            "with model.save('model.h5') and give that file"
        )
    if _come_from(modules, ("torch",)):
        return (
            f"{kind.__name__} of PyTorch, {expected}; for a MobileNetV3, save its state_dict() as "
            "a .pth file, and give inshape's name of it with weights='FILE.pth'"
        )
    if isinstance(value, keras.layers.Layer):
        return (
            f"{kind.__name__}, a layer, {expected}; make a model of it with "
            "keras.Model(image, layer(image)), where image is a keras.Input"
        )
    if isinstance(value, keras.KerasTensor):
        return f"a tensor, {expected}; make a model of it with keras.Model(image, tensor)"
    if value is None:
        return f"None, {expected}; name one, such as 'MobileNetV3Small'"
    if callable(value) and hasattr(value, "__name__"):
        return f"{value.__name__} itself, {expected}; call it, or write the name of a backbone"
    return f"{kind.__name__}, {expected}; name one, such as 'MobileNetV3Small'"


def _come_from(modules: Sequence[str], packages: Sequence[str]) -> bool:
    starts = tuple(f"{package}." for package in packages)
    return any(f"{module}.".startswith(starts) for module in modules)


_KERAS_2 = ("tf_keras", "keras.engine", "keras.src.engine", "tensorflow.python.keras")
"""Where the models of Keras 2 come from."""


def nodes_in_order(graph: Any) -> Iterator[Any]:
    """The nodes of a functional graph in the order in which Keras runs them, inputs left out."""
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if node.operation is not None and not node.is_input:
                yield node


def all_layers(model: Any) -> list[Any]:
    """Every layer of a model in order, nested models and the layers inside them too."""
    # `Model.layers` stops at nested models, and Keras has no public way to go on into them.
    return list(model._flatten_layers(include_self=False))


def count_calls(graph: Any) -> int:
    """How many positions the calls inside a graph take."""
    total = 0
    for node in nodes_in_order(graph):
        inner = functional_graph(node.operation)
        total += len(node.outputs) if inner is None else count_calls(inner)
    return total


class Walk(ABC):
    """Runs through a functional graph; subclasses say what a call does to the values."""

    def __init__(self) -> None:
        """Start at position 0, which is the picture's input."""
        self.position = 1

    @abstractmethod
    def leaf(self, call: Call) -> Any:
        """Handle one call; return one content, or a list of one per output."""

    @abstractmethod
    def nested(self, call: Call, graph: Any) -> Any:
        """Handle a call of a model with a graph of its own; return contents likewise."""

    def run(self, graph: Any, contents: list[Any], path: tuple[str, ...] = ()) -> list[Any]:
        """Walk a graph."""
        values = {id(t): Value(c) for t, c in zip(graph.inputs, contents, strict=True)}
        for node in nodes_in_order(graph):
            args, kwargs = node.arguments.fill_in(values)
            call = Call(
                index=self.position,
                path=(*path, node.operation.name),
                operation=node.operation,
                args=args,
                kwargs=kwargs,
                values=tuple(
                    v.content for v in tree.flatten((args, kwargs)) if isinstance(v, Value)
                ),
                inputs=tuple(node.input_tensors),
                outputs=tuple(node.outputs),
            )
            inner = functional_graph(node.operation)
            if inner is None:
                self.position += len(node.outputs)
                result = self.leaf(call)
            else:
                result = self.nested(call, inner)
            for tensor, content in zip(
                node.outputs, _per_output(result, len(node.outputs)), strict=True
            ):
                values[id(tensor)] = Value(content)
        return [values[id(t)].content for t in graph.outputs]


def _per_output(result: Any, count: int) -> list[Any]:
    """One content for each output of a call; a single one stands for all of them."""
    contents = list(result) if isinstance(result, list | tuple) else [result]
    return contents * count if len(contents) == 1 else contents


def sole(values: Sequence[Any]) -> Any:
    """The one value, or all: layers and models of Keras take and give a list only of several."""
    return values[0] if len(values) == 1 else list(values)


def unwrap(arguments: Any) -> Any:
    """Arguments with each `Value` replaced by its content."""

    def content(value: Any) -> Any:
        return value.content if isinstance(value, Value) else value

    return tree.map_structure(content, arguments)
