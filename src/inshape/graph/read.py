"""Reads a functional Keras model into a `GraphSpec`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from ..errors import GraphError, ShapeError
from ..geometry.amounts import product
from ..geometry.inserted import inserted
from ..geometry.sizes import map_shapes
from ..geometry.spec import GraphSpec, LayerSpec, OpKind
from ..shapes import InputShape
from .asking import Asked, is_from_keras
from .padding import mark_parity_pads
from .walk import Call, Walk, picture_model

_KINDS: dict[str, OpKind] = {
    **dict.fromkeys(("BatchNormalization", "LayerNormalization", "GroupNormalization"), "norm"),
    **dict.fromkeys(("UnitNormalization", "RMSNormalization"), "norm"),
    **dict.fromkeys(("Rescaling", "Normalization"), "rescale"),
    **dict.fromkeys(("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax"), "activation"),
    **dict.fromkeys(
        ("Add", "Multiply", "Subtract", "Average", "Maximum", "Minimum"), "elementwise"
    ),
    **dict.fromkeys(("TrueDivide", "Divide", "Power", "BiasAdd", "LayerScale"), "elementwise"),
    **dict.fromkeys(
        ("Relu", "Relu6", "Sigmoid", "HardSigmoid", "HardSwish", "HardSilu"), "activation"
    ),
    **dict.fromkeys(("Silu", "Gelu", "Tanh", "Clip", "Swish"), "activation"),
    **dict.fromkeys(
        ("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout"), "identity"
    ),
    **dict.fromkeys(("StochasticDepth", "Identity", "ActivityRegularization"), "identity"),
}


def read(model: keras.Model) -> GraphSpec:
    """Read a functional model as plain data.

    Example:
        >>> import keras
        >>> image = keras.Input((97, 64, 1))
        >>> model = keras.Model(image, keras.layers.Conv2D(8, 3, strides=2, name="stem")(image))
        >>> spec = read(model)
        >>> spec[1].name, spec[1].stride_hw, spec[1].native_shape
        ('stem', (2, 2), (48, 31, 8))
    """
    graph = picture_model(model)
    _, height, width, channels = graph.inputs[0].shape
    if channels is None:
        raise GraphError(f"model {model.name!r} does not fix its channels, expected a number")
    shape = InputShape(height, width, channels)
    reader = _Reader(shape)
    outputs = reader.run(graph, [0])
    spec = GraphSpec(model.name, tuple(reader.layers), tuple(outputs), shape)
    spec = spec.but(whole_numbers=_reads_whole_numbers(spec, graph.inputs[0], reader.calls))
    return mark_parity_pads(_with_native_shapes(spec))


def _reads_whole_numbers(spec: GraphSpec, picture: Any, calls: Sequence[Call]) -> bool:
    """Whether the network does anything with whole numbers but to make floats of them."""
    if picture.dtype in _FLOATS:
        return False
    last = max((call.index for call in inserted(spec).values()), default=0)
    return not all(_computes_floats(call) for call in calls if last in call.values)


def _computes_floats(call: Call) -> bool:
    """Whether a call computes the same of whole numbers and of floats of the same value."""
    kind = type(call.operation)
    is_known = kind.__name__ in _FROM_WHOLE_NUMBERS or kind.__name__.startswith("Random")
    return is_from_keras(call.operation) and is_known and call.outputs[0].dtype in _FLOATS


def at_native_size(spec: GraphSpec, native_hw: tuple[int, int]) -> GraphSpec:
    """The graph of a model built for any size, as if it had been built at one.

    Example:
        >>> import keras
        >>> image = keras.Input((None, None, 1))
        >>> model = keras.Model(image, keras.layers.MaxPooling2D()(image))
        >>> at_native_size(read(model), (64, 98))[1].native_shape
        (32, 49, 1)
    """
    height, width = native_hw
    shape = InputShape(height, width, spec.input_shape.channels)
    return _with_native_shapes(spec.but(input_shape=shape))


def _with_native_shapes(spec: GraphSpec) -> GraphSpec:
    """Fill in the shapes of models that were built for any size."""
    if all(None not in layer.native_shape for layer in spec):
        return spec
    try:
        shapes = map_shapes(spec, spec.input_shape)
    except ShapeError:
        return spec
    return spec.but(
        layers=tuple(
            layer.but(native_shape=shape) if None in layer.native_shape else layer
            for layer, shape in zip(spec, shapes, strict=True)
        )
    )


class _Reader(Walk):
    def __init__(self, shape: InputShape) -> None:
        super().__init__()
        picture = LayerSpec(0, "input", "input", (), 0, native_shape=shape.as_tuple())
        self.layers: list[LayerSpec] = [picture]
        self.first_call: dict[int, int] = {}
        self.calls: list[Call] = []

    def nested(self, call: Call, graph: Any) -> Any:
        return self.run(graph, list(call.values), call.path)

    def leaf(self, call: Call) -> Any:
        self.calls.append(call)
        operation = call.operation
        _check_data_format(operation, call.name)
        first = self.first_call.setdefault(id(operation), call.index)
        is_new_layer = isinstance(operation, keras.layers.Layer) and first == call.index
        facts: dict[str, Any] = _with_operands(_plain(_facts(operation, call)), call)
        if facts["op"] not in _BY_ROW and any(self.layers[i].holds_rows for i in call.values):
            facts = {"op": "opaque"}
        positions = range(call.index, call.index + len(call.outputs))
        for output, index in enumerate(positions):
            counts = is_new_layer and output == 0
            layer = LayerSpec(
                index=index,
                name=call.name,
                inputs=call.values,
                layer=first,
                params=operation.count_params() if counts else 0,
                params_per_channel=_params_per_channel(operation) if counts else 0,
                native_shape=_plain(tuple(call.outputs[output].shape[1:])),
                **facts,
            )
            self.layers.append(self._with_rows(layer, call, output))
        return list(positions)

    def _with_rows(self, layer: LayerSpec, call: Call, output: int) -> LayerSpec:
        """The record with what its batch axis holds, and whom to ask about it."""
        read = [self.layers[i] for i in layer.inputs]
        reads_rows = tuple(source.holds_rows for source in read)
        rows = _rows(layer, read)
        if layer.op == "opaque":
            asked = Asked(call, output, reads_rows)
            if rows is None:
                rows = asked.rows([source.native_shape for source in read])
            asked = Asked(call, output, reads_rows, puts_out_rows=rows != 1)
            layer = layer.but(answering=asked)
        if rows in (None, 1):
            return layer
        # One length alone can be left open.
        open_rows = rows if layer.target_shape and -1 in layer.target_shape else -1
        target = layer.target_shape and (open_rows, *layer.target_shape)
        return layer.but(
            holds_rows=True, native_shape=(rows, *layer.native_shape), target_shape=target
        )


def _with_operands(facts: dict[str, Any], call: Call) -> dict[str, Any]:
    """Add the arrays that a plain operation computes with, such as a mean that is subtracted."""
    if facts["op"] != "elementwise":
        return facts
    arguments = keras.tree.flatten((call.args, call.kwargs))
    arrays = [np.ravel(a) for a in arguments if hasattr(a, "shape") and np.size(a) > 1]
    operands = tuple(("operand", tuple(float(v) for v in a)) for a in arrays)
    return {**facts, "constants": (*facts.get("constants", ()), *operands)}


_BY_ROW = ("dense", "norm", "activation", "elementwise", "identity", "rescale", "reshape")
"""What computes the same whatever the batch axis holds."""


def _rows(layer: LayerSpec, read: Sequence[LayerSpec]) -> int | None:
    """How many rows of the batch axis a picture has behind a call; ``None`` must be asked."""
    shapes = [source.native_shape for source in read]
    sizes: list[Any] = [product(shape) for shape in (layer.native_shape, *shapes)]
    if None in sizes or not read:
        return 1
    if layer.op == "reshape":
        return max(1, sizes[1] // max(1, sizes[0]))
    if layer.op == "opaque":
        return None
    return next((shape[0] for shape, x in zip(shapes, read, strict=True) if x.holds_rows), 1)


def _params_per_channel(layer: Any) -> int:
    """The statistics that a ``Normalization`` has adapted to each channel."""
    if type(layer) is not keras.layers.Normalization:
        return 0
    return sum(len(weight.shape) == 1 for weight in layer.weights)


def _check_data_format(operation: Any, name: str) -> None:
    if getattr(operation, "data_format", None) == "channels_first":
        raise GraphError(
            f"layer {name!r} has data_format 'channels_first', expected 'channels_last'; "
            "rebuild the model with channels last"
        )


def _plain(value: Any) -> Any:
    """NumPy's numbers, of which people make layers, as Python's own."""

    def plain(number: Any) -> Any:
        return number.item() if isinstance(number, np.generic) else number

    return keras.tree.map_structure(plain, value)


def _facts(operation: Any, call: Call) -> dict[str, Any]:
    """What the arithmetic must know of one layer, by what it does.

    A subclass is known only as far as it does what its parent does.
    """
    for parent, describe in _WEIGHTED:
        # A transposed convolution derives from another base, a depthwise one from none of these.
        if isinstance(operation, parent) and _inherits(operation, parent, "compute_output_shape"):
            facts = {**describe(operation), "is_plain": _is_plain(operation, parent)}
            return {**facts, "function": _function(operation)}
    kind = type(operation).__name__
    if not is_from_keras(operation) and kind not in _OWN:
        return {"op": "opaque"}
    if kind in _KINDS and not _holds_places(operation, call):
        epsilon = getattr(operation, "epsilon", None) if _KINDS[kind] == "norm" else None
        facts = {"op": _KINDS[kind], "constants": _constants(operation), "epsilon": epsilon}
        facts |= {"function": _function(operation)}
        return {**facts, "is_local": _is_local(operation, kind, call)}
    return _shape_facts(operation, kind, call)


def _is_local(operation: Any, kind: str, call: Call) -> bool:
    """Whether it computes each place of its map without the others."""
    if kind not in ("LayerNormalization", "UnitNormalization", "RMSNormalization", "Softmax"):
        return kind != "GroupNormalization"
    rank = len(call.outputs[0].shape)
    axes = operation.axis if isinstance(operation.axis, list | tuple) else [operation.axis]
    return all(axis % rank == rank - 1 for axis in axes)


def _function(operation: Any) -> str:
    """What a layer computes where its kind does not say it; empty if that is not known."""
    kind = type(operation).__name__
    if kind == "ReLU":
        is_plain = operation.negative_slope == operation.threshold == 0
        return _RELUS.get(operation.max_value, "") if is_plain else ""
    if kind == "Rescaling":
        return "scale and offset" if np.any(operation.offset) else "scale"
    if kind == "Normalization":
        return "" if operation.invert else "standardise"
    activation = getattr(operation, "activation", None)
    if activation is not None:
        name = getattr(activation, "__name__", "")
        return name if getattr(keras.activations, name, None) is activation else "custom"
    return _FUNCTIONS.get(kind, "")


_RELUS = {None: "relu", 6.0: "relu6"}
_FUNCTIONS = {
    **{kind: kind.lower() for kind in ("Add", "Multiply", "Subtract", "Average", "Maximum")},
    **{kind: kind.lower() for kind in ("Minimum", "Relu", "Relu6", "Sigmoid", "Tanh", "Softmax")},
    **dict.fromkeys(("HardSilu", "HardSwish"), "hard_silu"),
    **dict.fromkeys(("Silu", "Swish"), "silu"),
    "HardSigmoid": "hard_sigmoid",
    "BatchNormalization": "batch",
}


def _inherits(operation: Any, parent: type, *methods: str) -> bool:
    return all(
        getattr(type(operation), method, None) is getattr(parent, method, None)
        for method in methods
    )


def _is_plain(operation: Any, parent: type) -> bool:
    """Whether a layer uses its weights as its parent does, and as they are stored."""
    return (
        _inherits(operation, parent, "call", "convolution_op", "_convolution_op", "kernel")
        and not getattr(operation, "lora_enabled", False)
        and getattr(operation, "quantization_mode", None) is None
    )


def _holds_places(operation: Any, call: Call) -> bool:
    """Whether a layer that keeps its map's shape holds weights for the places of one size."""
    if not isinstance(operation, keras.layers.Layer):
        return False
    channels = call.outputs[0].shape[-1]
    return any(len(w.shape) > 1 for w in operation.weights) or not all(
        w.shape in ((), (channels,), (1,)) or w.dtype not in _FLOATS for w in operation.weights
    )


