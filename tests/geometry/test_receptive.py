from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.geometry.nets import Net, mobilenet_v1, resnet50, vgg16, with_squeeze_and_excite

from inshape.errors import ShapeError
from inshape.geometry.receptive import AxisField, receptive_fields
from inshape.geometry.spec import GraphSpec
from inshape.shapes import InputShape


def shape(text: str) -> InputShape:
    return InputShape.of(text)


PAD = st.tuples(st.integers(0, 2), st.integers(0, 2))
WINDOW = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 2), PAD)
LAYERS = st.lists(
    st.tuples(WINDOW, WINDOW, st.sampled_from(["conv", "conv", "max_pool", "pad"]), st.booleans()),
    min_size=1,
    max_size=3,
)


def chain(layers) -> GraphSpec:
    """A chain of layers; a window layer is padded as "same", or by explicit zeros."""
    net = Net()
    for rows, columns, op, same in layers:
        kernel_hw, stride_hw, dilation_hw, pads = zip(rows, columns, strict=True)
        if op in ("pad", "crop"):
            net.add(op, pads=pads)
            continue
        net.add(
            op,
            kernel_hw=kernel_hw,
            stride_hw=stride_hw,
            dilation_hw=dilation_hw if op == "conv" else (1, 1),
            padding="same" if same else "valid",
            pads=((0, 0), (0, 0)) if same else pads,
            out_channels=1,
        )
    return net.spec()


def run(spec: GraphSpec, pictures: np.ndarray) -> list[np.ndarray]:
    """The network's maps under kernels of ones, by TensorFlow; sums can't cancel.

    In float64, which oneDNN leaves alone: where two strides differ and the result is one pixel
    wide, oneDNN in TensorFlow 2.21 takes the wrong one (a 1x2 kernel of stride (1, 2) on 20x3
    pixels skips every other row).
    """
    values = [tf.constant(pictures, tf.float64)]
    for layer in spec.layers[1:]:
        read = [values[i] for i in layer.inputs]
        (top, bottom), (left, right) = layer.pads
        if layer.op == "elementwise":
            values.append(tf.add_n(read))
        elif layer.op == "concat":
            values.append(tf.concat(read, -1))
        elif layer.op == "crop":
            height, width = read[0].shape[1:3]
            values.append(read[0][:, top : height - bottom, left : width - right])
        else:
            padded = tf.pad(read[0], [[0, 0], [top, bottom], [left, right], [0, 0]])
            kernel = np.ones((*layer.kernel_hw, read[0].shape[-1], 1))
            values.append(
                tf.nn.conv2d(
                    padded, kernel, layer.stride_hw, layer.padding.upper(),
                    dilations=layer.dilation_hw,
                )
                if layer.is_window
                else padded
            )  # fmt: skip
    return [value.numpy() for value in values]


def spans_by_trial(spec: GraphSpec, hw: tuple[int, int], axis: int) -> list[tuple[int, int]]:
    """First and last input line that reach each line of the last map, found by lighting each."""
    lines = np.eye(hw[axis], dtype="float32")
    pictures = lines[:, :, None, None] if axis == 0 else lines[:, None, :, None]
    seen = run(spec, np.broadcast_to(pictures, (hw[axis], *hw, 1)).copy())[-1] > 0
    reached = seen.any(axis=(3, 2 if axis == 0 else 1))  # input line x output line
    lit = [np.flatnonzero(column) for column in reached.T]
    return [(int(found[0]), int(found[-1])) if len(found) else () for found in lit]


def check_against_trial(spec: GraphSpec, hw: tuple[int, int]) -> None:
    """Inside the picture spans are exact; at its border zeros hide a part of them."""
    field = receptive_fields(spec, InputShape(*hw, 1))[-1]
    trials = [spans_by_trial(spec, hw, axis) for axis in (0, 1)]
    assume(any(span for spans in trials for span in spans))  # else zeros alone are read
    for axis, along in enumerate((field.height, field.width)):
        for i, expected in enumerate(trials[axis]):
            first, last = along.span(i)
            if first >= 0 and last <= hw[axis] - 1:
                assert (first, last) == expected
            elif expected:
                assert first <= expected[0]
                assert expected[1] <= last


@settings(deadline=None, max_examples=120)
@given(st.tuples(st.integers(20, 50), st.integers(20, 50)), LAYERS, PAD, PAD)
def test_field_is_where_pixels_reach_in_a_chain(hw, layers, rows, columns):
    # A crop before a padding would put zeros over pixels of the picture, so it stands last.
    crop = ((1, 1, 1, rows), (1, 1, 1, columns), "crop", False)
    spec = chain([*layers, crop])
    try:
        receptive_fields(spec, InputShape(*hw, 1))
    except ShapeError:
        assume(False)
    check_against_trial(spec, hw)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(20, 40), st.integers(20, 40)),
    st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 2, 3])),
    st.sampled_from([1, 2]),
    st.sampled_from(["elementwise", "concat"]),
)
def test_field_spans_all_paths_that_meet(hw, kernels, stride, merge):
    net = Net()
    stem = net.conv(1, 3, (2, 1))
    one = net.conv(1, kernels, stride, stem)
    two = net.conv(1, (kernels[1], 3), stride, stem)
    net.add(merge, one, two)
    net.conv(1, (3, 2))
    spec = net.spec()
    check_against_trial(spec, hw)
    assert receptive_fields(spec, InputShape(*hw, 1))[-1].aligned


