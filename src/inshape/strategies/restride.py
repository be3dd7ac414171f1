"""Other strides: the stem's, with its kernel resampled, or late stages', with dilation."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import numpy as np

from ..errors import ShapeError, StrategyError, UnknownName
from ..geometry.lengths import same_padding
from ..geometry.spec import NO_PADS, GraphSpec, LayerSpec, Pads, Resampling
from ..shapes import InputShape
from ..text import format_shape, plural
from ..weights.channels import ChannelRule
from ..weights.resample import compose, composed_geometry
from .decision import Decision
from .dilate import dilated, shortened
from .layers import pads_at, without_pad
from .rebuild import keep_layers, require_static
from .stem import find_stem, resizable_stem

StemKernel: TypeAlias = Literal["nearest", "bilinear", "bicubic", "plain"]
_OUTPUT_STRIDES = (32, 16, 8, 4, 2, 1)


def restride(
    spec: GraphSpec,
    target: InputShape,
    *,
    stem: StemKernel | None = None,
    factor: int | None = None,
    output_stride: int | None = None,
    channels: ChannelRule = "auto",
) -> Decision:
    """Plan other strides, so that the final map keeps its size.

    The stem: for an input smaller than the native one its stride is divided and its kernel composed
    with an upsampling, so that the network answers as if the picture had been enlarged, without a
    resizing layer; for a larger one its stride is multiplied and its kernel composed with
    averaging. FlexiViT (arXiv 2212.08013) does the like for patch embeddings. Late stages: see
    `dilate`.

    Example:
        >>> from inshape.geometry.sizes import map_shapes
        >>> picture = LayerSpec(0, "image", "input", (), 0, native_shape=(224, 224, 3))
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3), stride_hw=(2, 2),
        ...                  padding="same", out_channels=8)
        >>> spec = GraphSpec("tiny", (picture, conv), (1,), InputShape(224, 224, 3))
        >>> target = InputShape(112, 112, 3)
        >>> map_shapes(restride(spec, target).spec, target)[-1]
        (112, 112, 8)
    """
    require_static(target, "restride")
    if stem is not None and stem not in get_args(StemKernel):
        raise UnknownName("stem", stem, get_args(StemKernel))
    changed = spec
    notes: tuple[str, ...] = ()
    if stem is not None or factor is not None or output_stride is None:
        changed, note = _restrided_stem(spec, target, stem or "nearest", factor)
        notes = (note,)
    decision = keep_layers("restride", spec, target, channels, changed)
    if output_stride is not None:
        dense = _dilated(decision.spec, target, output_stride)
        decision = decision.but(spec=dense)
        short = shortened(dense, target, output_stride)
        notes += () if short is None else (short,)
        if _has_squeeze_excite(spec):
            notes += (
                "squeeze-and-excite averages over the denser map, so old sampling points are near "
                "their old values, not equal",
            )
    return decision.but(notes=(*decision.notes, *notes))


def _dilated(spec: GraphSpec, target: InputShape, output_stride: int) -> GraphSpec:
    """The graph of an output stride, refused with the output strides that there are."""
    try:
        dense = dilated(spec, target, output_stride)
        problem = f"output_stride={output_stride}: no layer of {spec.name} passes that stride"
        if dense != spec:
            return dense
    except StrategyError as refusal:
        problem = str(refusal)
    except ShapeError as misfit:
        problem = f"output_stride={output_stride}: {misfit}"
    others = [f"output_stride={s}" for s in _OUTPUT_STRIDES if _is_dilatable(spec, target, s)]
    use = " or ".join(others[:2]) + ", or " if others else ""
    raise StrategyError(f"{problem}; use {use}strategy='rebuild' without output_stride")


def _is_dilatable(spec: GraphSpec, target: InputShape, output_stride: int) -> bool:
    try:
        return dilated(spec, target, output_stride) != spec
    except (StrategyError, ShapeError):
        return False


def stem_factor(spec: GraphSpec, target: InputShape) -> tuple[Literal["up", "down"], int]:
    """The change of the stem's stride that brings an input nearest to the native size."""
    stem, _ = find_stem(spec)
    ratio = size_ratio(spec, target)
    stride = math.gcd(*stem.stride_hw)
    if ratio <= 1:
        divisors = [r for r in range(1, stride + 1) if stride % r == 0]
        return "up", min(divisors, key=lambda r: abs(math.log(r * ratio)))
    return "down", max(1, round(ratio))


