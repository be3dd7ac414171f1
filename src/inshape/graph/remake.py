"""Makes one layer or operation anew, and names it when that fails."""

from __future__ import annotations

from typing import Any

import keras
from keras import tree

from ..errors import GraphError
from ..geometry.spec import LayerSpec
from ..text import first_line

_ENTRIES = {
    "kernel_hw": "kernel_size",
    "stride_hw": "strides",
    "dilation_hw": "dilation_rate",
    "padding": "padding",
    "epsilon": "epsilon",
}
"""Keras's names for the facts of a layer that can be changed."""


def changed_entries(before: LayerSpec, after: LayerSpec) -> dict[str, Any]:
    """The entries of a layer's configuration in which it is to differ from its source.

    Example:
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3), stride_hw=(2, 2))
        >>> changed_entries(conv, conv.but(stride_hw=(1, 1), padding="same"))
        {'strides': (1, 1), 'padding': 'same'}
    """
    entries = {
        entry: getattr(after, fact)
        for fact, entry in _ENTRIES.items()
        if getattr(after, fact) != getattr(before, fact)
    }
    if before.op == "pad" and after.pads != before.pads:
        entries["padding"] = after.pads
    if after.constants != before.constants:
        entries |= {name: list(values) for name, values in after.constants}
    return entries


def remade(source: Any, changes: dict[str, Any], name: str, path: str) -> Any:
    """Make a layer or operation anew from its configuration."""
    if not isinstance(source, keras.layers.Layer):
        # It holds no weights, only a place in the graph. copy.copy would save it to a file first.
        new = object.__new__(type(source))
        new.__dict__.update(source.__dict__)
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
            f"configuration: {first_line(error)}; give the class a get_config() that "
            "returns its arguments"
        ) from error


def applied_to(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> Any:
    """Call a layer, and name it if it refuses what it gets."""
    try:
        return operation(*args, **kwargs)
    except Exception as error:  # Keras raises ValueError, TypeError and its backends' own errors
        shapes = ", ".join(str(tuple(t.shape)) for t in tree.flatten(args) if hasattr(t, "shape"))
        raise GraphError(
            f"layer {path!r} ({type(operation).__name__}) refuses an input of {shapes}: "
            f"{first_line(error)}; use strategy='resize', which leaves the layers at "
            "their own size"
        ) from error
