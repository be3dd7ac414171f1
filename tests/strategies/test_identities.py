"""The identities that each strategy promises, on real networks with random weights."""

from __future__ import annotations

import re
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from tests.narrow import NARROW, without_values

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
        NARROW["MobileNetV3Small"](
            minimalistic=True, weights=None, input_shape=(224, 224, 3), classifier_activation=None
        )
    )


@pytest.fixture(scope="module")
def small(randomise):
    return randomise(
        NARROW["MobileNetV3Small"](
            weights=None, input_shape=(224, 224, 3), classifier_activation=None
        )
    )


@pytest.fixture(scope="module")
def source_of(randomise):
    """A network by its name, without its top, made once."""

    @cache
    def make(name):
        constructor = NARROW.get(name) or getattr(apps, name)
        return randomise(constructor(weights=None, include_top=False, input_shape=(224, 224, 3)))

    return make


def assert_near(found, expected, tolerance=2e-5):
    """Within a tolerance relative to the largest value, which pictures must tell apart."""
    scale = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.002 * scale, "the output ignores its input"
    assert np.abs(found - expected).max() <= tolerance * scale


# Channels

# What follows the first maps is the same network on the same values.
FIRST = {"strategy": "rebuild", "features": [4]}


@pytest.mark.parametrize(
    "name", ["MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny"]
)
def test_one_channel_by_sum_equals_three_equal_channels(name, rng, source_of):
    source = source_of(name)
    model = inshape.adapt(source, (97, 64, 1), channels="sum", **FIRST)
    three = inshape.adapt(source, (97, 64, 3), **FIRST)
    grey = pictures(rng, 97, 64, 1)
    assert_near(run(model, grey), run(three, np.repeat(grey, 3, -1)))


def test_four_channels_by_zero_ignore_the_fourth(small, rng):
    model = inshape.adapt(small, "65x96x4", channels="zero", **FIRST)
    three = inshape.adapt(small, "65x96x3", **FIRST)
    x = pictures(rng, 65, 96, 4)
    assert_near(run(model, x), run(three, x[..., :3]))


def test_an_explicit_list_takes_the_named_channels(small, rng):
    model = inshape.adapt(small, "65x96x3", channels=[2, 0, 1], **FIRST)
    straight = inshape.adapt(small, "65x96x3", **FIRST)
    x = pictures(rng, 65, 96, 3)
    assert_near(run(model, x[..., [2, 0, 1]]), run(straight, x))


@pytest.mark.parametrize("channels", [1, 5])
def test_a_projection_begins_as_the_repetition_or_the_first_three(small, rng, channels):
    model = inshape.adapt(small, f"65x96x{channels}", channels="project", **FIRST)
    three = inshape.adapt(small, "65x96x3", **FIRST)
    x = pictures(rng, 65, 96, channels)
    assert_near(run(model, x), run(three, np.repeat(x, 3, -1) if channels == 1 else x[..., :3]))
    assert "project_channels" in {layer.name for layer in model.layers}


def side_by_side(image):
    x = layers.Normalization(mean=[90.0, 90, 90], variance=[9.0, 9, 9])(image)
    return layers.Conv2D(8, 3, 2, padding="same")(x) + layers.Conv2D(8, 1, 2)(x)


def focus(image):
    """Every other row and column, one after the other, as YOLOX reads a picture."""
    parts = [image[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return layers.Conv2D(8, 3, padding="same")(layers.Concatenate()(parts))


def two_scales(image):
    near = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(image))
    far = layers.MaxPooling2D(2)(layers.AveragePooling2D(2)(image))
    return layers.Add()([near, layers.GlobalMaxPooling2D()(layers.Conv2D(8, 3)(far))])


@pytest.mark.parametrize(
    ("stems", "rule", "matrix"),
    [
        (side_by_side, "zero", np.eye(4, 3)),
        (side_by_side, "sum", np.ones((1, 3))),
        (two_scales, "zero", np.eye(4, 3)),
        (two_scales, "sum", np.ones((1, 3))),
        (focus, "zero", np.eye(5, 3)),
        (focus, "sum", np.ones((1, 3))),
        (focus, [2, None, 0], np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]])),
        (focus, "first", np.eye(2, 3)),
        (focus, "mean", np.full((2, 3), 1 / 3)),
        (focus, "luma", np.array([[0.299, 0.587, 0.114]])),
        (focus, "tile", np.eye(2, 3) * 1.5),
    ],
)
def test_every_stem_is_converted(stems, rule, matrix, rng, randomise):
    image = keras.Input((26, 18, 3))
    source = randomise(keras.Model(image, layers.Dense(3)(layers.ReLU()(stems(image)))))
    shape = (26, 18, len(matrix))
    model = inshape.adapt(source, shape, strategy="rebuild", channels=rule, head="top")
    assert "repeat_channel" not in {layer.name for layer in model.layers}
    x = pictures(rng, *shape)
    assert_near(run(model, x), run(source, (x @ matrix).astype("float32")))


