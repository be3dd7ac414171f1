"""The front door: plans and adapted models, as a user asks for them."""

from __future__ import annotations

import hashlib
import re

import keras
import numpy as np
import pytest
from keras import ops
from tests.narrow import NARROW, without_values

import inshape
from inshape.comparison.request import CompareRequest
from inshape.errors import (
    AmbiguousStem,
    FixedShape,
    GraphError,
    MapMismatch,
    RequestError,
    ShapeError,
    StrategyError,
    UnknownName,
    VanishingMap,
    WeightsError,
)
from inshape.graph.saving import load_model
from inshape.importing.imported import RANGE_UNKNOWN
from inshape.planning import PlanRequest, decide_plan, open_for_training, open_network
from inshape.requests import make as make_request
from inshape.requests import own_options
from inshape.training.request import TrainRequest

layers = keras.layers
apps = keras.applications
SMALL = "MobileNetV3Small-minimalistic"


def run(model, pictures):
    return np.asarray(ops.convert_to_numpy(model(pictures, training=False)))


def pictures(rng, *shape):
    return rng.uniform(0, 255, (2, *shape)).astype("float32")


@pytest.fixture(scope="module")
def small(randomise):
    """MobileNetV3Small, for any size as `keras.applications` builds it when no shape is given."""
    return randomise(NARROW["MobileNetV3Small"](weights=None, classifier_activation=None))


def test_a_model_built_for_any_size_is_measured_against_its_known_native_size(small):
    plan = inshape.plan(small, "96x96x3")
    assert plan.strategy == "restride"
    assert plan.native_shape == inshape.InputShape(224, 224, 3)
    assert str(plan.geometry.final_map) == "6x6"


