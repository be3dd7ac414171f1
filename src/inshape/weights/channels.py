"""Stem kernels for another number of channels.

A channel rule is a matrix ``A`` (new channels x old channels): the kernel of the new channel j is
the sum over the old channels c of ``A[j, c] * kernel[:, :, c, :]``.

    rule        new channels   row j of A
    "keep"      as many        1 at c = j
    "sum"       1              1 everywhere: exact for a grey picture repeated over the old channels
    "mean"      any            1/old everywhere
    "luma"      1 (from 3)     0.299, 0.587, 0.114: the grey value of ITU-R BT.601
    "tile"      any            old/new at c = j modulo old, so that the response keeps its scale
    "zero"      old or more    1 at c = j; extra bands start at zero
    "first"     old or fewer   1 at c = j
    [0, None]   its length     1 at the pretrained channel that is named; None starts at zero
    "project"   any            no matrix: a learned 1x1 convolution in front of the network

``"auto"`` keeps an equal count, sums into one channel, tiles into fewer (or from one into several),
and puts extra bands at zero.

Sources: repeating and rescaling is what timm does for any count (``adapt_input_conv``); the grey
weights are those of ITU-R BT.601.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import RequestError, StrategyError, UnknownName, WeightsError
from ..geometry.spec import OpKind
from ..requests import read_whole
from ..text import Unread

Array: TypeAlias = NDArray[Any]
ChannelRule: TypeAlias = str | Sequence[int | None]
ConstantKind: TypeAlias = Literal["mean", "variance", "scale", "offset"]

MATRIX_RULES = ("keep", "sum", "mean", "luma", "tile", "zero", "first")
CHANNEL_RULES = ("auto", *MATRIX_RULES, "project")
LUMA = (0.299, 0.587, 0.114)

_LIST_HINT = 'write one pretrained channel per band and "-" for none, such as 0,1,2,-'


def read_rule(value: Any) -> str | tuple[int | None, ...]:
    """Read a channel rule: a name, or a pretrained channel per band (``-`` or ``None``: zero).

    Example:
        >>> read_rule("0,1,2,-"), read_rule([0, None]), read_rule("sum")
        ((0, 1, 2, None), (0, None), 'sum')
    """
    if isinstance(value, Iterable) and not isinstance(value, str):
        return _read_bands(value)
    word = str(value).strip()
    if word in CHANNEL_RULES:
        return word
    parts = [part.strip() for part in word.split(",")]
    if all(part.isdecimal() or part == "-" for part in parts):
        return tuple(None if part == "-" else read_whole(part) for part in parts)
    raise UnknownName("channel rule", word, (*CHANNEL_RULES, _LIST_HINT))


def _read_bands(value: Iterable[Any]) -> tuple[int | None, ...]:
    expected = "the number of a pretrained channel, or None, for each band, such as [0, 1, None]"
    try:
        sources = tuple(map(_read_band, value))
    except (TypeError, Unread):  # an array without axes says that it is iterable, and is not
        raise Unread(value, expected) from None
    if not sources:
        raise Unread(value, expected)
    return sources


def _read_band(value: Any) -> int | None:
    is_empty = value is None or (isinstance(value, str) and value.strip() == "-")
    return None if is_empty else read_whole(value)


def write_rule(rule: ChannelRule) -> str:
    """Write a channel rule as `read_rule` reads it.

    Example:
        >>> write_rule((0, 1, None)), write_rule("sum")
        ('0,1,-', 'sum')
    """
    if isinstance(rule, str):
        return rule
    return ",".join("-" if band is None else str(band) for band in rule)


def resolve_rule(
    rule: ChannelRule, new_channels: int, old_channels: int = 3
) -> str | tuple[int | None, ...]:
    """The rule that ``"auto"`` stands for; any other rule as it is, once it is known to fit.

    Example:
        >>> [resolve_rule("auto", n) for n in (1, 2, 3, 4)]
        ['sum', 'tile', 'keep', 'zero']
    """
    if isinstance(rule, str):
        if rule not in CHANNEL_RULES:
            raise UnknownName("channel rule", rule, (*CHANNEL_RULES, _LIST_HINT))
        if rule == "auto":
            return _auto(new_channels, old_channels)
        _check_counts(rule, new_channels, old_channels)
        return rule
    sources = tuple(rule)
    _check_sources(sources, new_channels, old_channels)
    return sources


def channel_matrix(rule: ChannelRule, new_channels: int, old_channels: int = 3) -> Array:
    """The matrix of a channel rule.

    Example:
        >>> channel_matrix("tile", 2)
        array([[1.5, 0. , 0. ],
               [0. , 1.5, 0. ]])
        >>> channel_matrix([2, 1, 0, None], 4).tolist()[3]
        [0.0, 0.0, 0.0]
    """
    resolved = resolve_rule(rule, new_channels, old_channels)
    if not isinstance(resolved, str):
        return _selection(resolved, old_channels)
    match resolved:
        case "sum":
            return np.ones((1, old_channels))
        case "mean":
            return np.full((new_channels, old_channels), 1.0 / old_channels)
        case "luma":
            return np.array([LUMA])
        case "tile":
            cyclic = _selection([j % old_channels for j in range(new_channels)], old_channels)
            return cyclic * (old_channels / new_channels)
        case "project":
            raise StrategyError(
                "channels='project' is a convolution in front of the network, not a change of its "
                "stem; expected one of "
                f"{', '.join(MATRIX_RULES)}; use projection_kernel() for its first weights"
            )
        case _:  # keep, zero, first: the shared channels in their order, the others at zero
            return np.eye(new_channels, old_channels)


def projection_kernel(new_channels: int, old_channels: int = 3) -> Array:
    """The first weights of the 1x1 convolution that ``channels="project"`` puts in front.

    One channel is repeated, and as many channels or more pass through in order (extra bands enter
    at zero). Fewer are interpolated along the channel axis, the first and the last staying what
    they are: two channels (a, b) become (a, (a + b) / 2, b). Every channel that the network reads
    is then a weighted mean, so the range of the values is kept.

    Example:
        >>> projection_kernel(2)[0, 0]
        array([[1. , 0.5, 0. ],
               [0. , 0.5, 1. ]])
    """
    _check_positive(new_channels, old_channels)
    if new_channels >= old_channels:
        kernel = np.eye(new_channels, old_channels)
    else:
        position = np.linspace(0, new_channels - 1, old_channels)
        distance = np.abs(position[None, :] - np.arange(new_channels)[:, None])
        kernel = np.maximum(0.0, 1.0 - distance)
    return kernel[None, None]


def convert_kernel(kernel: Array, matrix: Array, *, op: OpKind = "conv") -> Array:
    """A convolution's kernel for other input channels, which it may read several times over.

    Example:
        >>> kernel = np.arange(6.0).reshape(1, 1, 3, 2)
        >>> convert_kernel(kernel, channel_matrix("sum", 1))[0, 0]
        array([[6., 9.]])
    """
    new_channels, old_channels = matrix.shape
    if op != "conv":
        raise StrategyError(
            f"the first layer is {op!r}, which keeps its channels apart: "
            f"{old_channels} channels cannot become {new_channels}; expected a convolution; "
            "use channels='project'"
        )
    if kernel.ndim != 4 or kernel.shape[2] % old_channels:
        raise WeightsError(
            f"stem kernel {kernel.shape} does not read {old_channels} channels in one group; "
            f"expected (height, width, {old_channels}, filters); use channels='project'"
        )
    height, width, _, filters = kernel.shape
    by_time = kernel.reshape(height, width, -1, old_channels, filters)
    converted = np.einsum("jc,hwtco->hwtjo", matrix, by_time)
    return converted.reshape(height, width, -1, filters).astype(kernel.dtype)


def convert_constants(values: Sequence[float] | Array, matrix: Array, kind: ConstantKind) -> Array:
    """Per-channel constants (of a normalisation, say) for other input channels.

    A new channel takes the average over the old ones, weighted by their share in it; a band that
    starts at zero takes the mean of all. This keeps the range of the values, and is exact where
    each new channel comes from one old channel or where the constants are all equal.

    Example:
        >>> convert_constants([0.1, 0.2, 0.6], channel_matrix("zero", 4), "mean").round(3)
        array([0.1, 0.2, 0.6, 0.3])
    """
    constants = np.asarray(values, dtype=np.float64).reshape(-1)
    old_channels = matrix.shape[1]
    if kind == "variance" and np.any(constants < 0):
        raise WeightsError(
            f"variance {constants.min():g} of the input channels is negative; expected 0 or more; "
            "read the constants again from the model"
        )
    if constants.size == 1 and old_channels > 1:  # one for all of them
        return constants
    if constants.size % old_channels:
        raise WeightsError(
            f"{kind} holds {constants.size} values, expected {old_channels} (one per channel) or "
            "1; use channels='project'"
        )
    share = np.abs(matrix)
    share[share.sum(axis=1) == 0] = 1.0
    share = share / share.sum(axis=1, keepdims=True)
    return (constants.reshape(-1, old_channels) @ share.T).ravel()


def _auto(new_channels: int, old_channels: int) -> str:
    _check_positive(new_channels, old_channels)
    if new_channels == old_channels:
        return "keep"
    if new_channels == 1:
        return "sum"
    # From a single channel, "zero" would leave all but one of the bands unused.
    return "tile" if new_channels < old_channels or old_channels == 1 else "zero"


def _check_positive(new_channels: int, old_channels: int) -> None:
    if new_channels < 1 or old_channels < 1:
        raise RequestError(
            f"{old_channels} -> {new_channels} channels; expected at least 1 on each side; "
            "give the channel count of the pictures"
        )


def _check_counts(rule: str, new_channels: int, old_channels: int) -> None:
    _check_positive(new_channels, old_channels)
    expected = {
        "keep": ("as many channels as before", new_channels == old_channels),
        "sum": ("1 new channel", new_channels == 1),
        "luma": ("1 new channel from 3", new_channels == 1 and old_channels == 3),
        "zero": (f"at least {old_channels} channels", new_channels >= old_channels),
        "first": (f"at most {old_channels} channels", new_channels <= old_channels),
    }
    wanted, fits = expected.get(rule, ("", True))
    if not fits:
        raise StrategyError(
            f"channels={rule!r} with {old_channels} -> {new_channels} channels; expected {wanted}; "
            f"use channels={_auto(new_channels, old_channels)!r}"
        )


def _check_sources(sources: tuple[int | None, ...], new_channels: int, old_channels: int) -> None:
    _check_positive(new_channels, old_channels)
    shown = list(sources)
    if len(sources) != new_channels:
        raise StrategyError(
            f"channels={shown} names {len(sources)} bands, expected {new_channels}; "
            "give one pretrained channel, or None, per band"
        )
    for source in sources:
        if source is not None and not 0 <= source < old_channels:
            raise StrategyError(
                f"channels={shown}: there is no pretrained channel {source}, expected "
                f"0 to {old_channels - 1}; use None for a band that starts at zero"
            )
    if all(source is None for source in sources):
        raise StrategyError(
            f"channels={shown} takes nothing from the pretrained stem; expected at least one "
            "pretrained channel; use channels='project'"
        )


def _selection(sources: Sequence[int | None], old_channels: int) -> Array:
    matrix = np.zeros((len(sources), old_channels))
    for band, source in enumerate(sources):
        if source is not None:
            matrix[band, source] = 1.0
    return matrix
