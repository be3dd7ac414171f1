"""The identities that each strategy promises, on real networks with random weights."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import inshape

layers = keras.layers
apps = keras.applications


def run(model, pictures):
    return np.asarray(ops.convert_to_numpy(model(pictures, training=False)))


def pictures(rng, *shape):
    return rng.uniform(0, 255, (2, *shape)).astype("float32")


@pytest.fixture(scope="module")
def minimalistic(randomise):
    return randomise(
        apps.MobileNetV3Small(
            minimalistic=True, weights=None, input_shape=(224, 224, 3), classifier_activation=None
        )
    )


@pytest.fixture(scope="module")
def small(randomise):
    return randomise(
        apps.MobileNetV3Small(weights=None, input_shape=(224, 224, 3), classifier_activation=None)
    )


@pytest.fixture(scope="module")
def source_of(randomise):
    """A network by its name, without its top, made once."""

    @cache
    def make(name):
        return randomise(
            getattr(apps, name)(weights=None, include_top=False, input_shape=(224, 224, 3))
        )

    return make


def assert_near(found, expected, tolerance=2e-5):
    """Within a tolerance relative to the largest value, which pictures must tell apart."""
    scale = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.002 * scale, "the output ignores its input"
    assert np.abs(found - expected).max() <= tolerance * scale


# Channels


@pytest.mark.parametrize(
    "name", ["MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny"]
)
def test_one_channel_by_sum_equals_three_equal_channels(name, rng, source_of):
    source = source_of(name)
    # What follows the first maps is the same network on the same values.
    first = {"strategy": "rebuild", "features": [4]}
    model = inshape.adapt(source, (97, 64, 1), channels="sum", **first)
    three = inshape.adapt(source, (97, 64, 3), **first)
    grey = pictures(rng, 97, 64, 1)
    assert_near(run(model, grey), run(three, np.repeat(grey, 3, -1)))


def test_four_channels_by_zero_ignore_the_fourth(small, rng):
    model = inshape.adapt(small, "65x96x4", strategy="rebuild", channels="zero", head="top")
    three = inshape.adapt(small, "65x96x3", strategy="rebuild", head="top")
    x = pictures(rng, 65, 96, 4)
    assert_near(run(model, x), run(three, x[..., :3]))


def test_an_explicit_list_takes_the_named_channels(small, rng):
    model = inshape.adapt(small, "65x96x3", strategy="rebuild", channels=[2, 0, 1], head="top")
    straight = inshape.adapt(small, "65x96x3", strategy="rebuild", head="top")
    x = pictures(rng, 65, 96, 3)
    assert_near(run(model, x[..., [2, 0, 1]]), run(straight, x))


@pytest.mark.parametrize("channels", [1, 5])
def test_a_projection_begins_as_the_repetition_or_the_first_three(small, rng, channels):
    model = inshape.adapt(
        small, f"65x96x{channels}", strategy="rebuild", channels="project", head="top"
    )
    three = inshape.adapt(small, "65x96x3", strategy="rebuild", head="top")
    x = pictures(rng, 65, 96, channels)
    assert_near(run(model, x), run(three, np.repeat(x, 3, -1) if channels == 1 else x[..., :3]))
    assert "project_channels" in {layer.name for layer in model.layers}


def test_constants_per_channel_are_converted(source_of):
    source = source_of("ConvNeXtTiny")
    model = inshape.adapt(source, "64x96x4", strategy="rebuild", channels="zero", features=[4])
    normalization = next(layer for layer in model.layers if isinstance(layer, layers.Normalization))
    mean = np.array([0.485, 0.456, 0.406]) * 255
    np.testing.assert_allclose(np.ravel(normalization.mean), [*mean, mean.mean()], rtol=1e-5)


# Sizes


@pytest.mark.parametrize("height_width", [(100, 100), (225, 225), (161, 226), (97, 130)])
def test_the_dynamic_model_equals_the_static_one(small, rng, height_width):
    dynamic = inshape.adapt(small, "?x?x3", head="top")
    static = inshape.adapt(small, (*height_width, 3), strategy="rebuild", head="top")
    x = pictures(rng, *height_width, 3)
    assert_near(run(dynamic, x), run(static, x))


def test_keras_own_dynamic_model_does_not(small, rng):
    """The trap that the test above guards against is real."""
    theirs = apps.MobileNetV3Small(
        weights=None, input_shape=(None, None, 3), classifier_activation=None
    )
    theirs.set_weights(small.get_weights())
    static = inshape.adapt(small, (97, 130, 3), strategy="rebuild", head="top")
    x = pictures(rng, 97, 130, 3)
    assert np.abs(run(theirs, x) - run(static, x)).max() > 1e-2


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_resize_equals_resizing_beforehand(small, rng, fit):
    options = {"pad_to_aspect_ratio": fit == "letterbox", "crop_to_aspect_ratio": fit == "crop"}
    model = inshape.adapt(
        small, "97x130x3", strategy="resize", working_hw=(128, 96), fit=fit, head="top"
    )
    bare = inshape.adapt(small, "128x96x3", strategy="rebuild", head="top")
    x = pictures(rng, 97, 130, 3)
    assert_near(run(model, x), run(bare, layers.Resizing(128, 96, **options)(x)))


def test_resize_takes_any_size(small, rng):
    model = inshape.adapt(small, "?x?x1", strategy="resize", working_hw=(96, 96), head="top")
    bare = inshape.adapt(small, "96x96x1", strategy="rebuild", head="top")
    for hw in ((50, 81), (200, 97)):
        x = pictures(rng, *hw, 1)
        assert_near(run(model, x), run(bare, tf.image.resize(x, (96, 96))))


# Strides


@pytest.mark.parametrize("shape", [(48, 48, 3), (49, 64, 3), (48, 33, 1)])
@pytest.mark.parametrize("name", ["MobileNetV3Small", "EfficientNetB0", "ResNet50", "InceptionV3"])
def test_a_nearest_stem_equals_nearest_enlargement(name, shape, rng, source_of):
    if name == "InceptionV3" and min(shape) < 40:
        shape = (48, 41, shape[2])
    source = source_of(name)
    twice = (2 * shape[0], 2 * shape[1])
    # A whole network once; of the others what the stem and the paddings behind it can change.
    is_whole = name == "MobileNetV3Small"
    model = inshape.adapt(
        source,
        shape,
        strategy="restride",
        stem="nearest",
        factor=2,
        features=None if is_whole else [4],
    )
    enlarged = inshape.adapt(
        source,
        shape,
        strategy="resize",
        working_hw=twice,
        interpolation="nearest",
        features=None if is_whole else [8],
    )
    x = pictures(rng, *shape)
    assert_near(run(model, x), run(enlarged, x), 1e-4)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size_hw", [(48, 48), (49, 64)])
def test_a_composed_stem_equals_enlargement_away_from_the_border(small, rng, method, size_hw):
    model = inshape.adapt(
        small, (*size_hw, 3), strategy="restride", stem=method, factor=2, features=[1]
    )
    twice = (2 * size_hw[0], 2 * size_hw[1])
    bare = inshape.adapt(small, (*twice, 3), strategy="rebuild", features=[2])
    x = pictures(rng, *size_hw, 3)
    enlarged = tf.image.resize(x, twice, method=method).numpy()
    inside = (slice(None), slice(6, -6), slice(6, -6))
    assert_near(run(model, x)[inside], run(bare, enlarged)[inside], 1e-4)


def test_a_multiplied_stem_equals_averaging_beforehand(small, rng):
    model = inshape.adapt(small, "320x448x3", strategy="restride", head="top", factor=2)
    bare = inshape.adapt(small, "160x224x3", strategy="rebuild", head="top")
    x = pictures(rng, 320, 448, 3)
    assert_near(run(model, x), run(bare, np.asarray(ops.average_pool(x, 2))))


def test_a_plain_stem_keeps_its_kernel(small, rng):
    model = inshape.adapt(small, "48x65x3", strategy="restride", stem="plain", head="top")
    stem = model.get_layer("conv")
    assert stem.strides == (1, 1)
    np.testing.assert_array_equal(
        np.asarray(stem.kernel), np.asarray(small.get_layer("conv").kernel)
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("MobileNetV3Small", (97, 130, 3)),
        ("MobileNetV3Small", (128, 96, 1)),
        ("MobileNetV2", (97, 130, 3)),
        ("ResNet50", (97, 130, 3)),
        ("MobileNet", (96, 129, 3)),
        ("ConvNeXtTiny", (97, 128, 3)),
    ],
)
def test_dilation_keeps_the_old_sampling_points(name, shape, rng, source_of, minimalistic):
    source = minimalistic if name == "MobileNetV3Small" else source_of(name)
    x = pictures(rng, *shape)
    plain = run(inshape.adapt(source, shape, strategy="rebuild", features=[32]), x)
    for output_stride in (16, 8, 4):
        dense = inshape.adapt(
            source,
            shape,
            strategy="restride",
            output_stride=output_stride,
            features=[output_stride],
        )
        f = 32 // output_stride
        assert_near(run(dense, x)[:, ::f, ::f], plain, 1e-4)
