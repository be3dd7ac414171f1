"""Building a model again at another input shape."""

from __future__ import annotations

import hashlib
import itertools
import re

import keras
import numpy as np
import pytest
from keras import ops

import inshape
from inshape.errors import GraphError
from inshape.graph.read import read
from inshape.graph.rewrite import rebuild
from inshape.weights.transplant import transplant

layers = keras.layers


def run(model, pictures, **kwargs):
    return np.asarray(ops.convert_to_numpy(model(pictures, training=False, **kwargs)))


def carried(source, shape, **kwargs):
    """Rebuilt at a shape, with the source's weights."""
    spec = read(source)
    model, layer_map = rebuild(source, spec, shape, **kwargs)
    transplant(layer_map, spec)
    return model


def pictures(rng, *shape):
    return rng.uniform(0, 255, (2, *shape)).astype("float32")


def fingerprint(model):
    return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()


def user_model(shape):
    """What a user builds: augmentation, a backbone in inference mode, pooling, a head."""
    inner_in = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="conv")(inner_in)
    x = layers.BatchNormalization(name="bn")(x)
    body = keras.Model(inner_in, layers.ReLU(name="relu")(x), name="body")
    image = keras.Input(shape)
    x = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)], name="augment")(image)
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = body(x, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(5, name="classes")(layers.Dropout(0.2)(x)), name="users")


@pytest.mark.backends
def test_a_users_nested_model_at_another_shape(rng, randomise):
    source = randomise(user_model((64, 64, 3)))
    expected = user_model((97, 130, 3))
    expected.set_weights(source.get_weights())
    model = carried(source, "97x130x3")
    x = pictures(rng, 97, 130, 3)
    np.testing.assert_allclose(run(model, x), run(expected, x), rtol=1e-5, atol=1e-5)
    assert [layer.name for layer in model.layers][-3:] == [layer.name for layer in source.layers][
        -3:
    ]
    assert isinstance(model.get_layer("body"), keras.Model)


def training_flags(model):
    return {
        layer.name: node.arguments.kwargs.get("training")
        for layer in model._flatten_layers(include_self=False)
        for node in layer._inbound_nodes
        if "training" in node.arguments.kwargs
    }


def test_a_model_called_in_inference_mode_is_called_so_again(randomise):
    source = randomise(user_model((64, 64, 3)))
    assert training_flags(carried(source, "48x80x3"))["body"] is False


def test_opening_nested_models_hands_inference_mode_on(rng, randomise):
    source = randomise(user_model((64, 64, 3)))
    model = carried(source, "64x64x3", open_nested=True)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert training_flags(model)["bn"] is False
    x = pictures(rng, 64, 64, 3)
    np.testing.assert_allclose(run(model, x), run(source, x), rtol=1e-5, atol=1e-5)


def test_an_output_inside_a_nested_model(rng, randomise):
    source = randomise(user_model((64, 64, 3)))
    spec = read(source)
    conv = next(layer.index for layer in spec if layer.name == "body/conv")
    model = carried(source, "64x64x3", outputs=(conv,))
    x = pictures(rng, 64, 64, 3)
    scaled = x / 127.5 - 1
    expected = np.asarray(source.get_layer("body").get_layer("conv")(scaled))
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.backends
def test_plain_operations_are_kept(rng, randomise):
    def build(shape):
        image = keras.Input(shape)
        x = layers.Conv2D(6, 3, name="conv")(image / 255.0)
        x = x * (layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0))
        x = ops.concatenate([x, ops.sigmoid(x)], axis=-1) - 0.5
        return keras.Model(image, ops.mean(x, axis=(1, 2)))

    source = randomise(build((32, 32, 3)))
    expected = build((21, 34, 3))
    expected.set_weights(source.get_weights())
    x = pictures(rng, 21, 34, 3)
    model = carried(source, "21x34x3")
    np.testing.assert_allclose(run(model, x), run(expected, x), rtol=1e-5, atol=1e-6)


