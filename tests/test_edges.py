"""Networks that people bring themselves: as their own constructor builds them, or refused by name.

Each is a function of height and width, so that what is right at another size is known.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import layers, ops

import inshape
from inshape.errors import FixedShape, InshapeError, MapMismatch, StrategyError

Maker = Callable[[int, int], keras.Model]


def answer(model: keras.Model, pictures: np.ndarray, **how) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(pictures, **how))


def block(x, filters, strides=1, **how):
    x = layers.Conv2D(filters, 3, strides, padding="same", **how)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def picture(height, width):
    return keras.Input((height, width, 3))


def whole_window(h, w):
    image = picture(h, w)
    x = block(block(image, 8, 2), 16, 2)
    return keras.Model(
        image, layers.Dense(5)(layers.Flatten()(layers.AveragePooling2D(x.shape[1:3])(x)))
    )


def pooled_by_operation(h, w):
    image = picture(h, w)
    x = block(image, 8, 4)
    return keras.Model(image, layers.Conv2D(4, 1)(ops.average_pool(x, x.shape[1:3], strides=1)))


def channel_shuffle(h, w):
    image = picture(h, w)
    x = block(image, 8, 4)
    rows, columns, channels = x.shape[1:]
    x = layers.Reshape((rows, columns, 2, channels // 2))(x)
    x = layers.Reshape((rows, columns, channels))(layers.Permute((1, 2, 4, 3))(x))
    return keras.Model(image, block(x, 8, 2))


def mask_by_operation(h, w):
    image = picture(h, w)
    return keras.Model(image, ops.image.resize(layers.Conv2D(2, 1)(block(image, 8, 2)), (h, w)))


def mask_by_layer(h, w):
    image = picture(h, w)
    return keras.Model(image, layers.Resizing(h, w)(layers.Conv2D(2, 1)(block(image, 8, 2))))


def resized_skip(h, w):
    image = picture(h, w)
    skip = block(image, 8, 2)
    up = layers.Resizing(*skip.shape[1:3])(block(skip, 16, 2))
    return keras.Model(image, block(layers.Concatenate()([skip, up]), 4))


def image_pooling(h, w):
    image = picture(h, w)
    x = block(image, 8, 4)
    hw = x.shape[1:3]
    pooled = layers.Conv2D(8, 1)(layers.AveragePooling2D(hw)(x))
    pooled = layers.UpSampling2D(hw, interpolation="bilinear")(pooled)
    return keras.Model(image, layers.Concatenate()([pooled, layers.Conv2D(8, 1)(x)]))


class Doubled(layers.Layer):
    """A layer that says nothing of its batch axis."""

    def call(self, x):
        return 2 * x

    def compute_output_shape(self, shape):
        return (None, *shape[1:])


def folded_rows(h, w):
    image = picture(h, w)
    x = block(image, 8, 2)
    rows, columns, channels = x.shape[1:]
    y = Doubled()(layers.Dense(channels)(ops.reshape(x, (-1, columns, channels))))
    y = ops.reshape(y, (-1, rows, columns, channels))
    return keras.Model(image, layers.GlobalAveragePooling2D()(y))


def attention_in_windows(h, w):
    def attended(x, window=4):
        rows, columns, channels = x.shape[1:]
        down, across = rows // window, columns // window
        y = ops.reshape(x, (-1, down, window, across, window, channels))
        y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, window * window, channels))
        y = layers.MultiHeadAttention(2, 4)(y, y)
        y = ops.reshape(y, (-1, down, across, window, window, channels))
        return ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, rows, columns, channels))

    image = picture(h, w)
    x = attended(block(attended(block(image, 8, 2)), 8, 2))
    return keras.Model(image, layers.GlobalAveragePooling2D()(x))


def tokens_and_back(h, w):
    image = picture(h, w)
    x = block(image, 8, 2)
    rows, columns, channels = x.shape[1:]
    y = layers.Dense(channels)(layers.Reshape((-1, channels))(x))
    return keras.Model(image, x * layers.Reshape((rows, columns, channels))(y))


def space_to_depth(h, w):
    image = picture(h, w)
    x = block(image, 8, 2)
    parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return keras.Model(image, block(layers.Concatenate()(parts), 8))


def sliced_to_fit(h, w):
    image = picture(h, w)
    x = layers.Conv2D(8, 3, 2)(image)
    y = layers.Conv2D(8, 3)(x)
    return keras.Model(image, y + x[:, : y.shape[1], : y.shape[2]])


def cropped_to_fit(h, w):
    image = picture(h, w)
    x = layers.Conv2D(8, 3, 2)(image)
    y = layers.Conv2D(8, 3)(x)
    centre = layers.CenterCrop(*y.shape[1:3])(x, training=False)
    return keras.Model(image, layers.Add()([centre, y]))


def cropped_by_one(h, w):
    image = picture(h, w)
    x = layers.Conv2D(8, 3)(image)
    return keras.Model(image, layers.Add()([layers.Cropping2D(1)(x), layers.Conv2D(8, 3)(x)]))


def split_channels(h, w):
    image = picture(h, w)
    few, many = ops.split(block(image, 16, 2), [4], axis=-1)
    few = layers.Conv2D(4, 3, padding="same")(few)
    return keras.Model(image, layers.Conv2D(8, 1)(ops.concatenate([few, many], axis=-1)))


def transposed(h, w):
    image = picture(h, w)
    skip = block(image, 8, 2)
    up = layers.Conv2DTranspose(8, 3, 2, padding="same")(block(skip, 16, 2))
    x = layers.Concatenate()([up, skip])
    return keras.Model(image, layers.Conv2DTranspose(2, 3, 2, padding="valid")(x))


def turned(h, w):
    image = picture(h, w)
    return keras.Model(image, block(layers.Permute((2, 1, 3))(block(image, 8, 2)), 4))


def tokens(h, w):
    image = picture(h, w)
    x = layers.Reshape((-1, 16))(layers.Conv2D(16, 8, 8)(image))
    return keras.Model(image, layers.MultiHeadAttention(2, 8)(x, x))


class Patches(layers.Layer):
    """Takes patches out, which Keras does by a convolution with an identity, and mixes them."""

    def build(self, shape):
        self.mix = layers.Dense(4)
        self.mix.build((*shape[:-1], 9 * shape[-1]))

    def call(self, x):
        return self.mix(ops.image.extract_patches(x, 3, strides=1, padding="same"))


def patches(h, w):
    return keras.Model(image := picture(h, w), Patches()(block(image, 8, 2)))


class Levels(layers.Layer):
    """Puts out two maps, of dilated convolutions whose dilation is no divisor of their size."""

    def build(self, shape):
        self.wide = layers.Conv2D(4, 3, padding="same", dilation_rate=6)
        self.deep = layers.SeparableConv2D(2, 3, dilation_rate=(2, 3))
        for layer in (self.wide, self.deep):
            layer.build(shape)

    def call(self, x):
        return self.wide(x), self.deep(x)


def levels(h, w):
    return keras.Model(image := picture(h, w), Levels()(block(image, 8, 4)))


FOLLOWING = (
    *(whole_window, pooled_by_operation, channel_shuffle, mask_by_operation, mask_by_layer),
    *(resized_skip, image_pooling, folded_rows, attention_in_windows, tokens_and_back),
    *(space_to_depth, sliced_to_fit, cropped_to_fit, cropped_by_one, split_channels),
    *(transposed, turned, tokens),
)


@pytest.mark.backends
@pytest.mark.parametrize("make", FOLLOWING, ids=lambda make: make.__name__)
def test_numbers_of_the_old_size_follow_their_maps(make: Maker, rng, randomise):
    source = randomise(make(64, 64))
    for height, width in ((64, 64), (96, 80)):
        plan = inshape.plan(source, (height, width, 3), strategy="rebuild", head="top")
        got, want = plan.build(), make(height, width)
        want.set_weights(source.get_weights())
        x = rng.uniform(0, 1, (2, height, width, 3)).astype("float32")
        expected = answer(want, x, training=False)
        assert np.abs(expected[0] - expected[1]).max() > 1e-3 * np.abs(expected).max()
        np.testing.assert_allclose(
            answer(got, x), expected, atol=1e-5 * np.abs(expected).max(), rtol=1e-5
        )
        assert plan.geometry.params == want.count_params()


@pytest.mark.parametrize(
    ("make", "hw", "macs"),
    [
        (split_channels, (96, 96), 48 * 48 * (27 * 16 + 36 * 4 + 16 * 8)),
        (tokens, (96, 96), 144 * 192 * 16 + 144 * (3 * 16 * 16 + 16 * 16) + 2 * 144 * 144 * 16),
        (patches, (64, 32), 32 * 16 * 27 * 8 + 32 * 16 * 72 * 4),
        (levels, (64, 32), 16 * 8 * (27 * 8 + 72 * 4) + 12 * 2 * (72 + 16)),
        (turned, (32, 64), 16 * 32 * 27 * 8 + 32 * 16 * 72 * 4),
        (
            transposed,
            (64, 64),
            32 * 32 * 27 * 8 + 256 * 72 * 16 + 256 * 9 * 16 * 8 + 1024 * 9 * 16 * 2,
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_multiplications_are_those_counted_by_hand(make: Maker, hw, macs):
    plan = inshape.plan(make(64, 64), (*hw, 3), strategy="rebuild", head="top")
    assert plan.geometry.macs == macs


@pytest.mark.parametrize("make", FOLLOWING, ids=lambda make: make.__name__)
def test_any_size_is_promised_only_where_it_was_tried(make: Maker, rng, randomise):
    source = randomise(make(64, 64))
    try:
        plan = inshape.plan(source, "?x?x3", strategy="flexible", head="top")
    except FixedShape:
        assert make not in (mask_by_operation, mask_by_layer, resized_skip)
        return
    step = plan.decision.size_step_px
    model = plan.build()
    for height, width in ((64 + 3 * step, 64 + 5 * step), (64 + 7 * step, 64)):
        want = make(height, width)
        want.set_weights(source.get_weights())
        x = rng.uniform(0, 1, (2, height, width, 3)).astype("float32")
        expected = answer(want, x, training=False)
        np.testing.assert_allclose(
            answer(model, x), expected, atol=1e-5 * np.abs(expected).max(), rtol=1e-5
        )


def test_a_step_between_sizes_is_said():
    assert "in steps of 4 pixels" in str(inshape.plan(transposed(64, 64), "?x?x3", head="top"))


@keras.saving.register_keras_serializable(package="tests")
class Twice(layers.Layer):
    """A layer of a user's, with a convolution inside."""

    def __init__(self, **how):
        super().__init__(**how)
        self.conv = layers.Conv2D(16, 3, padding="same")

    def build(self, shape):
        self.conv.build(shape)

    def call(self, x):
        return self.conv(x)


