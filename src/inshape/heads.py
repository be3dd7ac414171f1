"""What stands behind the last map, as records of a graph; `adaptation` makes layers of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, get_args

from .errors import GraphError, RequestError, UnknownName
from .geometry.receptive import receptive_fields
from .geometry.rules import output_shape
from .geometry.sizes import map_shapes
from .geometry.spec import GraphSpec, LayerSpec
from .requests import Flag, Range, Request, Without, Written, own_options, read_hw, write_hw
from .shapes import InputShape
from .text import plural

PoolName: TypeAlias = Literal["avg", "max", "gem"]
Pool: TypeAlias = PoolName | tuple[int, int]
Activation: TypeAlias = Literal["auto", "softmax", "sigmoid", "logits"]
Decoder: TypeAlias = Literal["lr-aspp", "boxes"]

LOGITS = "head_logits"
"""The layer of a head that gives a score per class."""
PREFIX = "head_"
"""How the names of a head's layers begin; everything else is the backbone."""
FROM_LABELS = Without(("classes", "activation", "scale", "offset", "decoder"))
"""What of a head is no option where pictures have labels, which settle it."""
FILTERS = 128
"""Of LR-ASPP's two branches, as in its paper."""
BOX_FILTERS = 96
"""Of the maps from which boxes are told."""
EDGES = 4
"""Numbers beside the classes that tell of a box."""
SKIP_SHARE = 4
"""Of LR-ASPP's filters, one in so many reads a finer map."""
_FINEST_PX = 8
"""The stride of the finest map that a decoder reads by default, or of a finer one."""
_LARGEST_SHARE = 0.5
_CLASSES = "class", "classes"
_POOLS = {"avg": "average", "max": "maximum", "gem": "generalised-mean"}


def read_pool(value: Any) -> Pool:
    """Read a pooling: a name, or rows and columns of a grid.

    Example:
        >>> read_pool("gem"), read_pool("2x3")
        ('gem', (2, 3))
    """
    if value in get_args(PoolName):
        return value
    if isinstance(value, str) and not value[:1].isdigit():
        raise UnknownName("pool", value, get_args(PoolName))
    return read_hw(value)


def write_pool(pool: Pool) -> str:
    """Write a pooling as `read_pool` reads it."""
    return pool if isinstance(pool, str) else write_hw(pool)


PoolField = Annotated[Pool, Written(read_pool, write_pool, "POOL")]