@pytest.fixture(scope="module")
def tiny(randomise):
    """Two strides, a dense layer behind the pooling, and a classifier of seven."""
    image = keras.Input((32, 24, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="last")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(9, activation="relu", name="dense")(x)
    return randomise(keras.Model(image, layers.Dense(7, name="classifier")(x), name="tiny"))


@pytest.fixture(scope="module")
def pooled():
    """A plan of a named network, which is opened without its top."""
    return inshape.plan(SMALL, "64x64x3", strategy="rebuild")


def test_a_change_that_needs_the_top_opens_it(pooled):
    whole = pooled.but(head="top")
    assert whole.geometry.params == pooled.geometry.params + 577 * 1024 + 1025 * 1000
    assert pooled.build(None, head="top").output_shape == (None, 1000)
    assert whole.but(head=None).geometry.params == pooled.geometry.params
    kept = pooled.but(classes=5, pretrained_dense=True)
    assert kept.build(None).get_layer("head_logits").kernel.shape == (1024, 5)


def test_a_change_of_the_backbone_opens_it(pooled, tiny):
    other = pooled.but(backbone=tiny)
    assert other.network.name == "tiny"
    assert str(other.geometry.final_map) == "16x16"
    assert pooled.build(None, backbone=tiny, classes=3).get_layer("last").filters == 8
    assert pooled.but(classes=5).network is pooled.network


@pytest.mark.parametrize("strides", [[8], [4, 8]])
def test_maps_are_set_against_the_same_layers_at_the_native_shape(tiny, strides):
    plan = inshape.plan(tiny, "64x48x3", strategy="restride", features=strides)
    native_macs = 16 * 12 * 4 * 27 + 8 * 6 * 8 * 36
    assert "cost: " in str(plan)
    assert plan.as_dict()["native_geometry"]["macs"] == native_macs
    half = inshape.plan(tiny, "16x12x3", strategy="restride", features=[2])
    bare = keras.Model(tiny.input, tiny.get_layer("last").output)
    assert half.native_geometry.params == bare.count_params() == half.geometry.params
    assert str(half.native_geometry.final_map) == str(half.geometry.final_map) == "8x6"


def test_the_options_of_a_head_are_the_fields_of_one(tiny):
    whole = inshape.Head(classes=5, pool="gem", hidden=6, dropout=0.5, activation="logits")
    by_options = {o.name: getattr(whole, o.name) for o in own_options(inshape.Head)}
    del by_options["pretrained_dense"]
    plan = inshape.plan(tiny, "32x24x3", strategy="rebuild", **by_options)
    assert plan.request.ending == whole == plan.but(head=whole).request.ending
    rest = whole.but(classes=None, hidden=None)
    assert plan.but(head=rest, pool="avg").request.ending == whole
    assert plan.but(head="gem").request.ending == whole
    assert plan.build().get_layer("head_hidden").units == 6


def test_what_training_keeps_besides_is_said_where_it_is_true(tiny):
    plan = inshape.plan(tiny, "32x24x3", strategy="rebuild", classes=5)
    (note,) = plan.notes
    assert note.startswith("training also keeps the pretrained layers between pooling and classif")
    kept = plan.but(pretrained_dense=True)  # as the note says
    assert kept.build().get_layer("head_logits").kernel.shape == (9, 5)
    request, network = open_for_training(plan.request, "imagenet")
    assert decide_plan(request, network).spec == kept.spec
    for changes in (
        {"pretrained_dense": True}, {"pretrained_dense": False}, {"classes": None}, {"pool": "gem"},
    ):  # fmt: skip
        assert plan.but(**changes).notes == ()
    named = inshape.plan(SMALL, "64x64x3", strategy="rebuild", classes=5)
    assert named.notes == (note,)
    assert (
        decide_plan(*open_for_training(named.request, None)).notes == ()
    )  # random weights, of which training keeps nothing


def test_a_plan_advises_another_strategy_than_its_own(tiny):
    texts = [w.message for w in inshape.plan(tiny, "9x9x3", strategy="restride").warnings]
    assert any("smaller than the native" in text for text in texts)
    assert not any("restride" in text for text in texts)
    # Brought near the native map, it is not advised against what was done for that.
    near = inshape.plan(tiny, "12x12x3", strategy="restride").warnings
    assert not any("final" in warning.code for warning in near)


def test_a_file_with_layers_of_inshape_is_a_backbone(tiny, tmp_path, monkeypatch):
    path = tmp_path / "model.keras"  # by which name a folder is taken for a run's
    inshape.adapt(tiny, "48x40x1", head="gem", classes=3).save(path)
    for name in ("GeneralizedMeanPooling2D", "AdaptivePooling2D"):  # as in a new process
        monkeypatch.delitem(keras.saving.get_custom_objects(), f"inshape>{name}")
    for backbone in (path, tmp_path):
        model = inshape.adapt(backbone, "40x40x1", strategy="rebuild", classes=4)
        assert model.output_shape == (None, 4)
        pools = [layer for layer in model.layers if layer.name.startswith("head_pool")]
        assert [type(layer) for layer in pools] == [layers.GlobalAveragePooling2D]
    # Its exponent is nothing that stands behind the pooling.
    plan = inshape.plan(path, "40x40x1", strategy="rebuild", classes=4)
    assert plan.notes == (RANGE_UNKNOWN,)


def test_the_source_is_not_changed(small, rng):
    before = hashlib.sha256(b"".join(w.tobytes() for w in small.get_weights())).hexdigest()
    model = inshape.adapt(small, "97x64x1", head="top")
    model.trainable_variables[0].assign(model.trainable_variables[0] * 0)
    assert hashlib.sha256(b"".join(w.tobytes() for w in small.get_weights())).hexdigest() == before


def test_save_and_load(small, rng, tmp_path):
    model = inshape.adapt(small, "97x64x1", strategy="restride", classes=5, head="gem")
    model.save(tmp_path / "adapted.keras")
    x = pictures(rng, 97, 64, 1)
    again = keras.saving.load_model(tmp_path / "adapted.keras")
    np.testing.assert_array_equal(run(again, x), run(model, x))


def test_a_keras_file_is_a_backbone(small, rng, tmp_path):
    small.save(tmp_path / "source.keras")
    from_file = inshape.adapt(tmp_path / "source.keras", "97x64x3", strategy="rebuild", head="top")
    x = pictures(rng, 97, 64, 3)
    direct = inshape.adapt(small, "97x64x3", strategy="rebuild", head="top")
    np.testing.assert_array_equal(run(from_file, x), run(direct, x))


@pytest.mark.parametrize(
    ("name", "module", "top"),
    [
        ("MobileNetV2-0.35", "mobilenet_v2", True),  # x / 127.5 - 1
        ("DenseNet121", "densenet", False),  # mean and deviation
        ("VGG16", "vgg16", False),  # blue first, mean only
    ],
)
def test_preprocessing_is_put_into_the_model(
    name, module, top, rng, randomise, tmp_path, monkeypatch
):
    alpha = {"alpha": 0.35} if "-" in name else {}
    constructor = name.split("-")[0]
    make = NARROW.get(constructor) or getattr(apps, constructor)
    monkeypatch.setattr(apps, constructor, make)
    theirs = randomise(make(weights=None, include_top=top, input_shape=(224, 224, 3), **alpha))
    theirs.save_weights(tmp_path / "own.weights.h5")
    network = open_network(name, tmp_path / "own.weights.h5", top=top)  # once for all three
    preprocess = getattr(apps, module).preprocess_input
    bare = inshape.adapt(theirs, "97x130x3", strategy="rebuild", features=[4])

    def adapt(shape, **options):
        request = make_request(
            PlanRequest, backbone=name, input_shape=shape, strategy="rebuild", **options
        )
        return decide_plan(request, network).carried_out_on(network).model

    x = pictures(rng, 97, 130, 3)
    colour, grey = (adapt(f"97x130x{n}", features=[4]) for n in (3, 1))
    assert_near(run(colour, x), run(bare, preprocess(x.copy())))
    one = x[..., :1]
    assert_near(run(grey, one), run(bare, preprocess(np.repeat(one, 3, -1))))
    if top:
        np.testing.assert_allclose(run(adapt("97x130x3", head="top"), x).sum(-1), 1, rtol=1e-5)


def assert_near(found, expected):
    scale = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.002 * scale, "the output ignores its input"
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("head", "shape"),
    [("avg", (None, 5)), ("max", (None, 5)), ("gem", (None, 5)), ((2, 3), (None, 5))],
)
def test_heads(small, head, shape):
    model = inshape.adapt(small, "97x64x1", strategy="rebuild", classes=5, head=head)
    assert model.output_shape == shape
    assert model.layers[-1].name == "head_probabilities"


def test_a_head_in_full(small, rng):
    head = inshape.Head(classes=7, hidden=16, dropout=0.5, activation="logits")
    model = inshape.adapt(small, "?x?x3", head=head)
    names = [layer.name for layer in model.layers if layer.name.startswith("head_")]
    assert names == ["head_pool", "head_hidden", "head_dropout", "head_logits"]
    for hw in ((97, 64), (65, 130)):
        assert run(model, pictures(rng, *hw, 3)).shape == (2, 7)


