"""What the user says of a model file, or of a network of their own, before it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from ..errors import RequestError, shown
from ..requests import Request, Written, joined, many
from ..text import read_ends, write_ends

IMAGENET = "imagenet"
Pixels: TypeAlias = Literal["imagenet"] | tuple[float, float]
"""The values that a network was trained on: those of black and white, or the pixels less
ImageNet's mean, divided by its deviation."""


def read_pixels(value: Any) -> Pixels:
    """Read which values a network was trained on.

    Example:
        >>> read_pixels("-1:1"), read_pixels(1), read_pixels("imagenet")
        ((-1.0, 1.0), (0.0, 1.0), 'imagenet')
    """
    if isinstance(value, str) and value == IMAGENET:
        return IMAGENET
    return read_ends(
        value,
        "LOW:HIGH, the values of black and white that the network was trained on, such as 0:1 or "
        "-1:1, or imagenet",
    )


def write_pixels(pixels: Pixels) -> str:
    """The values as `read_pixels` reads them."""
    return pixels if isinstance(pixels, str) else write_ends(pixels)


@dataclass(frozen=True, slots=True)
class FileOptions(Request):
    """How a model file, or a network of your own, is read.

    Raises:
        RequestError: if ``pixels`` are neither a range nor a word that is known.

    Example:
        >>> FileOptions(outputs="scores", pixels="-1:1")
        FileOptions(outputs=('scores',), pixels=(-1.0, 1.0))
    """

    outputs: Annotated[tuple[str, ...], Written(many(str), joined(str), "NAMES")] = ()
    """Where to stop in a .tflite or .onnx file, by the names of its tensors; more than one with
    head top."""
    pixels: Annotated[Pixels, Written(read_pixels, write_pixels, "LOW:HIGH")] | None = None
    """The values of black and white that a file's network, or your own, was trained on, where it
    does not say so itself: 0:1, -1:1, or imagenet (less ImageNet's mean, divided by its standard
    deviation). Pictures then go in as [0, 255]."""

    def check_without_file(self, backbone: Any, *, is_named: bool) -> None:
        """Refuse, beside a network that is in no file, what is said of files."""
        if self.outputs:
            raise RequestError(
                f"outputs={list(self.outputs)} with {shown(backbone)}; expected a .tflite or .onnx "
                "file to stop in; leave outputs out, and pass "
                "keras.Model(model.inputs, the outputs)"
            )
        if self.pixels is not None and is_named:
            raise RequestError(
                f"pixels={write_pixels(self.pixels)!r} with {shown(backbone)}; expected a model "
                "file or a keras.Model, since a named network takes [0, 255] as it is; leave "
                "pixels out"
            )