def _shape_facts(operation: Any, kind: str, call: Call) -> dict[str, Any]:
    """Layers that change the shape without a window, and the ones that nobody knows."""
    if kind in _SHAPE_FACTS:
        return _SHAPE_FACTS[kind](operation)
    if kind in _CALL_FACTS:
        return _CALL_FACTS[kind](operation, call)
    is_augmentation = kind.startswith("Random") and kind != "RandomCrop"
    return {"op": "identity"} if is_augmentation else _OPAQUE


_OPAQUE: dict[str, Any] = {"op": "opaque"}


def _reshape(operation: Any, call: Call) -> dict[str, Any]:
    if len(call.outputs[0].shape) == 2 and len(call.inputs[0].shape) == 4:
        return {"op": "flatten"}
    is_layer = isinstance(operation, keras.layers.Layer)
    target = operation.target_shape if is_layer else operation.newshape[1:]
    return {"op": "reshape", "target_shape": tuple(target)}


def _get_item(_: Any, call: Call) -> dict[str, Any]:
    slices = _slices(call)
    return _OPAQUE if slices is None else {"op": "slice", "slices": slices}


def _concatenate(operation: Any, call: Call) -> dict[str, Any]:
    rank = len(call.outputs[0].shape)
    axis = operation.axis % rank
    if axis == rank - 1:
        return {"op": "concat"}
    return {"op": "concat", "axis": axis - 1} if rank == 4 and axis else _OPAQUE