@pytest.mark.parametrize(
    ("head", "activation"),
    [
        ({"classes": 1}, "sigmoid"),
        ({"classes": 1, "activation": "sigmoid"}, "sigmoid"),
        ({"classes": 1, "activation": "logits"}, "linear"),
        ({"classes": 4, "activation": "sigmoid"}, "sigmoid"),
        ({"classes": 4}, "softmax"),
    ],
)
def test_what_stands_behind_the_classifier(tiny, rng, head, activation):
    plan = inshape.plan(tiny, "32x24x3", strategy="rebuild", **head)
    model = plan.build()
    assert model.layers[-1].activation.__name__ == activation
    assert model.output_shape == (None, head["classes"])
    assert plan.spec.layers[-1].name == model.layers[-1].name
    assert plan.geometry.params == model.count_params()
    assert f"{head['classes']} class" in str(plan)
    x = pictures(rng, 32, 24, 3)
    values = run(model, x)
    expected = run(keras.Model(model.input, model.get_layer("head_logits").output), x)
    by = {"sigmoid": ops.sigmoid, "softmax": ops.softmax, "linear": lambda x: x}[activation]
    np.testing.assert_allclose(values, by(expected), rtol=1e-5)


def test_the_pretrained_dense_layer_can_be_kept(small, rng):
    x = pictures(rng, 64, 64, 3)
    head = inshape.Head(classes=5, pretrained_dense=True)
    kept = inshape.adapt(small, "64x64x3", strategy="rebuild", head=head)
    assert [layer.name for layer in kept.layers[-3:]] == [
        "head_dropout", "head_logits", "head_probabilities",
    ]  # fmt: skip
    assert kept.get_layer("head_logits").kernel.shape == (1024, 5)
    whole = inshape.adapt(small, "64x64x3", strategy="rebuild", head="top")
    (dropout,) = (layer for layer in whole.layers if isinstance(layer, layers.Dropout))
    before = keras.Model(whole.input, dropout.output)
    head = inshape.Head(pretrained_dense=True)
    features = inshape.adapt(small, "64x64x3", strategy="rebuild", head=head)
    np.testing.assert_allclose(run(features, x), run(before, x).reshape(2, 1024), atol=1e-5)
    left_out = inshape.adapt(small, "64x64x3", strategy="rebuild", classes=5)
    assert left_out.get_layer("head_logits").kernel.shape == (576, 5)


