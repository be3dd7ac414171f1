"""Other strides: the stem's, with its kernel resampled, or late stages', with dilation."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

from ..errors import StrategyError, UnknownName
from ..geometry.spec import GraphSpec, LayerSpec, Pads
from ..graph.edits import Bypass, Edit, ResampleKernel, SetPadding, SetStride
from ..shapes import InputShape
from ..weights.channels import ChannelRule
from ..weights.resample import resampled_geometry
from .decision import Decision
from .dilate import dilated
from .layers import pads_at
from .rebuild import layers_plan, require_static
from .stem import find_stem, resizable_stem

StemKernel: TypeAlias = Literal["nearest", "bilinear", "bicubic", "plain"]


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

    Args:
        spec: a graph as read.
        target: a fixed height and width, and any channels.
        stem: the upsampling that the kernel is composed with, or ``"plain"``: the kernel as it is.
            By default ``"nearest"``, or the stem untouched where ``output_stride`` is given.
        factor: how many times the stem's stride is divided (small inputs) or multiplied (large
            ones); by default the one that brings the input nearest to its native size.
        output_stride: pixels of the input per pixel of the last map, such as 16; later strides are
            replaced by dilation.
        channels: how pretrained channels become the new ones.

    Returns:
        The plan.

    Raises:
        UnknownName: for another ``stem``.
        StrategyError: if the stem's stride cannot be divided, the height or width is unknown, or a
            pooling layer would have to be dilated.

    Example:
        >>> picture = LayerSpec(0, "image", "input", (), 0, native_shape=(224, 224, 3))
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3), stride_hw=(2, 2),
        ...                  padding="same", out_channels=8)
        >>> spec = GraphSpec("tiny", (picture, conv), (1,), InputShape(224, 224, 3))
        >>> print(restride(spec, InputShape(112, 112, 3)).geometry.final_map)
        112x112
    """
    require_static(target, "restride")
    if stem is not None and stem not in get_args(StemKernel):
        raise UnknownName("stem", stem, get_args(StemKernel))
    first: tuple[Edit, ...] = ()
    notes: tuple[str, ...] = ()
    if stem is not None or factor is not None or output_stride is None:
        first, note = _stem_edits(spec, target, stem or "nearest", factor)
        notes = (note,)
    plan = layers_plan("restride", spec, target, channels, first)
    if output_stride is not None:
        late = dilated(plan.spec, target, output_stride)
        if not late:
            raise StrategyError(
                f"output_stride={output_stride}: no layer of {spec.name} passes that stride, so "
                "there "
                "is nothing to change; use a smaller one, or strategy='rebuild'"
            )
        plan = plan.but(edits=(*plan.edits, *late))
        if _has_squeeze_excite(spec):
            notes += (
                "squeeze-and-excite averages over the denser map, so old sampling points are near "
                "their old values, not equal",
            )
    return plan.but(notes=(*plan.notes, *notes))


def stem_factor(spec: GraphSpec, target: InputShape) -> tuple[Literal["up", "down"], int]:
    """The change of the stem's stride that brings an input nearest to the native size.

    Args:
        spec: a graph as read.
        target: a fixed height and width.

    Returns:
        ``"up"`` and the divisor of the stride, or ``"down"`` and its multiplier; the factor is 1
        where the stride is best as it is.
    """
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
            f"{target} is "
            "from it is not known; give factor="
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


def _stem_edits(
    spec: GraphSpec, target: InputShape, kernel: StemKernel, factor: int | None
) -> tuple[tuple[Edit, ...], str]:
    stem = resizable_stem(spec)
    if factor is None or spec.input_shape.is_static:
        direction, chosen = stem_factor(spec, target)
    else:
        direction, chosen = "up", factor
    chosen = chosen if factor is None else factor
    if chosen < 1:
        raise StrategyError(f"factor={chosen}; expected at least 1")
    if chosen == 1:
        raise StrategyError(
            f"input {target}: the stem {stem.name!r} (stride {_x(stem.stride_hw)}) is best left as "
            f"it is beside the native {spec.input_shape.size}; use strategy='rebuild', or factor=2 "
            "to change it all the same"
        )
    if direction == "up" and any(s % chosen for s in stem.stride_hw):
        raise StrategyError(
            f"the stem {stem.name!r} has stride {_x(stem.stride_hw)}, which cannot be divided by "
            f"{chosen}; use strategy='resize' or 'rebuild'"
        )
    effective = tuple(n * chosen if direction == "up" else n // chosen for n in target.hw if n)
    first, source_pads = _source_pads(spec, stem, effective)
    if kernel == "plain":
        stride_hw = tuple(s // chosen if direction == "up" else s * chosen for s in stem.stride_hw)
        edits = (SetStride(stem.index, (stride_hw[0], stride_hw[1])),)
        note = f"stem {stem.name}: stride {_x(stem.stride_hw)} -> {_x(stride_hw)}, kernel as it is"
        return (*edits, *_plain_padding(spec, stem)), note
    method = kernel if direction == "up" else "area"
    kernel_hw, new_stride_hw, pads = resampled_geometry(
        stem.kernel_hw,
        stem.stride_hw,
        source_pads,
        factor=chosen,
        direction=direction,
        method=method,
    )
    edit = ResampleKernel(
        stem.index,
        chosen,
        direction,
        method,
        new_stride_hw,
        kernel_hw,
        pads,
        source_stride_hw=stem.stride_hw,
        source_pads=source_pads,
    )
    note = (
        f"stem {stem.name}: stride {_x(stem.stride_hw)} -> {_x(new_stride_hw)}, kernel "
        f"{_x(stem.kernel_hw)} -> {_x(kernel_hw)}; answers as if the picture had been resized "
        f"{direction} x{chosen} to {_x(effective)} ({method})"
    )
    return (*first, edit), note


def _source_pads(
    spec: GraphSpec, stem: LayerSpec, effective_hw: tuple[int, ...]
) -> tuple[tuple[Edit, ...], Pads]:
    """The zeros around the resampled picture, and the removal of the layer that made them."""
    pad = spec[stem.inputs[0]]
    if pad.op != "pad":
        return (), pads_at(stem, effective_hw)
    if pad.parity_pads:
        return (Bypass(pad.index),), pads_at(stem.but(padding="same"), effective_hw)
    return (Bypass(pad.index),), pad.pads


def _plain_padding(spec: GraphSpec, stem: LayerSpec) -> tuple[Edit, ...]:
    """``"same"`` where a padding by parity stood in front; otherwise the padding as it is."""
    pad = spec[stem.inputs[0]]
    if pad.op == "pad" and pad.parity_pads:
        return Bypass(pad.index), SetPadding(stem.index, "same")
    return ()


def _x(hw: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in hw)