def test_a_lambda_layer_is_used_again(rng):
    image = keras.Input((16, 16, 1))
    source = keras.Model(image, layers.Lambda(lambda x: x[:, ::2] * 3.0, name="third")(image))
    x = pictures(rng, 9, 5, 1)
    np.testing.assert_array_equal(run(carried(source, "9x5x1"), x), x[:, ::2] * 3)


def test_a_shared_layer_stays_shared(rng, randomise):
    image = keras.Input((16, 16, 3))
    conv = layers.Conv2D(3, 3, padding="same", name="twice")
    source = randomise(keras.Model(image, conv(conv(image))))
    model = carried(source, "9x7x3")
    assert len(model.weights) == 2
    x = pictures(rng, 9, 7, 3)
    np.testing.assert_allclose(run(model, x), np.asarray(conv(conv(x))), rtol=1e-5)


def test_a_nested_model_called_twice_stays_shared(randomise):
    inner_in = keras.Input((None, None, 3))
    inner = keras.Model(inner_in, layers.Conv2D(3, 3, padding="same")(inner_in), name="inner")
    image = keras.Input((16, 16, 3))
    source = randomise(keras.Model(image, layers.Add()([inner(image), inner(inner(image))])))
    model = carried(source, "9x7x3")
    assert len(model.weights) == 2
    assert model.output_shape == (None, 9, 7, 3)


def test_nothing_is_shared_with_the_source_and_it_does_not_change(randomise):
    source = randomise(user_model((64, 64, 3)))
    before, config = fingerprint(source), source.to_json()
    model = carried(source, "48x80x3")
    for weight in model.weights:
        weight.assign(weight * 0)
    assert fingerprint(source) == before
    assert source.to_json() == config
    theirs = {id(layer) for layer in source._flatten_layers()}
    assert not theirs & {id(layer) for layer in model._flatten_layers()}


@pytest.mark.backends
def test_save_and_load_gives_the_same_output(tmp_path, rng, randomise):
    source = randomise(user_model((64, 64, 3)))
    model = carried(source, "33x20x3")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = pictures(rng, 33, 20, 3)
    np.testing.assert_array_equal(run(again, x), run(model, x))


def test_frozen_layers_stay_frozen():
    source = user_model((64, 64, 3))
    source.get_layer("body").trainable = False
    source.get_layer("classes").trainable = True
    model, _ = rebuild(source, read(source), "48x80x3")
    assert [w.path.split("/")[-2] for w in model.trainable_weights] == ["classes", "classes"]


def test_a_sequential_model_inside_stays_sequential():
    source = keras.applications.ConvNeXtTiny(
        weights=None, include_top=False, input_shape=(64, 64, 3)
    )
    model, _ = rebuild(source, read(source), "97x64x3")
    kinds = {layer.name: type(layer) for layer in source.layers}
    assert {layer.name: type(layer) for layer in model.layers} == kinds


def test_changes_are_carried_out(rng, randomise):
    image = keras.Input((16, 16, 2))
    conv = layers.Conv2D(3, 3, strides=2, padding="same", name="conv")
    source = randomise(keras.Model(image, conv(image)))
    facts = {"stride_hw": (1, 1), "padding": "valid", "pads": ((0, 2), (1, 1))}
    model = carried(source, "9x7x2", changed=read(source).with_layer(1, **facts))
    x = pictures(rng, 9, 7, 2)
    padded = np.pad(x, ((0, 0), (0, 2), (1, 1), (0, 0)))
    expected = ops.conv(padded, conv.kernel, strides=1, padding="valid") + conv.bias
    np.testing.assert_allclose(run(model, x), np.asarray(expected), rtol=1e-4, atol=1e-3)


