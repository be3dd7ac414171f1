"""A model that inshape adapted before: what it put before the network is replaced, not stacked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..geometry.inserted import PROJECT, REPEAT, RESIZE, inserted, without_inserted
from ..geometry.spec import GraphSpec
from ..shapes import InputShape
from ..text import plural
from ..weights.channels import ChannelRule, channel_matrix, resolve_rule
from .decision import Decision


@dataclass(frozen=True, slots=True)
class Again:
    """A graph as it was read, and what a strategy is to see of it.

    Attributes:
        source: the graph as read.
        spec: the graph without the input layers that are replaced.
        channels: the rule for the channels of ``spec``.
        keeps_channels: whether the channels of the source stay as they are.
        projection: the call of a projection that is put in again with its weights.
        notes: what is lost.
    """

    source: GraphSpec
    spec: GraphSpec
    channels: ChannelRule
    keeps_channels: bool = False
    projection: int | None = None
    notes: tuple[str, ...] = ()

    def completed(self, decision: Decision) -> Decision:
        """A decision for ``spec`` as one for the source."""
        spec, plan = decision.spec, decision.channels
        if self.projection is not None:
            added = replace(spec.input_layers, projection_from=self.projection)
            spec = spec.but(input_layers=added)
        if self.keeps_channels:
            plan = replace(plan, rule="keep", old=plan.new, restored_by=None, reason="")
        notes = (*decision.notes, *self.notes)
        return decision.but(source=self.source, spec=spec, channels=plan, notes=notes)


def adapted_again(
    spec: GraphSpec, target: InputShape, strategy: str, channels: ChannelRule
) -> Again:
    """Find what a strategy and a channel rule replace in a graph."""
    calls = inserted(spec)
    resizes_again = strategy == "resize" and RESIZE in calls
    is_projected = PROJECT in calls
    if REPEAT not in calls and not is_projected:
        return Again(spec, without_inserted(spec, *calls) if resizes_again else spec, channels)
    old, new = spec.input_shape.channels, target.channels
    if new == old and _keeps(channels, new, is_projected):
        return _kept(spec, channels, resizes_again=resizes_again)
    if is_projected and channels != "project":
        # Its kernel is converted as any stem's is.
        return Again(spec, without_inserted(spec, RESIZE) if resizes_again else spec, channels)
    lost = (
        f"the learned projection reads {plural(old, 'channel')} and cannot be kept for {new}; "
        "a new one begins at its first weights, so train it"
    )
    channel_call, notes = (PROJECT, (lost,)) if is_projected else (REPEAT, ())
    resizing_stays = RESIZE in calls and not resizes_again
    replaced = (channel_call,) if resizing_stays else calls
    return Again(spec, without_inserted(spec, *replaced), channels, notes=notes)


def _kept(spec: GraphSpec, channels: ChannelRule, *, resizes_again: bool) -> Again:
    """The channels stay as they are, behind another resizing if there is one."""
    calls = inserted(spec)
    projection = calls[PROJECT].index if PROJECT in calls else None
    if not resizes_again:
        return Again(spec, spec, channels if projection is None else "auto")
    rule = "sum" if projection is None else "project"
    return Again(spec, without_inserted(spec, *calls), rule, True, projection)


def _keeps(rule: ChannelRule, channels: int, is_projected: bool) -> bool:
    """Whether a rule leaves as many channels what they are, as a projection leaves another."""
    resolved = resolve_rule(rule, channels, channels)
    if resolved == "project":
        return is_projected
    return np.array_equal(channel_matrix(resolved, channels, channels), np.eye(channels))
