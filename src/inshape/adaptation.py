"""Carries a decision out: the rebuilt network with its weights, and a new head behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from .geometry.patches import Patches
from .graph.layers import AdaptivePooling2D, EnlargeLike, GeneralizedMeanPooling2D
from .graph.rewrite import rebuild
from .heads import BOX_FILTERS, EDGES, FILTERS, LOGITS, PREFIX, SKIP_SHARE, Head
from .strategies.decision import Decision
from .weights.transplant import TransplantReport, transplant

_MOMENTUM = 0.9
"""Of the statistics of a new norm, which some hundred steps have to settle."""


def carry_out(
    source: keras.Model,
    decision: Decision,
    *,
    outputs: tuple[int, ...] | None,
    patches: Sequence[Patches],
    head: Head | None,
    name: str,
    open_nested: bool,
) -> tuple[keras.Model, TransplantReport]:
    """Rebuild a network as decided, carry its weights over and put a head behind it.

    Args:
        source: the network that the decision was made for; it is not changed.
        decision: what is changed in it.
        outputs: the positions that are returned; ``None`` for the network's own outputs.
        patches: where it is computed piece by piece, if anywhere.
        head: what stands behind the only one of them, if anything new does.
        name: of the new model.
        open_nested: whether nested models are dissolved into the new one.

    Returns:
        A plain Keras model and what happened to each layer's weights.
    """
    model, layer_map = rebuild(
        source,
        decision.source,
        decision.input_shape,
        changed=decision.spec,
        outputs=outputs,
        patches=patches,
        open_nested=open_nested,
        name=name,
    )
    report = transplant(
        layer_map,
        decision.spec,
        by_channel=decision.channels.layers,
        channels=decision.channels.as_matrix(),
    )
    return model if head is None else attach(model, head), report


def attach(base: keras.Model, head: Head) -> keras.Model:
    """Put a head on a model that returns one map, or one vector under ``pretrained_dense``.

    One with a decoder is put on several maps, the finest first.

    Example:
        >>> image = keras.Input((9, 9, 3))
        >>> attach(keras.Model(image, image), Head(classes=4)).output_shape
        (None, 4)
    """
    x: Any = base.output
    if head.decoder is not None:
        decode = _pyramid if head.decoder == "boxes" else _lr_aspp
        return keras.Model(base.input, decode(x, head), name=base.name)
    if not head.pretrained_dense:
        x = _pooled(x, head)
    elif len(x.shape) > 2:
        x = keras.layers.Flatten(name=f"{PREFIX}flatten")(x)
    if head.hidden is not None:
        x = keras.layers.Dense(head.hidden, activation="relu", name=f"{PREFIX}hidden")(x)
    if head.classes is not None:
        if head.dropout:
            x = keras.layers.Dropout(head.dropout, name=f"{PREFIX}dropout")(x)
        x = keras.layers.Dense(head.classes, name=LOGITS)(x)
        if head.last_activation != "logits":
            name = f"{PREFIX}probabilities"
            x = keras.layers.Activation(head.last_activation, name=name, dtype="float32")(x)
        if head.is_scaled:
            name = f"{PREFIX}values"
            x = keras.layers.Rescaling(head.scale, head.offset, name=name, dtype="float32")(x)
    return keras.Model(base.input, x, name=base.name)


def _lr_aspp(maps: Sequence[Any], head: Head) -> Any:
    """LR-ASPP, as `heads.with_head` plans it."""
    *finer, fine, last = maps
    layers, filters = keras.layers, head.hidden or FILTERS
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{PREFIX}conv")(last)
    x = layers.BatchNormalization(momentum=_MOMENTUM, name=f"{PREFIX}norm")(x)
    x = layers.ReLU(name=f"{PREFIX}relu")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{PREFIX}pool")(last)
    gate = layers.Conv2D(filters, 1, use_bias=False, name=f"{PREFIX}gate")(gate)
    gate = layers.Activation("sigmoid", name=f"{PREFIX}sigmoid")(gate)
    x = layers.Multiply(name=f"{PREFIX}gated")([x, gate])
    if head.dropout:
        x = layers.Dropout(head.dropout, name=f"{PREFIX}dropout")(x)
    x = layers.Conv2D(head.classes, 1, name=f"{PREFIX}coarse")(x)
    x = _enlarged(x, fine, f"{PREFIX}enlarged")
    # The paper has no norm here; but an earlier map may hold values of any size, beside which those
    # of the gated branch would not count until they are unlearned.
    skip = layers.Conv2D(head.classes, 1, use_bias=False, name=f"{PREFIX}fine")(fine)
    skip = layers.BatchNormalization(momentum=_MOMENTUM, name=f"{PREFIX}fine_norm")(skip)
    x = layers.Add(name=f"{PREFIX}sum" if finer else LOGITS)([x, skip])
    for level, like in reversed(list(enumerate(finer))):
        x = _skip(x, like, head, level)
    return x


def _skip(x: Any, like: Any, head: Head, level: int) -> Any:
    """A step of a U-Net behind LR-ASPP, as `heads.with_head` plans it."""
    layers, filters = keras.layers, (head.hidden or FILTERS) // SKIP_SHARE or 1
    name = PREFIX + "{}_" + str(level)
    side = layers.Conv2D(filters, 1, use_bias=False, name=name.format("conv"))(like)
    side = layers.BatchNormalization(momentum=_MOMENTUM, name=name.format("norm"))(side)
    side = layers.ReLU(name=name.format("relu"))(side)
    x = _enlarged(x, like, name.format("enlarged"))
    y = _around(layers.Concatenate(name=name.format("joined"))([x, side]), name.format("around"))
    y = layers.Conv2D(filters, 1, use_bias=False, name=name.format("mixed"))(y)
    y = layers.BatchNormalization(momentum=_MOMENTUM, name=name.format("mixed_norm"))(y)
    y = layers.ReLU(name=name.format("mixed_relu"))(y)
    y = layers.Conv2D(head.classes, 1, name=name.format("classes"))(y)
    return layers.Add(name=name.format("sum") if level else LOGITS)([x, y])


def _pyramid(maps: Sequence[Any], head: Head) -> Any:
    """The maps of an anchor-free detector, as `heads.with_head` plans them."""
    layers, filters = keras.layers, head.hidden or BOX_FILTERS
    x: Any = None
    for level, like in reversed(list(enumerate(maps))):
        name = PREFIX + "{}_" + str(level)
        side = layers.Conv2D(filters, 1, use_bias=False, name=name.format("conv"))(like)
        norm = layers.BatchNormalization(momentum=_MOMENTUM, name=name.format("norm"))
        side = layers.ReLU(name=name.format("relu"))(norm(side))
        side = _around(side, name.format("around"))
        side = layers.Conv2D(filters, 1, name=name.format("mixed"))(side)
        if x is not None:
            enlarged = _enlarged(x, like, name.format("enlarged"))
            side = layers.Add(name=name.format("sum"))([enlarged, side])
        x = layers.ReLU(name=name.format("out"))(side)
    x = _around(x, f"{PREFIX}around")
    x = layers.Conv2D(filters, 1, activation="relu", name=f"{PREFIX}mixed")(x)
    if head.dropout:
        x = layers.Dropout(head.dropout, name=f"{PREFIX}dropout")(x)
    # An object's middle is rare: to begin with, one place in a hundred looks like one (the focal
    # loss's paper, arXiv 1708.02002, section 3.3).
    rare = keras.initializers.Constant(-math.log(99))
    middles = layers.Conv2D(head.classes, 1, bias_initializer=rare, name=f"{PREFIX}middles")(x)
    near = keras.initializers.Constant(1.0)
    edges = layers.Conv2D(EDGES, 1, bias_initializer=near, name=f"{PREFIX}edges")(x)
    return layers.Concatenate(name=LOGITS)([middles, edges])


def _around(maps: Any, name: str) -> Any:
    return keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=name)(maps)


def _enlarged(maps: Any, like: Any, name: str) -> Any:
    """A map at the size of another."""
    if None in like.shape[1:3]:
        return EnlargeLike(name=name)([maps, like])
    # By itself it says training=True to all behind it where nobody says anything; a training does.
    return keras.layers.Resizing(*like.shape[1:3], name=name)(maps, training=False)


def _pooled(maps: Any, head: Head) -> Any:
    name = f"{PREFIX}pool"
    pools: dict[Any, Any] = {
        "avg": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
        "gem": GeneralizedMeanPooling2D,
    }
    if isinstance(head.pool, str):
        return pools[head.pool](name=name)(maps)
    return keras.layers.Flatten(name=f"{PREFIX}flatten")(
        AdaptivePooling2D(head.pool, name=name)(maps)
    )
