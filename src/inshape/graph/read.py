"""Reads a functional Keras model into a `GraphSpec`."""

from __future__ import annotations

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
_FIXED_SIZE = ("Resizing", "CenterCrop", "RandomCrop")


def read(model: keras.Model) -> GraphSpec:
    """Read a functional model as plain data.

    Args:
        model: a functional (or built Sequential) Keras model that takes one picture, channels last;
            nested models are opened.

    Returns:
        Its graph; position 0 is the input, and each other position is one call of one layer.

    Raises:
        GraphError: if it is not functional, takes several inputs, or is channels first.

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

    Args:
        spec: a graph whose height or width is unknown.
        native_hw: pixels that the weights were trained at, even ones: Keras pads a model for any
            size as one of even size.

    Returns:
        The graph with that input shape and every map's size.

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
    found = tuple(("operand", tuple(float(v) for v in a)) for a in arrays)
    return {**facts, "constants": (*facts.get("constants", ()), *found)}


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
        return {"op": _KINDS[kind], "constants": _constants(operation)}
    return _shape_facts(operation, kind, call)


def _shape_facts(operation: Any, kind: str, call: Call) -> dict[str, Any]:
    """Layers that change the shape without a window, and the ones that nobody knows."""
    if kind == "ZeroPadding2D":
        return {"op": "pad", "pads": _pairs(operation.padding)}
    if kind == "Cropping2D":
        return {"op": "crop", "pads": _pairs(operation.cropping)}
    if kind == "UpSampling2D":
        return {"op": "upsample", "stride_hw": tuple(operation.size)}
    if kind in ("GlobalAveragePooling2D", "GlobalMaxPooling2D"):
        return {"op": "global_pool", "keepdims": operation.keepdims}
    if kind == "GeneralizedMeanPooling2D":
        return {"op": "global_pool"}
    if kind == "AdaptivePooling2D":
        return {"op": "adaptive_pool", "target_hw": operation.grid_hw}
    if kind in ("AdaptiveAveragePooling2D", "AdaptiveMaxPooling2D"):
        return {"op": "adaptive_pool", "target_hw": tuple(operation.output_size)}
    if kind == "Flatten":
        return {"op": "flatten"}
    if kind == "Reshape" and isinstance(operation, keras.layers.Layer):
        return {"op": "reshape", "target_shape": tuple(operation.target_shape)}
    if kind == "Reshape":
        return {"op": "reshape", "target_shape": tuple(operation.newshape[1:])}
    if kind in _FIXED_SIZE:
        return {"op": "resize", "target_hw": (operation.height, operation.width)}
    if kind == "Concatenate" and operation.axis in (-1, 3, len(call.outputs[0].shape) - 1):
        return {"op": "concat"}
    if kind == "Mean" and len(call.outputs[0].shape) in (2, 4) and _spatial(operation.axis):
        return {"op": "global_pool", "keepdims": operation.keepdims}
    if kind.startswith("Random"):
        return {"op": "identity"}
    return {"op": "opaque", "out_channels": call.outputs[0].shape[-1]}


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
    found: list[tuple[str, tuple[float, ...]]] = []
    for name in names.get(type(layer).__name__, ()):
        value = getattr(layer, name)
        flat = np.ravel(value if value is not None else ()).tolist()
        if len(flat) > 1:
            found.append((name.removeprefix("input_"), tuple(flat)))
    return tuple(found)
