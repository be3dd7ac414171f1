"""Flash and RAM by arithmetic, against converted files and an interpreter."""

from __future__ import annotations

import random

import keras
import numpy as np
import pytest
from tests.geometry.nets import Net, with_squeeze_and_excite
from tests.runtime.test_hard_swish import UNLIKE, network

from inshape.geometry.arena import alive_bytes, record_bytes, tensor_bytes
from inshape.geometry.footprint import footprint
from inshape.geometry.operators import Layout, Operator, layout, with_products
from inshape.graph.layers import AdaptivePooling2D, GeneralizedMeanPooling2D
from inshape.graph.read import read
from inshape.importing.litert_file import litert_schema
from inshape.planning import plan
from inshape.runtime.arena import arena_of
from inshape.runtime.conversion import convert
from inshape.runtime.flatbuffer import read_model
from inshape.runtime.formats import FORMATS
from inshape.shapes import InputShape

layers = keras.layers
CARD = 1_400
"""Bytes that export adds: labels, metadata and how the file is used."""


def int8_file(model, path, io="float32", granularity="per-channel", *, is_as_planned=True):
    """A file whose vectors differ as after training, else equal ones would stand in it once."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if len(weight.shape) == 1:
            positive = "gamma" in weight.path or "variance" in weight.path
            weight.assign(rng.uniform(0.5 if positive else -0.5, 1.5, weight.shape))
    picture = rng.uniform(0, 255, (1, *model.input_shape[1:])).astype(np.float32)
    convert(
        model, FORMATS["litert-int8"], path,
        pictures=[picture], io=io, granularity=granularity, is_as_planned=is_as_planned,
    )  # fmt: skip
    return path


def operators_of(path):
    model = read_model(path.read_bytes())
    names = {code: name for name, code in vars(litert_schema().BuiltinOperator).items()}
    (graph,) = model.subgraphs
    return [
        (
            names[model.operatorCodes[x.opcodeIndex].builtinCode],
            tuple(int(n) for n in graph.tensors[x.outputs[0]].shape[1:]),
        )
        for x in graph.operators
    ]


def check(spec, shape, path, io="float32", granularity="per-channel", *, flash):
    pytest.importorskip("tflite_micro")
    planned, needs = footprint(spec, shape, io, granularity), arena_of(path)
    operators = layout(spec, shape, io).operators[1:]
    assert [(x.kind, x.shape) for x in operators] == operators_of(path)
    if not needs.missing:
        assert planned.ram_bytes == pytest.approx(needs.total_bytes, rel=0.01)
    assert planned.tensor_bytes >= needs.tensor_bytes
    # Names and records, which differ most, are half of a small network's file.
    assert planned.flash_bytes - CARD == pytest.approx(path.stat().st_size, rel=flash)


@pytest.mark.slow
def test_a_mobilenet_needs_what_was_planned(tmp_path):
    """The whole V3Small: squeeze-and-excite, hard-swish, odd sizes that pad on both sides."""
    planned = plan("MobileNetV3Small", "96x96x1", classes=5)
    path = int8_file(planned.build(weights=None), tmp_path / "a.tflite")
    check(planned.spec, planned.static_shape, path, flash=0.01)


@pytest.mark.parametrize("more_letters", [0, 1, 2, 3, 40])
def test_hard_swishes_as_two_operators_take_no_more_than_was_said(
    tmp_path, monkeypatch, more_letters
):
    """Whatever names have: Keras numbers them, and a file holds them."""
    pytest.importorskip("tflite_micro")
    rules = {"_AUDIBLE": -1.0, "_GAIN": -1e9, "fits": lambda *_: True}  # all of them
    for name, rule in rules.items():
        monkeypatch.setattr(f"inshape.runtime.equalise.{name}", rule)
    monkeypatch.setattr("inshape.geometry.footprint.PRODUCTS_SHARE", 9.0)
    model = network(UNLIKE)
    for layer in (model, *model.layers):
        layer.name += more_letters * "x"
    whole, split = (
        int8_file(model, tmp_path / f"{flag}.tflite", is_as_planned=flag) for flag in (True, False)
    )
    spec, shape = read(model), InputShape(16, 12, 3)
    planned, products = footprint(spec, shape), with_products(layout(spec, shape))
    assert [(x.kind, x.shape) for x in products.operators[1:]] == operators_of(split)
    more = split.stat().st_size - whole.stat().st_size
    assert more <= planned.more_flash_bytes < 1.2 * more
    records = record_bytes(products)
    assert planned.ram_bytes - planned.tensor_bytes + planned.more_ram_bytes == records
    needs = arena_of(split)
    assert tensor_bytes(products) + records == pytest.approx(needs.total_bytes, rel=0.01)


def gated(image):
    """Parts that are merged, and such as only look as if they were."""
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)  # SAME: an offset has to be in the padding
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.Activation("silu")(layers.BatchNormalization()(x))
    y = layers.ZeroPadding2D(((1, 1), (1, 1)))(x)  # as SAME along one axis alone
    y = layers.DepthwiseConv2D(3, strides=2)(y)
    y = layers.ReLU(6.0)(y + 3.0) * (1 / 6)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.Add()([x, y])
    gate = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
    gate = layers.Conv2D(8, 1, activation="sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    return layers.Activation("tanh")(x)


def branches(image):
    """Two readers of a map: what they compute alike, and their order, which is by name."""
    x = layers.Conv2D(6, 3)(layers.Rescaling(1 / 127.5, offset=-1)(image))  # VALID: it goes in
    left = layers.Conv2D(4, 1, name="b")(layers.ReLU()(x))
    right = layers.SeparableConv2D(4, 3, padding="same", name="a")(layers.ReLU()(x))
    x = layers.Concatenate()([left, right])
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return layers.AveragePooling2D(2)(layers.Cropping2D(1)(x))


@pytest.mark.parametrize(("body", "io"), [(gated, "uint8"), (branches, "int8")])
def test_kinds_of_layers_become_the_operators_of_the_file(body, io, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((33, 20, 2))
    x = layers.Flatten()(AdaptivePooling2D((2, 1))(body(image)))
    model = keras.Model(image, layers.Dense(3, activation="softmax")(x), name="parts")
    path = int8_file(model, tmp_path / "a.tflite", io)
    check(read(model), InputShape(33, 20, 2), path, io, flash=0.1)


def enlarged(image):
    """A decoder: transposed convolutions, whose sums of int32 are larger than any map."""
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = layers.Conv2DTranspose(30, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return layers.Conv2DTranspose(4, (3, 2), strides=(1, 2), activation="sigmoid")(x)


@pytest.mark.parametrize("granularity", ["per-channel", "per-tensor"])
def test_a_decoder_with_scales_of_both_kinds(granularity, tmp_path):
    """A dense layer whose channels share a scale has no record for each; convolutions do."""
    keras.utils.set_random_seed(0)
    image = keras.Input((17, 12, 1))
    x = layers.GlobalAveragePooling2D()(enlarged(image))
    model = keras.Model(image, layers.Dense(90)(x), name="decoder")
    path = int8_file(model, tmp_path / "a.tflite", "int8", granularity)
    check(read(model), InputShape(17, 12, 1), path, "int8", granularity, flash=0.05)


@pytest.mark.parametrize(
    ("body", "operator"),
    [
        (lambda x: layers.GlobalAveragePooling2D()(layers.Activation("gelu")(x)), "GELU"),
        (GeneralizedMeanPooling2D(), "POW"),
    ],
)
def test_what_micro_controllers_lack_has_a_file_all_the_same(body, operator, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((9, 12, 1))
    x = body(layers.Conv2D(200, 3, activation="relu")(image))
    model = keras.Model(image, layers.Dense(3)(x), name="odd")
    path = int8_file(model, tmp_path / "a.tflite")
    check(read(model), InputShape(9, 12, 1), path, flash=0.1)
    assert arena_of(path).missing == operator
    planned = plan(model, "9x12x1", head="top", strategy="rebuild")
    assert planned.footprint.ram_bytes is None
    assert f"RAM: what tflite-micro takes for {operator} (" in str(planned)


@pytest.mark.parametrize(("shape", "io"), [("97x64x1", "int8"), ("20x33x3", "uint8")])
def test_a_letterbox_is_two_bars_of_one_constant(shape, io, tmp_path):
    """In the picture's own scale; across a wide picture they lie above and below it."""
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    network = keras.Model(image, layers.Conv2D(8, 3, strides=2)(image), name="net")
    planned = plan(network, shape, strategy="resize", fit="letterbox", classes=3)
    path = int8_file(planned.build(), tmp_path / "a.tflite", io)
    check(planned.spec, planned.static_shape, path, io, flash=0.05)


