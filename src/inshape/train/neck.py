"""Keeps the pretrained layers between the last map and the classifier, where a network has some."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras

from ..adapt import BackbonePlan
from ..backbones import Backbone
from ..errors import WeightsError
from ..heads import Head, has_neck


def build_for(plan: BackbonePlan, head: Head, weights: Any) -> keras.Model:
    """Build a plan with a new head, on top of the pretrained neck if there is one worth keeping.

    Args:
        plan: the plan.
        head: the new head; unless it says so itself, a neck is kept under average pooling.
        weights: as in `BackbonePlan.build`.

    Returns:
        A model whose head's layers are named ``head_...``.
    """
    # Random weights have taught a neck nothing; without it they stand beside a checkpoint that has
    # none on equal terms.
    pretrained = weights is not None or not isinstance(plan.backbone, Backbone)
    if head.neck is None and head.pool == "avg" and pretrained and has_neck(plan.source):
        try:
            return plan.build(weights=weights, head=replace(head, neck=True))
        except WeightsError:
            pass  # a file without the top: then there is no neck to keep
    return plan.build(weights=weights, head=head)
