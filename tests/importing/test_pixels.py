"""Networks that were trained on other values than [0, 255], which their files do not say."""

from __future__ import annotations

import hashlib
import re

import keras
import numpy as np
import pytest
from keras import layers

import inshape
from inshape.cli.app import run
from inshape.errors import NoCandidate, RequestError
from inshape.importing.imported import RANGE_UNKNOWN
from inshape.training.request import NATIVE, request_of

SHAPE = (21, 16, 3)


@pytest.fixture(scope="module")
def unscaled(randomise):
    """With a model in it, and its norms folded."""
    picture = keras.Input((12, 9, 6))
    inner = keras.Model(picture, layers.Conv2D(8, 3, name="inside")(picture), name="block")
    image = keras.Input(SHAPE)
    x = layers.Conv2D(6, 3, strides=2, padding="same", name="stem")(layers.ZeroPadding2D()(image))
    x = inner(layers.ReLU()(x))
    x = layers.Dense(3, name="scores")(layers.GlobalAveragePooling2D()(x))
    return randomise(keras.Model(image, x, name="unscaled"))


@pytest.fixture(scope="module")
def file(unscaled, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "net.keras"
    unscaled.save(path)
    return path


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (20, *SHAPE)).astype(np.float32)


def _of_imagenet(x):
    return (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


@pytest.mark.parametrize("is_file", [True, False], ids=["a file", "a model"])
@pytest.mark.parametrize(
    ("pixels", "expected"),
    [("0:1", lambda x: x / 255), ((-1, 1), lambda x: x / 127.5 - 1), ("imagenet", _of_imagenet),
     ("0:255", lambda x: x)],
)  # fmt: skip
def test_pictures_go_in_from_0_to_255(unscaled, file, pictures, pixels, expected, is_file):
    source = file if is_file else unscaled
    before = hashlib.sha256(b"".join(w.tobytes() for w in unscaled.get_weights())).digest()
    plan = inshape.plan(source, SHAPE, pixels=pixels, head="top", strategy="rebuild")
    model = plan.build()
    values = unscaled(expected(pictures).astype(np.float32))
    np.testing.assert_allclose(model(pictures), values, rtol=1e-4, atol=1e-4)
    assert plan.notes == ()
    assert hashlib.sha256(b"".join(w.tobytes() for w in unscaled.get_weights())).digest() == before
    # One grey channel stands for three equal ones, whatever is done to each.
    grey = plan.but(input_shape="21x16x1").build()
    same = model(pictures[..., :1].repeat(3, -1))
    np.testing.assert_allclose(grey(pictures[..., :1]), same, rtol=1e-4, atol=1e-4)


def _inside(model, *, dtype="float32"):
    image = keras.Input(SHAPE, dtype=dtype)
    x = image if dtype == "uint8" else layers.Rescaling(1 / 255)(image)
    return keras.Model(image, model(x), name="own")


@pytest.mark.parametrize(
    ("backbone", "message"),
    [("VGG16", "with 'VGG16'; expected a model file or a keras.Model, since a named network takes "
      "[0, 255] as it is; leave pixels out"),
     (lambda m: _inside(m), "with model 'own', which brings [0, 255] to its range itself; expected "
      "one that does not; leave pixels out"),
     (lambda m: _inside(m, dtype="uint8"), "with model 'own', which takes uint8; expected a "
      "network that takes floats; leave pixels out"),
     (lambda m: keras.Model(i := keras.Input((9, 9, 1)), layers.Conv2D(2, 3)(i), name="grey"),
      "with model 'grey', which takes 1 channels; expected a network of 3, as ImageNet's "
      "statistics are; give LOW:HIGH")],
    ids=["named", "scaled", "bytes", "grey"],
)  # fmt: skip
def test_what_has_a_range_of_its_own_is_refused(unscaled, backbone, message):
    backbone = backbone(unscaled) if callable(backbone) else backbone
    with pytest.raises(RequestError, match=re.escape(f"pixels='imagenet' {message}")):
        inshape.plan(backbone, "32x32x3", pixels="imagenet")


def test_what_is_no_network_of_one_picture_is_refused(tmp_path):
    pictures = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    model = keras.Model(pictures, layers.Conv2D(2, 3)(layers.Add()(pictures)))
    model.save(tmp_path / "two.keras")
    for backbone in (model, tmp_path / "two.keras", "no.keras", layers.Conv2D):
        with pytest.raises(inshape.errors.RequestError) as plain:
            inshape.plan(backbone, "8x8x3")
        with pytest.raises(inshape.errors.RequestError) as refused:
            inshape.plan(backbone, "8x8x3", pixels="0:1")
        assert str(refused.value) == str(plain.value)


def test_what_is_no_range_is_refused(file):
    for pixels in ("1:0", "a", "0:1:2", [], "0:nan"):
        with pytest.raises(RequestError, match="expected LOW:HIGH, the values of black and white"):
            inshape.plan(file, "21x16x3", pixels=pixels)
    with pytest.raises(RequestError, match=re.escape("pixels='0:1' with 'VGG16'; expected a mod")):
        inshape.compare("photos", backbones=[file, "VGG16"], pixels="0:1")


def test_the_advice_of_a_file_that_does_not_say_can_be_followed(file, capsys):
    assert inshape.plan(file, "21x16x3").notes == (RANGE_UNKNOWN,)
    assert "pixels=" in RANGE_UNKNOWN
    assert run(["inspect", str(file), "30x20x1", "--pixels", "-1:1"]) == 0
    printed = capsys.readouterr().out
    assert "30x20x1" in printed
    assert "note:" not in printed


def test_training_and_comparing_follow(unscaled, file, pictures, tmp_path):
    labels = ["ab"[int(x[..., 0].mean() > x[..., 1].mean())] for x in pictures]
    source = pictures.astype(np.uint8), labels
    run = inshape.train(
        source, SHAPE, backbone=file, pixels="0:1", out=tmp_path / "run", strategy="rebuild",
        epochs=0, head_epochs=1, views=1, reopen_bn=True, validation=0.25, weights="imagenet",
    )  # fmt: skip
    names = [layer.name for layer in run.load_model().layers]
    assert names[:2] == ["image", "pixels"]
    assert {"stem_bn", "inside_bn"} < set(names)
    assert run.record["request"]["file"]["pixels"] == [0.0, 1.0]
    # The network itself, where a run has to keep it, stands behind its scaling already.
    assert request_of(run).file.pixels == (0, 1)
    (run.checkpoints / NATIVE).touch()
    assert request_of(run).file.pixels is None
    # A file that says it itself answers the same.
    scaled = tmp_path / "scaled.keras"
    _inside(unscaled).save(scaled)
    options = {"shapes": "24x16x3", "strategies": "rebuild", "latency": False}
    found = inshape.compare(source, backbones=file, pixels="0:1", **options)
    told = inshape.compare(source, backbones=scaled, **options)
    assert found.candidates[0].error is None
    assert found.candidates[0].right == told.candidates[0].right
    with pytest.raises(NoCandidate, match=re.escape("which brings [0, 255] to its range itself")):
        inshape.compare(source, backbones=scaled, pixels="0:1", **options)