def test_a_layer_that_cannot_be_made_again_is_named():
    class Own(layers.Layer):
        def __init__(self, factor, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def call(self, x):
            return x * self.factor

        def get_config(self):
            return super().get_config()

    image = keras.Input((9, 7, 3))
    source = keras.Model(image, Own(2.0, name="own")(image))
    message = "layer 'own' (Own) cannot be made again from its configuration"
    with pytest.raises(GraphError, match=re.escape(message)):
        rebuild(source, read(source), "5x5x3")


def test_a_layer_that_refuses_its_new_input_is_named():
    image = keras.Input((8, 8, 3))
    x = layers.Reshape((64, 3), name="rows")(image)
    x = layers.Conv1D(2, 64, name="all")(x)
    source = keras.Model(image, x)
    with pytest.raises(
        GraphError, match=re.escape("layer 'rows' (Reshape) refuses an input of (None, 9, 7, 3)")
    ):
        rebuild(source, read(source), "9x7x3")


def test_structured_outputs_keep_their_structure():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3)(image)
    source = keras.Model(image, {"map": x, "pooled": layers.GlobalMaxPooling2D()(x)})
    model, _ = rebuild(source, read(source), inshape.InputShape(9, 7, 3))
    assert {k: v.shape for k, v in model.output.items()} == {
        "map": (None, 7, 5, 4),
        "pooled": (None, 4),
    }


# Outputs inside of nested models, together with those of the models themselves


def chain(name, channels, *, sequential=False):
    """Two strided convolutions for any size; the first has half the stride of the last."""
    parts = [
        layers.Conv2D(channels, 3, strides=2, padding="same", name="first"),
        layers.BatchNormalization(name="bn"),
        layers.Conv2D(channels + 1, 3, strides=2, padding="same", name="last"),
    ]
    inner = keras.Sequential([keras.Input((None, None, 3)), *parts], name=name)
    if sequential:
        return inner
    image = keras.Input((None, None, 3))
    x = image
    for part in parts:
        x = part(x)
    return keras.Model(image, x, name=name)


def nested_twice(image):
    """A base inside of a base, and a map of the outer one behind it."""
    inner_in = keras.Input((None, None, 3))
    x = chain("inner", 4)(inner_in, training=False)
    x = layers.Conv2D(6, 3, strides=2, padding="same", name="behind")(x)
    return keras.Model(inner_in, x, name="outer")(image)


BASES = {
    "functional": lambda image: chain("base", 4)(image, training=False),
    "sequential": lambda image: chain("base", 4, sequential=True)(image, training=False),
    "two levels": nested_twice,
}


def tutorials_model(base, shape):
    image = keras.Input(shape)
    x = BASES[base](layers.Rescaling(1 / 127.5, offset=-1)(image))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(5, name="classes")(x), name="tutorials")


def maps_by_hand(source, x):
    """The maps at strides 2, 4 and 8, called layer by layer."""
    by_name = {layer.name: layer for layer in source._flatten_layers()}
    x, found = x / 127.5 - 1, []
    for name in ("first", "bn", "last", "behind"):
        if name in by_name:
            x = by_name[name](x)
            found.append(np.asarray(ops.convert_to_numpy(x)))
    return dict(zip((2, 2, 4, 8), found, strict=False))


@pytest.mark.parametrize("shape", ["24x33x3", "?x?x3"])
@pytest.mark.parametrize("base", list(BASES))
def test_every_choice_of_maps_of_a_nested_base(base, shape, rng, randomise):
    source = randomise(tutorials_model(base, (24, 33, 3)))
    x = pictures(rng, 24, 33, 3)
    expected = maps_by_hand(source, x)
    strides = sorted(expected)
    assert len(strides) == 2 + (base == "two levels")
    choices = [c for n in (1, 2, 3) for c in itertools.combinations(strides, n)]
    for choice in choices:
        model = inshape.adapt(source, shape, strategy=_by(shape), features=choice)
        found = model(x, training=False)
        for stride, a in zip(choice, found if len(choice) > 1 else [found], strict=True):
            np.testing.assert_allclose(a, expected[stride], rtol=1e-4, atol=1e-5)


def _by(shape):
    return "flexible" if "?" in shape else "rebuild"


