"""How a picture becomes the array that the model takes: one specification for every use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, check_choice
from ..requests import Request, Written, flat
from ..shapes import InputShape, ShapeLike
from ..text import Unread, read_ends, write_ends
from .resize import Interpolation, resample

Fit: TypeAlias = Literal["stretch", "letterbox", "crop"]
Colour: TypeAlias = Literal["grey", "rgb", "bands"]
CHANNELS = {"grey": 1, "rgb": 3}
"""Of the colours that have a certain number of them."""

_TOP = 255.0
SLACK = 0.5
"""How far beyond [0, 255] a float picture may reach, which was itself resampled and rounded."""

MOST_VALUE = 1e30
"""Floats from here on, like NaN and infinity, stand for pixels that are missing."""

FullScale: TypeAlias = tuple[float, float]
"""The stored values that become 0 and 255."""


def read_full_scale(value: Any) -> FullScale:
    """Read the stored values of black and white; one number is that of white.

    Example:
        >>> read_full_scale("-1024:3071"), read_full_scale(4095)
        ((-1024.0, 3071.0), (0.0, 4095.0))
    """
    return read_ends(value, "LOW:HIGH, the stored values of black and white, such as 0:4095")


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is done to a picture between its file and the model.

    Training, prediction and export share one value of this class, so that a model never meets a
    picture prepared in another way than those it was trained on. The result is float32 in
    ``[0, 255]``; the model's own preprocessing takes it from there.

    Args:
        shape: height, width and channels of the result. An unknown axis stays as the picture has
            it, or follows the known one in proportion.
        fit: ``"stretch"`` fills the size whatever the aspect ratio (no pixel is lost, which is
            best for classification when objects touch the border); ``"letterbox"`` keeps the
            aspect ratio and fills the rest; ``"crop"`` keeps it and cuts the centre out.
        interpolation: how pixels are resampled; ``"area"`` averages what a pixel covers.
        antialias: whether reduction averages over all the pixels it covers. Without it, four
            (bilinear) or sixteen (bicubic) pixels are read, as ``tf.image.resize`` does.
        colour: what the channels mean: ``"grey"``, ``"rgb"``, or ``"bands"``, which are taken as
            they are. By default 1 channel is grey, 3 are RGB and any other count is bands.
        crop_margin: for ``"crop"``, the fraction of the shorter side (after scaling) that is kept,
            in (0, 1]. 0.875 is ImageNet's usual 224 out of 256.
        fill: for ``"letterbox"``, the value of the border, in [0, 255].
        full_scale: the stored values that become 0 and 255, as ``(low, high)`` or ``"LOW:HIGH"``,
            for pictures of 16 bits and more and for float ones: ``(-1024, 3071)`` for a CT. One
            number is that of 255: 4095 for a 12-bit sensor, 1.0 for pictures in [0, 1]. NaN becomes
            0 then. By default 65535 for unsigned 16-bit pictures, while float pictures are in
            [0, 255] already. `inshape.data.survey` finds the values that a set of pictures uses.

    Raises:
        UnknownName: if a word is none of the choices.
        DataError: if a number is out of range.

    Example:
        >>> Preparation.of("96x128x1", fit="crop").colour
        'grey'
    """

    shape: InputShape
    fit: Fit = "stretch"
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    colour: Colour | None = None
    crop_margin: float = 1.0
    fill: float = 0.0
    full_scale: FullScale | None = None

    def __post_init__(self) -> None:
        """Fill in the colour and refuse what cannot be carried out."""
        channels = self.shape.channels
        if self.colour is None:
            by_count: dict[int, Colour] = {1: "grey", 3: "rgb"}
            object.__setattr__(self, "colour", by_count.get(channels, "bands"))
        for kind, word, choices in (
            ("fit", self.fit, get_args(Fit)),
            ("interpolation", self.interpolation, get_args(Interpolation)),
            ("colour", self.colour, get_args(Colour)),
        ):
            check_choice(kind, word, choices)
        expected = CHANNELS.get(str(self.colour), channels)
        if channels != expected:
            raise DataError(
                f"colour {self.colour!r} with {channels} channels; expected {expected}; "
                "use colour='bands' for channels that are neither grey nor RGB"
            )
        _check_numbers(self.crop_margin, self.fill)
        if self.full_scale is not None:
            try:
                object.__setattr__(self, "full_scale", read_full_scale(self.full_scale))
            except Unread as problem:
                raise DataError(f"full_scale {problem}") from None

    @classmethod
    def of(cls, shape: ShapeLike, **options: Any) -> Preparation:
        """A preparation for a shape as a user writes it.

        Args:
            shape: ``"HxWxC"``, a tuple or an ``InputShape``.
            **options: the other fields.

        Returns:
            The preparation.
        """
        return cls(InputShape.of(shape), **options)

    def at(self, size_hw: tuple[int | None, int | None]) -> Preparation:
        """The same preparation at another height and width.

        Args:
            size_hw: pixels, or ``None`` for an axis that keeps the picture's own.

        Returns:
            A new preparation.

        Example:
            >>> print(Preparation.of("?x?x3").at((160, 224)).shape)
            160x224x3
        """
        return replace(self, shape=InputShape(*size_hw, self.shape.channels))

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `from_dict` reads them back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        full_scale = None if self.full_scale is None else list(self.full_scale)
        return {**values, "shape": str(self.shape), "full_scale": full_scale}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preparation:
        """The preparation that `as_dict` wrote down.

        Example:
            >>> preparation = Preparation.of("97x64x1", fit="letterbox", fill=114.0)
            >>> Preparation.from_dict(preparation.as_dict()) == preparation
            True
        """
        return cls.of(values["shape"], **{k: v for k, v in values.items() if k != "shape"})