@keras.saving.register_keras_serializable(package="tests")
class Places(layers.Layer):
    """A layer of a user's, with a weight for every place."""

    def build(self, shape):
        self.places = self.add_weight(shape=(1, *shape[1:]), name="places")

    def call(self, x):
        return x + self.places


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="traced by TensorFlow")
def test_a_layer_of_the_users_is_counted_as_it_is_traced():
    image = picture(64, 64)
    source = keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(Twice()(image))))
    plan = inshape.plan(source, "96x80x3", strategy="rebuild", head="top")
    assert plan.geometry.macs == 96 * 80 * 27 * 16 + 16 * 4


def test_what_is_not_counted_makes_the_sum_unknown():
    image = picture(64, 64)
    sequence = layers.Reshape((64, 64 * 3), name="rows")(image)
    source = keras.Model(image, layers.LSTM(4, name="reader")(sequence))
    plan = inshape.plan(source, "64x64x3", strategy="rebuild", head="top")
    assert plan.geometry.macs is None
    assert "at least" in str(plan)
    assert plan.geometry.uncounted == ("reader",)


def tied(middle: Callable) -> keras.Model:
    image = picture(64, 64)
    return keras.Model(image, layers.GlobalAveragePooling2D()(middle(block(image, 4, 4))))


@pytest.mark.backends
@pytest.mark.parametrize(
    "middle",
    [
        layers.PReLU(name="tied"),
        layers.LayerNormalization(axis=(1, 2, 3), name="tied"),
        layers.BatchNormalization(axis=1, name="tied"),
        Places(name="tied"),
        lambda x: layers.Dense(4, name="tied")(layers.Permute((3, 2, 1))(x)),
        lambda x: layers.Lambda(
            lambda t: ops.reshape(t, (-1, 16, 16, 4)), name="tied", output_shape=(16, 16, 4)
        )(x),
    ],
    ids=["prelu", "layer norm", "batch norm", "own layer", "dense", "lambda"],
)
def test_what_cannot_be_built_cannot_be_planned(middle):
    source = tied(middle)
    for shape in ("96x80x3", "?x?x3"):
        with pytest.raises(FixedShape, match='"tied"'):
            inshape.plan(source, shape, strategy="flexible" if "?" in shape else "rebuild")
    resized = inshape.adapt(source, "96x80x3", strategy="resize", head="top")
    assert resized.output_shape == source.output_shape


