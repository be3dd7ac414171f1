"""The demonstration checkpoint: what it is pinned to, and what it refuses."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import inshape
from inshape.backbones import backbones, find
from inshape.errors import RequestError, WeightsError
from inshape.weights import demo
from inshape.weights.demo import BACKBONE, PATH, load_demo, save_demo
from inshape.weights.sources import load_source

SHA256 = "b35326b5a4f1832720e72bd861a09884600092eeed87f63035abb0c294c75854"


def test_the_file_is_the_published_one():
    content = PATH.read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert len(content) <= 3_000_000


def test_it_holds_the_network_below_the_pooling_as_float16():
    arrays = load_file(PATH)
    assert {str(array.dtype) for array in arrays.values()} == {"float16"}
    built = keras.applications.MobileNetV3Small(
        include_top=False, minimalistic=True, weights=None, input_shape=(64, 96, 3)
    )
    assert sum(array.size for array in arrays.values()) == built.count_params() == 441_000
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_every_array_arrives_where_it_belongs():
    model = load_source(find(BACKBONE), "demo", include_top=False)
    arrays = load_file(PATH)
    for layer in model.layers:
        for variable in layer.weights:
            stored = arrays[f"{layer.name}/{variable.name}"]
            np.testing.assert_array_equal(variable.numpy(), stored.astype(np.float32))
    stem = model.get_layer("conv").kernel.numpy()
    assert np.abs(stem).mean() > 0.01


def test_features_tell_classes_apart_better_than_random_ones(networks_opened_once):
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    digits = load_digits()
    pictures = np.repeat(np.repeat(digits.images[:600, ..., None], 3, 1), 3, 2) * (255 / 16)
    labels = digits.target[:600]
    right = {}
    for weights in ("demo", None):
        networks_opened_once()
        keras.utils.set_random_seed(0)
        model = inshape.adapt(BACKBONE, "24x24x1", strategy="restride", weights=weights)
        rows = StandardScaler().fit_transform(model.predict(pictures, verbose=0))
        known = np.arange(600) % 5 == 0  # twelve of each digit
        fit = LogisticRegression(C=0.1, max_iter=200).fit(rows[known], labels[known])
        right[weights] = fit.score(rows[~known], labels[~known])
    assert right["demo"] > right[None] + 0.03, right


def test_it_goes_in_by_every_door(tmp_path):
    one = inshape.adapt(BACKBONE, "33x48x1", classes=3, weights="demo", strategy="rebuild")
    other = inshape.plan(BACKBONE, "33x48x1", strategy="rebuild").build(weights="demo", classes=3)
    name = "expanded_conv_1_expand"
    np.testing.assert_array_equal(one.get_layer(name).kernel, other.get_layer(name).kernel)
    stored = load_file(PATH)
    np.testing.assert_array_equal(one.get_layer(name).kernel, stored[f"{name}/kernel"])
    # A grey stem sums the three channels that it was trained with.
    np.testing.assert_allclose(
        one.get_layer("conv").kernel.numpy(),
        stored["conv/kernel"].astype(np.float32).sum(2, keepdims=True),
        atol=1e-6,
    )


@pytest.mark.parametrize("name", ["MobileNetV3Small", "MobileNetV3Large-minimalistic", "VGG16"])
def test_another_backbone_is_refused_by_name(name):
    text = (
        f"weights='demo' is a checkpoint of MobileNetV3Small-minimalistic, expected weights of "
        f"{name}; use MobileNetV3Small-minimalistic as backbone, or give weights='imagenet', a "
        "file or None"
    )
    with pytest.raises(WeightsError, match=re.escape(text)):
        inshape.adapt(name, "96x96x3", weights="demo")


def test_only_one_backbone_fits():
    assert BACKBONE in {backbone.name for backbone in backbones()}


def test_it_has_no_classifier():
    text = (
        "weights='demo' holds MobileNetV3Small-minimalistic without its classifier, expected one; "
        "use a new head, such as classes=10"
    )
    with pytest.raises(WeightsError, match=re.escape(text)):
        inshape.adapt(BACKBONE, "96x96x3", weights="demo", head="top")


def test_a_whole_model_brings_its_own():
    own = keras.applications.MobileNetV3Small(weights=None, input_shape=(64, 64, 3))
    with pytest.raises(RequestError, match=re.escape("weights='demo' with a whole model")):
        inshape.adapt(own, "96x96x3", weights="demo")


def test_a_damaged_installation_says_so(tmp_path, monkeypatch):
    short = tmp_path / "short.safetensors"
    short.write_bytes(PATH.read_bytes()[:5000])
    monkeypatch.setattr(demo, "PATH", short)
    with pytest.raises(WeightsError, match=re.escape(f"{short} cannot be read (")) as error:
        load_demo(find(BACKBONE), include_top=False)
    assert str(error.value).endswith("expected the demonstration checkpoint; install inshape again")
    arrays = load_file(PATH)
    arrays["conv/kernel"] = arrays["conv/kernel"][:, :, :1].copy()
    save_file(arrays, short)
    text = (
        f"{short} does not fit {BACKBONE}: conv/kernel expects (3, 3, 3, 16), found (3, 3, 1, 16); "
        "install inshape again"
    )
    with pytest.raises(WeightsError, match=re.escape(text)):
        load_demo(find(BACKBONE), include_top=False)
    save_file({**load_file(PATH), "more/kernel": np.zeros(3, np.float16)}, short)
    with pytest.raises(WeightsError, match=re.escape("more/kernel has no place")):
        load_demo(find(BACKBONE), include_top=False)


def test_what_is_saved_is_what_is_read(tmp_path, monkeypatch, randomise):
    source = find(BACKBONE).build(include_top=False)
    randomise(source, 3)
    path = tmp_path / "own.safetensors"
    save_demo(source, path, {"steps": "1"})
    assert [p.name for p in tmp_path.iterdir()] == ["own.safetensors"]
    monkeypatch.setattr(demo, "PATH", path)
    loaded = load_demo(find(BACKBONE), include_top=False)
    for before, after in zip(source.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-6)


def test_reading_it_needs_no_other_framework():
    code = (
        "import sys\n"
        "from inshape.weights.demo import PATH, _read\n"
        "arrays = _read(PATH)\n"
        "assert len(arrays) > 100, len(arrays)\n"
        "heavy = {'keras', 'tensorflow', 'torch', 'jax', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_it(repo_dir, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=repo_dir,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("inshape/weights/demo.safetensors") == PATH.read_bytes()