@pytest.mark.parametrize("base", list(BASES))
def test_a_model_without_nested_ones_on_request(base, rng, randomise):
    source = randomise(tutorials_model(base, (24, 33, 3)))
    model = inshape.adapt(source, "24x33x3", strategy="rebuild", head="top", open_nested=True)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert {"first", "bn", "last", "classes"} <= {layer.name for layer in model.layers}
    weights = {id(w) for layer in source._flatten_layers() for w in layer.weights}
    assert len(model.weights) == len(weights)
    assert fingerprint(model) == fingerprint(source)
    x = pictures(rng, 24, 33, 3)
    np.testing.assert_allclose(run(model, x), run(source, x), rtol=1e-5, atol=1e-5)
    # What it is for: a map and the answer of one call.
    both = keras.Model(model.input, [model.get_layer("last").output, model.output])
    maps, answers = both(x, training=False)
    np.testing.assert_allclose(maps, maps_by_hand(source, x)[4], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answers, run(source, x), rtol=1e-5, atol=1e-5)
    closed = inshape.adapt(source, "24x33x3", strategy="rebuild", head="top")
    assert any(isinstance(layer, keras.Model) for layer in closed.layers)


def test_an_outer_layer_keeps_its_name_when_nested_models_are_opened(rng, randomise):
    image = keras.Input((16, 16, 3), name="bn")  # named as a layer inside is
    x = chain("one", 4)(image)
    x = layers.Concatenate()([x, chain("two", 4)(image)])
    x = layers.Conv2D(3, 1, name="first")(x)
    source = randomise(keras.Model(image, layers.GlobalMaxPooling2D()(x)))
    plan = inshape.plan(source, "16x16x3", strategy="rebuild", head="top", open_nested=True)
    model = plan.build()
    assert model.get_layer("first").kernel.shape == source.get_layer("first").kernel.shape
    assert {"one_first", "one_bn", "last", "two_first", "two_bn", "two_last"} <= {
        layer.name for layer in model.layers
    }
    x = pictures(rng, 16, 16, 3)
    np.testing.assert_allclose(run(model, x), run(source, x), rtol=1e-5, atol=1e-5)


# Structures of inputs and outputs


def test_a_picture_in_a_dict_is_called_by_its_name(tmp_path, rng, randomise):
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(4, 3, name="conv")(image)
    pooled = layers.GlobalMaxPooling2D()(x)
    source = randomise(keras.Model({"image": image}, {"map": x, "pooled": pooled}))
    x = {"image": pictures(rng, 16, 16, 3)}
    expected = source(x)
    for shape in ("16x16x3", "?x?x3"):
        model = inshape.adapt(source, shape, strategy=_by(shape), head="top")
        assert list(model.input) == ["image"]
        model.save(tmp_path / "m.keras")
        for found in (model(x), model.predict(x, verbose=0), _loaded(tmp_path / "m.keras")(x)):
            assert sorted(found) == ["map", "pooled"]
            for name, value in expected.items():
                np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-4)
    one_output = keras.Model({"image": image}, layers.Dense(2)(pooled))
    classifier = inshape.adapt(one_output, "9x7x3", strategy="rebuild", classes=3)
    assert classifier({"image": pictures(rng, 9, 7, 3)}).shape == (2, 3)


def test_a_picture_in_a_list_stays_in_one(rng, randomise):
    image = keras.Input((16, 16, 3))
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3, name="conv")(image))
    source = randomise(keras.Model([image], [x]))
    model = inshape.adapt(source, "16x16x3", strategy="rebuild", head="top")
    x = pictures(rng, 16, 16, 3)
    assert isinstance(model.input, list)
    found, expected = model([x]), source([x])
    assert type(found) is type(expected)
    np.testing.assert_allclose(
        *(keras.tree.flatten(x)[0] for x in (found, expected)), rtol=1e-5, atol=1e-4
    )
    classifier = inshape.adapt(source, "16x16x3", strategy="rebuild", classes=3)
    assert classifier([x]).shape == (2, 3)


def _loaded(path):
    return keras.saving.load_model(path)