@dataclass(frozen=True, slots=True)
class PictureOptions(Request):
    """How pictures are brought to the input."""

    picture_fit: Fit = "stretch"
    """stretch fills the size whatever the proportions, letterbox keeps them and fills the rest,
    crop keeps them and cuts the centre out."""
    picture_interpolation: Interpolation = "bilinear"
    """How pixels are resampled; area averages what a pixel covers."""
    antialias: bool = True
    """Whether reduction averages over all the pixels it covers."""
    colour: Colour | None = None
    """What the channels mean: grey, rgb, or bands, which are taken as they are; by default 1
    channel is grey, 3 are RGB and any other count is bands."""
    crop_margin: float = 1.0
    """For crop, the fraction of the shorter side that is kept; 0.875 is ImageNet's 224 of 256."""
    fill: float = 0.0
    """For letterbox, the value of the border, 0 to 255."""
    full_scale: Annotated[FullScale, Written(read_full_scale, write_ends, "LOW:HIGH")] | None = None
    """The stored values that become 0 and 255, for pictures of more than 8 bits: 0:4095 for a
    12-bit sensor, -1024:3071 for a CT, 0:1 for floats; by default what TIFF tags say, or the least
    and the greatest value that a sample of all pictures holds."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range before anything is read."""
        Request.__post_init__(self)  # a class with slots is made twice, which breaks super()
        _check_numbers(self.crop_margin, self.fill)

    def at(self, shape: ShapeLike) -> Preparation:
        """The preparation for an input shape."""
        options = {name.removeprefix("picture_"): value for name, value in flat(self).items()}
        return Preparation.of(shape, **options)


def _check_numbers(crop_margin: float, fill: float) -> None:
    if not 0.0 < crop_margin <= 1.0:
        raise DataError(
            f"crop_margin {crop_margin}; expected more than 0 and at most 1; "
            "use 0.875 to keep 224 of 256 pixels"
        )
    if not 0.0 <= fill <= _TOP:
        raise DataError(f"fill {fill}; expected 0 to 255; use 0 for a black border")


def target_hw(preparation: Preparation, picture_hw: tuple[int, int]) -> tuple[int, int]:
    """The height and width that a picture will have, unknown axes filled in.

    With one unknown axis the picture keeps its proportions; with two, its size.

    Example:
        >>> target_hw(Preparation.of("?x64x1"), (200, 128))
        (100, 64)
    """
    height, width = preparation.shape.hw
    picture_height, picture_width = picture_hw
    if height is None and width is None:
        return picture_hw
    if height is None:
        assert width is not None
        return max(1, round(picture_height * width / picture_width)), width
    if width is None:
        return height, max(1, round(picture_width * height / picture_height))
    return height, width


def scaled_hw(preparation: Preparation, picture_hw: tuple[int, int]) -> tuple[float, float]:
    """The height and width of the whole picture once scaled, before any border or cut.

    Example:
        >>> scaled_hw(Preparation.of("96x96x3", fit="crop"), (240, 320))
        (96.0, 128.0)
    """
    goal_hw = target_hw(preparation, picture_hw)
    ratios = tuple(goal / length for goal, length in zip(goal_hw, picture_hw, strict=True))
    if preparation.fit == "stretch":
        scales = ratios
    elif preparation.fit == "letterbox":
        scales = (min(ratios),) * 2
    else:
        scales = (max(ratios) / preparation.crop_margin,) * 2
    height, width = (length * scale for length, scale in zip(picture_hw, scales, strict=True))
    return height, width