def test_a_maximum_comes_into_a_file_of_the_other_converter(tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((17, 12, 1))
    x = layers.Conv2D(200, 3, activation="relu")(image)
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(200, 1)(x))
    model = keras.Model(image, layers.Dense(3)(x), name="peaks")
    path = int8_file(model, tmp_path / "a.tflite")
    check(read(model), InputShape(17, 12, 1), path, flash=0.05)


def test_the_arena_of_a_residual_by_hand():
    net = Net()
    stem = net.conv(8, 3, 2, name="stem")  # 97x64x1 -> 49x32x8 = 12,544 bytes
    net.conv(8, 1, 1, stem, name="next")
    net.add("activation", function="relu")
    net.add("elementwise", stem, len(net.layers) - 1, function="add")
    net.add("global_pool", function="mean")
    operators = layout(net.spec(), InputShape.of("97x64x1"))
    assert [x.kind for x in operators.operators] == [
        *("PICTURE", "QUANTIZE", "CONV_2D", "CONV_2D", "ADD", "MEAN", "DEQUANTIZE"),
    ]
    floats, picture, maps = 24_832, 6_208, 12_544
    assert alive_bytes(operators) == [
        *(floats, floats + picture, picture + maps, 2 * maps, 3 * maps),
        *(maps + 16 + 32, 16 + 32),  # eight values, their sums, and the values as float32
    ]
    # The floats first, then the maps, the last one first: the sum and the second map in their
    # place, the stem's behind both, and no room but behind that for the picture in int8.
    assert tensor_bytes(operators) == 3 * maps + picture