def test_a_dense_layer_that_is_not_there_is_refused():
    image = keras.Input((9, 7, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    model = keras.Model(image, layers.Dense(3)(x), name="plain")
    text = "pretrained_dense=True: plain has no layers between pooling and classifier that are "
    head = inshape.Head(classes=2, pretrained_dense=True)
    with pytest.raises(RequestError, match=re.escape(text)):
        inshape.adapt(model, "12x8x1", strategy="rebuild", head=head)


def test_without_classes_the_pooled_features_come_out(small, rng):
    model = inshape.adapt(small, "97x64x3", strategy="rebuild")
    maps = inshape.adapt(small, "97x64x3", strategy="rebuild", features=[32])
    x = pictures(rng, 97, 64, 3)
    np.testing.assert_allclose(run(model, x), run(maps, x).mean((1, 2)), rtol=1e-4, atol=1e-4)


def test_maps_at_several_strides(small):
    model = inshape.adapt(small, "97x160x1", strategy="rebuild", features=[4, 8, 16, 32])
    assert [tuple(t.shape[1:3]) for t in model.outputs] == [(25, 40), (13, 20), (7, 10), (4, 5)]


def test_a_flattened_top_is_pooled_to_its_trained_grid(rng, randomise):
    def build(shape):
        image = keras.Input(shape)
        x = layers.MaxPooling2D(name="pool")(
            layers.Conv2D(6, 3, padding="same", name="conv")(image)
        )
        return keras.Model(image, layers.Dense(4, name="top")(layers.Flatten()(x)))

    source = randomise(build((14, 10, 3)))
    model = inshape.adapt(source, "33x21x3", strategy="rebuild", head="top")
    x = pictures(rng, 33, 21, 3)
    maps = np.asarray(source.get_layer("pool")(source.get_layer("conv")(x)))
    cells = np.empty((2, 7, 5, 6), "float32")
    for i in range(7):
        for j in range(5):
            rows = slice(i * 16 // 7, -(-(i + 1) * 16 // 7))
            columns = slice(j * 10 // 5, -(-(j + 1) * 10 // 5))
            cells[:, i, j] = maps[:, rows, columns].mean((1, 2))
    expected = np.asarray(source.get_layer("top")(cells.reshape(2, -1)))
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-2)
    flexible = inshape.adapt(source, "?x?x3", head="top")
    np.testing.assert_allclose(run(flexible, x), expected, rtol=1e-4, atol=1e-2)


def test_a_vanishing_map_is_named():
    message = 'input 16x16x3: map at "block5_pool" would be 0x0 pixels; use at least 32x32'
    for strategy in ("rebuild", "auto"):
        with pytest.raises(VanishingMap, match=re.escape(message)):
            inshape.plan("VGG16", "16x16x3", strategy=strategy)
    assert inshape.plan("VGG16", "16x16x3", strategy="resize").warnings == ()


def test_a_reshape_to_the_old_size_is_named():
    image = keras.Input((8, 8, 3))
    x = layers.Reshape((64, 4), name="rows")(layers.Conv2D(4, 3, padding="same")(image))
    source = keras.Model(image, layers.GlobalAveragePooling1D()(x), name="tokens")
    with pytest.raises(FixedShape, match="rows"):
        inshape.adapt(source, "?x?x3", head="top")
    model = inshape.adapt(source, "9x7x3", strategy="rebuild", classes=3)  # the top is cut off
    assert model.output_shape == (None, 3)


def test_nasnet_for_any_size_is_refused():
    with without_values():
        source = NARROW["NASNetMobile"](weights=None, include_top=False, input_shape=(224, 224, 3))
    message = "pads by the size of its map, which is unknown until run time"
    with pytest.raises(FixedShape, match=message):
        inshape.plan(source, "?x?x3")


def beside_a_pooling(image):
    pooled = layers.GlobalMaxPooling2D(keepdims=True, name="pool")(image)
    return layers.Conv2D(3, 3, name="stem")(image) * pooled


def on_its_own_map(image):
    stem = layers.Conv2D(3, 3, name="stem")
    return stem(stem(image))


def with_coordinates(image):
    places = np.ones((1, 64, 64, 1), "float32")
    return layers.Conv2D(3, 3)(keras.ops.concatenate([image, places], -1))


@pytest.mark.parametrize(
    ("make", "readers"),
    [
        (beside_a_pooling, r"2 layers read the picture \(stem, pool\)"),
        (on_its_own_map, r"1 layer reads the picture \(stem\)"),
        (with_coordinates, r"1 layer reads the picture \(concatenate.*\)"),
    ],
)
def test_what_else_reads_the_picture_is_not_converted(make, readers, rng):
    image = keras.Input((64, 64, 3))
    source = keras.Model(image, make(image))
    with pytest.raises(AmbiguousStem, match=f"{readers}; expected convolutions of it alone; use"):
        inshape.plan(source, "64x64x4", strategy="rebuild", head="top")
    grey = inshape.adapt(source, "64x64x1", strategy="rebuild", channels="sum", head="top")
    x = pictures(rng, 64, 64, 1)[:1]
    expected = run(source, np.repeat(x, 3, -1))
    np.testing.assert_allclose(run(grey, x), expected, rtol=1e-4, atol=1e-3)


def test_the_stride_of_two_stems_is_not_changed():
    image = keras.Input((64, 64, 3))
    both = [layers.Conv2D(2, 3, name="left")(image), layers.Conv2D(2, 3, name="right")(image)]
    source = keras.Model(image, layers.Concatenate()(both))
    message = "2 layers read the picture (left, right); expected exactly one convolution"
    with pytest.raises(AmbiguousStem, match=re.escape(message)):
        inshape.plan(source, "32x32x3", strategy="restride", factor=2, head="top")


def test_a_lambda_before_the_stem_needs_a_projection(rng):
    image = keras.Input((64, 64, 3))
    x = layers.Lambda(lambda x: x[..., ::-1], name="bgr")(image)
    source = keras.Model(image, layers.Conv2D(2, 3, name="stem")(x), name="flipped")
    message = "layer 'bgr' works on 3 channels before the stem 'stem' and cannot be converted to 4"
    with pytest.raises(StrategyError, match=re.escape(message)):
        inshape.plan(source, "64x64x4", strategy="rebuild", channels="zero")
    grey = inshape.adapt(source, "33x20x1", strategy="rebuild", channels="sum", head="top")
    x = pictures(rng, 33, 20, 1)
    same = inshape.adapt(source, "33x20x3", strategy="rebuild", head="top")
    np.testing.assert_allclose(run(grey, x), run(same, np.repeat(x, 3, -1)), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (
            {"strategy": "restrde"},
            UnknownName,
            "unknown strategy 'restrde'; did you mean restride?",
        ),
        ({"channels": "summ"}, UnknownName, "did you mean sum?"),
        (
            {"strategy": "rebuild", "stem": "nearest"},
            RequestError,
            "strategy 'rebuild' has no option 'stem'; its options: none",
        ),
        (
            {"strategy": "restride", "stem": "cubic"},
            UnknownName,
            "unknown stem 'cubic'; did you mean bicubic?",
        ),
        (
            {"strategy": "resize", "interpolation": "bicubic"},
            UnknownName,
            "unknown interpolation 'bicubic'; choose from: bilinear, nearest",
        ),
        ({"strategy": "resize", "fit": "strech"}, UnknownName, "did you mean stretch?"),
        (
            {"strategy": "restride", "factor": 3},
            StrategyError,
            "the stem 'conv' has stride 2x2, which cannot be divided by 3",
        ),
        ({"strategy": "restride", "factor": 0}, RequestError, "factor=0; expected 1 or more"),
        (
            {"strategy": "restride", "output_stride": 32},
            StrategyError,
            "output_stride=32: no layer of MobileNetV3Small passes that stride",
        ),
        (
            {"strategy": "restride", "output_stride": 3},
            StrategyError,
            "which cannot end there; expected a power of two",
        ),
    ],
)
def test_a_bad_option_says_what_to_do(small, request_, error, message):
    with pytest.raises(error, match=re.escape(message)):
        inshape.plan(small, "96x96x3", **request_)


def test_a_stem_at_its_native_size_is_best_left(small):
    message = "is best left as it is beside the native 224x224; use strategy='rebuild'"
    with pytest.raises(StrategyError, match=re.escape(message)):
        inshape.plan(small, "224x224x3", strategy="restride")


@pytest.mark.parametrize("strategy", ["rebuild", "restride"])
def test_a_fixed_size_is_needed(small, strategy):
    message = f"input ?x64x3: strategy {strategy!r} needs a fixed height and width"
    with pytest.raises(StrategyError, match=re.escape(message)):
        inshape.plan(small, "?x64x3", strategy=strategy)


def test_pooling_cannot_be_dilated():
    source = apps.Xception(weights=None, include_top=False, input_shape=(299, 299, 3))
    with pytest.raises(
        StrategyError, match=re.escape("(max_pool) would move its window when it loses its stride")
    ):
        inshape.plan(source, "97x130x3", strategy="restride", output_stride=16)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            {"head": "top", "classes": 3, "pool": "gem"},
            "head='top' keeps the network's own head as it is; leave out classes=3, pool='gem', or",
        ),
        (
            {"features": [8], "head": "top", "hidden": 3},
            "features=[8] returns maps instead of a head; leave out head='top', hidden=3, or featu",
        ),
        ({"features": [64]}, "has no map at stride 64; choose from: 1, 2, 4, 8, 16, 32"),
        ({"head": inshape.Head(classes=2), "classes": 3}, "disagree; give classes once"),
        ({"head": "avg", "pool": "gem"}, "pool='gem' and head='avg' disagree; give pool once"),
        (
            {"head": inshape.Head(pretrained_dense=True), "pool": "gem"},
            "pretrained_dense=True with pool='gem'; expected 'avg'",
        ),
        ({"classes": 0}, "classes=0; expected 1 or more"),
        (
            {"head": "average"},
            "unknown pool 'average'; did you mean avg? choose from: avg, max, gem",
        ),
    ],
)
def test_an_ending_that_contradicts_itself(small, request_, message):
    with pytest.raises(RequestError, match=re.escape(message)):
        inshape.adapt(small, "96x96x3", strategy="rebuild", **request_)


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (["r", "g"], "channels=['r', 'g']; expected the number of a pretrained channel, or None, "),
        ([0.5, 1], "channels=[0.5, 1]; expected the number of a pretrained channel, or None, for "),
        ([True, 1], "channels=[True, 1]; expected the number of a pretrained channel, or None, "),
        ([], "channels=[]; expected the number of a pretrained channel, or None, for each band, s"),
        (np.array(3), "channels=array(3); expected the number of a pretrained channel, or None, "),
        ([0, 3], "channels=[0, 3]: there is no pretrained channel 3, expected 0 to 2"),
    ],
)
def test_bands_that_cannot_be(small, channels, message):
    with pytest.raises(RequestError, match=re.escape(message)):
        inshape.plan(small, "96x96x2", strategy="rebuild", channels=channels)