def _mean(operation: Any, call: Call) -> dict[str, Any]:
    if len(call.outputs[0].shape) not in (2, 4) or not _spatial(operation.axis):
        return _OPAQUE
    return {"op": "global_pool", "keepdims": operation.keepdims, "function": "mean"}


def _cast(operation: Any, _: Call) -> dict[str, Any]:
    is_float = operation.dtype in _FLOATS
    return {"op": "activation", "function": "linear"} if is_float else _OPAQUE


def _conv_transpose(operation: Any, _: Call) -> dict[str, Any]:
    if operation.output_padding is not None:
        return _OPAQUE
    facts = _with_filters("conv_transpose", operation, out_channels=operation.filters)
    return {**facts, "function": _function(operation)}


_CALL_FACTS: dict[str, Callable[[Any, Call], dict[str, Any]]] = {
    "Reshape": _reshape,
    "GetItem": _get_item,
    "Concatenate": _concatenate,
    "Mean": _mean,
    "Cast": _cast,
    "Conv2DTranspose": _conv_transpose,
}


def _slices(call: Call) -> tuple[tuple[int | None, ...], ...] | None:
    """Start, stop and step along each axis but the batch's; ``None`` for an index of another kind.

    ``x[:, 1:, :-1]`` gives ``((1, None, None), (None, -1, None))``, ``x[:, 0]`` gives ``((0,),)``.
    """
    key = (*call.args, call.kwargs.get("key"))[1]
    key = key if isinstance(key, tuple) else (key,)
    if key[0] != slice(None) or not all(isinstance(k, slice | int) for k in key):
        return None
    parts = [(k.start, k.stop, k.step) if isinstance(k, slice) else (k,) for k in key[1:]]
    is_known = all(isinstance(n, int | None) for part in parts for n in part)
    return tuple(parts) if is_known else None