@dataclass(frozen=True, slots=True)
class Head(Request):
    """What stands behind the last map.

    Raises:
        RequestError: if a number is out of range.
        UnknownName: for another ``pool`` or ``activation``.

    Example:
        >>> Head(classes=10, pool="gem").pool
        'gem'
    """

    classes: Annotated[int, Range(1)] | None = None
    """How many classes, or 1 for a single value; none gives the pooled features."""
    pool: PoolField = "avg"
    """avg, max, gem (generalised mean, arXiv 1711.02512), or a fixed grid such as 2x2."""
    dropout: Annotated[float, Range(0, 0.99)] = 0.2
    """Share of values dropped in training before the classifier."""
    hidden: Annotated[int, Range(1)] | None = None
    """Units of a dense layer before the classifier."""
    activation: Activation | None = "auto"
    """softmax gives probabilities of which one is true, sigmoid one for each class by itself,
    logits the values before it, as for a regression; auto is softmax, and sigmoid for a single
    class. In Python None is logits, as in Keras."""
    decoder: Decoder | None = None
    """lr-aspp gives a map of logits, a class for each place, from the last map and an earlier one
    (arXiv 1905.02244, section 6.4) instead of pooling; hidden is the number of its filters, 128 by
    default. boxes gives a map of the middles of objects and how far their edges are, from the maps
    at strides 8, 16 and 32 (arXiv 1904.07850); 96 filters."""
    map_stride: Annotated[int, Range(1, 8)] = 8
    """At most so many input pixels per place of the map of masks or boxes; 4 reads a finer map as
    well, as a U-Net does (arXiv 1505.04597), for finer outlines and small objects."""
    scale: Annotated[float, Range(0), Flag("")] = 1.0
    """What the last values are multiplied with, as for a regression whose numbers are learned in
    their standard deviations."""
    offset: Annotated[float, Flag("")] = 0.0
    """What is added to them then."""
    pretrained_dense: bool | None = None
    """Whether the pretrained layers between pooling and classifier are kept, such as MobileNetV3's
    dense layer of 1024 units; under average pooling only. By default training keeps them where the
    network and its weights have them, and adapting leaves them out."""

    def __post_init__(self) -> None:
        Request.__post_init__(self)
        if self.activation is None:  # as in keras.applications
            object.__setattr__(self, "activation", "logits")
        if self.pretrained_dense and self.pool != "avg":
            raise RequestError(
                f"pretrained_dense=True with pool={self.pool!r}; expected 'avg', which the "
                "pretrained layers were trained on; leave pretrained_dense out"
            )
        if self.decoder is not None:
            if self.pool != "avg" or self.pretrained_dense:
                raise RequestError(
                    f"decoder={self.decoder!r} with pool={self.pool!r} and "
                    f"pretrained_dense={self.pretrained_dense}; expected neither, since it does "
                    "not pool its map; leave them out"
                )
            if self.activation in ("softmax", "sigmoid"):
                raise RequestError(
                    f"decoder={self.decoder!r} with activation={self.activation!r}; expected "
                    "logits, which are a map; leave activation out"
                )
        if self.classes == 1 and self.activation == "softmax":
            raise RequestError(
                "activation='softmax' with classes=1 is 1 whatever the picture; expected 'sigmoid' "
                "or, for a regression, 'logits'"
            )

    @property
    def last_activation(self) -> Activation:
        """The activation behind the classifier, whether it was asked for or not."""
        by_classes = "sigmoid" if self.classes == 1 else "softmax"
        if self.decoder is not None:
            return "logits"
        return by_classes if self.activation in ("auto", None) else self.activation

    @property
    def is_scaled(self) -> bool:
        """Whether the last values are brought to another range."""
        return (self.scale, self.offset) != (1.0, 0.0)

    @property
    def settles_dense(self) -> bool:
        """Whether it is settled that the pretrained layers behind the pooling are kept, or not."""
        return self.pretrained_dense is not None or self.pool != "avg" or self.decoder is not None

    def stated(self) -> dict[str, Any]:
        """The fields that are not as they are by default."""
        values = {option.name: getattr(self, option.name) for option in own_options(Head)}
        defaults = {option.name: option.default for option in own_options(Head)}
        return {name: value for name, value in values.items() if value != defaults[name]}

    def __str__(self) -> str:
        if self.decoder is not None:
            finest = "" if self.map_stride == _FINEST_PX else f", to stride {self.map_stride}"
            classes = plural(self.classes or 0, *_CLASSES)
            if self.decoder == "boxes":
                return (
                    f"a pyramid of {self.hidden or BOX_FILTERS} filters{finest}, boxes of {classes}"
                )
            return f"LR-ASPP of {self.hidden or FILTERS} filters{finest}, a map of {classes}"
        words = ["the pretrained pooling and dense layers"]
        if not self.pretrained_dense:
            is_name = isinstance(self.pool, str)
            words = [f"{_POOLS[self.pool] if is_name else write_pool(self.pool)} pooling"]  # pyright: ignore[reportArgumentType]
        if self.hidden is not None:
            words.append(f"a dense layer of {self.hidden}")
        if self.classes is None:
            words.append("no classifier (classes=N adds one)")
        else:
            words.append(f"{plural(self.classes, *_CLASSES)}, {self.last_activation}")
        return ", ".join(words)


def feature_map(spec: GraphSpec) -> int:
    """The position of the last map before a network's own head.

    It is what the last pooling reads, also an adaptive one; in a network without one, the last map
    larger than one pixel.

    Raises:
        GraphError: if the network has several outputs or no map.

    Example:
        >>> picture = LayerSpec(0, "image", "input", (), 0, native_shape=(9, 9, 3))
        >>> pool = LayerSpec(1, "pool", "global_pool", (0,), 1, native_shape=(3,))
        >>> feature_map(GraphSpec("tiny", (picture, pool), (1,), InputShape(9, 9, 3)))
        0
    """
    if len(spec.outputs) != 1:
        raise GraphError(
            f"model {spec.name!r} returns {len(spec.outputs)} outputs, expected one to cut the "
            "head off; use head='top' without classes to keep it whole, outputs= to name one of a "
            ".tflite file, or pass a model that returns one map"
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
        "use head='top' without classes to keep it whole, or pass a model that returns a map"
    )


