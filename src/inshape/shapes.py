"""Sizes and input shapes: how a user writes them and how the project carries them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

from .errors import ShapeError, shown

_SHAPE = re.compile(r"\s*(\?|\d+)\s*[x×,]\s*(\?|\d+)\s*[x×,]\s*(\d+)\s*", re.IGNORECASE)
_MOST = 2**31 - 1
"""Frameworks count pixels of an axis in 32 bits."""
_MOST_DIGITS = 100
"""Python reads no number of 5,000."""
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
        for axis, length in zip(("height", "width", "channels"), self.as_tuple(), strict=True):
            if length is not None and length < 1:
                raise ShapeError(f"input {self}: {axis} is {length}, expected at least 1; {_HOW}")
            if length is not None and length > _MOST:
                raise ShapeError(
                    f"input: {axis} is {shown(length)}, expected at most {_MOST}; {_HOW}"
                )

    def __str__(self) -> str:
        return f"{self.size}x{self.channels}"

    @classmethod
    def of(cls, shape: ShapeLike) -> InputShape:
        """Read a shape as a user writes it.

        Args:
            shape: ``"HxWxC"`` (``?`` for unknown), ``(H, W, C)`` or an ``InputShape``.

        Returns:
            The shape.

        Raises:
            ShapeError: if it is not one, saying how to write it.

        Example:
            >>> InputShape.of("96 x 128 x 1") == InputShape.of((96, 128, 1))
            True
        """
        if isinstance(shape, InputShape):
            return shape
        if isinstance(shape, str):
            match = _SHAPE.fullmatch(shape)
            if match is None or max(map(len, match.groups())) > _MOST_DIGITS:
                raise ShapeError(f"input {shown(shape)} is not a shape; {_HOW}")
            height, width, channels = (None if n == "?" else int(n) for n in match.groups())
        else:
            height, width, channels = _read_axes(shape)
        if channels is None:
            raise ShapeError(
                f"input ({height}, {width}, None) has no channel count, expected a number; {_HOW}"
            )
        return cls(height, width, channels)

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

    def as_static_tuple(self) -> tuple[int, int, int]:
        """``(height, width, channels)`` of a shape whose height and width are known.

        Raises:
            ShapeError: if one of them is not.

        Example:
            >>> InputShape.of("96x128x1").as_static_tuple()
            (96, 128, 1)
        """
        if self.height is None or self.width is None:
            raise ShapeError(f"input {self}; expected a known height and width; write numbers")
        return self.height, self.width, self.channels


ShapeLike: TypeAlias = str | InputShape | Sequence[int | None]


def _word(length: int | None) -> str:
    return "?" if length is None else str(length)


def _read_axes(shape: Any) -> tuple[int | None, ...]:
    """Three numbers, those of NumPy and of a framework's own shapes included."""
    try:
        axes = tuple(shape)
    except TypeError:
        axes = None
    if axes is None or not all(map(_is_length, axes)):
        raise ShapeError(
            f"input {shown(shape)} is not a shape, expected a height, a width and channels; {_HOW}"
        )
    lengths = tuple(None if length is None else int(length) for length in axes)
    if len(lengths) != 3:
        raise ShapeError(f"input {shown(lengths)} has {len(lengths)} axes, expected 3; {_HOW}")
    return lengths


def _is_length(value: Any) -> bool:
    # int() alone would read 96.7 as 96, True as 1 and "96" as a number.
    if value is None or isinstance(value, bool):
        return value is None
    return isinstance(value, Real) and bool(value % 1 == 0)
