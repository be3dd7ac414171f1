"""A hard-swish that 8 bits do not show becomes a gate and a product; another one stays."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from inshape.geometry.operators import PRODUCTS_SHARE
from inshape.importing.litert_file import litert_schema
from inshape.runtime.conversion import convert
from inshape.runtime.equalise import equalised
from inshape.runtime.flatbuffer import read_model
from inshape.runtime.formats import FORMATS
from inshape.runtime.hard_swish import floors_of, noise
from inshape.runtime.insides import expose, kind_of
from inshape.runtime.int8 import int8_content
from inshape.runtime.litert import LiteRTModel
from inshape.runtime.litert_files import to_litert
from inshape.runtime.runners import answer

layers = keras.layers
CHANNELS = 8


def by_parts(x):
    """As networks wrote it before there was an activation for it."""
    return layers.Multiply()([x, layers.ReLU(6.0)(x + 3.0) * (1 / 6)])


SPELLINGS = {
    "hard_silu": layers.Activation("hard_silu"),
    "hard_swish": layers.Activation("hard_swish"),
    "by parts": by_parts,
}


def network(sizes, swish=SPELLINGS["hard_silu"], *, residual=True):
    """MobileNetV3's first block, with squeeze-and-excite; its stem's channels are of these sizes.

    The depthwise kernel behind the stem makes channels of like size of them, as batch norm has it.
    """
    keras.utils.set_random_seed(4)
    image = keras.Input((16, 12, 3))
    x = layers.Rescaling(1 / 127.5)(image)
    stem = swish(layers.Conv2D(CHANNELS, 3, strides=2, padding="same", name="stem")(x))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise", activation="relu")(stem)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(CHANNELS, 1, activation="hard_sigmoid")(gate)
    x = layers.Conv2D(CHANNELS, 1)(layers.Multiply()([x, gate]))
    x = layers.Add()([stem, x]) if residual else x
    x = swish(layers.Conv2D(6, 1)(x))
    x = swish(layers.Dense(7)(layers.GlobalAveragePooling2D()(x)))  # of vectors it stays one
    model = keras.Model(image, layers.Dense(5)(x))
    kernel, bias = model.get_layer("stem").get_weights()
    model.get_layer("stem").set_weights([kernel * sizes, bias])
    kernel, bias = model.get_layer("depthwise").get_weights()
    model.get_layer("depthwise").set_weights([kernel * 3 / sizes[:, None], bias + 0.1])
    return model


UNLIKE, ALIKE = np.geomspace(0.1, 30, CHANNELS), np.full(CHANNELS, 3.0)


@pytest.fixture(autouse=True)
def _room(monkeypatch):
    """A product takes much of networks as small as these."""
    monkeypatch.setattr("inshape.runtime.hard_swish.PRODUCTS_SHARE", 9.0)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.2, 1.0, (48, 1, 1, 1))
    return list((rng.uniform(0, 255, (48, 16, 12, 3)) * scale).astype("float32")[:, None])


def kinds(content):
    names = {code: name for name, code in vars(litert_schema().BuiltinOperator).items()}
    model = read_model(content)
    return [names[kind_of(model, operator)] for operator in model.subgraphs[0].operators]


def assert_same_answers(plain, equal, pictures):
    for picture in pictures[:12]:
        expected = LiteRTModel(plain)(picture)
        np.testing.assert_allclose(LiteRTModel(equal)(picture), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_products_answer_as_hard_swish_did(spelling, pictures):
    plain = to_litert(network(UNLIKE, SPELLINGS[spelling]))
    equal = equalised(plain, pictures[:12])
    assert kinds(equal).count("HARD_SWISH") < kinds(plain).count("HARD_SWISH") == 3
    assert_same_answers(plain, equal, pictures)


def test_small_channels_behind_hard_swish_keep_their_levels(pictures, monkeypatch):
    plain = to_litert(network(UNLIKE, residual=False))
    monkeypatch.setattr("inshape.runtime.equalise.fits", lambda *_: True)
    rows = np.concatenate(pictures[24:])
    expected = answer(LiteRTModel(plain), rows)
    whole, split = (
        np.square(answer(LiteRTModel(content), rows) - expected).mean()
        for content in (int8_content(plain, pictures[:24], split=flag) for flag in (False, True))
    )
    assert split < whole / 2


def test_channels_of_like_size_keep_hard_swish(pictures):
    plain = to_litert(network(ALIKE))
    equal = equalised(plain, pictures[:12])
    assert kinds(equal) == kinds(plain)
    assert_same_answers(plain, equal, pictures)


def test_a_file_that_must_be_as_planned_has_the_operators_of_the_network(pictures, tmp_path):
    model = network(UNLIKE)
    for is_as_planned in (False, True):
        convert(
            model, FORMATS["litert-int8"], tmp_path / f"{is_as_planned}.tflite",
            pictures=pictures[:8], io="int8", is_as_planned=is_as_planned,
        )  # fmt: skip
    planned, free = (kinds((tmp_path / f"{x}.tflite").read_bytes()) for x in (True, False))
    assert planned == kinds(to_litert(model))
    assert free.count("HARD_SWISH") < planned.count("HARD_SWISH")


def test_a_product_that_would_take_more_memory_is_not_written(pictures, monkeypatch):
    """The stem's map is the largest: a gate of its size beside it would raise the peak."""
    plain = to_litert(network(UNLIKE, residual=False))
    model = read_model(equalised(plain, pictures[:8]))
    assert (
        kind_of(model, model.subgraphs[0].operators[1])
        == litert_schema().BuiltinOperator.HARD_SWISH
    )
    monkeypatch.setattr("inshape.runtime.equalise.fits", lambda *_: True)
    assert kinds(equalised(plain, pictures[:8]))[1:3] == ["DEPTHWISE_CONV_2D", "MUL"]


def test_products_that_would_take_a_good_part_of_the_file_are_not_written(pictures, monkeypatch):
    plain = to_litert(network(UNLIKE))
    monkeypatch.setattr("inshape.runtime.hard_swish.PRODUCTS_SHARE", PRODUCTS_SHARE / 100)
    assert kinds(equalised(plain, pictures[:8])) == kinds(plain)


def test_noise_is_counted_by_what_channels_vary_by():
    """A channel in [-0.375, 0] beside one up to 200 has one level: by hand, all of it is lost."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.uniform(-3, 0, 2000), rng.uniform(0, 200, 2000)], axis=-1)
    whole, split = noise(x, np.array([3 / 200, 1.0]))
    assert 0.4 < whole < 0.6
    assert split < 0.01


def test_below_the_floor_of_a_channel_the_answer_stays(pictures):
    """Where the gate is closed: at -3 before a hard-swish, at another value behind factors."""
    plain = to_litert(network(UNLIKE))
    assert [list(floor) for floor in floors_of(read_model(plain)).values()] == [[-3.0]] * 3
    model = read_model(equalised(plain, pictures[:8]))
    floors = {index: floor for index, floor in floors_of(model).items() if len(floor) > 1}
    assert floors
    for index, floor in floors.items():
        gate, product = (x for x in model.subgraphs[0].operators if index in list(x.inputs))
        maps = expose(model, [index, int(gate.outputs[0]), int(product.outputs[0])])
        x, opened, out = (v.reshape(-1, v.shape[-1]) for v in maps.all_outputs(pictures[0]))
        closed = x <= floor
        np.testing.assert_array_equal(opened[closed], 0)
        np.testing.assert_array_equal(out[closed], 0)
        assert (opened[x > 0.99 * floor] > 0).all()