def has_pretrained_dense(spec: GraphSpec) -> bool:
    """Whether layers worth keeping stand between the pooling and the classifier.

    Those of VGG hold most of the network's parameters, tied to one map size; they are not.
    """
    try:
        end = feature_map(spec)
    except GraphError:
        return False
    # A pooling that learns an exponent is no layer behind the pooling.
    behind = [x for x in spec if x.index > end and x.op not in ("global_pool", "adaptive_pool")]
    counts = [layer.params for layer in behind if layer.params]
    total = sum(layer.params for layer in spec)
    return len(counts) > 1 and sum(counts[:-1]) <= _LARGEST_SHARE * total


def classifier_input(spec: GraphSpec) -> int:
    """The position of what a network's own classifier, its last layer with weights, reads."""
    weighted = [layer for layer in spec if layer.params]
    if not weighted:
        raise GraphError(f"model {spec.name!r} has no classifier to replace; pass one with weights")
    layer = spec[weighted[-1].inputs[0]]
    while layer.op in ("identity", "flatten") and layer.inputs:
        layer = spec[layer.inputs[0]]
    return layer.index


def feature_maps(spec: GraphSpec, shape: InputShape, strides: Sequence[int]) -> tuple[int, ...]:
    """The positions of the last map at each output stride, for a detector or a segmenter.

    Raises:
        RequestError: if there is no map at a stride; the message names those that there are.
    """
    if not strides:
        raise RequestError("features=[]; expected output strides, such as [8, 16, 32]")
    by_stride = _last_maps(spec, shape)
    missing = [s for s in strides if s not in by_stride]
    if missing:
        there = ", ".join(f"{s:g}" for s in sorted(by_stride) if s % 1 == 0)
        raise RequestError(
            f"features={list(strides)}: {spec.name} has no map at stride {missing[0]}; "
            + (f"choose from: {there}" if there else "leave features out, which gives a head")
        )
    return tuple(by_stride[s] for s in strides)


def _last_maps(spec: GraphSpec, shape: InputShape, *, is_sum: bool = False) -> dict[float, int]:
    """The last map at each stride that height and width share; of sums alone if that is asked."""
    on_the_way = spec.but(outputs=(feature_map(spec),)).needed()
    by_stride: dict[float, int] = {}
    for layer, field in zip(spec, receptive_fields(spec, shape), strict=True):
        is_map = len(layer.native_shape) == 3 and layer.op not in ("input", "pad", "global_pool")
        stride = field.height.jump_px
        if is_sum and (layer.op, layer.function) != ("elementwise", "add"):
            continue
        if layer.index in on_the_way and is_map and stride and stride == field.width.jump_px:
            by_stride[stride] = layer.index
    return by_stride


def decoder_maps(spec: GraphSpec, shape: InputShape, head: Head) -> tuple[int, ...]:
    """The positions of the maps that a decoder reads, from the finest to the last.

    The finest is at the head's map stride, or at half of the last one's stride if that is less:
    there the last sum of a residual block, which is narrow, else the last map. LR-ASPP reads none
    between the one at stride 8 and the last.

    Raises:
        RequestError: if there is no such map.
    """
    last = feature_map(spec)
    stride = receptive_fields(spec, shape)[last].height.jump_px or 0
    by_stride = _last_maps(spec, shape)
    by_stride |= _last_maps(spec, shape, is_sum=True)
    usual, finest = (
        max((s for s in by_stride if s <= min(most, stride / 2)), default=None)
        for most in (_FINEST_PX, head.map_stride)
    )
    if usual is None:
        raise RequestError(
            f"{head.decoder}: {spec.name} has no map before its last one at half of its stride; "
            "expected one to see small things by; name another network"
        )
    if finest is None:
        raise RequestError(
            f"map_stride={head.map_stride}: the finest map of {spec.name} is at stride "
            f"{min(by_stride):g}; leave map_stride out, or name another network"
        )
    read = [s for s in sorted(by_stride) if finest <= s < stride]
    if head.decoder == "lr-aspp":
        read = [s for s in read if s <= usual]
    return (*(by_stride[s] for s in read), last)