def test_a_transposed_network_is_refused_where_its_maps_do_not_meet():
    with pytest.raises(MapMismatch, match="expected equal sizes; use a height of 356 or 359"):
        inshape.plan(transposed(64, 64), "358x64x3", head="top")


def test_a_number_with_two_meanings_is_refused_by_name():
    image = picture(64, 64)
    x = block(image, 8, 4)
    y = ops.reshape(x, (-1, 4, 4, 4, 4, 8))
    source = keras.Model(image, layers.Dense(2)(ops.mean(y, axis=(1, 2, 3, 4))))
    message = "makes 4x4 of 16, and of 24 it could make 4x6 or 6x4; use 64x64"
    with pytest.raises(FixedShape, match=message):
        inshape.plan(source, "96x64x3", strategy="rebuild", head="top")


@pytest.mark.parametrize("shape", ["64x64x3", "20x20x3", "96x160x3"])
def test_a_mask_keeps_the_size_of_its_picture(shape):
    plan = inshape.plan(mask_by_layer(128, 128), shape, head="top")
    assert plan.strategy == "rebuild"
    assert plan.build().output_shape[1:3] == plan.input_shape.hw
    assert not plan.notes


def test_a_change_of_the_outputs_relation_to_the_input_is_said():
    image = picture(64, 64)
    source = keras.Model(image, block(block(image, 4, 2), 2))
    (note,) = (
        note
        for note in inshape.plan(source, "32x32x3", strategy="restride", head="top").notes
        if note.startswith("output")
    )
    assert "is 32x32 for 32x32, where it was 32x32 for 64x64" in note