def test_no_two_tensors_that_are_alive_together_share_memory():
    """The planner is greedy: never below what is alive at once, and within twice of it here."""
    draw = random.Random(0)
    for _ in range(50):
        operators = [Operator("PICTURE", [], (draw.randint(1, 4000),))]
        for _ in range(draw.randint(1, 12)):
            reads = draw.sample(operators, draw.randint(1, min(2, len(operators))))
            operators.append(Operator("ADD", reads, (draw.randint(1, 4000),)))
        drawn = Layout(tuple(operators), (operators[-1],))
        least = max(alive_bytes(drawn))
        assert least <= tensor_bytes(drawn) <= 2 * least


def test_what_is_not_known_is_not_guessed():
    spec, shape = with_squeeze_and_excite(), InputShape.of("97x64x1")
    known = footprint(spec, shape)
    assert None not in (known.flash_bytes, known.ram_bytes, known.tensor_bytes)
    of_any_size = footprint(spec, InputShape.of("?x64x1"))
    assert (of_any_size.flash_bytes, of_any_size.ram_bytes) == (None, None)
    assert (
        of_any_size.float32_bytes == known.float32_bytes == 4 * (72 + 120 + 36 + 40 + 1_152 + 170)
    )
    for index, facts in (
        (3, {"function": "median"}),
        (6, {"op": "opaque"}),
        (8, {"is_plain": False}),
    ):
        odd = spec.with_call(index, native_shape=(8, 8, 8), **facts)
        assert footprint(odd, shape).ram_bytes is None
    image = keras.Input((9, 9, 1))
    own = layers.Conv2D(2, 3, activation=lambda x: 3 * x)(image)
    assert footprint(read(keras.Model(image, own)), InputShape(9, 9, 1)).ram_bytes is None
    foreign = Operator("GELU", [], (8,))
    assert record_bytes(Layout((foreign, foreign), (foreign,))) is None


@pytest.mark.parametrize(("axis", "requantised"), [(1, 0), (-1, 1)])
def test_pieces_of_a_map_have_one_scale_already(axis, requantised):
    """What else reads one of two maps has its own scale, unless they are pieces of one."""
    image = keras.Input((16, 12, 1))
    one, other = (layers.Conv2D(4, 3, padding="same")(image) for _ in range(2))
    joined = layers.Concatenate(axis=axis)([one, other])
    read_again = layers.Conv2D(2, 1)(one)
    outputs = [layers.GlobalAveragePooling2D()(x) for x in (joined, read_again)]
    spec = read(keras.Model(image, layers.Dense(2)(outputs[0]) + outputs[1]))
    kinds = [x.kind for x in layout(spec, InputShape(16, 12, 1), "int8").operators]
    assert kinds.count("QUANTIZE") == requantised


def test_a_projection_and_a_resizing_in_front_are_counted():

    planned = plan(
        "MobileNetV3Small-minimalistic", "48x48x4", strategy="resize", channels="project", classes=2
    )
    operators = layout(planned.spec, planned.static_shape).operators
    assert [(x.kind, x.shape) for x in operators[:4]] == [
        ("PICTURE", (48, 48, 4)),
        ("QUANTIZE", (48, 48, 4)),
        ("RESIZE_BILINEAR", (224, 224, 4)),
        ("CONV_2D", (224, 224, 3)),
    ]