def truncated(spec: GraphSpec, outputs: tuple[int, ...]) -> GraphSpec:
    """The graph up to some outputs, positions unchanged."""
    return spec.but(layers=spec.layers[: max(outputs) + 1], outputs=outputs)


def with_head(spec: GraphSpec, head: Head, shape: InputShape | None = None) -> GraphSpec:
    """A graph that returns one map or vector, or the maps of a decoder, with a head behind it.

    A decoder brings one map to the size of another, which ``shape`` settles.

    Example:
        >>> picture = LayerSpec(0, "image", "input", (), 0, native_shape=(9, 9, 3))
        >>> spec = GraphSpec("tiny", (picture,), (0,), InputShape(9, 9, 3))
        >>> [layer.name for layer in with_head(spec, Head(classes=2))]
        ['image', 'head_pool', 'head_dropout', 'head_logits', 'head_probabilities']
    """
    graph = _Behind(spec, shape)
    end = _ADDS[head.decoder](graph, spec.outputs, head)
    return spec.but(layers=tuple(graph.layers), outputs=(end,))


class _Behind:
    """A graph to which the layers of a head are added, each behind named ones."""

    def __init__(self, spec: GraphSpec, shape: InputShape | None) -> None:
        self.layers = list(spec.layers[: max(spec.outputs) + 1])
        self._spec, self._shape = spec, shape

    def add(self, name: str, op: Any, *sources: int, **facts: Any) -> int:
        """Add a layer; its position."""
        index = len(self.layers)
        layer = LayerSpec(index, PREFIX + name, op, sources, index, **facts)
        read = [self.layers[i] for i in sources]
        if all(source.native_shape for source in read):
            native = output_shape(layer, [source.native_shape for source in read], read)
            layer = layer.but(native_shape=native)
        self.layers.append(layer)
        return index

    def enlarge(self, name: str, source: int, like: int) -> int:
        """Bring a map to the size of one of the backbone's."""
        assert self._shape is not None
        size_hw = map_shapes(self._spec, self._shape)[like][:2]
        index = self.add(name, "resize", source, target_hw=size_hw, function="bilinear")
        # At its own size, the network has another.
        native = (*self.layers[like].native_shape[:2], self.layers[source].native_shape[-1])
        self.layers[index] = self.layers[index].but(native_shape=native)
        return index


def _add_pooled(graph: _Behind, maps: Sequence[int], head: Head) -> int:
    """A pooling and a classifier."""
    (x,) = maps
    add = graph.add
    if head.pretrained_dense:
        if len(graph.layers[x].native_shape) > 1:
            x = add("flatten", "flatten", x)
    elif isinstance(head.pool, str):
        function = "mean" if head.pool == "avg" else head.pool
        x = add("pool", "global_pool", x, params=int(head.pool == "gem"), function=function)
    else:
        x = add("pool", "adaptive_pool", x, target_hw=tuple(head.pool), function="mean")
        x = add("flatten", "flatten", x)
    if head.hidden is not None:
        x = add("hidden", "dense", x, out_channels=head.hidden, use_bias=True, function="relu")
    if head.classes is not None:
        if head.dropout:
            x = add("dropout", "identity", x)
        x = add("logits", "dense", x, out_channels=head.classes, use_bias=True)
        if head.last_activation != "logits":
            x = add("probabilities", "activation", x, function=head.last_activation)
        if head.is_scaled:
            x = add("values", "rescale", x, function="scale and offset")
    return x


