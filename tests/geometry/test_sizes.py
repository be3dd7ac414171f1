from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.geometry.nets import Net, mobilenet_v1, vgg16, with_squeeze_and_excite
from tests.narrow import without_values

from inshape.errors import FixedShape, GraphError, MapMismatch, VanishingMap
from inshape.geometry.lengths import output_length, same_padding, window_padding
from inshape.geometry.sizes import least_size, map_shapes, network_shape
from inshape.geometry.spec import GraphSpec, InputLayers, LayerSpec
from inshape.graph.read import read
from inshape.shapes import InputShape, Size

LENGTHS = st.integers(1, 40)
WINDOWS = st.tuples(st.integers(1, 7), st.integers(1, 4), st.integers(1, 3))
PADS = st.tuples(st.integers(0, 3), st.integers(0, 3))


def shape(text: str) -> InputShape:
    return InputShape.of(text)


def convolved(
    hw: tuple[int, int],
    kernel_hw: tuple[int, int],
    stride_hw: tuple[int, int],
    dilation_hw: tuple[int, int],
    padding: Any,
) -> np.ndarray:
    """TensorFlow's own convolution of a picture in which no two pixels are alike.

    In float64, which oneDNN leaves alone (see `tests/geometry/test_receptive.py`).
    """
    picture = np.arange(1.0, hw[0] * hw[1] + 1).reshape(1, *hw, 1)
    kernel = np.arange(1.0, kernel_hw[0] * kernel_hw[1] + 1).reshape(*kernel_hw, 1, 1)
    return tf.nn.conv2d(picture, kernel, stride_hw, padding, dilations=dilation_hw).numpy()


@settings(deadline=None, max_examples=100)
@given(st.tuples(LENGTHS, LENGTHS), WINDOWS, WINDOWS)
def test_same_padding_gives_the_values_of_the_frameworks_own_convolution(hw, rows, columns):
    kernel_hw, stride_hw, dilation_hw = zip(rows, columns, strict=True)
    pads = [
        same_padding(n, k, s, d)
        for n, k, s, d in zip(hw, kernel_hw, stride_hw, dilation_hw, strict=True)
    ]
    explicit = [[0, 0], list(pads[0]), list(pads[1]), [0, 0]]

    ours = convolved(hw, kernel_hw, stride_hw, dilation_hw, explicit)
    theirs = convolved(hw, kernel_hw, stride_hw, dilation_hw, "SAME")

    np.testing.assert_array_equal(ours, theirs)


@settings(deadline=None, max_examples=100)
@given(st.tuples(LENGTHS, LENGTHS), WINDOWS, WINDOWS, st.sampled_from(["same", "valid"]))
def test_output_length_is_the_frameworks_own(hw, rows, columns, padding):
    ours = [
        output_length(n, k, s, dilation_px=d, padding=padding)
        for n, (k, s, d) in zip(hw, (rows, columns), strict=True)
    ]
    assume(0 not in ours)
    kernel_hw, stride_hw, dilation_hw = zip(rows, columns, strict=True)

    theirs = convolved(hw, kernel_hw, stride_hw, dilation_hw, padding.upper())

    assert tuple(ours) == theirs.shape[1:3]


