"""What a strategy decided: the graph that is right at another input shape."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any

from ..geometry.spec import GraphSpec, LayerSpec
from ..shapes import InputShape
from .channels import ChannelPlan


@dataclass(frozen=True, slots=True)
class Decision:
    """What a strategy decided, before any model is built.

    Attributes:
        strategy: the strategy that made it.
        source: the graph as read.
        spec: the graph as it will be, positions as in ``source``.
        input_shape: the new shape.
        channels: what happens to the picture's channels.
        reasons: why the strategy and its options were chosen, one sentence each.
        notes: what the strategy wants the user to know, one sentence each.
        size_step_px: how far apart the heights and widths are that a model for any size takes.
        shown_shape: the shape at which the geometry is computed, where it is not ``input_shape``
            (a model for any size).
    """

    strategy: str
    source: GraphSpec
    spec: GraphSpec
    input_shape: InputShape
    channels: ChannelPlan
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    shown_shape: InputShape | None = None
    size_step_px: int = 1

    def but(self, **changes: Any) -> Decision:
        """The same decision with some fields changed."""
        return replace(self, **changes)

    def changes(self) -> list[dict[str, Any]]:
        """Each call that is not as it was read: its name, and every fact as it was and as it is."""
        return [
            {"layer": old.name} | _differing_facts(old, new)
            for old, new in zip(self.source, self.spec, strict=True)
            if old != new
        ]

    @property
    def static_shape(self) -> InputShape:
        """The new shape, or the one to compute at where that is unknown until run time."""
        return self.shown_shape or self.input_shape


def _differing_facts(old: LayerSpec, new: LayerSpec) -> dict[str, list[Any]]:
    pairs = ((f.name, getattr(old, f.name), getattr(new, f.name)) for f in fields(old) if f.compare)
    return {name: [_plain(a), _plain(b)] for name, a, b in pairs if a != b}


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
