"""`inshape adapt` writes the model that Python makes."""

import keras
import numpy as np
import pytest

SMALL = "MobileNetV3Small-minimalistic"


def test_it_writes_a_model_that_keras_loads(call, tmp_path):
    out = tmp_path / "small.keras"
    answer = call(
        *("adapt", SMALL, "--input", "97x64x1", "--out", out, "--weights", "none"),
        *("--classes", 7, "--head", "gem", "--json"),
    )
    assert answer.code == 0, answer.err
    assert answer.json["model"] == str(out)
    assert answer.json["plan"]["input_shape"] == "97x64x1"
    assert f"wrote {out}" in answer.err
    model = keras.saving.load_model(out)
    assert model.input_shape == (None, 97, 64, 1)
    assert model.output_shape == (None, 7)


def test_maps_instead_of_a_head(call, tmp_path):
    out = tmp_path / "maps.keras"
    answer = call(
        *("adapt", SMALL, "--input", "96x128x3", "--strategy", "rebuild", "--out", out),
        *("--weights", "none", "--features", "4,8"),
    )
    assert answer.code == 0, answer.err
    model = keras.saving.load_model(out)
    assert [shape[1:3] for shape in model.output_shape] == [(24, 32), (12, 16)]


@pytest.mark.slow
def test_the_pretrained_network_is_kept(call, tmp_path, imagenet_weights):
    out = tmp_path / "large.keras"
    answer = call(
        *("adapt", "MobileNetV3Large-minimalistic", "--input", "225x225x3", "--out", out),
        *("--weights", imagenet_weights, "--head", "top", "--strategy", "rebuild", "--json"),
    )
    assert answer.code == 0, answer.err
    native = keras.applications.MobileNetV3Large(
        input_shape=(225, 225, 3), minimalistic=True, weights=None
    )
    native.load_weights(imagenet_weights)
    picture = np.random.default_rng(0).uniform(0, 255, (1, 225, 225, 3)).astype("float32")
    model = keras.saving.load_model(out)
    assert np.abs(model(picture) - native(picture)).max() < 1e-6


def test_an_output_that_exists_is_left_alone(call, tmp_path):
    out = tmp_path / "small.keras"
    out.write_text("mine")
    answer = call("adapt", SMALL, "--input", "96x96x3", "--out", out)
    assert answer.code == 2
    assert answer.err == (
        f"inshape: error: out {out} exists already; expected a new file; name another\n"
    )
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("small.h5", "is not a .keras file; name one, such as small.keras"),
        ("no/small.keras", "there is no folder"),
    ],
)
def test_an_output_that_cannot_be(call, tmp_path, name, text):
    answer = call("adapt", SMALL, "--input", "96x96x3", "--out", tmp_path / name)
    assert answer.code == 2
    assert text in answer.err


def test_weights_of_another_network_name_what_differs(call, tmp_path, imagenet_weights):
    answer = call(
        *("adapt", SMALL, "--input", "96x96x3", "--out", tmp_path / "a.keras"),
        *("--weights", imagenet_weights),
    )
    assert answer.code == 2
    assert answer.err.startswith("inshape: error: ")
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "a.keras").exists()
