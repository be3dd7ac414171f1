"""Decides what happens to a picture's channels: in the stem, or in front of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np

from ..errors import AmbiguousStem, StrategyError
from ..geometry.spec import GraphSpec, LayerSpec
from ..shapes import InputShape
from ..weights.channels import (
    ChannelRule,
    channel_matrix,
    convert_constants,
    resolve_rule,
    write_rule,
)
from .stem import find_stems


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """What happens to the channels.

    Attributes:
        rule: the rule, by name, or as a list of the pretrained channels that bands start from.
        old: channels of the pretrained network.
        new: channels of the new input.
        layers: positions of the layers whose weights are converted: the convolutions that read the
            picture, and what holds a weight for each channel before them.
        matrix: rows for new channels, columns for pretrained ones; ``None`` where nothing is
            converted.
        restored_by: ``"repeat"`` or ``"project"`` where a layer in front of the network restores
            the pretrained count.
        reason: why it is done in this way.
    """

    rule: str
    old: int
    new: int
    layers: tuple[int, ...] = ()
    matrix: tuple[tuple[float, ...], ...] | None = None
    restored_by: Literal["repeat", "project"] | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.new == self.old and self.matrix is None:
            return f"{self.new}, as pretrained"
        return f"{self.old} -> {self.new} by {self.rule}" + (
            f" ({self.reason})" if self.reason else ""
        )

    def as_matrix(self) -> np.ndarray | None:
        """The matrix as an array."""
        return None if self.matrix is None else np.asarray(self.matrix)


def plan_channels(spec: GraphSpec, target: InputShape, rule: ChannelRule) -> ChannelPlan:
    """Decide how pretrained channels become the new input's.

    The stem's kernel is multiplied by the rule's matrix, and constants per channel that stand
    before it (mean, variance, scale) are converted with it. A convolution is linear, so that this
    holds for each of several stems as it does for one. Where those constants differ between
    channels, a single channel cannot carry them, so that ``"sum"`` repeats the channel in front
    instead: equal to a grey picture repeated three times, to the last bit.

    Example:
        >>> from inshape.geometry.spec import LayerSpec
        >>> picture = LayerSpec(0, "image", "input", (), 0)
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3))
        >>> spec = GraphSpec("tiny", (picture, conv), (1,), InputShape(9, 9, 3))
        >>> print(plan_channels(spec, InputShape(9, 9, 1), "auto"))
        3 -> 1 by sum
    """
    old, new = spec.input_shape.channels, target.channels
    resolved = resolve_rule(rule, new, old)
    plan = ChannelPlan(write_rule(resolved), old, new)
    if resolved == "project":
        why = "a learned 1x1 convolution in front"
        return replace(plan, restored_by="project", reason=why)
    matrix = channel_matrix(resolved, new, old)
    if new == old and np.array_equal(matrix, np.eye(old)):
        return plan
    return _placed(spec, plan, matrix)


def _placed(spec: GraphSpec, plan: ChannelPlan, matrix: np.ndarray) -> ChannelPlan:
    """The plan with the layers that its rule converts, or with a repetition in front."""
    try:
        stems, before = find_stems(spec)
        why = _why_not_summed(stems, before)
    except AmbiguousStem as ambiguous:
        if plan.rule != "sum":
            raise
        stems, before, why = (), (), ambiguous.what
    if plan.rule == "sum" and why:
        return replace(plan, restored_by="repeat", reason=f"repeated in front, because {why}")
    _check_convertible(plan, stems, before)
    rows = tuple(tuple(float(v) for v in row) for row in matrix)
    holders = {x.layer for x in before if spec[x.layer].params_per_channel}
    layers = tuple(sorted({*holders, *(stem.layer for stem in stems)}))
    return replace(plan, layers=layers, matrix=rows)


def with_channels(spec: GraphSpec, plan: ChannelPlan) -> GraphSpec:
    """The graph that reads the new channels."""
    if plan.restored_by is not None:
        added = replace(spec.input_layers, channels=plan.restored_by, network_channels=plan.old)
        return spec.but(input_layers=added)
    matrix = plan.as_matrix()
    if matrix is None:
        return spec
    for layer in find_stems(spec)[1]:
        constants = tuple(
            (name, tuple(convert_constants(values, matrix, cast("Any", name)).tolist()))
            for name, values in layer.constants
        )
        spec = spec.with_layer(layer.index, constants=constants)
    return spec


def _why_not_summed(stems: Sequence[LayerSpec], before: Sequence[LayerSpec]) -> str:
    """Why a summed kernel would not answer as for three equal channels; empty where it does."""
    differing = next((x for x in before if _is_per_channel(x) and _differs(x)), None)
    if differing is not None:
        return f"{differing.name} differs between channels"
    for stem in stems:
        if not stem.is_plain:
            return f"{stem.name} computes something of its own with its kernel"
        if not _is_plain_convolution(stem):
            return f"{stem.name} is no plain convolution"
    return ""


def _is_plain_convolution(stem: LayerSpec) -> bool:
    return stem.op == "conv" and stem.groups == 1 and stem.is_plain


def _check_convertible(
    plan: ChannelPlan, stems: Sequence[LayerSpec], before: Sequence[LayerSpec]
) -> None:
    for layer in before:
        if _is_per_channel(layer) and not _is_convertible(layer):
            raise StrategyError(
                f"channels={plan.rule!r}: layer {layer.name!r} works on {plan.old} channels before "
                f"the stem {stems[0].name!r} and cannot be converted to {plan.new}; use "
                "channels='project'"
            )
    for stem in stems:
        if not stem.is_plain:
            raise StrategyError(
                f"channels={plan.rule!r}: the stem {stem.name!r} computes something of its own "
                "with its kernel, so that a converted kernel would not do what is promised; use "
                "channels='project'"
            )
        if not _is_plain_convolution(stem):
            raise StrategyError(
                f"channels={plan.rule!r}: the stem {stem.name!r} is a {stem.op} convolution of "
                f"{stem.groups} groups, expected a plain one; use channels='project'"
            )


def _is_per_channel(layer: LayerSpec) -> bool:
    """Whether a layer before the stem holds or computes something per channel."""
    return bool(layer.constants) or layer.params > 0 or layer.op in ("norm", "opaque")


def _differs(layer: LayerSpec) -> bool:
    """Whether it treats channels differently, or may."""
    several_values = any(len(set(values)) > 1 for _, values in layer.constants)
    return several_values or layer.params > 0 or not _is_convertible(layer)


def _is_convertible(layer: LayerSpec) -> bool:
    return layer.op == "rescale"
