"""What reading a model file gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

RANGE_UNKNOWN = (
    "the file does not say how pixels become its numbers: they go in as they are, which inshape's "
    "commands do from 0 to 255; a keras.layers.Rescaling in front brings them to another range"
)
_SCALING = (
    *("Rescaling", "Normalization", "BatchNormalization"),
    *("Multiply", "Divide", "TrueDivide", "Subtract", "Add"),
)
_PASSING = ("ZeroPadding2D", "Resizing", "Cropping2D")


@dataclass(frozen=True, slots=True)
class Imported:
    """A network that was read from a file."""

    model: keras.Model
    """Functional, channels last, of ordinary named layers."""
    notes: tuple[str, ...] = ()
    """What the user has to know: what was cut off, which values it takes."""


def range_notes(model: keras.Model) -> tuple[str, ...]:
    """That nothing in a network brings pixels to its range, if so; it was done before it then.

    Example:
        >>> import keras
        >>> image = keras.Input((8, 8, 3))
        >>> conv = keras.layers.Conv2D(2, 3)
        >>> len(range_notes(keras.Model(image, conv(image))))
        1
        >>> range_notes(keras.Model(image, conv(keras.layers.Rescaling(1 / 255)(image))))
        ()
    """
    return () if any(map(_is_scaled, model.inputs)) else (RANGE_UNKNOWN,)


def _is_scaled(picture: Any) -> bool:
    """Whether what first computes with a picture moves its range."""
    for node in picture._keras_history.operation._outbound_nodes:
        operation = node.operation
        if type(operation).__name__ in _SCALING:
            return True
        is_model = hasattr(operation, "layers")
        on_the_way = operation.inputs if is_model else node.outputs
        is_passed = is_model or type(operation).__name__ in _PASSING
        if is_passed and any(map(_is_scaled, on_the_way)):
            return True
    return False
