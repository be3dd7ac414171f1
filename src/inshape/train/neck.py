"""Keeps the pretrained layers between the last map and the classifier, where a network has some.

MobileNetV3 widens its pooled features from 960 to 1280 by a layer behind the pooling, which holds
much of what was learned on ImageNet. A head put behind the last map would lose it.
"""

from __future__ import annotations

from typing import Any

import keras

from ..adapt import BackbonePlan
from ..backbones import Backbone
from ..errors import GraphError, WeightsError
from ..graph.walk import nodes_in_order, picture_model
from ..heads import Head, feature_map

_LARGEST_SHARE = 0.5


def build_for(plan: BackbonePlan, head: Head, weights: Any) -> keras.Model:
    """Build a plan with a new head, on top of the pretrained neck if there is one worth keeping.

    Args:
        plan: the plan.
        head: the new head; a neck is kept only under its default average pooling.
        weights: as in `BackbonePlan.build`.

    Returns:
        A model whose head's layers are named ``head_...``.
    """
    # Random weights have taught a neck nothing; without it they stand beside a checkpoint that has
    # none on equal terms.
    pretrained = weights is not None or not isinstance(plan.backbone, Backbone)
    if head.pool == "avg" and pretrained and has_neck(plan):
        try:
            return with_new_classifier(plan.build(weights=weights, head="top"), head)
        except WeightsError:
            pass  # a file without the top: then there is no neck to keep
    return plan.build(weights=weights, head=head)


def has_neck(plan: BackbonePlan) -> bool:
    """Whether pretrained layers stand between the last map and the classifier.

    A neck of more than half of all parameters, such as VGG's, is not worth its cost.

    Args:
        plan: the plan of a network that was read with its classifier.
    """
    try:
        end = feature_map(plan.source)
    except GraphError:
        return False
    counts = [layer.params for layer in plan.source if layer.index > end and layer.params]
    total = sum(layer.params for layer in plan.source)
    return len(counts) > 1 and sum(counts[:-1]) <= _LARGEST_SHARE * total


def with_new_classifier(model: keras.Model, head: Head) -> keras.Model:
    """Replace a model's last layer with weights, and all behind it, by a new head.

    Args:
        model: a functional model that ends in a classifier; its layers are taken over.
        head: dropout, hidden layer, classes and activation of the new one.

    Returns:
        A model of the same input.

    Raises:
        GraphError: if no layer has weights.

    Example:
        >>> image = keras.Input((8, 6, 1))
        >>> x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
        >>> neck = keras.layers.Dense(16, name="neck")(x)
        >>> model = keras.Model(image, keras.layers.Dense(1000, name="old")(neck))
        >>> [layer.name for layer in with_new_classifier(model, Head(classes=3)).layers[-4:]]
        ['neck', 'head_dropout', 'head_logits', 'head_probabilities']
    """
    graph = picture_model(model)
    weighted = [n for n in nodes_in_order(graph) if getattr(n.operation, "weights", None)]
    if not weighted:
        raise GraphError(
            f"model {model.name!r} has no classifier to replace; pass one with weights"
        )
    x = weighted[-1].input_tensors[0]
    while type(x._keras_history.operation).__name__ in ("Dropout", "Flatten"):
        x = x._keras_history.operation._inbound_nodes[x._keras_history.node_index].input_tensors[0]
    if len(x.shape) > 2:
        x = keras.layers.Flatten(name="head_flatten")(x)
    if head.hidden is not None:
        x = keras.layers.Dense(head.hidden, activation="relu", name="head_hidden")(x)
    if head.dropout:
        x = keras.layers.Dropout(head.dropout, name="head_dropout")(x)
    x = keras.layers.Dense(head.classes, name="head_logits")(x)
    if head.activation == "softmax":
        x = keras.layers.Activation("softmax", name="head_probabilities", dtype="float32")(x)
    return keras.Model(graph.inputs[0], x, name=model.name)