def test_bands_are_numbers_of_any_kind(small):
    plan = inshape.plan(small, "96x96x2", strategy="rebuild", channels=[0, 1])
    for channels in ([np.int64(0), 1], np.array([0, 1]), ("0", "1")):
        assert plan.but(channels=channels).request == plan.request
    assert plan.but(channels=["-", 2]).request.options.channels == (None, 2)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"dropout": 1.0}, "dropout=1.0; expected 0 to 0.99"),
        ({"hidden": 0}, "hidden=0; expected 1 or more"),
        ({"pool": (0, 2)}, "pool=(0, 2); expected a size as HxW, height first"),
        ({"activation": "relu"}, "unknown activation 'relu'"),
        (
            {"classes": 1, "activation": "softmax"},
            "activation='softmax' with classes=1 is 1 whatever the picture; expected 'sigmoid' or, "
            "for a regression, 'logits'",
        ),
        (
            {"pool": "max", "pretrained_dense": True},
            "pretrained_dense=True with pool='max'; expected 'avg', which the",
        ),
    ],
)
def test_a_head_that_cannot_be(numbers, message):
    with pytest.raises(RequestError, match=re.escape(message)):
        inshape.Head(**{"classes": 2, **numbers})


def test_a_model_without_a_map_has_nothing_to_put_a_head_on():
    image = keras.Input((8, 8, 3))
    source = keras.Model(image, layers.Dense(2)(layers.Flatten()(image)), name="flat")
    with pytest.raises(
        GraphError, match=re.escape("model 'flat' has no feature map before its output")
    ):
        inshape.adapt(source, "8x8x3", strategy="rebuild", classes=2)


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(WeightsError, match=re.escape("or a backbone's name")):
        inshape.plan(tmp_path / "none.keras", "8x8x3")
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"PK")
    with pytest.raises(WeightsError, match=re.escape(f"{broken} cannot be loaded (")):
        inshape.plan(broken, "8x8x3")
    empty = tmp_path / "empty.h5"
    empty.write_bytes(b"")
    with pytest.raises(WeightsError, match=re.escape(f"{empty} cannot be loaded (")):
        inshape.plan(empty, "8x8x3")
    other = tmp_path / "net.pb"
    other.write_bytes(b"")
    with pytest.raises(
        WeightsError, match=re.escape("is not a model file; expected a name or a whole model")
    ):
        inshape.plan(other, "8x8x3")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(WeightsError, match="is a SavedModel, whose layers cannot be rewired; expe"):
        inshape.plan(tmp_path / "saved", "8x8x3")


@pytest.mark.parametrize(
    ("opened", "error"),
    [
        (lambda path: inshape.plan(path, "8x8x3"), WeightsError),
        (lambda path: inshape.plan(SMALL, "32x32x3").build(weights=path), WeightsError),
        (load_model, RequestError),
    ],
    ids=["backbone", "weights", "run"],
)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_model_that_would_run_code_is_refused(opened, error, suffix, tmp_path):
    trace, path = tmp_path / "it_ran", tmp_path / f"a{suffix}"
    image = keras.Input((8, 8, 3))
    harmful = eval(f"lambda x: (open({str(trace)!r}, 'w').close(), x)[1]")
    x = layers.Lambda(harmful)(layers.Conv2D(2, 3)(image))
    keras.Model(image, layers.GlobalAveragePooling2D()(x)).save(path)
    trace.unlink()
    keras.saving.load_model(path, safe_mode=False)
    assert trace.exists()  # that is what it does to those who let it
    trace.unlink()
    with pytest.raises(error):
        opened(path)
    assert not trace.exists()