def test_published_figures():
    """Araujo et al., Distill 2019, table "receptive field", and VGG16's known 212."""

    def last_map(spec: GraphSpec):
        return [f for f in receptive_fields(spec, shape("224x224x3")) if not f.whole][-1]

    assert last_map(mobilenet_v1()).field_hw == (315, 315)
    assert last_map(mobilenet_v1()).stride_hw == (32, 32)
    assert last_map(resnet50()).field_hw == (483, 483)
    assert last_map(resnet50()).stride_hw == (32, 32)
    assert last_map(vgg16()).field_hw == (212, 212)


def test_centre_follows_the_parity_of_each_axis():
    net = Net()
    net.conv(1, 3, 2)
    spec = net.spec()
    # 97 is padded by one on both sides, 64 on the right only.
    field = receptive_fields(spec, shape("97x64x1"))[1]
    assert field.height == AxisField(3, 2, 0.0)
    assert field.width == AxisField(3, 2, 1.0)
    field = receptive_fields(spec, shape("?x64x1"))[1]
    assert field.height == AxisField(3, 2, None)
    assert field.height.span(0) is None
    assert field.width.span(3) == (6.0, 8.0)


def test_a_gate_is_left_out_and_flagged():
    spec = with_squeeze_and_excite()
    fields = {
        layer.name: f
        for layer, f in zip(spec, receptive_fields(spec, shape("97x64x1")), strict=True)
    }
    assert fields["dw"].field_hw == (11, 7)
    assert not fields["dw"].global_context
    assert fields["squeeze"].whole
    assert fields["squeeze"].field_hw == (97, 64)
    assert fields["expand"].whole
    assert fields["gate"].field_hw == (11, 7)
    assert fields["gate"].global_context
    assert not fields["gate"].whole
    assert fields["down"].global_context
    assert fields["down"].field_hw == (15, 11)
    assert fields["logits"].whole
    assert fields["logits"].stride_hw == (None, None)
    assert fields["logits"].height.centre_px == 48.0


def test_paths_of_different_stride_are_noted():
    net = Net()
    net.add("global_pool", net.conv(4, 3, 2, 0), keepdims=True)
    tall = net.add("adaptive_pool", net.conv(4, 5, 1, 0), target_hw=(1, 2))
    net.add("elementwise", net.conv(4, 3, 2, 0), tall)
    field = receptive_fields(net.spec(), shape("4x4x1"))[-1]
    assert not field.aligned
    assert field.stride_hw == (4, 2)
    # The bin spans all 4 rows and the kernel of 5 two more on either side.
    assert field.field_hw == (8, 6)


def test_upsampling_divides_the_stride():
    net = Net()
    net.add("avg_pool", kernel_hw=(4, 2), stride_hw=(4, 2))
    net.add("upsample", stride_hw=(2, 2))
    field = receptive_fields(net.spec(), shape("96x64x1"))[-1]
    assert field.stride_hw == (2, 1)
    assert field.field_hw == (4, 2)
    # Two output rows share the middle of rows 0 to 3, at 1.5: they stand at 0.5 and 2.5.
    assert field.height.centre_px == 0.5


def test_resizing_scales_the_stride_and_reads_two_neighbours():
    net = Net()
    net.add("resize", target_hw=(48, 128))
    field = receptive_fields(net.spec(), shape("96x64x1"))[-1]
    assert field.stride_hw == (2, 0.5)
    assert field.field_hw == (2, 2)
    assert field.height.centre_px == 0.5
    assert receptive_fields(net.spec(), shape("?x64x1"))[-1].stride_hw == (None, 0.5)


def test_adaptive_pool_and_grid_cover_their_widest_cell():
    net = Net()
    net.add("adaptive_pool", target_hw=(3, 2))
    # 10 rows in 3 cells: 0-3, 3-6, 6-9; 8 columns in 2 cells of 4.
    field = receptive_fields(net.spec(), shape("10x8x1"))[-1]
    assert field.field_hw == (4, 4)
    assert field.width == AxisField(4, 4, 1.5)
    net = Net()
    net.conv(1, 1, 1, grid_first=(3, 2))
    assert receptive_fields(net.spec(), shape("10x8x1"))[-1].field_hw == (4, 4)
    assert receptive_fields(net.spec(), shape("?x8x1"))[-1].field_hw == (None, 4)
    net = Net()
    net.add("adaptive_pool", target_hw=(1, 1))
    assert receptive_fields(net.spec(), shape("10x8x1"))[-1].whole


def test_flatten_and_tokens_have_no_place():
    for op, fields in (("flatten", {}), ("reshape", {"target_shape": (-1, 1)})):
        net = Net()
        net.add(op, **fields)
        assert receptive_fields(net.spec(), shape("9x7x1"))[-1].whole
    net = Net()
    net.conv(4, 3)
    net.add("reshape", target_shape=(9, 7, 4))
    assert receptive_fields(net.spec(), shape("9x7x1"))[-1].field_hw == (3, 3)


def test_an_unknown_kind_of_layer_that_moves_pixels_ends_what_is_known():
    net = Net()
    net.conv(4, 3)
    net.layers[1] = net.layers[1].but(native_shape=(224, 224, 4))
    net.add("opaque", native_shape=(112, 112, 4))
    net.conv(4, 3)
    field = receptive_fields(net.spec(), shape("96x64x1"))[-1]
    assert field.field_hw == (None, None)
    assert not field.aligned


@pytest.mark.parametrize(("text", "unknown"), [("?x64x1", (None, 64)), ("?x?x1", (None, None))])
def test_the_head_covers_an_unknown_picture(text, unknown):
    assert receptive_fields(with_squeeze_and_excite(), shape(text))[-1].field_hw == unknown