@settings(deadline=None, max_examples=100)
@given(st.tuples(LENGTHS, LENGTHS), WINDOWS, WINDOWS, PADS, PADS)
def test_output_length_with_explicit_pads_is_the_frameworks_own(hw, rows, columns, high, wide):
    ours = [
        output_length(n, k, s, dilation_px=d, pads_px=pads)
        for n, (k, s, d), pads in zip(hw, (rows, columns), (high, wide), strict=True)
    ]
    assume(0 not in ours)
    kernel_hw, stride_hw, dilation_hw = zip(rows, columns, strict=True)

    explicit = [[0, 0], list(high), list(wide), [0, 0]]
    theirs = convolved(hw, kernel_hw, stride_hw, dilation_hw, explicit)

    assert tuple(ours) == theirs.shape[1:3]


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(LENGTHS, LENGTHS),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from(["same", "valid"]),
    st.sampled_from(
        [("max_pool", keras.layers.MaxPooling2D), ("avg_pool", keras.layers.AveragePooling2D)]
    ),
)
def test_pooled_map_is_as_the_frameworks_own_layer_makes_it(
    hw, kernel_hw, stride_hw, padding, kind
):
    op, layer = kind
    assume(padding == "same" or all(n >= k for n, k in zip(hw, kernel_hw, strict=True)))
    # TensorFlow refuses to pool with holes.
    assume(all(s <= k for s, k in zip(stride_hw, kernel_hw, strict=True)))
    net = Net()
    net.add(op, kernel_hw=kernel_hw, stride_hw=stride_hw, padding=padding)

    theirs = layer(kernel_hw, stride_hw, padding)(np.zeros((1, *hw, 1), "float32")).shape[1:]

    assert map_shapes(net.spec(), InputShape(*hw, 1))[-1] == tuple(theirs)


def test_a_window_too_large_leaves_nothing():
    assert output_length(3, 5, 1) == 0
    assert output_length(5, 3, 2, dilation_px=3) == 0
    assert output_length(7, 3, 2, dilation_px=3) == 1


def test_unknown_length_stays_unknown_and_its_padding_is_known_at_stride_one_only():
    assert output_length(None, 3, 1, padding="same") is None
    assert window_padding(None, 5, 1, dilation_px=2, padding="same", pads_px=(1, 0)) == (5, 4)
    assert window_padding(None, 4, 1, padding="same") == (1, 2)
    assert window_padding(None, 3, 2, padding="same") is None
    assert window_padding(None, 3, 2, pads_px=(0, 1)) == (0, 1)


def every_op(image: Any) -> list[Any]:
    """A Keras network that uses each kind of layer whose shape the arithmetic knows."""
    layers = keras.layers
    stem = layers.Conv2D(8, (3, 5), strides=(2, 3), padding="same")(image)
    x = layers.BatchNormalization()(stem)
    x = layers.ReLU()(x)
    x = layers.ZeroPadding2D(((0, 1), (2, 3)))(x)
    x = layers.DepthwiseConv2D((3, 3), strides=2, depth_multiplier=2)(x)
    x = layers.SeparableConv2D(12, (3, 1), dilation_rate=(2, 1))(x)
    x = layers.Cropping2D(((1, 0), (0, 1)))(x)
    x = layers.MaxPooling2D((3, 2), strides=(1, 2), padding="same")(x)
    up = layers.UpSampling2D((2, 3))(x)
    resized = layers.Resizing(9, 11)(up)
    down = layers.AveragePooling2D(2)(up)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(down)
    gate = layers.Dense(12, activation="sigmoid")(gate)
    x = layers.Multiply()([down, gate])
    x = layers.Concatenate()([x, down, down])
    x = layers.Conv2D(6, 1, groups=3)(layers.Dropout(0.1)(x))
    flat = layers.Flatten()(resized)
    vector = layers.Reshape((3, -1))(layers.Dense(6)(flat))
    return [stem, x, gate, vector, layers.GlobalMaxPooling2D()(x)]


@pytest.mark.parametrize("hw", [(97, 64), (64, 97), (50, 51)])
def test_every_kind_of_layer_has_the_shape_that_the_framework_gives(hw):
    image = keras.Input((80, 120, 1))
    spec = read(keras.Model(image, every_op(image)))

    shapes = map_shapes(spec, InputShape(*hw, 1))

    image = keras.Input((*hw, 1))
    expected = read(keras.Model(image, every_op(image)))
    theirs = [layer.native_shape for layer in expected]
    assert [layer.op for layer in spec if layer.op == "opaque"] == []
    assert list(shapes) == theirs