def _global_pool(layer: Any) -> dict[str, Any]:
    function = "mean" if "Average" in type(layer).__name__ else "max"
    return {"op": "global_pool", "keepdims": layer.keepdims, "function": function}


def _adaptive_pool(layer: Any) -> dict[str, Any]:
    return {"op": "adaptive_pool", "target_hw": tuple(layer.output_size)}


def _to_size(operation: Any, size_hw: tuple[int, int]) -> dict[str, Any]:
    return {
        "op": "resize",
        "target_hw": size_hw,
        "is_plain": _stretches(operation),
        "function": getattr(operation, "interpolation", ""),
    }


def _fixed_size(layer: Any) -> dict[str, Any]:
    return _to_size(layer, (layer.height, layer.width))


def _resize(operation: Any) -> dict[str, Any]:
    return _to_size(operation, tuple(operation.size))


def _stretches(operation: Any) -> bool:
    """Whether it puts out the whole map at another size, by an interpolation alone."""
    others = ("antialias", "crop_to_aspect_ratio", "pad_to_aspect_ratio")
    return hasattr(operation, "interpolation") and not any(
        getattr(operation, other) for other in others
    )


_SHAPE_FACTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "ZeroPadding2D": lambda layer: {"op": "pad", "pads": _pairs(layer.padding)},
    "Cropping2D": lambda layer: {"op": "crop", "pads": _pairs(layer.cropping)},
    "UpSampling2D": lambda layer: {
        "op": "upsample",
        "stride_hw": tuple(layer.size),
        "function": layer.interpolation,
    },
    "GlobalAveragePooling2D": _global_pool,
    "GlobalMaxPooling2D": _global_pool,
    "GeneralizedMeanPooling2D": lambda _: {"op": "global_pool", "function": "gem"},
    "AdaptivePooling2D": lambda layer: {
        "op": "adaptive_pool",
        "target_hw": layer.grid_hw,
        "function": "mean" if layer.mode == "avg" else "max",
    },
    "AdaptiveAveragePooling2D": _adaptive_pool,
    "AdaptiveMaxPooling2D": _adaptive_pool,
    "Flatten": lambda _: {"op": "flatten"},
    "Resizing": _fixed_size,
    "CornerResizing2D": _fixed_size,
    "Resize": _resize,
    "AveragePool": lambda operation: _pool_window("avg_pool", operation),
    "MaxPool": lambda operation: _pool_window("max_pool", operation),
    "CenterCrop": _fixed_size,
    "RandomCrop": _fixed_size,
}