def test_statistics_that_a_normalization_learned_are_carried_over(rng):
    normalization = layers.Normalization()
    normalization.adapt(rng.normal([5, 50, 100], [1, 20, 60], (64, 4, 4, 3)))
    image = keras.Input((33, 20, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(normalization(image))
    source = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    x = pictures(rng, 33, 20, 3)
    same = inshape.adapt(source, "33x20x3", strategy="rebuild", head="top")
    np.testing.assert_allclose(run(same, x), run(source, x), rtol=1e-5, atol=1e-5)
    grey = inshape.adapt(source, "33x20x1", strategy="rebuild", head="top")
    three = np.repeat(x[..., :1], 3, -1)
    np.testing.assert_allclose(run(grey, x[..., :1]), run(source, three), rtol=1e-4, atol=1e-4)
    four = inshape.adapt(source, "33x20x4", strategy="rebuild", channels="zero", head="top")
    x4 = pictures(rng, 33, 20, 4)
    np.testing.assert_allclose(run(four, x4), run(source, x4[..., :3]), rtol=1e-4, atol=1e-4)


def test_statistics_of_one_channel_become_those_of_several(rng):
    normalization = layers.Normalization()
    normalization.adapt(rng.normal(50, 20, (64, 4, 4, 1)))
    image = keras.Input((33, 20, 1))
    source = keras.Model(image, layers.Conv2D(4, 3, name="stem")(normalization(image)))
    three = inshape.adapt(source, "33x20x3", strategy="rebuild", channels="tile", head="top")
    x = pictures(rng, 33, 20, 1)
    expected = run(source, x)
    np.testing.assert_allclose(run(three, np.repeat(x, 3, -1)), expected, rtol=1e-4, atol=1e-4)


def test_an_array_that_is_subtracted_is_seen(rng):
    image = keras.Input((33, 20, 3))
    x = layers.Conv2D(4, 3, name="stem")((image - np.array([10.0, 100.0, 200.0])) / 50.0)
    source = keras.Model(image, layers.GlobalAveragePooling2D()(x), name="centred")
    one = pictures(rng, 33, 20, 1)
    grey = inshape.adapt(source, "33x20x1", strategy="rebuild", head="top")
    expected = run(source, np.repeat(one, 3, -1))
    np.testing.assert_allclose(run(grey, one), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(
        StrategyError, match=re.escape("works on 3 channels before the stem 'stem'")
    ):
        inshape.plan(source, "33x20x3", strategy="rebuild", channels=[2, 1, 0])


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (
            [layers.ZeroPadding2D(3, name="zeros"), layers.Rescaling(2.0)],
            "layer 'zeros' (pad) changes the map before the stem 'stem'",
        ),
        (
            [layers.Resizing(64, 64, name="own")],
            "layer 'own' (resize) changes the map before the stem 'stem'",
        ),
        (
            [layers.AveragePooling2D(2, name="half")],
            "layer 'half' (avg_pool) changes the map before the stem 'stem'",
        ),
        (
            [lambda x: layers.Concatenate()([x[:, ::2], x[:, 1::2]])],
            "(slice) changes the map before the stem 'stem'",
        ),
    ],
)
def test_a_stem_behind_something_that_moves_is_not_restrided(before, message):
    image = keras.Input((64, 64, 3))
    x = image
    for layer in before:
        x = layer(x)
    source = keras.Model(image, layers.Conv2D(4, 7, strides=2, name="stem")(x))
    with pytest.raises(StrategyError, match=re.escape(message)):
        inshape.plan(source, "32x32x3", strategy="restride")
    expected = "rebuild" if "resize" in message else "resize"
    assert inshape.plan(source, "32x32x3").strategy == expected


def test_adapting_an_adapted_model(rng, randomise):
    image = keras.Input((64, 64, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(image)
    source = randomise(keras.Model(image, layers.Conv2D(5, 3, name="last")(x)))
    once = inshape.adapt(source, "32x24x1", strategy="resize", classes=3, head=(2, 2))
    again = inshape.adapt(once, "48x20x1", strategy="resize", working_hw=(32, 24), classes=4)
    names = [layer.name for layer in again.layers]
    assert len([n for n in names if n.startswith("head_pool")]) == 1
    assert "last" in names
    assert run(again, pictures(rng, 48, 20, 1)).shape == (2, 4)


def test_a_map_of_one_pixel_may_be_the_last(rng, randomise):
    image = keras.Input((8, 8, 3))
    x = image
    for i in range(3):
        x = layers.MaxPooling2D(name=f"pool{i}")(layers.Conv2D(4, 3, padding="same")(x))
    source = randomise(keras.Model(image, layers.Dense(2)(layers.Flatten()(x))))
    model = inshape.adapt(source, "16x24x3", strategy="rebuild", classes=3)
    assert model.layers[-5].name == "pool2"


def test_weights_beside_a_whole_model_are_refused(small):
    message = "weights='other.h5' with a whole model, which brings its own"
    with pytest.raises(RequestError, match=re.escape(message)):
        inshape.adapt(small, "96x96x3", weights="other.h5")


@pytest.mark.parametrize("width", [56 + 8, 56 * 2])  # numbers that do not divide, and that do
def test_a_lambda_tied_to_the_old_size_is_refused(width):
    image = keras.Input((56, 56, 3))
    x = layers.AveragePooling2D(8)(image)
    x = layers.Lambda(lambda t: ops.reshape(t, (-1, 49 * 3)), name="rows")(x)
    source = keras.Model(image, layers.Dense(2)(x))
    with pytest.raises(FixedShape, match=rf'input 56x{width}x3: layer "rows" \(Lambda\) reads '):
        inshape.adapt(source, (56, width, 3), strategy="rebuild", head="top")


def test_an_encoder_on_two_scales(rng, randomise):
    inner_in = keras.Input((None, None, 3))
    encoder = keras.Model(inner_in, layers.Conv2D(4, 3, padding="same")(inner_in), name="encoder")
    image = keras.Input((32, 32, 3))
    half = layers.AveragePooling2D(2)(image)
    both = [layers.GlobalAveragePooling2D()(encoder(t)) for t in (image, half)]
    source = randomise(keras.Model(image, layers.Concatenate()(both)))
    model = inshape.adapt(source, "48x40x3", strategy="rebuild", head="top")
    x = pictures(rng, 48, 40, 3)
    halved = np.asarray(layers.AveragePooling2D(2)(x))
    expected = np.concatenate([np.asarray(encoder(t)).mean((1, 2)) for t in (x, halved)], -1)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-3)


def test_the_size_is_not_to_blame_for_channels():
    image = keras.Input((64, 64, 3))
    x = layers.Conv2D(3, 3, padding="same", name="residual")(image)
    source = keras.Model(image, layers.Add(name="add")([image, x]))
    for options in ({}, {"strategy": "resize"}):
        with pytest.raises(MapMismatch, match=r"expected equal sizes; use channels='project'$"):
            inshape.plan(source, "64x64x4", head="top", **options)
    assert inshape.adapt(source, "64x64x4", head="top", channels="project").output_shape[1:] == (
        64, 64, 3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tuned(randomise):
    """MobileNetV3Small-minimalistic with a head of the user's."""
    base = NARROW["MobileNetV3Small"](
        input_shape=(224, 224, 3), include_top=False, weights=None, minimalistic=True
    )
    pooled = layers.GlobalAveragePooling2D()(base.output)
    return randomise(keras.Model(base.input, layers.Dense(4, name="own")(pooled)))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".keras"])
def test_a_whole_model_in_a_file_is_a_backbone_or_gives_its_weights(
    tuned, suffix, tmp_path, rng, monkeypatch
):
    monkeypatch.setattr(apps, "MobileNetV3Small", NARROW["MobileNetV3Small"])
    path = tmp_path / f"tuned{suffix}"
    tuned.save(path)
    x = pictures(rng, 97, 64, 3)
    options = {"strategy": "rebuild", "features": [8]}
    expected = run(inshape.adapt(tuned, "97x64x3", **options), x)
    as_backbone = inshape.adapt(path, "97x64x3", **options)
    np.testing.assert_array_equal(run(as_backbone, x), expected)
    as_weights = inshape.adapt(SMALL, "97x64x3", weights=path, **options)
    np.testing.assert_allclose(run(as_weights, x), expected, rtol=1e-4, atol=1e-4)
    assert inshape.adapt(path, "97x64x1", head="top").output_shape == (None, 4)
    message = f"{path} does not fit MobileNet-0.25: "
    with pytest.raises(WeightsError, match=re.escape(message)) as caught:
        inshape.adapt("MobileNet-0.25", "97x64x3", weights=path, **options)
    advice = "it holds a whole model: give the file itself as backbone, without weights"
    assert str(caught.value).endswith(advice)


def test_weights_alone_are_no_backbone(tuned, tmp_path, monkeypatch):
    monkeypatch.setattr(apps, "MobileNetV3Small", NARROW["MobileNetV3Small"])
    path = tmp_path / "tuned.weights.h5"
    tuned.save_weights(path)
    message = (
        f"{path} holds weights without their model, expected a whole model; give the "
        "architecture's name as backbone and the file as weights"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        inshape.plan(path, "96x96x3")
    base = apps.MobileNetV3Small(include_top=False, weights=None, minimalistic=True)
    base.save_weights(path)  # as the message says
    assert inshape.adapt(SMALL, "96x96x3", weights=path).output_shape == (None, 576)


def of_module(module, *parents):
    return type("Net", parents or (object,), {"__module__": module})()


class Own(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (lambda: None, "got None, expected a keras.Model, a backbone's name or a .keras file"),
        (object, "got object, expected a keras.Model, a backbone's name or a .keras file; name"),
        (lambda: layers.Conv2D(3, 3), "got Conv2D, a layer, expected a keras.Model"),
        (lambda: keras.Input((8, 8, 3)), "got a tensor, expected a keras.Model"),
        (lambda: of_module("tf_keras.src.models"), "got Net of Keras 2 (tf_keras), expected a ke"),
        (lambda: of_module("keras.engine.training"), "save it with model.save('model.h5') and"),
        (lambda: of_module("tensorflow.python.keras.engine"), "Keras 2 (tensorflow), expected"),
        (lambda: of_module("torch.nn.modules.module"), "got Net of PyTorch, expected a keras.Mod"),
        (
            lambda: of_module("timm.models", type(of_module("torch.nn.modules.module"))),
            "got Net of PyTorch, expected a keras.Model",
        ),
        (
            lambda: keras.Sequential([layers.Conv2D(3, 3)], name="chain"),
            "model 'chain' is a keras.Sequential without an input, expected one of known shape; "
            "call model.build((None, height, width, channels)) first",
        ),
        (Own, "(Own) has no functional graph, so its layers cannot be rewired; build it with"),
        (
            lambda: apps.MobileNetV3Small,
            "got the function MobileNetV3Small, expected a keras.Model, a backbone's name or a "
            ".keras file; write its name, 'MobileNetV3Small', or call it",
        ),
        (lambda: keras.Sequential, "got Sequential itself, expected a keras.Model"),
    ],
)
def test_what_is_no_model_is_named(thing, message):
    for function in (inshape.plan, inshape.adapt):
        with pytest.raises(GraphError, match=re.escape(message)) as caught:
            function(thing(), "96x96x3")
        assert "\n" not in str(caught.value)


def test_a_sequential_that_is_built_is_taken():
    model = keras.Sequential([layers.Conv2D(3, 3), layers.GlobalAveragePooling2D()])
    model.build((None, 16, 16, 3))  # as the message says
    assert inshape.adapt(model, "20x24x1", head="top").output_shape == (None, 3)


@pytest.mark.parametrize(
    ("option", "message", "instead"),
    [
        ({"include_top": False}, "leave it out; without classes the pooled features come out", {}),
        ({"include_top": True}, "head='top' keeps the network's own head", {"head": "top"}),
        ({"pooling": "avg"}, "write pool='avg'", {"pool": "avg"}),
        ({"pooling": "max"}, "write pool='max'", {"pool": "max"}),
        ({"pooling": None}, "features=[32] gives the map at stride 32", {"features": [32]}),
        ({"classifier_activation": None}, "write activation='logits'", {"activation": "logits"}),
        (
            {"classifier_activation": "softmax"},
            "write activation='softmax'",
            {"activation": "softmax"},
        ),
        (
            {"alpha": 0.75},
            "write backbone 'MobileNetV3Small-0.75'",
            {"backbone": "MobileNetV3Small-0.75"},
        ),
        ({"minimalistic": True}, f"write backbone '{SMALL}'", {"backbone": SMALL}),
        ({"dropout_rate": 0.1}, "write dropout", {"dropout": 0.1}),
        ({"num_classes": 3}, "write classes", {"classes": 3}),
        ({"weights": None}, "a plan needs none; give them to inshape.adapt", {}),
    ],
)
def test_words_of_keras_are_answered_with_those_of_here(option, message, instead):
    (name,) = option
    with pytest.raises(UnknownName, match=re.escape(f"unknown option {name!r}; ")) as caught:
        inshape.plan("MobileNetV3Small", "64x64x3", **option)
    assert str(caught.value).endswith(message) or message in str(caught.value)
    request = {"backbone": "MobileNetV3Small", "input_shape": "64x64x3", **instead}
    make_request(PlanRequest, **request)


@pytest.mark.parametrize(
    ("option", "of_train", "of_compare"),
    [
        ({"include_top": False}, "a new classifier takes the place of the network's own", None),
        ({"input_shape": "64x64x3"}, "write shape='96x96x1'", "write shapes='96x96x1'"),
        ({"image_size": (64, 64)}, "write shape='96x96x1'", "write shapes='96x96x1'"),
        ({"pooling": "max"}, "write pool='max'", None),
        ({"activation": None}, "leave it out; the classifier ends in a softmax", None),
        ({"classifier_activation": None}, "the classifier ends in a softmax", None),
        ({"classes": 3}, "the classifier's classes are those of your pictures", None),
        ({"dropout_rate": 0.1}, "write dropout, the share", None),
        (
            {"model": "net.keras"},
            "write backbone, which takes",
            "write backbones, which takes files",
        ),
        (
            {"alpha": 0.75},
            "write backbone 'MobileNetV3Small-0.75'",
            "write backbones 'MobileNetV3S",
        ),
        (
            {"validation_split": 0.2},
            "write validation, the share of pictures held out",
            "choose from",
        ),
    ],
)
def test_training_and_comparing_answer_words_of_keras_too(option, of_train, of_compare):
    (name,) = option
    train = {"shape": "96x96x1"} if name != "input_shape" else {}
    for function, answer, rest in (
        (inshape.train, of_train, {"out": "run", "backbone": "MobileNetV3Small", **train}),
        (inshape.compare, of_compare or of_train, {"backbones": "MobileNetV3Small"}),
    ):
        with pytest.raises(UnknownName, match=re.escape(f"unknown option {name!r}; ")) as caught:
            function("photos", **rest, **option)
        assert answer in str(caught.value)


def test_weights_of_none_are_random_ones():
    asked = make_request(TrainRequest, source="photos", shape="9x9x1", out="run", weights=None)
    compared = make_request(CompareRequest, source="photos", weights=None)
    assert (asked.weights, compared.weights) == (None, None)


def test_no_activation_is_logits(tiny):
    plan = inshape.plan(tiny, "32x24x3", classes=5, activation=None)
    assert plan.request.ending.activation == "logits"
    assert plan.build().layers[-1].name == "head_logits"
    assert inshape.Head(classes=5, activation=None) == inshape.Head(classes=5, activation="logits")


def test_what_is_given_twice_or_is_too_long_is_said_in_one_line(tiny):
    with pytest.raises(RequestError, match="plan was given input_shape twice; leave one out"):
        inshape.plan(tiny, "32x24x3", input_shape="32x24x3")
    with pytest.raises(UnknownName, match=r"unknown backbone 'x{80}\.\.\.'; choose from: "):
        inshape.plan("x" * 5000, "32x24x3")
    for shape in ([1] * 5000, "x" * 5000, [["a"] * 5000]):
        with pytest.raises(ShapeError) as caught:
            inshape.plan(tiny, shape)
        assert len(str(caught.value)) < 300