@pytest.mark.parametrize("family", ["ResNet50", "MobileNet"])
def test_a_network_read_at_one_shape_has_the_shapes_of_one_built_at_another(family):
    def built(text: str) -> GraphSpec:
        options = {"weights": None, "include_top": False, "input_shape": shape(text).as_tuple()}
        with without_values():
            return read(getattr(keras.applications, family)(**options))

    spec, expected = built("224x224x3"), built("161x96x1")

    ours = map_shapes(spec, shape("161x96x1"))

    assert list(ours) == [layer.native_shape for layer in expected]


def test_unknown_axes_stay_unknown_one_by_one():
    spec = with_squeeze_and_excite()
    shapes = map_shapes(spec, shape("?x97x1"))
    assert shapes[1] == (None, 49, 8)
    assert shapes[3] == (1, 1, 8)  # squeezed: known again
    assert shapes[7] == (None, 49, 8)
    assert shapes[-1] == (10,)


def test_a_grid_in_front_of_a_layer_fixes_what_it_reads():
    net = Net()
    net.conv(4, 3, 2)
    net.add("flatten", grid_first=(7, 5))
    net.add("dense", out_channels=2)
    for text in ("97x64x1", "?x?x3"):
        assert map_shapes(net.spec(), shape(text))[2:] == ((140,), (2,))


def test_pads_in_front_of_a_window_are_added_before_it():
    net = Net()
    net.conv(4, 3, 2, padding="valid", pads=((0, 1), (2, 3)))
    # (97 + 1 - 3) // 2 + 1 and (64 + 5 - 3) // 2 + 1
    assert map_shapes(net.spec(), shape("97x64x1"))[1] == (48, 34, 4)


def test_front_sets_the_working_size_and_the_channels():
    spec = with_squeeze_and_excite().but(
        input_layers=InputLayers(resize_hw=(192, 97), channels="repeat")
    )
    assert network_shape(spec, shape("33x64x1")) == shape("192x97x3")
    assert map_shapes(spec, shape("?x?x1"))[:2] == ((192, 97, 3), (96, 49, 8))
    handed_on = spec.but(
        input_layers=InputLayers(resize_hw=None, channels=None, network_channels=3)
    )
    assert network_shape(handed_on, shape("33x64x1")) == shape("33x64x1")


def opaque_after(native_in: tuple, native_out: tuple) -> GraphSpec:
    net = Net()
    net.conv(8, 3, 2)
    net.layers[1] = net.layers[1].but(native_shape=native_in)
    net.add("opaque", name="odd", native_shape=native_out)
    return net.spec()


@pytest.mark.parametrize(
    ("native_out", "expected"),
    [
        ((112, 112, 8), (49, 32, 8)),  # it kept its shape, so it keeps this one
        ((112, 112, 2), (49, 32, 2)),  # it kept its size
        ((30,), (30,)),  # no height, no width
        ((12544, 8), (None, 8)),
        ((56, 56, 8), (None, None, 8)),
    ],
)
def test_an_unknown_kind_of_layer_is_followed_only_where_that_is_safe(native_out, expected):
    spec = opaque_after((112, 112, 8), native_out)
    assert map_shapes(spec, shape("97x64x1"))[2] == expected
    assert map_shapes(spec, shape("224x224x3"))[2] == native_out


def test_an_unknown_kind_of_layer_that_kept_its_shape_hands_on_the_channels():
    net = Net()
    net.layers[0] = net.layers[0].but(native_shape=(224, 224, 3))
    net.add("opaque", native_shape=(224, 224, 3))
    assert map_shapes(net.spec(), shape("97x64x1"))[1] == (97, 64, 1)


def test_maps_that_no_output_needs_may_vanish():
    spec = vgg16()
    with pytest.raises(VanishingMap):
        map_shapes(spec, shape("16x16x3"))
    cut = spec.but(outputs=(6,))
    assert map_shapes(cut, shape("16x16x3"))[6] == (4, 4, 128)


