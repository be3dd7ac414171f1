"""The plan: what will be done to a network, with its geometry, before any model is built."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

from ..geometry.spec import GraphSpec
from ..geometry.stages import Geometry, geometry
from ..geometry.warnings import ShapeWarning, shape_warnings
from ..graph.edits import Edit, applied
from ..shapes import InputShape
from .channels import ChannelPlan

StrategyName: TypeAlias = Literal["resize", "rebuild", "restride", "flexible"]


@dataclass(frozen=True)
class Plan:
    """What a strategy decided: edits, geometry and warnings, all printable.

    Attributes:
        strategy: the strategy that made it.
        source: the graph as read.
        input_shape: the new shape.
        edits: what `graph.rewrite.rebuild` will carry out.
        channels: what happens to the picture's channels.
        reasons: why the strategy and its options were chosen, one sentence each.
        notes: what the strategy wants the user to know, one sentence each.
        shown_shape: the shape at which the geometry is computed, where it is not ``input_shape``
            (a model for any size).
    """

    strategy: StrategyName
    source: GraphSpec
    input_shape: InputShape
    edits: tuple[Edit, ...]
    channels: ChannelPlan
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    shown_shape: InputShape | None = None

    def but(self, **changes: Any) -> Plan:
        """The same plan with some fields changed."""
        return replace(self, **changes)

    @cached_property
    def spec(self) -> GraphSpec:
        """The graph as it will be."""
        return applied(self.source, self.edits)

    @cached_property
    def geometry(self) -> Geometry:
        """Stage by stage at the new shape: map sizes, strides, receptive fields, cost."""
        return geometry(self.spec, self.shown_shape or self.input_shape)

    @cached_property
    def native_geometry(self) -> Geometry:
        """The same of the source at its own shape."""
        return geometry(self.source, self.source.input_shape)

    @cached_property
    def warnings(self) -> tuple[ShapeWarning, ...]:
        """What to know about this shape."""
        return shape_warnings(
            self.spec, self.source.input_shape, self.shown_shape or self.input_shape
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "backbone": self.source.name,
            "strategy": self.strategy,
            "input_shape": str(self.input_shape),
            "native_shape": str(self.source.input_shape),
            "channels": self.channels.rule,
            "reasons": list(self.reasons),
            "edits": [
                {"edit": type(e).__name__, **_named(asdict(e), self.source)} for e in self.edits
            ],
            "geometry": self.geometry.as_dict(),
            "native_geometry": self.native_geometry.as_dict(),
            "warnings": [{"code": w.code, "message": w.message} for w in self.warnings],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [
            f"{self.source.name}: {self.source.input_shape} -> {self.input_shape} by "
            f"{self.strategy}"
        ]
        lines += [f"  why: {reason}" for reason in self.reasons]
        lines += [f"  channels: {self.channels}"]
        if self.shown_shape is not None:
            lines += [f"  geometry shown at {self.shown_shape}; other sizes are padded rightly too"]
        lines += ["", str(self.geometry), "", self._compared()]
        lines += [f"  warning: {warning.message}" for warning in self.warnings]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _compared(self) -> str:
        """One line that sets the cost against the source's own."""
        new, old = self.geometry, self.native_geometry
        if new.macs is None:
            return "cost: depends on the size at run time"
        if old.macs is None:
            return f"cost: {new.macs / 1e6:.1f} MMACs"
        return (
            f"cost: {new.macs / 1e6:.1f} MMACs, {new.macs / old.macs:.2f}x of "
            f"{old.macs / 1e6:.1f} at {self.source.input_shape}"
        )


def _named(fields: dict[str, Any], spec: GraphSpec) -> dict[str, Any]:
    if "layer" in fields:
        return {"name": spec[fields["layer"]].name, **fields}
    return fields
