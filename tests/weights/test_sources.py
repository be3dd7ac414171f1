"""Weights from Keras's download and from files, against models of Keras's own."""

from __future__ import annotations

import hashlib
import importlib
import re
import shutil
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import tree
from tests.narrow import NARROW, without_values

from inshape.backbones import find
from inshape.errors import RequestError, WeightsError
from inshape.weights import download
from inshape.weights.files import open_weights
from inshape.weights.sources import _below_head, _divides_twice, load_source
from inshape.weights.stored import FORMS as ANY_FORM

SMALL = find("MobileNet-0.25")


def picture(hw=(224, 224), seed=3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (1, *hw, 3)).astype("float32")


def assert_same_weights(model: keras.Model, expected: keras.Model) -> None:
    assert len(model.weights) == len(expected.weights)
    for got, want in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.fixture(scope="module")
def whole(randomise) -> keras.Model:
    return randomise(SMALL.build(include_top=True, classes=7))


@pytest.fixture(scope="module")
def bare(randomise) -> keras.Model:
    return randomise(SMALL.build(include_top=False), seed=1)


@pytest.fixture(scope="module")
def saved(whole, bare, tmp_path_factory) -> dict[str, Path]:
    """The two models in every form that Keras 3 writes."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {}
    for name, model in (("whole", whole), ("bare", bare)):
        for ending in (".weights.h5", ".keras"):
            path = folder / f"{name}{ending}"
            (model.save_weights if ending == ".weights.h5" else model.save)(path)
            paths[f"{name}{ending}"] = path
        paths[f"{name}.h5"] = keras_two(model, folder / f"{name}.h5")
    return paths


def keras_two(model: keras.Model, path: Path, group_name: str | None = None) -> Path:
    """Write a file as Keras 2 did."""
    legacy = importlib.import_module("keras.src.legacy.saving.legacy_h5_format")
    with h5py.File(path, "w") as file:
        group = file.create_group(group_name) if group_name else file
        legacy.save_weights_to_hdf5_group(group, model)
    return path


FORMS = [".weights.h5", ".keras", ".h5"]


def test_no_weights_are_random_ones():
    model = load_source(SMALL, None, include_top=True, classes=4, activation="softmax")
    assert model.output_shape == (None, 4)
    assert model.layers[-1].get_config()["activation"] == "softmax"
    assert load_source(SMALL, None, include_top=True).output_shape == (None, 1000)


@pytest.mark.parametrize("form", FORMS)
def test_a_classifier_is_found_with_its_classes(form, saved, whole):
    model = load_source(SMALL, saved[f"whole{form}"], include_top=True)
    assert_same_weights(model, whole)
    np.testing.assert_array_equal(model(picture()), whole(picture()))


@pytest.mark.parametrize("form", FORMS)
def test_a_classifier_that_is_not_wanted_is_cut_off(form, saved, whole):
    model = load_source(SMALL, str(saved[f"whole{form}"]), include_top=False)
    below = keras.Model(whole.input, whole.layers[len(model.layers) - 1].output)
    np.testing.assert_array_equal(model(picture()), below(picture()))


def test_the_network_below_its_head_is_the_constructors_own():
    makers = {"VGG16": find("VGG16").build}
    for name, make in NARROW.items():
        if name != "ConvNeXtTiny":  # which is built anew
            makers[name] = partial(make, weights=None, input_shape=(224, 224, 3))
    for name, make in makers.items():
        with without_values():
            below = _below_head(make(include_top=True), find(name))
            own = make(include_top=False)
        layers = [
            [(type(layer), [o.shape for o in tree.flatten(layer.output)]) for layer in model.layers]
            for model in (below, own)
        ]
        assert layers[0] == layers[1], name
        assert below.name == own.name, name


@pytest.mark.parametrize("form", FORMS)
def test_a_file_without_a_classifier(form, saved, bare):
    path = saved[f"bare{form}"]
    assert_same_weights(load_source(SMALL, path, include_top=False), bare)
    message = (
        f"{path} holds MobileNet-0.25 without its classifier, expected one; "
        "use a file saved with include_top=True, or a new head"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(SMALL, path, include_top=True)


def test_a_whole_model_as_keras_two_wrote_it(whole, tmp_path):
    path = keras_two(whole, tmp_path / "model.h5", "model_weights")
    assert_same_weights(load_source(SMALL, path, include_top=True), whole)


def test_the_content_tells_the_layout_and_not_the_ending(saved, whole, tmp_path):
    for source, name in ((".weights.h5", "a.h5"), (".h5", "b.weights.h5"), (".keras", "c.h5")):
        path = tmp_path / name
        shutil.copy(saved[f"whole{source}"], path)
        assert_same_weights(load_source(SMALL, path, include_top=True), whole)


def test_the_layout_of_keras_2_13(saved, whole, tmp_path):
    path = tmp_path / "old.weights.h5"
    with h5py.File(saved["whole.weights.h5"]) as source, h5py.File(path, "w") as target:
        source.copy("layers", target, "_layer_checkpoint_dependencies")
    assert_same_weights(load_source(SMALL, path, include_top=True), whole)


def test_weights_in_bfloat16(saved, whole, tmp_path):
    path = tmp_path / "half.weights.h5"
    shutil.copy(saved["whole.weights.h5"], path)
    kernel = np.asarray(whole.layers[1].weights[0])
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(kernel, "bfloat16"))
    with h5py.File(path, "r+") as file:
        group = file["layers/conv2d/vars"]
        del group["0"]
        group.create_dataset("0", data=rounded).attrs["dtype"] = "bfloat16"
    model = load_source(SMALL, path, include_top=True)
    np.testing.assert_array_equal(model.layers[1].weights[0], rounded.astype("float32"))


@pytest.mark.parametrize("form", FORMS)
def test_another_network_names_the_first_layers_that_differ(form, saved):
    path = saved[f"whole{form}"]
    message = f"{path} does not fit MobileNet-0.5: "
    with pytest.raises(WeightsError, match=re.escape(message)) as error:
        load_source(find("MobileNet-0.5"), path, include_top=True)
    text = str(error.value)
    assert "\n" not in text
    is_whole_model = form == ".keras"
    advice = "it holds a whole model: give the file itself as backbone, without weights"
    assert text.endswith(
        advice if is_whole_model else "name the backbone that the file was saved from"
    )
    assert re.search(r"\S+ expects .+, the file holds .+; and \d+ more; ", text)


def test_the_shapes_in_the_message_are_those_of_the_layer(saved, tmp_path):
    path = tmp_path / "other.weights.h5"
    shutil.copy(saved["whole.weights.h5"], path)
    with h5py.File(path, "r+") as file:
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars/0"] = np.zeros((3, 3, 1, 8))
        file["layers/spare/vars/0"] = np.zeros(2)
    message = (
        f"{path} does not fit {SMALL.name}: conv1 expects (3, 3, 3, 8), the file holds "
        "(3, 3, 1, 8); the file's layers/spare has no place; name the backbone"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(SMALL, path, include_top=True)


def test_a_layer_that_is_missing(saved, tmp_path):
    path = tmp_path / "other.weights.h5"
    shutil.copy(saved["whole.weights.h5"], path)
    with h5py.File(path, "r+") as file:
        del file["layers/conv2d"]
        del file["layers/batch_normalization/vars/3"]
    message = (
        "conv1 expects (3, 3, 3, 8), the file holds no such layer; conv1_bn expects 4 arrays, the "
        "file holds 3; name"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(SMALL, path, include_top=True)


def test_another_number_of_classes(saved):
    path = saved["whole.keras"]
    message = (
        f"{path} holds a classifier of 7 classes, expected 10; leave the number of classes out to "
        "keep it, or use a new head"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(SMALL, path, include_top=True, classes=10)
    message = "weights='imagenet' holds a classifier of 1000 classes, expected 10; "
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(find("MobileNetV3Small"), "imagenet", include_top=True, classes=10)


def _missing(path: Path) -> str:
    return (
        f"no weights file at {path}; expected {ANY_FORM}, 'imagenet', an hf:// or kaggle:// name, "
    )


def _folder(path: Path) -> str:
    path.mkdir()
    return f"{path} is a folder; expected {ANY_FORM}; name the file inside"


def _empty(path: Path) -> str:
    path.touch()
    return f"{path} is no weights file (it is empty); expected "


def _text(path: Path) -> str:
    path.write_text("version https://git-lfs")
    return f"{path} is no weights file (it begins with b'version '); expected "


def _foreign_hdf5(path: Path) -> str:
    with h5py.File(path, "w") as file:
        file["pictures"] = np.zeros(3)
    return f"{path} holds no layers of a Keras model (but pictures); expected "


def _foreign_archive(path: Path) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", b"")
    return f"{path} is an archive without model.weights.h5; expected "


@pytest.mark.parametrize(
    "case", [_missing, _folder, _empty, _text, _foreign_hdf5, _foreign_archive]
)
def test_a_file_that_is_none(case, tmp_path):
    path = tmp_path / "a.weights.h5"
    with pytest.raises(WeightsError, match=re.escape(case(path))) as error:
        load_source(SMALL, path, include_top=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0.5, 0.999])
@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_file(form, kept, saved, tmp_path):
    content = saved[f"whole{form}"].read_bytes()
    path = tmp_path / f"short{form}"
    path.write_bytes(content[: int(len(content) * kept)])
    message = re.escape(f"{path} is truncated or damaged (") + r".+\); expected a \.weights\.h5, "
    with pytest.raises(WeightsError, match=message) as error:
        load_source(SMALL, path, include_top=True)
    assert "\n" not in str(error.value)


def test_a_file_whose_arrays_are_groups(saved, tmp_path):
    path = tmp_path / "odd.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_group("layers/conv2d/vars/0")
    message = f"{path} is truncated or damaged (0 is no array); expected "
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(SMALL, path, include_top=True)


@pytest.mark.slow
def test_the_second_rescaling_of_efficientnet_is_kept(tmp_path, monkeypatch, randomise):
    module = importlib.import_module("keras.src.applications.efficientnet")
    narrow = partial(NARROW["EfficientNetB0"], name="efficientnetb0", weights_name="b0")
    monkeypatch.setattr(keras.applications, "EfficientNetB0", narrow)
    backbone = find("EfficientNetB0")
    plain = randomise(backbone.build(include_top=True))
    file = keras_two(plain, tmp_path / "efficientnetb0.h5")
    monkeypatch.setattr(module.file_utils, "get_file", lambda *_, **__: str(file))
    expected = keras.applications.EfficientNetB0(classifier_activation=None)  # rescales twice
    want = expected(picture())
    assert np.abs(plain(picture()) - want).max() > 3e-3

    tuned = tmp_path / "tuned.weights.h5"
    expected.save_weights(tuned)
    model = load_source(backbone, tuned, include_top=True)
    np.testing.assert_allclose(model(picture()), want, rtol=1e-4, atol=1e-5)


def test_the_official_efficientnet_is_known_by_its_hash(saved, monkeypatch):
    path = saved["whole.h5"]
    with open_weights(path) as stored:
        assert not _divides_twice(stored)
        known = download.published()["EfficientNetB0", True]
        row = replace(known, hash=hashlib.md5(path.read_bytes()).hexdigest())
        monkeypatch.setitem(download.published(), ("EfficientNetB0", True), row)
        assert _divides_twice(stored)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("KERAS_HOME", str(cache))
    return cache


FILE = "mobilenet_2_5_224_tf.h5"


@pytest.fixture
def serve_from(monkeypatch):
    """Lets every published file be asked for at an address."""

    def serve(url):
        files = {key: replace(f, url=url + f.file) for key, f in download.published().items()}
        monkeypatch.setattr(download, "published", lambda: files)

    return serve


def test_imagenet_is_kerass_download(server, empty_cache, serve_from, randomise, capsys):
    expected = randomise(SMALL.build(include_top=True))
    keras_two(expected, server.folder / FILE)
    serve_from(server.url)
    model = load_source(SMALL, "imagenet", include_top=True)
    assert model.input_shape == (None, 224, 224, 3)
    assert_same_weights(model, expected)
    assert (empty_cache / "models" / FILE).is_file()
    assert capsys.readouterr().out == ""


def test_a_broken_download_goes_on(server, empty_cache, serve_from, randomise):
    expected = randomise(SMALL.build(include_top=True))
    keras_two(expected, server.folder / FILE)
    server.breaks_off_after = [100_000]
    serve_from(server.url)
    assert_same_weights(load_source(SMALL, "imagenet", include_top=True), expected)
    assert server.asked[-1] == (f"/{FILE}", "bytes=100000-")
    assert [p.name for p in (empty_cache / "models").iterdir()] == [FILE]


@pytest.mark.usefixtures("empty_cache")
def test_a_damaged_download(server, serve_from):
    name = "weights_mobilenet_v3_small_minimalistic_224_1.0_float.h5"
    (server.folder / name).write_bytes(b"damaged")
    serve_from(server.url)
    backbone = find("MobileNetV3Small-minimalistic")
    message = (
        f"cannot download {name} for {backbone.name} (what arrived from {server.url}{name} has "
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(backbone, "imagenet", include_top=True)


def test_no_connection(empty_cache, serve_from):
    serve_from("http://127.0.0.1:9/")
    target = empty_cache / "models" / FILE
    start = f"cannot download {FILE} for MobileNet-0.25 ("
    end = (
        f"expected a connection, or the file of http://127.0.0.1:9/{FILE} at {target}; put it "
        "there, or give weights= a file of your own"
    )
    with pytest.raises(WeightsError, match=re.escape(start)) as error:
        load_source(SMALL, "imagenet", include_top=True)
    assert str(error.value).endswith(end)
    assert "\n" not in str(error.value)


def test_a_broken_file_in_the_cache(empty_cache):
    target = empty_cache / "models" / "mobilenet_2_5_224_tf_no_top.h5"  # Keras checks no hash of it
    target.parent.mkdir()
    target.write_bytes(b"half a download")
    message = f"{target} does not hold the ImageNet weights of MobileNet-0.25 ("
    with pytest.raises(WeightsError, match=re.escape(message)) as error:
        load_source(find("MobileNet-0.25"), "imagenet", include_top=False)
    assert str(error.value).endswith("expected Keras's download; delete the file and try again")
    assert "\n" not in str(error.value)


def test_a_network_without_imagenet_weights():
    backbone = find("MobileNetV3Small-0.75-minimalistic")
    message = f"Keras publishes no ImageNet weights for {backbone.name}"
    with pytest.raises(RequestError, match=re.escape(message)):
        load_source(backbone, "imagenet", include_top=False)


LARGE = find("MobileNetV3Large-minimalistic")


@pytest.fixture(scope="module")
def real(imagenet_model) -> keras.Model:
    return keras.saving.load_model(imagenet_model, compile=False)


@pytest.mark.parametrize("form", ["imagenet_weights", "imagenet_model"])
def test_real_weights(form, real, request):
    model = load_source(LARGE, request.getfixturevalue(form), include_top=True)
    np.testing.assert_array_equal(model(picture()), real(picture()))
    assert model.output_shape == (None, 1000)


def test_real_weights_of_another_network(imagenet_weights):
    message = (
        "does not fit MobileNetV3Large: expanded_conv_3_depthwise expects (5, 5, 72, 1), the file "
        "holds (3, 3, 72, 1); expanded_conv_3_squeeze_excite_conv expects 2 arrays, the file "
        "holds 1; "
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(find("MobileNetV3Large"), imagenet_weights, include_top=True)


def test_the_source_file_is_untouched(saved):
    path = saved["whole.keras"]
    before = path.read_bytes()
    load_source(SMALL, path, include_top=False)
    assert path.read_bytes() == before