@pytest.mark.parametrize(
    ("text", "left"), [("16x16x3", "0x0"), ("64x31x3", "2x0"), ("31x?x1", "0x?")]
)
def test_vanishing_map_names_the_layer_and_the_least_size(text, left):
    expected = (
        f'input {text}: map at "block5_pool" would be {left} pixels; use at least 32x32, '
        "or strategy='resize'"
    )
    with pytest.raises(VanishingMap, match=re.escape(expected)):
        map_shapes(vgg16(), shape(text))


def test_vanishing_map_at_a_working_size_asks_for_another_working_size():
    spec = vgg16().but(input_layers=InputLayers(resize_hw=(16, 48)))
    expected = (
        'input 97x64x3 at working size 16x48: map at "block5_pool" would be 0x1 pixels; '
        "use a working size of at least 32x32"
    )
    with pytest.raises(VanishingMap, match=re.escape(expected)):
        map_shapes(spec, shape("97x64x3"))


def test_vanishing_map_that_no_size_avoids():
    net = Net()
    net.add("global_pool", keepdims=True)
    net.add("max_pool", name="pool", kernel_hw=(2, 1))
    expected = 'map at "pool" would be 0x1 pixels; no input size avoids it; check the model'
    with pytest.raises(VanishingMap, match=re.escape(expected)):
        map_shapes(net.spec(), shape("97x64x1"))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 2)), min_size=1, max_size=4
    )
)
def test_least_size_is_the_first_at_which_no_map_vanishes(windows):
    net = Net()
    for k, s, d in windows:
        net.conv(1, (k, 1), (s, 1), padding="valid", dilation_hw=(d, 1))
    spec = net.spec()

    def fits(height: int) -> bool:
        try:
            map_shapes(spec, InputShape(height, 1, 1))
        except VanishingMap:
            return False
        return True

    by_trial = next(n for n in range(1, 1000) if fits(n))
    assert least_size(spec) == Size(by_trial, 1)


def test_least_size_of_known_networks():
    assert least_size(vgg16()) == Size(32, 32)
    assert least_size(mobilenet_v1()) == Size(1, 1)


def halves_that_meet() -> GraphSpec:
    net = Net()
    ceil = net.conv(4, 3, 2, 0, name="up")
    floor = net.conv(4, 2, 2, 0, name="down", padding="valid")
    net.add("elementwise", ceil, floor, name="meet")
    return net.spec()


def test_mismatch_names_both_maps_and_the_nearest_sizes():
    expected = (
        'input 97x64x1: "meet" joins "up" (49x32x4) and "down" (48x32x4), expected equal sizes; '
        "use a height of 96 or 98, or strategy='resize'"
    )
    with pytest.raises(MapMismatch, match=re.escape(expected)):
        map_shapes(halves_that_meet(), shape("97x64x1"))
    expected = "use a height of 96 or 98 and a width of 62 or 64, or strategy='resize'"
    with pytest.raises(MapMismatch, match=re.escape(expected)):
        map_shapes(halves_that_meet(), shape("97x63x1"))


def test_mismatch_of_a_concatenation_and_of_channels():
    net = Net()
    wide = net.conv(4, 3, 2, 0, name="wide")
    deep = net.conv(8, 3, 1, 0, name="deep")
    net.add("concat", wide, deep, name="both")
    spec = net.spec()
    expected = (
        'input 97x64x1: "both" joins "wide" (49x32x4) and "deep" (97x64x8), expected equal sizes; '
        "use 224x224 (as the network was read), or strategy='resize'"
    )
    with pytest.raises(MapMismatch, match=re.escape(expected)):
        map_shapes(spec, shape("97x64x1"))
    net = Net()
    net.add("elementwise", net.conv(4, 3, 1, 0), net.conv(8, 3, 1, 0), name="sum")
    with pytest.raises(MapMismatch, match=re.escape('"sum" joins "conv_1" (9x7x4) and "conv_2"')):
        map_shapes(net.spec(), shape("9x7x1"))
    net = Net()
    net.add("concat", net.conv(4, 3, 1, 0), net.add("global_pool", 0), name="cat")
    with pytest.raises(MapMismatch, match=re.escape('"conv_1" (9x7x4) and "global_pool_2" (1)')):
        map_shapes(net.spec(), shape("9x7x1"))


