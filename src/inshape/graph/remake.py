"""Makes one layer or operation anew, and names it when that fails."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
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
    "target_shape": "target_shape",
}
"""Keras's names for the facts of a layer that can be changed."""
_ENTRIES_BY_OP: dict[str, dict[str, str]] = {
    "avg_pool": {"kernel_hw": "pool_size"},
    "max_pool": {"kernel_hw": "pool_size"},
    "upsample": {"stride_hw": "size"},
}


def changed_entries(before: LayerSpec, after: LayerSpec) -> dict[str, Any]:
    """The entries of a layer's configuration in which it is to differ from its source.

    Example:
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3), stride_hw=(2, 2))
        >>> changed_entries(conv, conv.but(stride_hw=(1, 1), padding="same"))
        {'strides': (1, 1), 'padding': 'same'}
    """
    entries = {
        entry: getattr(after, fact)
        for fact, entry in (_ENTRIES | _ENTRIES_BY_OP.get(after.op, {})).items()
        if getattr(after, fact) != getattr(before, fact)
    }
    if after.target_hw != before.target_hw and after.target_hw is not None:
        entries |= {"height": after.target_hw[0], "width": after.target_hw[1]}
    if before.op == "pad" and after.pads != before.pads:
        entries["padding"] = after.pads
    if after.constants != before.constants:
        entries |= {name: list(values) for name, values in after.constants}
    return entries


def changed_key(after: LayerSpec) -> tuple[slice | int, ...]:
    """What ``x[...]`` is indexed by."""
    parts = (part[0] or 0 if len(part) == 1 else slice(*part) for part in after.slices)
    return (slice(None), *parts)


def remade(source: Any, changes: dict[str, Any], name: str, path: str) -> Any:
    """Make a layer or operation anew from its configuration."""
    if not isinstance(source, keras.layers.Layer):
        # It holds no weights, only a place in the graph. copy.copy would save it to a file first.
        new = object.__new__(type(source))
        new.__dict__.update(source.__dict__)
        new._inbound_nodes, new._outbound_nodes, new.name = [], [], name
        _set_numbers(new, changes)
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


def trains_by_default(operation: Any) -> bool:
    """Whether a layer is in training mode where nothing is said, as ``Resizing`` and augmentation.

    It would hand that on to every layer behind it: batch norm would train in ``model(x)``. Called
    with ``training=False`` it does not, and ``fit`` still says otherwise.
    """
    training = inspect.signature(type(operation).call).parameters.get("training")
    return training is not None and training.default is True


def _set_numbers(operation: Any, changes: dict[str, Any]) -> None:
    """Change the numbers of an operation, which calls some of them otherwise than a layer does."""
    if "height" in changes:
        operation.size = (changes["height"], changes["width"])
    if "target_shape" in changes:
        target = changes["target_shape"]
        batch = operation.newshape[0]
        rows = len(target) == len(operation.newshape)  # the batch axis counts rows of pictures
        operation.newshape = (batch, *(target[1:] if rows else target))
    for name in ("pool_size", "strides"):
        if name in changes:
            setattr(operation, name, changes[name])


def applied_to(
    operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str, before: Sequence[Any]
) -> Any:
    """Call a layer, and name it if it refuses what it gets.

    ``before`` is what it read in the source.
    """
    try:
        return operation(*args, **kwargs)
    except Exception as error:  # Keras raises ValueError, TypeError and its backends' own errors
        read = [tuple(t.shape) for t in tree.flatten(args) if hasattr(t, "shape")]
        use = "use strategy='resize', which leaves the layers at their own size"
        if read == [tuple(t.shape) for t in before]:
            use = "it is what the layer has always read, so check the layer's call()"
        raise GraphError(
            f"layer {path!r} ({type(operation).__name__}) refuses an input of "
            f"{', '.join(map(str, read))}: {first_line(error)}; {use}"
        ) from error