def placement(
    preparation: Preparation, picture_hw: tuple[int, int]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where a picture's pixels come to lie: ``place * scale + start``, for rows and for columns.

    Example:
        >>> placement(Preparation.of("96x96x3", fit="crop"), (240, 320))
        ((0.4, 0.4), (0.0, -16.0))
    """
    goal_hw, full_hw = target_hw(preparation, picture_hw), scaled_hw(preparation, picture_hw)
    scales: list[float] = []
    starts: list[float] = []
    for length, goal, full in zip(picture_hw, goal_hw, full_hw, strict=True):
        inner = min(goal, max(1, round(full)))
        is_filled = preparation.fit == "letterbox"
        scale = inner / length if is_filled else goal / (length * min(1.0, goal / full))
        scales.append(scale)
        starts.append((goal - inner) // 2 if is_filled else (goal - length * scale) / 2)
    return (scales[0], scales[1]), (float(starts[0]), float(starts[1]))


def prepare(picture: NDArray[Any], preparation: Preparation) -> NDArray[np.float32]:
    """Bring a decoded picture to the size and value range that the model takes.

    The picture has the channels of ``preparation.shape`` already. bool and uint8 are taken as they
    are. Of others the values of ``full_scale`` become 0 and 255, what lies beyond is cut off, and
    what is missing (NaN, infinity, floats beyond 1e30) becomes 0; without ``full_scale``, uint16 is
    divided by 257, and floats are in [0, 255].

    Raises:
        DataError: if the channels, the type or the values do not fit.

    Example:
        >>> grey = np.full((240, 320, 1), 51, np.uint8)
        >>> ready = prepare(grey, Preparation.of("96x128x1"))
        >>> ready.shape, float(ready.max())
        ((96, 128, 1), 51.0)
    """
    return prepare_compact(picture, preparation).astype(np.float32)


def prepare_compact(picture: NDArray[Any], preparation: Preparation) -> NDArray[Any]:
    """The same values as `prepare`, as bytes where that loses nothing.

    That is so if the picture is of 8 bits and the border's fill a whole number: such a picture is
    resampled in 8 bits, so that the result holds whole numbers. Others are resampled in float32.
    """
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.ndim != 3 or 0 in picture.shape:
        raise DataError(
            f"picture of shape {picture.shape}; expected (height, width, channels); "
            "give one picture at a time, channels last"
        )
    if picture.shape[-1] != preparation.shape.channels:
        raise DataError(
            f"picture with {picture.shape[-1]} channels; expected {preparation.shape.channels} "
            f"for {preparation.shape}; convert its colour first (inshape.data.colour.to_channels)"
        )
    fitted = _fit(_to_range(picture, preparation.full_scale), preparation)
    if fitted.dtype == np.uint8:
        return fitted
    return np.clip(fitted, 0.0, _TOP).astype(np.float32)  # cubic weights overshoot


def _to_range(picture: NDArray[Any], full_scale: FullScale | None) -> NDArray[Any]:
    """A picture in [0, 255]: bytes as they are, all else as float32."""
    if is_plain(picture.dtype):
        return picture if picture.dtype == np.uint8 else picture.astype(np.uint8) * np.uint8(_TOP)
    ends = _ends(picture.dtype, full_scale)
    with np.errstate(over="ignore"):  # a double may be infinite in single precision
        values = picture.astype(np.float32)
    if full_scale is not None:
        values[~is_present(values)] = full_scale[0]
    elif not np.isfinite(values).all():
        raise DataError(
            "picture holds NaN or infinity; expected finite values; fill the missing pixels first, "
            "or set full_scale to LOW:HIGH, which makes them black"
        )
    if ends is not None:
        low, high = ends
        scaled = (values - np.float32(low)) * np.float32(_TOP / (high - low))
        return np.clip(scaled, 0.0, _TOP)
    if values.min() < -SLACK or values.max() > _TOP + SLACK:
        raise DataError(
            f"float picture with values from {values.min():.4g} to {values.max():.4g}; "
            "expected 0 to 255; set full_scale to LOW:HIGH, the values of black and white"
        )
    return values


def is_plain(kind: np.dtype[Any]) -> bool:
    """Whether pictures of a type are taken as they are, whatever the range of others."""
    return kind.kind == "b" or kind == np.uint8


def is_present(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where there is a value, rather than NaN, infinity or a number that only fills the place."""
    with np.errstate(over="ignore"):  # half precision ends before it
        return np.abs(values) < MOST_VALUE


def _ends(kind: np.dtype[Any], full_scale: FullScale | None) -> FullScale | None:
    """The stored values of 0 and 255; ``None`` for floats, which are in [0, 255] already."""
    if kind.kind not in "uif":
        raise DataError(
            f"picture of type {kind}; expected uint8, uint16 or float; convert it first"
        )
    if full_scale is not None or kind.kind == "f":
        return full_scale
    if kind == np.uint16:
        return 0.0, 65535.0
    # A signed or 32-bit picture may hold anything: counts, depths, reflectances.
    raise DataError(
        f"picture of type {kind} has no agreed white; expected uint8, uint16 or float; "
        "set full_scale to LOW:HIGH, the values of black and white"
    )


def _fit(picture: NDArray[Any], preparation: Preparation) -> NDArray[Any]:
    resample_box = partial(
        resample, picture, method=preparation.interpolation, antialias=preparation.antialias
    )
    picture_hw = picture.shape[:2]
    goal_hw = target_hw(preparation, picture_hw)
    whole = (0.0, 0.0, float(picture_hw[0]), float(picture_hw[1]))
    if preparation.fit == "stretch":
        return resample_box(whole, goal_hw)
    full_hw = scaled_hw(preparation, picture_hw)
    if preparation.fit == "crop":
        # Cut before resampling: the same pixels as the other way round, and fewer of them to read.
        height, width = (
            length * min(1.0, goal / full)
            for length, goal, full in zip(picture_hw, goal_hw, full_hw, strict=True)
        )
        top, left = (picture_hw[0] - height) / 2, (picture_hw[1] - width) / 2
        return resample_box((top, left, top + height, left + width), goal_hw)
    inner_height, inner_width = (
        min(goal, max(1, round(full))) for goal, full in zip(goal_hw, full_hw, strict=True)
    )
    inner = resample_box(whole, (inner_height, inner_width))
    return _with_border(inner, goal_hw, preparation.fill)


def unfit(
    values: NDArray[Any], preparation: Preparation, picture_hw: tuple[int, int], *, fill: int
) -> NDArray[Any]:
    """Values for each pixel of an input, put back to where they are in the picture it was made of.

    ``values`` are ``(height, width)`` of bytes. What was cut off holds ``fill``.

    Example:
        >>> half = np.array([[1, 2]], np.uint8)
        >>> unfit(half, Preparation.of("1x2x1", fit="crop"), (2, 8), fill=9).tolist()
        [[9, 9, 1, 1, 2, 2, 9, 9], [9, 9, 1, 1, 2, 2, 9, 9]]
    """
    goal_hw = values.shape[0], values.shape[1]
    at_goal = preparation.at(goal_hw)
    full_hw = scaled_hw(at_goal, picture_hw)
    # Of each axis: which part of the values holds picture, and which part of the picture that is.
    inner = [min(goal, max(1, round(full))) for goal, full in zip(goal_hw, full_hw, strict=True)]
    first = [(goal - length) // 2 for goal, length in zip(goal_hw, inner, strict=True)]
    kept = [
        n * min(1.0, goal / full)
        for n, goal, full in zip(picture_hw, goal_hw, full_hw, strict=True)
    ]
    start = [round((n - length) / 2) for n, length in zip(picture_hw, kept, strict=True)]
    size = [
        max(1, min(n - begin, round(length)))
        for n, begin, length in zip(picture_hw, start, kept, strict=True)
    ]
    rows, columns = (slice(a, a + n) for a, n in zip(first, inner, strict=True))
    part = np.ascontiguousarray(values[rows, columns])[..., None]
    whole = (0.0, 0.0, float(inner[0]), float(inner[1]))
    result = np.full(picture_hw, fill, values.dtype)
    rows, columns = (slice(a, a + n) for a, n in zip(start, size, strict=True))
    result[rows, columns] = resample(part, whole, (size[0], size[1]), method="nearest")[..., 0]
    return result


def _with_border(picture: NDArray[Any], goal_hw: tuple[int, int], fill: float) -> NDArray[Any]:
    height, width, channels = picture.shape
    # Bytes cannot hold a fill of 7.5.
    kind = picture.dtype if fill == round(fill) else np.dtype(np.float32)
    result = np.full((*goal_hw, channels), fill, kind)
    top, left = (goal_hw[0] - height) // 2, (goal_hw[1] - width) // 2
    result[top : top + height, left : left + width] = picture
    return result