def _pool_window(op: OpKind, operation: Any) -> dict[str, Any]:
    """The window of ``keras.ops.average_pool`` and ``max_pool``."""
    size_hw = _pair(operation.pool_size)
    strides = size_hw if operation.strides is None else _pair(operation.strides)
    padding = operation.padding.lower()
    return {"op": op, "kernel_hw": size_hw, "stride_hw": strides, "padding": padding}


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _window(op: OpKind, layer: Any) -> dict[str, Any]:
    kernel_hw = tuple(getattr(layer, "kernel_size", None) or layer.pool_size)
    return {
        "op": op,
        "kernel_hw": kernel_hw,
        "stride_hw": tuple(layer.strides),
        "dilation_hw": tuple(getattr(layer, "dilation_rate", (1, 1))),
        "padding": layer.padding,
    }


def _pairs(amounts: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    (top, bottom), (left, right) = amounts
    return (int(top), int(bottom)), (int(left), int(right))


def _spatial(axis: Any) -> bool:
    return isinstance(axis, list | tuple) and sorted(axis) in ([1, 2], [-3, -2])


def _with_filters(op: OpKind, layer: Any, **more: Any) -> dict[str, Any]:
    return {**_window(op, layer), "use_bias": layer.use_bias, **more}


_FLOATS = ("float16", "bfloat16", "float32", "float64")
_FROM_WHOLE_NUMBERS = (
    *("Rescaling", "Normalization", "Cast"),
    *("TrueDivide", "Divide", "Multiply", "Subtract", "Add"),
)
_OWN = ("AdaptivePooling2D", "GeneralizedMeanPooling2D", "CornerResizing2D")
_WEIGHTED: tuple[tuple[type, Callable[[Any], dict[str, Any]]], ...] = (
    (
        keras.layers.SeparableConv2D,
        lambda x: _with_filters(
            "separable", x, multiplier=x.depth_multiplier, out_channels=x.filters
        ),
    ),
    (
        keras.layers.DepthwiseConv2D,
        lambda x: _with_filters("depthwise", x, multiplier=x.depth_multiplier),
    ),
    (
        keras.layers.Conv2D,
        lambda x: _with_filters("conv", x, groups=x.groups, out_channels=x.filters),
    ),
    (keras.layers.MaxPooling2D, lambda x: _window("max_pool", x)),
    (keras.layers.AveragePooling2D, lambda x: _window("avg_pool", x)),
    (
        keras.layers.Dense,
        lambda x: {"op": "dense", "out_channels": x.units, "use_bias": x.use_bias},
    ),
)
"""Layers that are known by what they derive from."""


def _constants(layer: Any) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Per-channel constants in a layer's configuration (its weights are not among them)."""
    names = {"Rescaling": ("scale", "offset"), "Normalization": ("input_mean", "input_variance")}
    constants: list[tuple[str, tuple[float, ...]]] = []
    for name in names.get(type(layer).__name__, ()):
        value = getattr(layer, name)
        flat = np.ravel(value if value is not None else ()).tolist()
        if len(flat) > 1:
            constants.append((name.removeprefix("input_"), tuple(flat)))
    return tuple(constants)
