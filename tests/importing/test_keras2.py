"""Whole models of Keras 2."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras import layers, ops
from PIL import Image
from tests.importing.old_keras import function, functional, layer, picture, write_archive, write_h5

import inshape
from inshape.errors import GraphError, InshapeError, WeightsError
from inshape.importing.api import read_file
from inshape.importing.imported import RANGE_UNKNOWN

SHAPE = (21, 34, 3)
RNG = np.random.default_rng(0)
POLICY = {"module": "keras.mixed_precision", "class_name": "PolicyV1",
          "config": {"name": "float32", "loss_scale": None}}  # fmt: skip


def normal(*shape):
    return RNG.normal(0, 0.4, shape).astype(np.float32)


def statistics(channels):
    return [*normal(3, channels), RNG.uniform(0.5, 1.5, channels).astype(np.float32)]


WEIGHTS = {
    "stem/conv": [normal(3, 3, 3, 4)],
    "stem/norm": statistics(4),
    "depthwise": [normal(3, 3, 4, 1), normal(4)],
    "up": [normal(3, 3, 4, 4), normal(4)],
    # Those that are trained stand before the statistics of the whole nested model.
    "block": [*(inner := [normal(1, 1, 4, 4), normal(4)]), *(norm := statistics(4))],
    "classes": [normal(8, 5), normal(5)],
}
BY_PATH = {
    "conv2d": WEIGHTS["stem/conv"],
    "batch_normalization_v1": WEIGHTS["stem/norm"],
    "depthwise_conv2d": WEIGHTS["depthwise"],
    "conv2d_transpose": WEIGHTS["up"],
    "sequential/_layer_checkpoint_dependencies/conv2d": inner,
    "sequential/_layer_checkpoint_dependencies/batch_normalization": norm,
    "dense": WEIGHTS["classes"],
}


def old_network():
    """What Keras 3 refuses or computes differently, in one network."""
    block = {
        **layer("Sequential", "block"),
        "config": {
            "name": "block",
            "layers": [
                layer("Conv2D", "conv", filters=4, kernel_size=[1, 1],
                      batch_input_shape=[None, 21, 34, 4]),
                layer("BatchNormalization", "norm", axis=[3]),
            ],
        },
        # Its own graph was its first call.
        "inbound_nodes": [[["product", 0, 0, {"training": False}]], [["up", 0, 0, {}]]],
    }  # fmt: skip
    both = layer("Concatenate", "both", axis=-1)
    both["inbound_nodes"] = [[["block", 1, 0, {}], ["block", 2, 0, {}]]]
    return functional([
        picture(*SHAPE),
        function("math.truediv", "tf.math.truediv", ["picture", 0, 0, {"y": 127.5, "name": None}]),
        function("math.subtract", "scaled",
                 ["_CONSTANT_VALUE", -1, 1.0, {"y": ["tf.math.truediv", 0, 0], "name": None}]),
        layer("Conv2D", "stem/conv", "scaled", filters=4, kernel_size=[3, 3], strides=[1, 1],
              padding="same", use_bias=False, groups=1, dtype=POLICY,
              kernel_initializer={"class_name": "Old", "config": {}},
              kernel_regularizer={"class_name": "L2", "config": {"l2": 0.5}}),
        layer("BatchNormalizationV1", "stem/norm", "stem/conv", axis=[3], epsilon=0.01, fused=True),
        layer("DepthwiseConv2D", "depthwise", "stem/norm", kernel_size=[3, 3], padding="same",
              groups=1, activation="hard_sigmoid"),
        function("math.multiply", "product",
                 ["stem/norm", 0, 0, {"y": ["depthwise", 0, 0], "name": None}]),
        layer("Conv2DTranspose", "up", "product", filters=4, kernel_size=[3, 3], padding="same",
              groups=1, activation="relu"),
        block,
        both,
        layer("LeakyReLU", "leaky", "both", alpha=0.2),
        layer("GlobalAveragePooling2D", "pool", "leaky"),
        layer("Dense", "classes", "pool", units=5, activation="softmax"),
    ])  # fmt: skip


def expected_answers(pictures):
    """The same network by the constructors of today."""
    image = keras.Input(SHAPE)
    scaled = layers.Rescaling(-1 / 127.5, 1.0)(image)
    stem = layers.Conv2D(4, 3, padding="same", use_bias=False)
    stem_norm = layers.BatchNormalization(epsilon=0.01)
    depthwise, up = (
        layers.DepthwiseConv2D(3, padding="same"),
        layers.Conv2DTranspose(4, 3, padding="same", activation="relu"),
    )
    conv, norm_layer, dense = layers.Conv2D(4, 1), layers.BatchNormalization(), layers.Dense(5)
    x = stem_norm(stem(scaled))
    product = x * ops.minimum(ops.maximum(0.2 * depthwise(x) + 0.5, 0), 1)
    both = ops.concatenate([norm_layer(conv(product)), norm_layer(conv(up(product)))], -1)
    pooled = ops.mean(ops.where(both > 0, both, 0.2 * both), (1, 2))
    model = keras.Model(image, ops.softmax(dense(pooled)))
    for made, name in (
        *((stem, "stem/conv"), (stem_norm, "stem/norm"), (depthwise, "depthwise")),
        *((up, "up"), (dense, "classes")),
    ):
        made.set_weights(WEIGHTS[name])
    conv.set_weights(inner), norm_layer.set_weights(norm)
    return np.asarray(model(pictures))


@pytest.fixture(scope="module")
def pictures():
    return RNG.uniform(0, 255, (3, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    return read_file(write_h5(folder / "a.h5", old_network(), WEIGHTS)).model


def test_a_model_in_hdf5_answers_as_it_did(read, pictures):
    np.testing.assert_allclose(read(pictures), expected_answers(pictures), rtol=0, atol=1e-6)
    assert [x.name for x in read.layers][1:3] == ["stem_conv", "stem_norm"]
    assert read.get_layer("stem_conv").kernel_regularizer.l2 == 0.5
    assert read.name == "net"


def test_a_model_in_an_archive_answers_as_it_did(tmp_path, pictures):
    path = write_archive(tmp_path / "a.keras", old_network(), BY_PATH)
    answers = read_file(path).model(pictures)
    np.testing.assert_allclose(answers, expected_answers(pictures), rtol=0, atol=1e-6)


def test_it_is_adapted_and_saved_as_any_other(read, pictures, tmp_path):
    adapted = inshape.adapt(read, "33x48x1", head="top", strategy="rebuild")
    adapted.save(tmp_path / "new.keras")
    again = keras.saving.load_model(tmp_path / "new.keras")
    grey = RNG.uniform(0, 255, (2, 33, 48, 1)).astype(np.float32)
    np.testing.assert_array_equal(again(grey), adapted(grey))
    assert np.ptp(np.asarray(adapted(grey)), axis=0).max() > 0


def test_the_layers_of_early_sequential_models_stand_alone(tmp_path):
    records = [
        layer("Conv2D", "conv", filters=2, kernel_size=[3, 3], batch_input_shape=[None, 9, 8, 1]),
        layer("MaxPooling2D", "pool", pool_size=[2, 2]),
        layer("Flatten", "flat"),
        layer("Dense", "dense", units=2),
    ]
    weights = {"conv": [normal(3, 3, 1, 2), normal(2)], "dense": [normal(18, 2), normal(2)]}
    model = {"class_name": "Sequential", "config": records}
    path = write_h5(tmp_path / "a.h5", model, weights, "2.1.5")
    twin = keras.Sequential([layers.Input((9, 8, 1)), layers.Conv2D(2, 3), layers.MaxPool2D(),
                             layers.Flatten(), layers.Dense(2)])  # fmt: skip
    twin.set_weights([*weights["conv"], *weights["dense"]])
    grey = normal(2, 9, 8, 1)
    np.testing.assert_allclose(read_file(path).model(grey), twin(grey), rtol=0, atol=1e-6)


def of_operator(operation, constants):
    node = {"name": "x", "op": operation, "input": ["x", "y"], "attr": {}}
    return layer("TensorFlowOpLayer", "op", "picture", node_def=node, constants=constants)


def of_function(word, **options):
    return function(word, "op", ["picture", 0, 0, options])


def sliced(*parts):
    record = of_function("__operators__.getitem", slice_spec=[
        dict(zip(("start", "stop", "step"), part, strict=True)) for part in parts
    ])  # fmt: skip
    return {**record, "class_name": "SlicingOpLambda"}


CASES = {
    "operator": (of_operator("RealDiv", {"1": 4.0}), lambda x: x / 4),
    "operator of a constant": (of_operator("Sub", {"0": 1.0}), lambda x: 1 - x),
    "mean": (of_function("math.reduce_mean", axis=[1, 2]), lambda x: x.mean((1, 2))),
    "clip": (
        of_function("clip_by_value", clip_value_min=-0.5, clip_value_max=0.25),
        lambda x: np.clip(x, -0.5, 0.25),
    ),
    "leaky relu": (of_function("nn.leaky_relu"), lambda x: np.where(x > 0, x, 0.2 * x)),
    "pad": (
        of_function("compat.v1.pad", paddings=[[0, 0], [1, 0], [0, 2], [0, 0]], mode="CONSTANT"),
        lambda x: np.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0))),
    ),
    "reshape": (of_function("reshape", shape=[-1, 12]), lambda x: x.reshape(-1, 12)),
    "slice": (
        sliced((None, None, None), (1, -1, None), (None, None, 2)),
        lambda x: x[:, 1:-1, ::2],
    ),
    "threshold": (
        layer("ThresholdedReLU", "op", "picture", theta=0.5),
        lambda x: np.where(x > 0.5, x, 0),
    ),
    "hard sigmoid": (
        layer("Activation", "op", "picture", activation="hard_sigmoid"),
        lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    ),
    "layer as activation": (
        layer("Activation", "op", "picture",
              activation={"class_name": "ReLU", "config": {"name": "a", "max_value": 0.5}}),
        lambda x: np.clip(x, 0, 0.5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_stood_between_layers(case, tmp_path):
    record, compute = CASES[case]
    path = write_h5(tmp_path / "a.h5", functional([picture(4, 3, 1), record]), {})
    x = 3 * normal(2, 4, 3, 1)
    np.testing.assert_allclose(read_file(path).model(x), compute(x), rtol=0, atol=1e-6)


def conv(name="op", **options):
    return layer("Conv2D", name, "picture", **{"filters": 2, "kernel_size": [1, 1], **options})


OWN = (
    "; expected Keras's own layers; no code is run for a file: make the model in Python with your "
    "own classes, load its weights there, and pass the keras.Model"
)
REFUSED = {
    "layer 'op' ('Lambda'): it is a function of Python's, which would be run; expected Keras's own "
    "layers; replace it where the model was made, and save it again":
        layer("Lambda", "op", "picture", function=["4wEAAAA=", None, None]),
    f"layer 'op' ('Mine'): it is no layer of Keras's own{OWN}": layer("Mine", "op", "picture"),
    "layer 'op' ('TimeDistributed'): it is not read from files of Keras 2; expected layers of":
        layer("TimeDistributed", "op", "picture"),
    f"layer 'op' ('TFSMLayer'): it is no layer of Keras's own{OWN}":
        layer("TFSMLayer", "op", "picture", filepath="/tmp"),
    f"layer 'op' ('Conv2D'): activation is 'mine'{OWN}": conv(activation="mine"),
    f"layer 'op' ('Conv2D'): kernel_regularizer is 'mine'{OWN}": conv(kernel_regularizer="mine"),
    "layer 'op' ('TFOpLambda'): it computes tf.'py_function'; expected one of: abs, add, ":
        of_function("numpy.py_function"),
    "layer 'op' ('TensorFlowOpLayer'): it computes 'PyFunc'; expected one of: Add, ":
        of_operator("PyFunc", {}),
    "layer 'op' ('DepthwiseConv2D'): groups is 3; expected no groups, which Keras 3 does not have":
        layer("DepthwiseConv2D", "op", "picture", kernel_size=[3, 3], groups=3),
    "layer 'op' ('Conv2D'): dtype is 'int4'; expected float32, ": conv(dtype="int4"),
    "layer 'op' ('Conv2D') cannot be made (Invalid value for argument `filters`":
        conv(filters=-1),
    "layer 'op' has weights of (1, 1, 1, 2), (2,), expected (9000, 9000, 1, 90000), (90000,)":
        conv(filters=90000, kernel_size=[9000, 9000], padding="same"),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED, ids=lambda message: message[:40])
def test_what_cannot_be_read_is_named(message, tmp_path):
    model = functional([picture(4, 3, 1), REFUSED[message]])
    path = write_h5(tmp_path / "a.h5", model, {"op": [normal(1, 1, 1, 2), normal(2)]})
    with pytest.raises(InshapeError, match=re.escape(f"{path}: {message}")):
        read_file(path)


def test_weights_without_a_layer_are_named(tmp_path):
    path = write_h5(tmp_path / "a.h5", functional([picture(4, 3, 1)]), {"picture": [normal(2)]})
    message = (
        f"{path} holds weights for 'picture', expected a layer of that name; save the model again"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        read_file(path)


def test_weights_that_are_not_finite_are_named(tmp_path):
    weights = {"op": [normal(1, 1, 1, 2), np.array([1, np.nan], np.float32)]}
    path = write_h5(tmp_path / "a.h5", functional([picture(4, 3, 1), conv()]), weights)
    message = (
        f"{path}: layer 'op' holds NaN or infinity in 1 of 2 places; expected finite "
        "floating-point numbers; take an earlier state of the model"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        read_file(path)


def test_models_in_models_are_bounded(tmp_path):
    """Eight levels that each call the next one ten times are a hundred million calls."""

    def nested(level):
        if level == 0:
            return functional([picture(4, 3, 1), layer("ReLU", "relu", "picture")])
        inner = {**layer("Functional", "inner"), **nested(level - 1)}
        reads = ["picture", *["inner"] * 9]
        nodes = [[[name, i, 0, {}]] for i, name in enumerate(reads)]
        inner["inbound_nodes"] = nodes
        whole = functional([picture(4, 3, 1), inner])
        whole["config"]["output_layers"] = [["inner", 10, 0]]
        return whole

    path = write_h5(tmp_path / "a.h5", nested(4), {})
    message = "more than 10000 calls of layers; expected at most so many"
    with pytest.raises(GraphError, match=message):
        read_file(path)
    path = write_h5(tmp_path / "a.h5", nested(8), {})
    with pytest.raises(GraphError, match="models stand in models more than 8 deep; expected less"):
        read_file(path)


def test_a_name_that_stands_twice_is_refused(tmp_path):
    model = functional([picture(4, 3, 1), conv("picture")])
    path = write_archive(tmp_path / "a.keras", model, {"conv2d": [normal(1, 1, 1, 2), normal(2)]})
    message = "layer 'picture' ('Conv2D'): its name stands twice; expected one layer of each name"
    with pytest.raises(GraphError, match=re.escape(f"{path}: {message}")):
        read_file(path)


def test_a_model_of_ones_own_class_is_refused(tmp_path):
    model = {**functional([picture(4, 3, 1)]), "class_name": "MyModel"}
    path = write_h5(tmp_path / "a.h5", model, {})
    with pytest.raises(GraphError, match=re.escape(f"{path}: the model is a 'MyModel'{OWN}")):
        read_file(path)


def test_ones_own_layer_in_a_file_of_keras_3_is_refused(tmp_path):
    class Mine(layers.Layer):
        def call(self, x):
            return x

    image = keras.Input((4, 3, 1))
    path = tmp_path / "a.keras"
    keras.Model(image, Mine()(image)).save(path)
    message = (
        "; expected Keras's own layers; no code is run for a file: load it in Python with "
        "keras.saving.load_model(path, custom_objects={...}) and pass the keras.Model"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        read_file(path)


def test_a_description_that_is_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("inshape.importing.keras2._LONGEST_CONFIG", 100)
    model = functional([picture(4, 3, 1)])
    for name, write in {"a.h5": write_h5, "a.keras": write_archive}.items():
        path = write(tmp_path / name, model, {})
        with pytest.raises(WeightsError, match=r"describes its model in .* expected at most 100 B"):
            read_file(path)


def test_the_network_of_the_visual_wake_words(shared_dir, imagenet500):
    """Its own 8-bit file answers as the model does, at the size that both were made for."""
    from ai_edge_litert.interpreter import Interpreter

    file = shared_dir / "models" / "vww_96.h5"
    if not file.exists():
        pytest.skip(f"the folder of test data has no models/{file.name}")
    model = read_file(file).model
    assert model.count_params() == 221_794
    interpreter = Interpreter(str(file.with_name("vww_96_int8.tflite")))
    interpreter.allocate_tensors()
    (reads,), (puts,) = interpreter.get_input_details(), interpreter.get_output_details()
    paths = sorted(imagenet500.rglob("*.jp*g"))[:25]
    rows = [np.asarray(Image.open(path).convert("RGB").resize((96, 96))) for path in paths]
    pixels = np.stack(rows).astype(np.int16)
    codes = []
    for picture_in_bytes in pixels:
        interpreter.set_tensor(reads["index"], (picture_in_bytes - 128).astype(np.int8)[None])
        interpreter.invoke()
        codes.append(interpreter.get_tensor(puts["index"])[0].astype(float))
    of_file, of_model = (np.stack(codes) + 128) / 256, np.asarray(model(pixels / 255.0))
    assert (of_file.argmax(1) == of_model.argmax(1)).mean() > 0.9
    assert np.abs(of_file - of_model).mean() < 0.03
    adapted = inshape.adapt(model, "120x160x1", head="top", strategy="rebuild")
    grey = pixels[:8].mean(-1, keepdims=True).repeat(2, 1).repeat(2, 2)[:, :120, :160] / 255.0
    scores = np.asarray(adapted(grey))
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)
    assert np.ptp(scores[:, 0]) > 0.01


def test_a_file_of_a_network_that_takes_other_pixels_says_so(tmp_path):
    """Also where the picture passes padding, or a model around it, before it is computed with."""
    image = keras.Input((8, 8, 3))
    conv = keras.layers.Conv2D(2, 3)
    padded = keras.layers.ZeroPadding2D()(image)
    plain = keras.Model(image, conv(padded))
    scaled = keras.Model(image, conv(keras.layers.Rescaling(1 / 255)(padded)))
    for number, (model, notes) in enumerate(
        [(plain, (RANGE_UNKNOWN,)), (scaled, ()), (keras.Model(image, scaled(image)), ())]
    ):
        model.save(tmp_path / f"{number}.keras")
        assert read_file(tmp_path / f"{number}.keras").notes == notes
    (tmp_path / "run.json").write_text("{}")  # what inshape trained takes pixels as they are
    assert read_file(tmp_path / "0.keras").notes == ()