def tokens(target: tuple[int, ...]) -> GraphSpec:
    net = Net()
    net.conv(8, 3, 32)
    net.add("reshape", name="tokens", target_shape=target)
    return net.spec()


def test_reshape_to_a_fixed_number_of_tokens_is_refused_elsewhere():
    assert map_shapes(tokens((49, 8)), shape("224x224x3"))[2] == (49, 8)
    expected = (
        'input 97x64x1: reshape "tokens" is fixed to 49x8 but reads 4x2x8 (64 values); '
        "use 224x224 (as the network was read), or strategy='resize'"
    )
    with pytest.raises(FixedShape, match=re.escape(expected)):
        map_shapes(tokens((49, 8)), shape("97x64x1"))
    expected = (
        'input ?x64x1: reshape "tokens" is fixed to 49x8 but reads ?x2x8, whose size is unknown; '
        "use strategy='rebuild' at a fixed 224x224 (as the network was read), or strategy='resize'"
    )
    with pytest.raises(FixedShape, match=re.escape(expected)):
        map_shapes(tokens((49, 8)), shape("?x64x1"))
    with pytest.raises(
        FixedShape, match=re.escape("is fixed to 7x?x8 but reads 4x2x8 (64 values)")
    ):
        map_shapes(tokens((7, -1, 8)), shape("97x64x1"))


def test_reshape_with_an_open_axis_follows():
    assert map_shapes(tokens((-1, 8)), shape("97x64x1"))[2] == (8, 8)
    assert map_shapes(tokens((-1, 8)), shape("?x64x1"))[2] == (None, 8)


def test_a_dense_layer_on_a_flattened_map_of_unknown_size_is_refused():
    net = Net()
    net.add("flatten")
    net.add("dense", name="fc1", out_channels=4)
    expected = (
        'input ?x64x1: dense layer "fc1" would read a vector whose length is unknown, expected a '
        "fixed one; use strategy='rebuild' at a fixed 224x224 (as"
    )
    with pytest.raises(FixedShape, match=re.escape(expected)):
        map_shapes(net.spec(), shape("?x64x1"))


def test_exactly_one_input_is_the_picture():
    net = Net("twins")
    net.layers.append(LayerSpec(1, "other", "input", (), 1))
    expected = "model 'twins' has 2 inputs (image, other), expected exactly one, the picture"
    with pytest.raises(GraphError, match=re.escape(expected)):
        map_shapes(net.spec(), shape("97x64x1"))
    empty = GraphSpec("empty", (), (), shape("97x64x1"))
    with pytest.raises(GraphError, match=re.escape("model 'empty' has 0 inputs (none)")):
        map_shapes(empty, shape("97x64x1"))


@pytest.mark.parametrize(
    ("op", "field"),
    [
        ("conv", "out_channels"),
        ("dense", "out_channels"),
        ("resize", "target_hw"),
        ("reshape", "target_shape"),
        ("opaque", "native_shape"),
    ],
)
def test_incomplete_records_are_named(op, field):
    net = Net()
    net.add(op, name="odd")
    expected = f"layer 'odd' ({op}) has no {field}, expected one; check the record"
    with pytest.raises(GraphError, match=re.escape(expected)):
        map_shapes(net.spec(), shape("97x64x1"))


def test_a_window_on_a_vector_is_refused():
    net = Net()
    net.add("flatten")
    net.conv(4, name="late")
    expected = "layer 'late' (conv) reads 6208, expected a map of height x width x channels"
    with pytest.raises(GraphError, match=re.escape(expected)):
        map_shapes(net.spec(), shape("97x64x1"))
