"""Makes one layer or operation anew, and says which one it was when that fails."""

from __future__ import annotations

import copy
from typing import Any

import keras
from keras import tree

from ..errors import GraphError


def remade(source: Any, changes: dict[str, Any], name: str, path: str) -> Any:
    """Make a layer or operation anew from its configuration.

    Args:
        source: a Keras layer or operation; it is not changed.
        changes: configuration entries to replace.
        name: the new layer's name.
        path: the source's path, for messages.

    Returns:
        A layer that shares no weights with the source.

    Raises:
        GraphError: if its configuration does not build it again.
    """
    if not isinstance(source, keras.layers.Layer):
        new = copy.copy(
            source
        )  # operations hold no weights; only their place in the graph is theirs
        new._inbound_nodes, new._outbound_nodes, new.name = [], [], name
        return new
    if isinstance(source, keras.layers.Lambda):
        return keras.layers.Lambda(
            source.function,
            output_shape=source._output_shape,
            mask=source.mask,
            arguments=source.arguments,
            name=name,
            dtype=source.dtype_policy,
            trainable=source.trainable,
        )
    try:
        return type(source).from_config({**source.get_config(), **changes, "name": name})
    except Exception as error:  # whatever a user's own layer raises
        raise GraphError(
            f"layer {path!r} ({type(source).__name__}) cannot be made again from its "
            "configuration: "
            f"{_first_line(error)}; give the class a get_config() that returns its arguments"
        ) from error


def applied_to(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> Any:
    """Call a layer, and name it if it refuses what it gets.

    Args:
        operation: a Keras layer or operation.
        args: its positional arguments.
        kwargs: its keyword arguments.
        path: the source's path, for messages.

    Returns:
        What it returns.

    Raises:
        GraphError: if it raises anything.
    """
    try:
        return operation(*args, **kwargs)
    except Exception as error:  # Keras raises ValueError, TypeError and its backends' own errors
        shapes = ", ".join(str(tuple(t.shape)) for t in tree.flatten(args) if hasattr(t, "shape"))
        raise GraphError(
            f"layer {path!r} ({type(operation).__name__}) refuses an input of {shapes}: "
            f"{_first_line(error)}; use strategy='resize', which leaves the layers at their own "
            "size"
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