def test_constants_per_channel_are_converted(source_of):
    source = source_of("ConvNeXtTiny")
    model = inshape.adapt(source, "64x96x4", channels="zero", **FIRST)
    normalization = next(layer for layer in model.layers if isinstance(layer, layers.Normalization))
    mean = np.array([0.485, 0.456, 0.406]) * 255
    np.testing.assert_allclose(np.ravel(normalization.mean), [*mean, mean.mean()], rtol=1e-5)


# Sizes


@pytest.fixture(scope="module")
def dynamic(small):
    return inshape.adapt(small, "?x?x3", head="top")


@pytest.mark.parametrize("height_width", [(100, 100), (225, 225), (161, 226), (97, 130)])
def test_the_dynamic_model_equals_the_static_one(small, dynamic, rng, height_width):
    static = inshape.adapt(small, (*height_width, 3), strategy="rebuild", head="top")
    x = pictures(rng, *height_width, 3)
    assert_near(run(dynamic, x), run(static, x))


def test_keras_own_dynamic_model_does_not(small, dynamic, rng):
    """The trap that the test above guards against is real."""
    theirs = NARROW["MobileNetV3Small"](
        weights=None, input_shape=(None, None, 3), classifier_activation=None
    )
    theirs.set_weights(small.get_weights())
    x = pictures(rng, 97, 130, 3)
    assert np.abs(run(theirs, x) - run(dynamic, x)).max() > 1e-2


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_resize_equals_resizing_beforehand(small, rng, fit):
    options = {"pad_to_aspect_ratio": fit == "letterbox", "crop_to_aspect_ratio": fit == "crop"}
    model = inshape.adapt(
        small, "97x130x3", strategy="resize", working_hw=(128, 96), fit=fit, features=[4]
    )
    bare = inshape.adapt(small, "128x96x3", **FIRST)
    x = pictures(rng, 97, 130, 3)
    assert_near(run(model, x), run(bare, layers.Resizing(128, 96, **options)(x)))


def test_resize_takes_any_size(small, rng):
    model = inshape.adapt(small, "?x?x1", strategy="resize", working_hw=(96, 96), features=[4])
    bare = inshape.adapt(small, "96x96x1", **FIRST)
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
    is_whole = (name, shape) == ("MobileNetV3Small", (49, 64, 3))
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
    model = inshape.adapt(small, "48x65x3", strategy="restride", stem="plain", features=[1])
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
    # One stride after the other once; of the others all at once.
    for output_stride in (16, 8, 4) if name == "MobileNetV3Small" else (4,):
        dense = inshape.adapt(
            source,
            shape,
            strategy="restride",
            output_stride=output_stride,
            features=[output_stride],
        )
        f = 32 // output_stride
        assert_near(run(dense, x)[:, ::f, ::f], plain, 1e-4)


# What holds at the border, as the notes say it


def one_convolution(size_hw, kernel, padding):
    image = keras.Input((*size_hw, 3))
    conv = layers.Conv2D(4, kernel, strides=2, padding=padding, name="stem")
    return keras.Model(image, conv(image))


def stem_note(source, size_hw, **options):
    plan = inshape.plan(source, (*size_hw, 3), strategy="restride", head="top", **options)
    return plan, next(note for note in plan.notes if note.startswith("stem"))