@keras.saving.register_keras_serializable(package="tests")
class Standardised(layers.Conv2D):
    """A convolution with a standardised kernel, as in BiT and NFNet."""

    def call(self, x):
        kernel = self.kernel - ops.mean(self.kernel, axis=(0, 1, 2), keepdims=True)
        kernel = kernel / (ops.std(kernel, axis=(0, 1, 2), keepdims=True) + 1e-5)
        return ops.conv(x, kernel, strides=self.strides, padding=self.padding) + self.bias


@keras.saving.register_keras_serializable(package="tests")
class SelfPadding(layers.Conv2D):
    """A convolution that pads by itself, so that its map is larger than its parent's."""

    def call(self, x):
        return super().call(ops.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0))))

    def compute_output_shape(self, shape):
        return super().compute_output_shape((shape[0], shape[1] + 6, shape[2] + 6, shape[3]))


def with_lora(*args, **how):
    conv = layers.Conv2D(*args, **how)
    conv.build((None, 64, 64, 3))
    conv.enable_lora(2)
    return conv


def wrapped(*args, name, **how):
    return layers.SpectralNormalization(layers.Conv2D(*args, **how), name=name)


OWN_CONVOLUTIONS = (Standardised, SelfPadding, with_lora, wrapped)


@pytest.mark.backends
@pytest.mark.parametrize("conv", OWN_CONVOLUTIONS, ids=lambda conv: conv.__name__)
def test_a_convolution_of_another_kind_is_not_converted(conv, rng, randomise):
    image = picture(64, 64)
    x = layers.ReLU()(conv(16, 3, strides=2, padding="same", name="stem")(image))
    source = randomise(keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x))))
    grey = rng.uniform(0, 1, (2, 64, 64, 1)).astype("float32")
    model = inshape.adapt(source, "64x64x1", head="top", strategy="rebuild")
    expected = answer(source, grey.repeat(3, -1))
    np.testing.assert_allclose(answer(model, grey), expected, atol=1e-5)
    with pytest.raises(StrategyError, match="channels='project'"):
        inshape.plan(source, "64x64x4", head="top", strategy="rebuild")
    with pytest.raises(StrategyError, match="strategy='rebuild' or 'resize'"):
        inshape.plan(source, "32x32x3", head="top", strategy="restride", factor=2)
    assert inshape.plan(source, "32x32x3", head="top").strategy == "resize"
    assert inshape.adapt(source, "64x64x4", head="top", channels="project").built
    plan = inshape.plan(source, "96x80x3", head="top", strategy="rebuild")
    assert plan.geometry.params == plan.build().count_params() == source.count_params()


