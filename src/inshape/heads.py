"""Pooling and classifier heads, and where a network's own head begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import keras

from .errors import GraphError, RequestError, UnknownName
from .geometry.receptive import receptive_fields
from .geometry.spec import GraphSpec
from .graph.layers import AdaptivePooling2D, GeneralizedMeanPooling2D
from .graph.walk import nodes_in_order, picture_model
from .shapes import InputShape

PoolName: TypeAlias = Literal["avg", "max", "gem"]
Pool: TypeAlias = PoolName | tuple[int, int]
Activation: TypeAlias = Literal["softmax", "logits"]

_LARGEST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Head:
    """What stands behind the last map.

    Attributes:
        classes: how many classes, at least 2; ``None`` gives the pooled features.
        pool: ``"avg"``, ``"max"``, ``"gem"`` (generalised mean, arXiv 1711.02512), or rows and
            columns of a fixed grid.
        dropout: share of values dropped in training before the classifier, in [0, 1).
        hidden: units of a dense layer before the classifier, or ``None``.
        activation: ``"softmax"`` gives probabilities, ``"logits"`` their logarithms up to a
            constant.
        neck: whether the pretrained layers between pooling and classifier are kept, such as
            MobileNetV3's 1280 units; under average pooling only. By default `inshape.adapt` leaves
            them out, and `inshape.train` keeps them where there are any (`has_neck`).

    Raises:
        RequestError: if a number is out of range.
        UnknownName: for another ``pool`` or ``activation``.

    Example:
        >>> Head(classes=10, pool="gem").pool
        'gem'
    """

    classes: int | None = None
    pool: Pool = "avg"
    dropout: float = 0.2
    hidden: int | None = None
    activation: Activation = "softmax"
    neck: bool | None = None

    def __post_init__(self) -> None:
        """Refuse what no head can be."""
        if isinstance(self.pool, str) and self.pool not in get_args(PoolName):
            raise UnknownName("pool", self.pool, get_args(PoolName))
        if not isinstance(self.pool, str) and not _is_grid(self.pool):
            raise RequestError(
                f"pool {self.pool}; expected a name, or rows and columns such as (2, 2)"
            )
        if self.activation not in get_args(Activation):
            raise UnknownName("activation", self.activation, get_args(Activation))
        if self.classes is not None and self.classes < 2:
            raise RequestError(f"classes={self.classes}; expected at least 2")
        if not 0 <= self.dropout < 1:
            raise RequestError(f"dropout={self.dropout}; expected at least 0 and below 1")
        if self.hidden is not None and self.hidden < 1:
            raise RequestError(f"hidden={self.hidden}; expected at least 1 unit, or None")
        if self.neck and self.pool != "avg":
            raise RequestError(
                f"neck=True with pool={self.pool!r}; expected 'avg', which the pretrained layers "
                "were trained on; leave neck out"
            )


def _is_grid(pool: Any) -> bool:
    return isinstance(pool, Sequence) and len(pool) == 2 and min(pool) >= 1


def attach(base: keras.Model, head: Head) -> keras.Model:
    """Put a head on a model that returns one map.

    The head's layers are named ``head_pool``, ``head_hidden``, ``head_dropout``, ``head_logits``
    and ``head_probabilities``; everything else is the backbone.

    Args:
        base: a model whose output is (batch, height, width, channels); it is taken over.
        head: what to put behind it.

    Returns:
        A model of the same input.

    Example:
        >>> image = keras.Input((None, None, 3))
        >>> base = keras.Model(image, keras.layers.Conv2D(8, 3)(image))
        >>> attach(base, Head(classes=5)).output_shape
        (None, 5)
    """
    return keras.Model(base.input, _ended(_pooled(base.output, head.pool), head), name=base.name)


def has_neck(spec: GraphSpec) -> bool:
    """Whether pretrained layers stand between the pooling and the classifier.

    MobileNetV3 widens its pooled features from 960 to 1280 by a layer behind the pooling, which
    holds much of what was learned on ImageNet. A neck of more than half of all parameters, such as
    VGG's, is not worth its cost.

    Args:
        spec: a network as read, with its classifier.
    """
    try:
        end = feature_map(spec)
    except GraphError:
        return False
    counts = [layer.params for layer in spec if layer.index > end and layer.params]
    total = sum(layer.params for layer in spec)
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
    return keras.Model(graph.inputs[0], _ended(x, head), name=model.name)


def _ended(x: Any, head: Head) -> Any:
    """What stands behind the pooled features."""
    if head.hidden is not None:
        x = keras.layers.Dense(head.hidden, activation="relu", name="head_hidden")(x)
    if head.classes is None:
        return x
    if head.dropout:
        x = keras.layers.Dropout(head.dropout, name="head_dropout")(x)
    x = keras.layers.Dense(head.classes, name="head_logits")(x)
    if head.activation == "softmax":
        x = keras.layers.Activation("softmax", name="head_probabilities", dtype="float32")(x)
    return x


def _pooled(maps: Any, pool: Pool) -> Any:
    if pool == "avg":
        return keras.layers.GlobalAveragePooling2D(name="head_pool")(maps)
    if pool == "max":
        return keras.layers.GlobalMaxPooling2D(name="head_pool")(maps)
    if pool == "gem":
        return GeneralizedMeanPooling2D(name="head_pool")(maps)
    grid = AdaptivePooling2D(pool, name="head_pool")(maps)  # pyright: ignore[reportArgumentType]
    return keras.layers.Flatten(name="head_flatten")(grid)


def feature_map(spec: GraphSpec) -> int:
    """The position of the last map before a network's own head.

    Walks back from the output over dense layers, activations and 1x1 maps to the pooling (or
    flattening) that made a vector of a map.

    Args:
        spec: a graph as read.

    Returns:
        The position of the call that puts the map out.

    Raises:
        GraphError: if there is no such map.

    Example:
        >>> from inshape.geometry.spec import LayerSpec
        >>> picture = LayerSpec(0, "image", "input", (), 0, native_shape=(9, 9, 3))
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, native_shape=(7, 7, 8))
        >>> pool = LayerSpec(2, "pool", "global_pool", (1,), 2, native_shape=(8,))
        >>> feature_map(GraphSpec("tiny", (picture, conv, pool), (2,), InputShape(9, 9, 3)))
        1
    """
    if len(spec.outputs) != 1:
        raise GraphError(
            f"model {spec.name!r} returns {len(spec.outputs)} outputs, expected one to cut the "
            "head "
            "off; use head='top' to keep it whole, or pass a model that returns one map"
        )
    layer = spec[spec.outputs[0]]
    single_pixel: int | None = None  # the last 1x1 map, which may or may not have been pooled
    while layer.inputs:
        if layer.op in ("global_pool", "adaptive_pool"):
            return layer.inputs[0]
        if len(layer.native_shape) == 3:
            if layer.native_shape[:2] != (1, 1):
                return layer.index if single_pixel is None else single_pixel
            single_pixel = layer.index if single_pixel is None else single_pixel
        layer = spec[layer.inputs[0]]
    raise GraphError(
        f"model {spec.name!r} has no feature map before its output; "
        "use head='top' to keep it whole, or pass a model that returns a map"
    )


def truncated(spec: GraphSpec, outputs: tuple[int, ...]) -> GraphSpec:
    """The graph up to some outputs, positions unchanged.

    Args:
        spec: a graph as read.
        outputs: the positions to end at.

    Returns:
        The graph without what comes after the last of them.
    """
    return spec.but(layers=spec.layers[: max(outputs) + 1], outputs=outputs)


def feature_maps(spec: GraphSpec, shape: InputShape, strides: tuple[int, ...]) -> tuple[int, ...]:
    """The last map at each output stride, for a detector or a segmenter.

    Args:
        spec: the graph as it will be, front included.
        shape: a shape at which to follow the strides, height and width known.
        strides: pixels per pixel of the map, such as (4, 8, 16, 32); where a resizing layer stands
            in front, pixels of the resized picture.

    Returns:
        One position for each.

    Raises:
        RequestError: if no map has that stride, with the ones that there are.
    """
    if not strides:
        raise RequestError("features=[]; expected output strides, such as [8, 16, 32]")
    found: dict[float, int] = {}
    end = feature_map(spec)
    on_the_way = spec.but(outputs=(end,)).needed()
    for layer, field in zip(spec, receptive_fields(spec, shape), strict=True):
        is_map = len(layer.native_shape) == 3 and layer.op not in ("input", "pad", "global_pool")
        strides_agree = field.height.jump_px == field.width.jump_px
        if layer.index in on_the_way and is_map and strides_agree and not field.whole:
            found[field.height.jump_px or 0] = layer.index
    missing = [s for s in strides if s not in found]
    if missing:
        there = ", ".join(f"{s:g}" for s in sorted(found))
        raise RequestError(
            f"features={list(strides)}: {spec.name} has no map at stride {missing[0]}; choose "
            f"from: {there}"
        )
    return tuple(found[s] for s in strides)