def _add_lr_aspp(graph: _Behind, maps: Sequence[int], head: Head) -> int:
    """LR-ASPP behind an earlier map and the last, and a step of a U-Net for each finer map.

    The classes are told apart before the map is enlarged: a 1x1 convolution and a bilinear
    resizing, whose shares sum to 1, are the same in either order.
    """
    *finer, fine, last = maps
    add, filters, classes = graph.add, head.hidden or FILTERS, head.classes
    x = add("conv", "conv", last, out_channels=filters)
    x = add("norm", "norm", x, function="batch", params=4 * filters)
    x = add("relu", "activation", x, function="relu")
    gate = add("pool", "global_pool", last, function="mean", keepdims=True)
    gate = add("gate", "conv", gate, out_channels=filters)
    gate = add("sigmoid", "activation", gate, function="sigmoid")
    x = add("gated", "elementwise", x, gate, function="multiply")
    if head.dropout:
        x = add("dropout", "identity", x)
    x = add("coarse", "conv", x, out_channels=classes, use_bias=True)
    x = graph.enlarge("enlarged", x, fine)
    skip = add("fine", "conv", fine, out_channels=classes)
    skip = add("fine_norm", "norm", skip, function="batch", params=4 * (classes or 1))
    x = add("sum" if finer else "logits", "elementwise", x, skip, function="add")
    for level in reversed(range(len(finer))):
        x = _add_skip(graph, x, finer[level], head, level)
    return x


def _add_skip(graph: _Behind, x: int, like: int, head: Head, level: int) -> int:
    """A map of classes at an earlier map's size: what that map tells of them is added to it."""
    add, filters = graph.add, (head.hidden or FILTERS) // SKIP_SHARE or 1
    side = add(f"conv_{level}", "conv", like, out_channels=filters)
    side = add(f"norm_{level}", "norm", side, function="batch", params=4 * filters)
    side = add(f"relu_{level}", "activation", side, function="relu")
    x = graph.enlarge(f"enlarged_{level}", x, like)
    y = add(f"joined_{level}", "concat", x, side)
    y = add(f"around_{level}", "depthwise", y, kernel_hw=(3, 3), padding="same")
    y = add(f"mixed_{level}", "conv", y, out_channels=filters)
    y = add(f"mixed_norm_{level}", "norm", y, function="batch", params=4 * filters)
    y = add(f"mixed_relu_{level}", "activation", y, function="relu")
    y = add(f"classes_{level}", "conv", y, out_channels=head.classes, use_bias=True)
    return add(f"sum_{level}" if level else "logits", "elementwise", x, y, function="add")


def _add_boxes(graph: _Behind, maps: Sequence[int], head: Head) -> int:
    """A pyramid of maps, the coarse ones added to the finer ones, up to the finest's boxes."""
    add, filters = graph.add, head.hidden or BOX_FILTERS
    window: dict[str, Any] = {"kernel_hw": (3, 3), "padding": "same"}
    x: int | None = None
    for level in reversed(range(len(maps))):
        like = maps[level]
        side = add(f"conv_{level}", "conv", like, out_channels=filters)
        side = add(f"norm_{level}", "norm", side, function="batch", params=4 * filters)
        side = add(f"relu_{level}", "activation", side, function="relu")
        side = add(f"around_{level}", "depthwise", side, **window)
        side = add(f"mixed_{level}", "conv", side, out_channels=filters, use_bias=True)
        if x is not None:
            enlarged = graph.enlarge(f"enlarged_{level}", x, like)
            side = add(f"sum_{level}", "elementwise", enlarged, side, function="add")
        x = add(f"out_{level}", "activation", side, function="relu")
    assert x is not None
    x = add("around", "depthwise", x, **window)
    x = add("mixed", "conv", x, out_channels=filters, use_bias=True, function="relu")
    if head.dropout:
        x = add("dropout", "identity", x)
    middles = add("middles", "conv", x, out_channels=head.classes, use_bias=True)
    edges = add("edges", "conv", x, out_channels=EDGES, use_bias=True)
    return add("logits", "concat", middles, edges)


_ADDS: dict[Decoder | None, Callable[[_Behind, Sequence[int], Head], int]] = {
    None: _add_pooled,
    "lr-aspp": _add_lr_aspp,
    "boxes": _add_boxes,
}
