"""Reading a functional model as plain data."""

from __future__ import annotations

import re

import keras
import pytest
from tests.narrow import without_values

from inshape.errors import GraphError
from inshape.geometry.cost import costs
from inshape.graph.read import read
from inshape.shapes import InputShape

layers = keras.layers


def test_a_chain_is_read_with_its_numbers():
    image = keras.Input((97, 64, 1))
    x = layers.ZeroPadding2D(((1, 2), (3, 4)), name="pad")(image)
    x = layers.Conv2D(8, (3, 5), strides=(2, 1), dilation_rate=1, use_bias=False, name="stem")(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    spec = read(keras.Model(image, x))
    _, pad, stem, depthwise, pool = spec.layers
    assert (pad.op, pad.pads) == ("pad", ((1, 2), (3, 4)))
    assert (stem.kernel_hw, stem.stride_hw, stem.padding, stem.use_bias) == (
        (3, 5),
        (2, 1),
        "valid",
        False,
    )
    assert stem.params == 3 * 5 * 1 * 8
    assert (depthwise.op, depthwise.multiplier, depthwise.padding) == ("depthwise", 2, "same")
    assert pool.native_shape == (24, 33, 16)
    assert spec.input_shape == InputShape(97, 64, 1)


def test_nested_models_are_opened_and_their_native_sizes_filled_in():
    inner_in = keras.Input((None, None, 3))
    inner = keras.Model(
        inner_in, layers.Conv2D(4, 3, strides=2, name="conv")(inner_in), name="body"
    )
    image = keras.Input((97, 64, 3))
    x = keras.Sequential([layers.RandomFlip(name="flip")], name="augment")(image)
    x = inner(x, training=False)
    spec = read(keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(x))))
    assert [layer.name for layer in spec][1:3] == ["augment/flip", "body/conv"]
    assert spec[2].native_shape == (48, 31, 4)


def test_a_shared_layer_is_counted_once():
    image = keras.Input((9, 7, 3))
    conv = layers.Conv2D(3, 3, padding="same")
    spec = read(keras.Model(image, conv(conv(image))))
    assert [layer.layer for layer in spec] == [0, 1, 1]
    assert [layer.params for layer in spec] == [0, 84, 0]


@pytest.mark.parametrize(
    "name", ["MobileNetV3Small", "DenseNet121", "NASNetMobile", "ConvNeXtTiny"]
)
def test_costs_of_the_record_add_up_to_the_models_parameters(name):
    with without_values():
        model = getattr(keras.applications, name)(weights=None, input_shape=(224, 224, 3))
    spec = read(model)
    assert sum(layer.params for layer in spec) == model.count_params()
    assert sum(c.params for c in costs(spec, InputShape(224, 224, 3))) == model.count_params()


@pytest.mark.parametrize(
    ("name", "size_px", "computed", "fixed"),
    [
        ("MobileNetV2", 224, 4, 0),
        ("MobileNetV3Large", 224, 4, 0),
        ("MobileNetV3Small", None, 4, 0),
        ("EfficientNetB0", 224, 5, 0),
        ("NASNetMobile", 224, 20, 4),
        ("MobileNet", 224, 0, 4),
        ("MobileNet", 200, 0, 4),
        ("ResNet50", 225, 0, 2),
        ("ResNet50V2", 224, 0, 18),
        ("DenseNet121", 225, 0, 2),
    ],
)
def test_computed_and_fixed_padding_are_told_apart(name, size_px, computed, fixed):
    shape = (size_px, size_px, 3)
    with without_values():
        make = getattr(keras.applications, name)
        model = make(weights=None, include_top=False, input_shape=shape)
    pads = [layer for layer in read(model) if layer.op == "pad"]
    assert sum(p.parity_pads for p in pads) == computed
    assert sum(not p.parity_pads for p in pads) == fixed


def padded_chain(size_px, pads_of):
    """Strided convolutions under names that say nothing, padded by a rule."""
    image = keras.Input((size_px, size_px, 3))
    x = image
    for i in range(4):
        x = layers.ZeroPadding2D(pads_of(x.shape[1]), name=f"zeros{i}")(x)
        x = layers.Conv2D(4, 3, strides=2, name=f"conv{i}")(x)
    return read(keras.Model(image, x))


def test_without_names_the_pads_themselves_tell():
    parity = padded_chain(200, lambda n: ((n % 2, 1), (n % 2, 1)))  # 200, 100, 50, 25
    fixed = padded_chain(200, lambda n: ((0, 1), (0, 1)))
    symmetric = padded_chain(200, lambda n: ((1, 1), (1, 1)))
    assert sum(layer.parity_pads for layer in parity) == 4
    assert not any(layer.parity_pads for layer in fixed)
    assert not any(layer.parity_pads for layer in symmetric)


def test_channels_first_is_refused():
    image = keras.Input((3, 9, 7))
    conv = layers.Conv2D(2, 3, data_format="channels_first", name="conv")
    with pytest.raises(
        GraphError,
        match=re.escape("layer 'conv' has data_format 'channels_first', expected 'channels_last'"),
    ):
        read(keras.Model(image, conv(image)))


def test_two_inputs_are_refused():
    a, b = keras.Input((9, 7, 3)), keras.Input((5,))
    model = keras.Model([a, b], [layers.Conv2D(2, 3)(a), layers.Dense(2)(b)], name="two")
    with pytest.raises(
        GraphError,
        match=re.escape(
            "model 'two' takes 2 inputs ((None, 9, 7, 3), (None, 5)), expected one picture"
        ),
    ):
        read(model)


def test_a_subclassed_model_is_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(
        GraphError,
        match=re.escape("(Own) has no functional graph, so its layers cannot be rewired"),
    ):
        read(Own(name="own"))


def test_something_else_is_refused():
    with pytest.raises(GraphError, match=re.escape("got str, expected a keras.Model")):
        read("MobileNetV3Small")


def test_unknown_channels_are_refused():
    image = keras.Input((9, 7, None))
    model = keras.Model(image, layers.ReLU()(image), name="any")
    with pytest.raises(GraphError, match=re.escape("model 'any' does not fix its channels")):
        read(model)