def lines_that_differ(found, expected):
    """The least frame outside of which everything is equal: above, below, left, right."""
    wrong = np.abs(found - expected).max(axis=(0, 3)) > 1e-4 * np.abs(expected).max()
    height, width = wrong.shape
    frames = []
    for flags, length in ((wrong[:, width // 2], height), (wrong[height // 2], width)):
        equal = np.flatnonzero(~flags)
        frames += [int(equal[0]), int(length - 1 - equal[-1])]
    above, below, left, right = frames
    assert not wrong[above : height - below, left : width - right].any()
    return frames


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("kernel", "padding"), [(3, "same"), (3, "valid"), (7, "same"), (5, "same")]
)
@pytest.mark.parametrize("size_hw", [(24, 24), (21, 32)])
def test_the_note_says_which_pixels_differ_at_the_border(
    method, kernel, padding, size_hw, rng, randomise
):
    source = randomise(one_convolution((48, 48), kernel, padding))
    plan, note = stem_note(source, size_hw, stem=method, factor=2)
    twice = (2 * size_hw[0], 2 * size_hw[1])
    x = pictures(rng, *size_hw, 3)
    found = run(plan.build(), x)
    bare = inshape.adapt(source, (*twice, 3), strategy="rebuild", head="top")
    expected = run(bare, tf.image.resize(x, twice, method=method).numpy())
    above, below, left, right = lines_that_differ(found, expected)
    assert (
        f"but for the outermost pixels of its map ({above} above, {below} below, {left} left, "
        f"{right} right): a resize repeats the border there, a convolution reads zeros"
    ) in note


@pytest.mark.parametrize("size_hw", [(24, 24), (21, 32)])
def test_nearest_differs_nowhere_and_says_nothing_of_it(size_hw, rng, randomise):
    source = randomise(one_convolution((48, 48), 3, "same"))
    plan, note = stem_note(source, size_hw, stem="nearest", factor=2)
    twice = (2 * size_hw[0], 2 * size_hw[1])
    bare = inshape.adapt(source, (*twice, 3), strategy="rebuild", head="top")
    x = pictures(rng, *size_hw, 3)
    enlarged = tf.image.resize(x, twice, method="nearest").numpy()
    assert lines_that_differ(run(plan.build(), x), run(bare, enlarged)) == [0, 0, 0, 0]
    assert "but for" not in note


@pytest.mark.parametrize(("kernel", "padding"), [(3, "same"), (3, "valid"), (7, "same")])
@pytest.mark.parametrize("size_hw", [(96, 96), (97, 96), (96, 97), (99, 101)])
def test_the_note_says_what_averaging_would_drop(kernel, padding, size_hw, rng, randomise):
    source = randomise(one_convolution((48, 48), kernel, padding))
    plan, note = stem_note(source, size_hw, factor=2)
    half = (size_hw[0] // 2, size_hw[1] // 2)
    bare = inshape.adapt(source, (*half, 3), strategy="rebuild", head="top")
    x = pictures(rng, *size_hw, 3)
    expected = run(bare, np.asarray(ops.average_pool(x, 2)))
    above, below, left, right = lines_that_differ(run(plan.build(), x), expected)
    assert (above, left) == (0, 0)
    words = [f"{below} row{'s' * (below > 1)}"] * (below > 0)
    words += [f"{right} column{'s' * (right > 1)}"] * (right > 0)
    if words:
        assert (
            f"but for the last {' and '.join(words)} of its map: they read the pixels that fill no "
            "block of 2, which averaging would drop"
        ) in note
    else:
        assert "but for" not in note


def valid_down(size_hw):
    """As ConvNeXt and VGG go down: windows without zeros around the map."""
    image = keras.Input((*size_hw, 3))
    x = layers.Conv2D(4, 4, strides=4, name="patches")(image)
    x = layers.Conv2D(4, 2, strides=2, name="down1")(x)
    x = layers.Conv2D(4, 3, padding="same", name="keeps")(x)
    x = layers.Conv2D(4, 2, strides=2, name="down2")(x)
    x = layers.Conv2D(4, 3, padding="same", name="last")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x))


@pytest.mark.parametrize(
    ("size", "found", "expected", "names"),
    [
        ("64x64", "7x7", "8x8", "down2"),
        ("64x72", "7x8", "8x9", "down2"),
        ("68x64", "7x7", "9x8", "down1, down2"),
        ("67x66", "7x7", "9x9", "patches, down2"),
    ],
)
def test_a_map_of_an_output_stride_that_is_smaller_than_expected(
    size, found, expected, names, randomise
):
    source = randomise(valid_down((64, 64)))
    plan = inshape.plan(source, f"{size}x3", output_stride=8, features=[8])
    assert (
        f"the map is {found}, not {expected} = {size} / 8, because of windows that pad no zeros "
        f'(padding="valid"): {names}'
    ) in plan.notes
    assert plan.build().output_shape[1:3] == tuple(map(int, found.split("x")))


def test_a_map_of_the_expected_size_is_not_spoken_of(randomise):
    image = keras.Input((64, 64, 3))
    x = image
    for _ in range(4):
        x = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    source = randomise(keras.Model(image, x))
    plan = inshape.plan(source, "67x66x3", output_stride=8, features=[8])
    assert not any("the map is" in note for note in plan.notes)
    assert plan.build().output_shape[1:3] == (9, 9)


def test_nasnet_cannot_be_dilated():
    with without_values():
        source = NARROW["NASNetMobile"](weights=None, include_top=False, input_shape=(224, 224, 3))
    message = (
        "output_stride=16: layer 'reduction_add_2_reduce_2' (elementwise) joins maps that would "
        "differ in size; use strategy='rebuild' without output_stride"
    )
    with pytest.raises(inshape.errors.StrategyError, match=re.escape(message)):
        inshape.plan(source, "224x224x3", output_stride=16)
