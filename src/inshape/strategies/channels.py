"""Decides what happens to a picture's channels: in the stem, or in front of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import StrategyError
from ..geometry.spec import GraphSpec, LayerSpec
from ..graph.edits import Edit, SetConstants
from ..shapes import InputShape
from ..weights.channels import (
    ChannelRule,
    channel_matrix,
    convert_constants,
    resolve_rule,
    write_rule,
)
from .stem import find_stem


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """What happens to the channels.

    Attributes:
        rule: the rule, by name, or as a list of the pretrained channels that bands start from.
        old: channels of the pretrained network.
        new: channels of the new input.
        stem: position of the stem whose kernel is converted, or ``None`` where none is.
        matrix: rows for new channels, columns for pretrained ones; ``None`` where nothing is
            converted.
        front: ``"repeat"`` or ``"project"`` where a layer in front restores the pretrained count.
        edits: new per-channel constants.
        reason: why it is done in this way.
    """

    rule: str
    old: int
    new: int
    stem: int | None = None
    matrix: tuple[tuple[float, ...], ...] | None = None
    front: Literal["repeat", "project"] | None = None
    edits: tuple[Edit, ...] = ()
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
    before it (mean, variance, scale) are converted with it. Where those constants differ between
    channels, a single channel cannot carry them, so that ``"sum"`` repeats the channel in front
    instead: equal to a grey picture repeated three times, to the last bit.

    Args:
        spec: a graph as read.
        target: the new input shape.
        rule: a rule's name, or a list that says which pretrained channel each band starts from
            (``None``: zero).

    Returns:
        The decision.

    Raises:
        UnknownName: if the rule does not exist.
        RequestError: if the rule does not apply to these counts.
        StrategyError: if the network does something per channel before its stem that cannot be
            converted.
        AmbiguousStem: if the kernel to convert is not exactly one.

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
    name = write_rule(resolved)
    if resolved == "project":
        why = "a learned 1x1 convolution in front"
        return ChannelPlan(name, old, new, front="project", reason=why)
    matrix = channel_matrix(resolved, new, old)
    if new == old and np.array_equal(matrix, np.eye(old)):
        return ChannelPlan(name, old, new)
    stem, before = find_stem(spec)
    per_channel = [layer for layer in before if _is_per_channel(layer)]
    differing = [layer for layer in per_channel if _differs(layer)]
    if resolved == "sum" and differing:
        why = f"repeated in front, because {differing[0].name} differs between channels"
        return ChannelPlan(name, old, new, front="repeat", reason=why)
    stuck = [layer for layer in per_channel if not _is_convertible(layer)]
    if stuck:
        raise StrategyError(
            f"channels={name!r}: layer {stuck[0].name!r} works on {old} channels before the stem "
            f"{stem.name!r} and cannot be converted to {new}; use channels='project'"
        )
    if stem.op != "conv" or stem.groups != 1:
        raise StrategyError(
            f"channels={name!r}: the stem {stem.name!r} is a {stem.op} convolution of "
            f"{stem.groups} "
            "groups, expected a plain one; use channels='project'"
        )
    edits = tuple(
        SetConstants(
            layer.index,
            tuple(
                (key, tuple(convert_constants(values, matrix, key).tolist()))  # pyright: ignore[reportArgumentType]
                for key, values in layer.constants
            ),
        )
        for layer in per_channel
        if layer.constants
    )
    rows = tuple(tuple(float(v) for v in row) for row in matrix)
    return ChannelPlan(name, old, new, stem=stem.layer, matrix=rows, edits=edits)


def _is_per_channel(layer: LayerSpec) -> bool:
    """Whether a layer before the stem holds or computes something per channel."""
    return bool(layer.constants) or layer.params > 0 or layer.op in ("norm", "opaque")


def _differs(layer: LayerSpec) -> bool:
    """Whether it treats channels differently, or may."""
    several_values = any(len(set(values)) > 1 for _, values in layer.constants)
    return several_values or layer.params > 0 or not _is_convertible(layer)


def _is_convertible(layer: LayerSpec) -> bool:
    return layer.op == "rescale"