@pytest.mark.backends
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ("32x32x3", {"strategy": "resize"}),
        ("32x40x3", {"strategy": "resize", "fit": "letterbox"}),
        ("32x40x3", {"strategy": "resize", "fit": "crop"}),
        ("80x96x1", {"strategy": "rebuild"}),
        ("32x32x3", {"strategy": "restride"}),
        ("?x?x3", {"strategy": "flexible"}),
    ],
    ids=lambda value: value["strategy"] if isinstance(value, dict) else value,
)
@pytest.mark.parametrize("make", [whole_window, resized_skip], ids=lambda make: make.__name__)
def test_a_call_without_training_is_one_of_inference(make, shape, options, rng, randomise):
    source = randomise(make(64, 64))
    try:
        model = inshape.adapt(source, shape, head="top", **options)
    except InshapeError:
        assert "?" in shape  # what holds numbers has no any size
        return
    height, width, channels = (n or 64 for n in inshape.InputShape.of(shape).as_tuple())
    x = rng.uniform(0, 1, (2, height, width, channels)).astype("float32")
    before = [w.copy() for w in model.get_weights()]
    called = answer(model, x)
    np.testing.assert_allclose(called, model.predict(x, verbose=0), atol=1e-5)
    np.testing.assert_allclose(called, answer(model, x, training=False), atol=1e-6)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert np.abs(called - answer(model, x, training=True)).max() > 1e-4  # it can be trained


def test_augmentation_inside_stays_what_it_is_in_training_alone(rng, randomise):
    image = picture(64, 64)
    x = block(layers.RandomFlip(name="flip")(layers.Resizing(48, 48)(image)), 4, 2)
    source = randomise(keras.Model(image, x))
    model = inshape.adapt(source, "80x80x3", strategy="rebuild", head="top")
    x = rng.uniform(0, 1, (8, 80, 80, 3)).astype("float32")
    np.testing.assert_allclose(model(x), model.predict(x, verbose=0), atol=1e-5)
    flip = keras.Model(model.input, model.get_layer("flip").output)
    assert np.array_equal(flip(x), flip(x))
    # One flip in four is none.
    assert any(not np.array_equal(flip(x, training=True), flip(x)) for _ in range(20))


def test_keras_alone_reloads_what_answers_alike(tmp_path, rng, randomise, run_program):
    """With no line of inshape in the process."""
    x = rng.uniform(0, 1, (2, 32, 40, 3)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    answers = {}
    for name, options in {
        "resize": {"strategy": "resize", "fit": "letterbox"},
        "restride": {"strategy": "restride", "factor": 2},
        "rebuild": {"strategy": "rebuild"},
        "flexible": {"strategy": "flexible"},
    }.items():
        source = randomise(channel_shuffle(64, 64) if name != "flexible" else transposed(64, 64))
        shape = "?x?x3" if name == "flexible" else "32x40x3"
        model = inshape.adapt(source, shape, head="top", **options)
        model.save(tmp_path / f"{name}.keras")
        answers[name] = np.asarray(model(x))
    program = """
import sys, pathlib, numpy as np, keras
x = np.load("x.npy")
for path in pathlib.Path().glob("*.keras"):
    model = keras.saving.load_model(path, compile=False)
    np.save(path.with_suffix(".npy"), model(x))
    model.export(path.stem, verbose=False)
    served = keras.layers.TFSMLayer(path.stem, call_endpoint="serve")(x)
    np.save(f"{path.stem}.served.npy", served)
assert "inshape" not in sys.modules
"""
    ended = run_program(program, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    for name, answer in answers.items():
        for file in (f"{name}.npy", f"{name}.served.npy"):
            np.testing.assert_allclose(np.load(tmp_path / file), answer, atol=1e-5)


def test_layers_made_with_numpys_numbers_are_written_down():
    image = picture(32, 32)
    x = layers.Conv2D(np.int64(8), 3, name="stem")(image)
    plan = inshape.plan(keras.Model(image, x), "40x40x3", strategy="rebuild", classes=2)
    assert json.loads(json.dumps(plan.as_dict()))["geometry"]["params"] == plan.geometry.params