def size_ratio(spec: GraphSpec, target: InputShape) -> float:
    """How large an input is beside the native one, as the root of the ratio of their areas."""
    height, width = spec.input_shape.hw
    if not height or not width or not target.height or not target.width:
        raise StrategyError(
            f"{spec.name} has no native height and width ({spec.input_shape}), so how far "
            f"{target} is from it is not known; give a factor, such as factor=2"
        )
    return math.sqrt(target.height * target.width / (height * width))


def _has_squeeze_excite(spec: GraphSpec) -> bool:
    """Whether a global pooling feeds back into a map."""
    pooled: set[int] = set()
    for layer in spec:
        reads_pooled = [i in pooled for i in layer.inputs]
        if layer.op == "global_pool" or (reads_pooled and all(reads_pooled)):
            pooled.add(layer.index)
        elif any(reads_pooled):
            return True
    return False


def _restrided_stem(
    spec: GraphSpec, target: InputShape, kernel: StemKernel, factor: int | None
) -> tuple[GraphSpec, str]:
    """The graph with the stem's stride changed, and a note of what that does."""
    old = resizable_stem(spec)
    direction, factor = _chosen_factor(spec, target, old, factor)
    effective = tuple(n * factor if direction == "up" else n // factor for n in target.hw if n)
    if kernel == "plain":
        changed, effect = _with_plain_stem(spec, old, direction, factor), "kernel as it is"
    else:
        method = kernel if direction == "up" else "area"
        how = Resampling(
            factor=factor,
            direction=direction,
            method=method,
            stride_hw=old.stride_hw,
            pads=_old_pads(spec, old, effective),
        )
        changed = _with_resampled_stem(spec, old, how)
        border = _at_the_border(old, changed[old.index], how, target)
        effect = (
            f"kernel {format_shape(old.kernel_hw)} -> {format_shape(changed[old.index].kernel_hw)};"
            f" answers as if the picture had been resized {direction} x{factor} to "
            f"{format_shape(effective)} ({method}){border}"
        )
    strides = f"{format_shape(old.stride_hw)} -> {format_shape(changed[old.index].stride_hw)}"
    return changed, f"stem {old.name}: stride {strides}, {effect}"


def _at_the_border(old: LayerSpec, stem: LayerSpec, how: Resampling, target: InputShape) -> str:
    """Where the composed kernel answers otherwise than a resizing and the old one; often nowhere.

    A resizing repeats the border's pixels, or drops those that fill no block; the composed kernel
    reads the zeros beyond the border, or the pixels that are left.
    """
    if how.method == "nearest" or not target.height or not target.width:
        return ""
    own = pads_at(stem, target.hw)
    # What each tap of the old kernel becomes by itself: a composed kernel may begin or end in zeros
    # that are there to make its length odd.
    each = np.eye(old.kernel_hw[0] * old.kernel_hw[1]).reshape(*old.kernel_hw, 1, -1)
    used_hw = np.nonzero(compose(each, how).kernel.any(axis=(2, 3)))
    (top, bottom), (left, right) = (
        _crossing(how, length, pads, stride, kernel, (int(taps.min()), int(taps.max())))
        for length, pads, stride, kernel, taps in zip(
            (target.height, target.width), own, stem.stride_hw, stem.kernel_hw, used_hw, strict=True
        )
    )
    if not any((top, bottom, left, right)):
        return ""
    if how.direction == "down":
        lines = [plural(bottom, "row")] * (bottom > 0) + [plural(right, "column")] * (right > 0)
        return (
            f", but for the last {' and '.join(lines)} of its map: they read the pixels that fill "
            f"no block of {how.factor}, which averaging would drop"
        )
    return (
        f", but for the outermost pixels of its map ({top} above, {bottom} below, {left} left, "
        f"{right} right): a resize repeats the border there, a convolution reads zeros"
    )


def _crossing(
    how: Resampling,
    length: int,
    pads: tuple[int, int],
    stride: int,
    kernel: int,
    taps: tuple[int, int],
) -> tuple[int, int]:
    """How many places of a map read beyond the first and beyond the last pixel along an axis."""
    rest = length % how.factor if how.direction == "down" else 0
    outputs = (length + sum(pads) - kernel) // stride + 1
    starts = [place * stride - pads[0] for place in range(outputs)]
    if how.direction == "down":
        # Whole blocks are averaged as a resizing does; so are zeros beyond them.
        return 0, sum(start + taps[1] >= length - rest for start in starts) if rest else 0
    before = sum(start + taps[0] < 0 for start in starts)
    return before, sum(start + taps[1] >= length for start in starts)


def _with_plain_stem(
    spec: GraphSpec, stem: LayerSpec, direction: Literal["up", "down"], factor: int
) -> GraphSpec:
    height, width = (s // factor if direction == "up" else s * factor for s in stem.stride_hw)
    pad = spec[stem.inputs[0]]
    if pad.op == "pad" and pad.parity_pads:
        spec = without_pad(spec, pad).with_call(stem.index, padding="same", pads=NO_PADS)
    return spec.with_layer(stem.index, stride_hw=(height, width))


def _with_resampled_stem(spec: GraphSpec, stem: LayerSpec, how: Resampling) -> GraphSpec:
    pad = spec[stem.inputs[0]]
    if pad.op == "pad":
        spec = without_pad(spec, pad)
    kernel_hw, stride_hw, pads = composed_geometry(stem.kernel_hw, how)
    # Pads that "same" makes as well, at every size, need no layer of their own.
    is_same = stride_hw == (1, 1) and pads == tuple(same_padding(k, k, 1) for k in kernel_hw)
    return spec.with_layer(
        stem.index,
        kernel_hw=kernel_hw,
        stride_hw=stride_hw,
        padding="same" if is_same else "valid",
        pads=NO_PADS if is_same else pads,
        resampling=how,
    )


def _old_pads(spec: GraphSpec, stem: LayerSpec, effective_hw: tuple[int, ...]) -> Pads:
    """The zeros around a picture of the size that the pretrained stem would read."""
    pad = spec[stem.inputs[0]]
    if pad.op != "pad":
        return pads_at(stem, effective_hw)
    return pads_at(stem.but(padding="same"), effective_hw) if pad.parity_pads else pad.pads


def _chosen_factor(
    spec: GraphSpec, target: InputShape, stem: LayerSpec, asked: int | None
) -> tuple[Literal["up", "down"], int]:
    """The asked factor, or the one that suits the size, and whether it enlarges or reduces."""
    direction, chosen = "up", asked
    if chosen is None or spec.input_shape.is_static:
        direction, suitable = stem_factor(spec, target)
        chosen = suitable if chosen is None else chosen
    without = "" if asked is None else " without factor"
    if chosen == 1:
        raise StrategyError(
            f"input {target}: the stem {_who(stem)} is best left as it is beside the native "
            f"{spec.input_shape.size}; use strategy='rebuild'{without}"
            + "".join(f", or {f} to change it all the same" for f in _factors(stem, direction)[:1])
        )
    if direction == "up" and any(s % chosen for s in stem.stride_hw):
        others = " or ".join(_factors(stem, direction))
        use = ", or ".join(filter(None, (others, f"strategy='resize' or 'rebuild'{without}")))
        raise StrategyError(
            f"the stem {stem.name!r} has stride {format_shape(stem.stride_hw)}, which cannot be "
            f"divided by {chosen}; use {use}"
        )
    return direction, chosen


def _who(stem: LayerSpec) -> str:
    return f"{stem.name!r} (stride {format_shape(stem.stride_hw)})"


def _factors(stem: LayerSpec, direction: Literal["up", "down"]) -> list[str]:
    """The factors that a stem's stride can be changed by, as they are written."""
    common = math.gcd(*stem.stride_hw)
    possible = [2] if direction == "down" else [r for r in range(2, common + 1) if common % r == 0]
    return [f"factor={r}" for r in possible]
