"""A network whose channels are brought to like sizes answers as before."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from inshape.runtime.equalise import equalised
from inshape.runtime.flatbuffer import read_model
from inshape.runtime.insides import expose, float_outputs, name_of
from inshape.runtime.litert import LiteRTModel
from inshape.runtime.litert_files import to_litert

layers = keras.layers


def conv(filters, name, **options):
    return layers.Conv2D(filters, 1, padding="same", name=name, **options)


def depthwise(name, **options):
    return layers.DepthwiseConv2D(3, padding="same", name=name, **options)


def unequal(build):
    """A network of 8-channel maps, in which every kernel's channels differ by up to a thousand."""
    keras.utils.set_random_seed(2)
    image = keras.Input((8, 6, 3))
    model = keras.Model(image, build(layers.Rescaling(1 / 255)(image)))
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            axis = 2 if isinstance(layer, layers.DepthwiseConv2D) else -1
            sizes = np.geomspace(0.03, 3.0, kernel.shape[axis])
            shape = np.ones(kernel.ndim, int)
            shape[axis] = len(sizes)
            layer.set_weights([kernel * sizes.reshape(shape), bias + 0.1])
    return model


def blocks(x):
    x = conv(8, "first", activation="relu")(x)
    skipped = conv(8, "second", activation="relu")(x)
    y = conv(8, "third")(depthwise("spatial", strides=1, activation="relu")(skipped))
    x = conv(8, "fourth", activation="relu")(layers.Add()([x, y]))
    return layers.Dense(4)(layers.GlobalAveragePooling2D()(x))


def closed(x):
    """Maps of which none may be changed, each for a reason of its own."""
    x = depthwise("widened", depth_multiplier=2)(conv(4, "before", activation="relu")(x))
    x = layers.Conv2D(8, 3, groups=2, padding="same", activation="relu6", name="grouped")(x)
    x = layers.Multiply()([conv(8, "gated")(x), conv(8, "gate", activation="sigmoid")(x)])
    return layers.Dense(4)(layers.Flatten()(x))


def sizes_of(content, pictures):
    """The largest value of each channel of each map, by the map's name."""
    model = read_model(content)
    tensors = float_outputs(model)
    maps = [expose(model, tensors).all_outputs(picture) for picture in pictures]
    return {
        name_of(model.subgraphs[0], tensor): np.max(
            [np.abs(m[n]).reshape(-1, m[n].shape[-1]).max(axis=0) for m in maps], axis=0
        )
        for n, tensor in enumerate(tensors)
    }


@pytest.fixture(scope="module")
def pictures():
    return list(np.random.default_rng(0).uniform(0, 255, (12, 1, 8, 6, 3)).astype("float32"))


def assert_same_answers(build, pictures, granularity="per-channel"):
    """A network answers as it did before its channels were brought to like sizes."""
    plain = to_litert(unequal(build))
    equal = equalised(plain, pictures, granularity)
    for picture in pictures:
        expected = LiteRTModel(plain)(picture)
        np.testing.assert_allclose(LiteRTModel(equal)(picture), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("granularity", ["per-channel", "per-tensor"])
@pytest.mark.parametrize("build", [blocks, closed])
def test_answers_stay_as_they_are(build, granularity, pictures):
    assert_same_answers(build, pictures, granularity)


def test_channels_come_nearer_to_each_other(pictures):
    plain = to_litert(unequal(blocks))
    before, after = (sizes_of(c, pictures) for c in (plain, equalised(plain, pictures)))
    spread = {
        name: (before[name].max() / before[name].min(), after[name].max() / after[name].min())
        for name in before
        if before[name].min() > 0 and len(before[name]) == 8
    }
    free = [name for name in spread if "second" in name]  # only a depthwise kernel reads it
    assert free
    assert all(spread[name][1] < 2.0 < 8.0 < spread[name][0] for name in free)
    assert np.mean([b < 0.6 * a for a, b in spread.values()]) > 0.6


def test_maps_that_others_read_are_left_alone(pictures):
    plain = to_litert(unequal(closed))
    before, after = (sizes_of(c, pictures) for c in (plain, equalised(plain, pictures)))
    assert before.keys() == after.keys()
    for name, sizes in before.items():
        np.testing.assert_allclose(after[name], sizes, rtol=1e-4, err_msg=name)


def test_a_mean_over_channels_is_no_pooling(pictures):
    """Though as many columns as channels are left behind it."""

    def build(x):
        x = conv(6, "before", activation="relu")(x)  # 8 x 6 pixels
        x = keras.layers.Lambda(lambda maps: keras.ops.mean(maps, axis=-1))(x)
        return layers.Dense(4)(x)

    assert_same_answers(build, pictures)


def test_a_constant_that_another_operator_reads_stays(pictures):
    """Converters write equal numbers once: here a bias and a factor."""

    def build(x):
        x = conv(8, "before", activation="relu")(x)
        x = conv(8, "after", activation="relu")(x)
        factor = np.full((1, 1, 1, 8), 0.1, "float32")
        return layers.Dense(4)(layers.GlobalAveragePooling2D()(x * factor))

    assert_same_answers(build, pictures)
