"""What reading a model file gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..weights.origin import IMAGENET_STATISTICS
from .options import IMAGENET, Pixels, write_pixels

if TYPE_CHECKING:
    import keras

CARD_KEY = "inshape"
"""Under which an ONNX file that inshape exported says what it is; it takes [0, 255]."""
RANGE_UNKNOWN = (
    "the file does not say how pixels become its numbers: they go in as they are, from 0 to 255; "
    "say which values it was trained on with pixels=, such as 0:1, -1:1 or imagenet (0:255 leaves "
    "them as they are)"
)
_SCALING = (
    *("Rescaling", "Normalization"),
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


def with_pixels(known: Imported, pixels: Pixels, place: str) -> Imported:
    """A network that takes pixels as [0, 255], of one that was trained on other values.

    Args:
        known: its model, of one picture, is not changed, and stands in the new one.
        pixels: those values.
        place: where it comes from, for messages.

    Raises:
        RequestError: if it says itself which values it takes, or if those cannot be its.

    Example:
        >>> import keras
        >>> image = keras.Input((8, 8, 3))
        >>> conv = keras.layers.Conv2D(2, 3)
        >>> known = Imported(keras.Model(image, conv(image)), (RANGE_UNKNOWN,))
        >>> with_pixels(known, (-1.0, 1.0), "net.keras").model.layers[1].get_config()["scale"]
        0.00784313725490196
    """
    import keras

    from ..graph.walk import functional_graph

    asked, model = f"pixels={write_pixels(pixels)!r} with {place}", known.model
    if RANGE_UNKNOWN not in known.notes:
        raise RequestError(
            f"{asked}, which brings [0, 255] to its range itself; expected one that does not; "
            "leave pixels out"
        )
    (picture,) = model.inputs
    channels = picture.shape[-1]
    if "int" in picture.dtype:
        raise RequestError(
            f"{asked}, which takes {picture.dtype}; expected a network that takes floats; leave "
            "pixels out"
        )
    notes = tuple(note for note in known.notes if note != RANGE_UNKNOWN)
    if pixels == (0, 255):
        return Imported(model, notes)
    scale, offset = _scaling(pixels)
    if pixels == IMAGENET and channels != len(scale):
        raise RequestError(
            f"{asked}, which takes {channels} channels; expected a network of {len(scale)}, as "
            "ImageNet's statistics are; give LOW:HIGH"
        )
    image = keras.Input(picture.shape[1:], name="image")
    x = keras.layers.Rescaling(scale, offset, name="pixels")(image)
    graph = functional_graph(model)
    x = x if graph is None else keras.tree.pack_sequence_as(graph._inputs_struct, [x])
    return Imported(keras.Model(image, model(x), name=model.name), notes)


def _scaling(pixels: Pixels) -> tuple[Any, Any]:
    """What pixels from 0 to 255 are multiplied with, and what is then added."""
    if isinstance(pixels, str):
        mean, deviation = IMAGENET_STATISTICS
        offsets = [-m / d for m, d in zip(mean, deviation, strict=True)]
        return [1 / (255 * d) for d in deviation], offsets
    low, high = pixels
    return (high - low) / 255, low


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
