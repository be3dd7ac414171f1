"""Reads a functional Keras model into a `GraphSpec`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ..errors import GraphError, ShapeError
from ..geometry.sizes import map_shapes
from ..geometry.spec import GraphSpec, LayerSpec, OpKind
from ..shapes import InputShape
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
    return mark_parity_pads(_with_native_shapes(spec))


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

    def nested(self, call: Call, graph: Any) -> Any:
        return self.run(graph, list(call.values), call.path)

    def leaf(self, call: Call) -> Any:
        operation = call.operation
        _check_data_format(operation, call.name)
        first = self.first_call.setdefault(id(operation), call.index)
        is_new_layer = isinstance(operation, keras.layers.Layer) and first == call.index
        self.layers.append(
            LayerSpec(
                index=call.index,
                name=call.name,
                inputs=call.values,
                layer=first,
                params=operation.count_params() if is_new_layer else 0,
                params_per_channel=_params_per_channel(operation) if is_new_layer else 0,
                native_shape=tuple(call.outputs[0].shape[1:]),
                **_with_operands(_facts(operation, call), call),
            )
        )
        return call.index


def _with_operands(facts: dict[str, Any], call: Call) -> dict[str, Any]:
    """Add the arrays that a plain operation computes with, such as a mean that is subtracted."""
    if facts["op"] != "elementwise":
        return facts
    arguments = keras.tree.flatten((call.args, call.kwargs))
    arrays = [np.ravel(a) for a in arguments if hasattr(a, "shape") and np.size(a) > 1]
    operands = tuple(("operand", tuple(float(v) for v in a)) for a in arrays)
    return {**facts, "constants": (*facts.get("constants", ()), *operands)}


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


def _facts(operation: Any, call: Call) -> dict[str, Any]:
    """What the arithmetic must know of one layer, by its class."""
    kind = type(operation).__name__
    if isinstance(operation, keras.layers.SeparableConv2D):
        return {**_window("separable", operation), "multiplier": operation.depth_multiplier,
                "out_channels": operation.filters, "use_bias": operation.use_bias}  # fmt: skip
    if isinstance(operation, keras.layers.DepthwiseConv2D):
        return {**_window("depthwise", operation), "multiplier": operation.depth_multiplier,
                "use_bias": operation.use_bias}  # fmt: skip
    if isinstance(operation, keras.layers.Conv2D) and kind != "Conv2DTranspose":
        return {**_window("conv", operation), "groups": operation.groups,
                "out_channels": operation.filters, "use_bias": operation.use_bias}  # fmt: skip
    if isinstance(operation, keras.layers.MaxPooling2D):
        return _window("max_pool", operation)
    if isinstance(operation, keras.layers.AveragePooling2D):
        return _window("avg_pool", operation)
    if isinstance(operation, keras.layers.Dense):
        return {"op": "dense", "out_channels": operation.units, "use_bias": operation.use_bias}
    if kind in _KINDS:
        epsilon = getattr(operation, "epsilon", None) if _KINDS[kind] == "norm" else None
        return {"op": _KINDS[kind], "constants": _constants(operation), "epsilon": epsilon}
    return _shape_facts(operation, kind, call)


def _shape_facts(operation: Any, kind: str, call: Call) -> dict[str, Any]:
    """Layers that change the shape without a window, and the ones that nobody knows."""
    rank = len(call.outputs[0].shape)
    if kind in _SHAPE_FACTS:
        return _SHAPE_FACTS[kind](operation)
    if kind == "Concatenate" and operation.axis in (-1, 3, rank - 1):
        return {"op": "concat"}
    if kind == "Mean" and rank in (2, 4) and _spatial(operation.axis):
        return {"op": "global_pool", "keepdims": operation.keepdims}
    if kind.startswith("Random"):
        return {"op": "identity"}
    return {"op": "opaque", "out_channels": call.outputs[0].shape[-1]}


def _global_pool(layer: Any) -> dict[str, Any]:
    return {"op": "global_pool", "keepdims": layer.keepdims}


def _adaptive_pool(layer: Any) -> dict[str, Any]:
    return {"op": "adaptive_pool", "target_hw": tuple(layer.output_size)}


def _fixed_size(layer: Any) -> dict[str, Any]:
    return {"op": "resize", "target_hw": (layer.height, layer.width)}


def _reshape(operation: Any) -> dict[str, Any]:
    is_layer = isinstance(operation, keras.layers.Layer)
    target = operation.target_shape if is_layer else operation.newshape[1:]
    return {"op": "reshape", "target_shape": tuple(target)}


_SHAPE_FACTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "ZeroPadding2D": lambda layer: {"op": "pad", "pads": _pairs(layer.padding)},
    "Cropping2D": lambda layer: {"op": "crop", "pads": _pairs(layer.cropping)},
    "UpSampling2D": lambda layer: {"op": "upsample", "stride_hw": tuple(layer.size)},
    "GlobalAveragePooling2D": _global_pool,
    "GlobalMaxPooling2D": _global_pool,
    "GeneralizedMeanPooling2D": lambda _: {"op": "global_pool"},
    "AdaptivePooling2D": lambda layer: {"op": "adaptive_pool", "target_hw": layer.grid_hw},
    "AdaptiveAveragePooling2D": _adaptive_pool,
    "AdaptiveMaxPooling2D": _adaptive_pool,
    "Flatten": lambda _: {"op": "flatten"},
    "Reshape": _reshape,
    "Resizing": _fixed_size,
    "CenterCrop": _fixed_size,
    "RandomCrop": _fixed_size,
}


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
