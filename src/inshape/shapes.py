"""Sizes and input shapes: how a user writes them and how the project carries them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .errors import ShapeError

_SHAPE = re.compile(r"\s*(\?|\d+)\s*[x×,]\s*(\?|\d+)\s*[x×,]\s*(\d+)\s*", re.IGNORECASE)
_HOW = "write HxWxC, such as 96x128x1 (height x width x channels; ? for an unknown height or width)"


@dataclass(frozen=True, slots=True)
class Size:
    """Height and width in pixels, height first; ``None`` is unknown until run time.

    Example:
        >>> Size(96, 128)
        Size(height=96, width=128)
        >>> print(Size(96, None))
        96x?
    """

    height: int | None
    width: int | None

    def __str__(self) -> str:
        return f"{_word(self.height)}x{_word(self.width)}"

    @property
    def hw(self) -> tuple[int | None, int | None]:
        """``(height, width)``."""
        return self.height, self.width

    @property
    def is_static(self) -> bool:
        """Whether both height and width are known."""
        return self.height is not None and self.width is not None


@dataclass(frozen=True, slots=True)
class InputShape:
    """The shape of one picture: height, width (``None``: unknown until run time), channels.

    Args:
        height: pixels, at least 1, or ``None``.
        width: pixels, at least 1, or ``None``.
        channels: bands, at least 1.

    Raises:
        ShapeError: if a number is out of range.

    Example:
        >>> InputShape.of("96x128x1")
        InputShape(height=96, width=128, channels=1)
        >>> print(InputShape.of((None, None, 3)))
        ?x?x3
    """

    height: int | None
    width: int | None
    channels: int

    def __post_init__(self) -> None:
        """Refuse axes that no picture has."""
        for axis, length in (("height", self.height), ("width", self.width)):
            if length is not None and length < 1:
                raise ShapeError(f"input {self}: {axis} is {length}, expected at least 1; {_HOW}")
        if self.channels < 1:
            raise ShapeError(
                f"input {self}: channels is {self.channels}, expected at least 1; {_HOW}"
            )

    def __str__(self) -> str:
        return f"{_word(self.height)}x{_word(self.width)}x{self.channels}"

    @classmethod
    def of(cls, shape: ShapeLike) -> InputShape:
        """Read a shape as a user writes it.

        Args:
            shape: ``"HxWxC"`` (``?`` for unknown), ``(H, W, C)`` or an ``InputShape``.

        Returns:
            The shape.

        Raises:
            ShapeError: if it is not one, saying how to write it.
        """
        if isinstance(shape, InputShape):
            return shape
        if isinstance(shape, str):
            match = _SHAPE.fullmatch(shape)
            if match is None:
                raise ShapeError(f"input {shape!r} is not a shape; {_HOW}")
            height, width, channels = match.groups()
            return cls(_number(height), _number(width), int(channels))
        if len(shape) != 3:
            raise ShapeError(f"input {tuple(shape)} has {len(shape)} axes, expected 3; {_HOW}")
        height, width, channels = shape
        if channels is None:
            raise ShapeError(
                f"input {tuple(shape)} has no channel count, expected a number; {_HOW}"
            )
        return cls(_axis(height), _axis(width), int(channels))

    @property
    def size(self) -> Size:
        """Height and width."""
        return Size(self.height, self.width)

    @property
    def hw(self) -> tuple[int | None, int | None]:
        """``(height, width)``."""
        return self.height, self.width

    @property
    def is_static(self) -> bool:
        """Whether both height and width are known."""
        return self.size.is_static

    def as_tuple(self) -> tuple[int | None, int | None, int]:
        """``(height, width, channels)``, as Keras takes it."""
        return self.height, self.width, self.channels


ShapeLike: TypeAlias = str | InputShape | Sequence[int | None]


def _word(length: int | None) -> str:
    return "?" if length is None else str(length)


def _number(text: str) -> int | None:
    return None if text == "?" else int(text)


def _axis(length: int | None) -> int | None:
    return None if length is None else int(length)
