"""PyTorch state dicts against what torchvision and timm themselves answered."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file
from tools.pytorch_goldens import GOLDENS, NETWORKS, SIZES_HW, answer, pictures, seeded_state

import inshape
from inshape.backbones import find
from inshape.errors import WeightsError
from inshape.graph.read import read
from inshape.weights.sources import load_source

STORED = json.loads(GOLDENS.read_text(encoding="utf-8"))
TIMM = "timm mobilenetv3_small_050"
HALF = find("MobileNetV3Small-0.5")


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in STORED[name]["shapes"].items()}


@functools.cache
def state_of(name: str) -> dict[str, np.ndarray]:
    return seeded_state(shapes_of(name))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Writes a network's seeded weights once."""
    folder = tmp_path_factory.mktemp("states")

    def write(name: str) -> Path:
        path = folder / f"{name.split()[1]}.safetensors"
        if not path.exists():
            save_file(state_of(name), path)
        return path

    return write


@pytest.fixture(scope="module")
def half(saved) -> keras.Model:
    """A network with PyTorch's padding at 224x224, logits as its output."""
    return load_source(HALF, saved(TIMM), include_top=True)


def assert_parity(model: keras.Model, x: np.ndarray, want: object, *, within: float = 1e-4) -> None:
    got = np.asarray(model(x)).reshape(len(x), -1)
    want = np.reshape(want, got.shape)
    assert np.abs(want[0] - want[1]).max() > 0.05 * want.std()  # else any answer would do
    assert np.abs(got - want).max() < within * want.std()


def logits_of(name: str, hw: tuple[int, int]) -> list[list[float]]:
    return STORED[name]["logits"][f"{hw[0]}x{hw[1]}"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_logits_are_those_of_the_source_framework(name, saved):
    model = load_source(find(NETWORKS[name][0]), saved(name), include_top=True)
    assert_parity(model, pictures((224, 224)), logits_of(name, (224, 224)))
    odd = inshape.adapt(model, "97x131x3", strategy="rebuild", head="top")
    assert_parity(odd, pictures((97, 131)), logits_of(name, (97, 131)))


@pytest.mark.parametrize("hw", SIZES_HW)
def test_any_size_is_padded_as_in_the_source_framework(hw, half):
    anywhere = inshape.adapt(half, "?x?x3", strategy="flexible", head="top")
    assert_parity(anywhere, pictures(hw), logits_of(TIMM, hw))


def test_a_model_made_at_an_odd_size_keeps_its_padding_at_the_next(half):
    odd = inshape.adapt(half, "97x131x3", strategy="rebuild", head="top")
    assert not any(layer.parity_pads for layer in read(odd))
    back = inshape.adapt(odd, "224x224x3", strategy="rebuild", head="top")
    assert_parity(back, pictures((224, 224)), logits_of(TIMM, (224, 224)))


def test_a_stem_of_another_stride_answers_as_for_the_enlarged_picture(half):
    x = pictures((49, 66))
    large = inshape.adapt(half, "98x132x3", strategy="rebuild", head="top")
    small = inshape.adapt(
        half, "49x66x3", strategy="restride", stem="nearest", factor=2, head="top"
    )
    enlarged = x.repeat(2, axis=1).repeat(2, axis=2)
    assert_parity(small, x, large(enlarged))


def test_dilated_maps_hold_the_old_ones(saved):
    model = load_source(HALF, saved(TIMM), include_top=False)
    for layer in model.layers:
        if layer.name.endswith("squeeze_excite_conv_1"):  # a gate that does not read the map
            layer.kernel.assign(np.zeros(layer.kernel.shape))
    options = {"features": [32]}
    plain = inshape.adapt(model, "96x129x3", strategy="rebuild", **options)
    dense = inshape.adapt(model, "96x129x3", strategy="restride", output_stride=16, features=[16])
    x = pictures((96, 129))
    want = np.asarray(plain(x))
    np.testing.assert_allclose(
        np.asarray(dense(x))[:, ::2, ::2], want, atol=1e-4 * want.std(), rtol=1e-4
    )


def test_the_classifier_is_cut_off_where_it_is_not_wanted_but_not_in_the_file(saved, half):
    before = saved(TIMM).read_bytes()
    bare = load_source(HALF, saved(TIMM), include_top=False)
    assert saved(TIMM).read_bytes() == before
    maps = keras.Model(half.input, half.get_layer("conv_1_bn").output)
    own = keras.Model(bare.input, bare.get_layer("conv_1_bn").output)
    x = pictures((224, 224))
    np.testing.assert_array_equal(own(x), maps(x))
    assert len(bare.output_shape) == 4


@pytest.mark.parametrize("head", ["classifier", "classifier conv_head"])
def test_a_state_dict_without_its_classifier(head, tmp_path, half):
    path = tmp_path / "headless.safetensors"
    cut_off = tuple(f"{layer}." for layer in head.split())
    save_file({k: v for k, v in state_of(TIMM).items() if not k.startswith(cut_off)}, path)
    bare = load_source(HALF, path, include_top=False)
    assert len(bare.get_weights()) == len(half.get_weights()) - 4
    message = f"{path} holds {HALF.name} without its classifier, expected one; "
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(HALF, path, include_top=True)


def test_one_grey_channel_answers_as_three_equal_ones(saved, half):
    grey = inshape.adapt(
        HALF.name, "224x224x1", strategy="rebuild", weights=saved(TIMM), head="top"
    )
    x = pictures((224, 224))[..., :1]
    want = keras.ops.softmax(half(x.repeat(3, axis=-1)))
    np.testing.assert_allclose(grey(x), want, atol=1e-5)


def test_half_precision_weights(saved, half, tmp_path):
    path = tmp_path / "half.safetensors"
    save_file({k: v.astype(np.float16) for k, v in state_of(TIMM).items()}, path)
    kernel = load_source(HALF, path, include_top=False).get_layer("conv").kernel
    want = np.asarray(half.get_layer("conv").kernel).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(kernel, want)


# What the configuration beside a file says


def configured(folder: Path, name: str, **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(state_of(name), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder / "model.safetensors"


TF = "timm tf_mobilenetv3_small_075"


def test_timms_configuration_tells_the_networks_apart_that_hold_the_same_arrays(tmp_path):
    path = configured(tmp_path / "a", TF, architecture="tf_mobilenetv3_small_075")
    model = load_source(find("MobileNetV3Small-0.75"), path, include_top=True)
    assert_parity(model, pictures((224, 224)), logits_of(TF, (224, 224)))
    assert model.get_layer("conv_bn").epsilon == 1e-3


def test_the_mean_and_deviation_of_timms_configuration_are_used(tmp_path, half):
    cfg = {"mean": [0.0, 0.1, 0.2], "std": [1.0, 0.5, 0.25], "num_classes": 1000}
    path = configured(
        tmp_path, TIMM, architecture="mobilenetv3_small_050", num_classes=10, pretrained_cfg=cfg
    )
    model = load_source(HALF, path, include_top=True)
    x = pictures((224, 224))
    shares = (x / 255 - np.array(cfg["mean"])) / np.array(cfg["std"])
    as_imagenet = (shares * np.array([0.229, 0.224, 0.225]) + np.array([0.485, 0.456, 0.406])) * 255
    assert_parity(model, x, half(as_imagenet.astype(np.float32)))


def test_a_configuration_of_other_classes(tmp_path):
    path = configured(tmp_path, TIMM, architecture="mobilenetv3_small_050", num_classes=7)
    message = (
        f"{path} holds a classifier of 10 classes, expected 7 as in the config.json beside it; "
        "download both files again"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(HALF, path, include_top=True)


@pytest.mark.parametrize("said", ["mobilenetv3_small_075", "tf_mobilenetv3_large_100", "resnet18"])
def test_a_configuration_of_another_network_is_not_believed(said, tmp_path):
    path = configured(tmp_path, TIMM, architecture=said)
    message = (
        f"{path} holds timm's mobilenetv3_small_050 by its shapes, the config.json beside it says "
        f"{said}; expected one network; put the weights and their own config.json into a folder of "
        "their own"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(HALF, path, include_top=True)


def test_a_guess_is_said(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(state_of(TF), path)
    message = (
        f"{path} does not say which of timm's networks it holds, mobilenetv3_small_075 or "
        "tf_mobilenetv3_small_075; taken for the first; if that is wrong, put timm's config.json "
        "beside it or give the file the network's name"
    )
    with pytest.warns(UserWarning, match=re.escape(message)):
        load_source(find("MobileNetV3Small-0.75"), path, include_top=True)


def test_a_configuration_that_cannot_be_used(tmp_path):
    path = configured(
        tmp_path, TIMM, architecture="mobilenetv3_small_050", pretrained_cfg={"mean": [0.5]}
    )
    message = f"{tmp_path / 'config.json'} gives mean [0.5], expected one number for each of red, "
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(HALF, path, include_top=True)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    message = f"{tmp_path / 'config.json'} cannot be read ("
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(HALF, path, include_top=True)


# What does not fit


def test_another_width_names_the_first_layer_that_differs(saved):
    path = saved("timm mobilenetv3_small_075")
    message = (
        f"{path} does not fit MobileNetV3Small-0.5: expanded_conv_project (blocks.0.0.conv_pw) "
        "expects (1, 1, 16, 8), the file holds (1, 1, 16, 16); "
    )
    with pytest.raises(WeightsError, match=re.escape(message)) as error:
        load_source(HALF, path, include_top=True)
    end = " more; these are timm's mobilenetv3_small_075; use MobileNetV3Small-0.75"
    assert str(error.value).endswith(end)
    assert "\n" not in str(error.value)


def test_a_layer_of_another_shape_in_the_right_network(tmp_path):
    name = "torchvision mobilenet_v3_small"
    state = dict(state_of(name))
    state["features.4.block.1.0.weight"] = np.zeros((96, 1, 3, 3), np.float32)
    del state["features.5.block.1.1.running_var"]
    state["spare.weight"] = np.zeros(2, np.float32)
    path = tmp_path / "other.safetensors"
    save_file(state, path)
    message = (
        f"{path} does not fit MobileNetV3Small: expanded_conv_3_depthwise (features.4.block.1.0) "
        "expects (5, 5, 96, 1), the file holds (3, 3, 96, 1); expanded_conv_4_depthwise_bn "
        "(features.5.block.1.1) expects 4 arrays, the file holds 3; the file's spare has no place; "
        "give a whole state dict of torchvision's mobilenet_v3_small"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(find("MobileNetV3Small"), path, include_top=True)


def test_a_network_that_is_no_mobilenet_v3(saved):
    path = saved(TIMM)
    message = (
        f"{path} holds timm's mobilenetv3_small_050, expected weights of ResNet50; "
        "use MobileNetV3Small-0.5"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_source(find("ResNet50"), path, include_top=True)


def test_an_unknown_network_lists_the_known_ones(tmp_path):
    path = tmp_path / "resnet.safetensors"
    zeros = np.zeros((64, 3, 7, 7), np.float32)
    save_file({"conv1.weight": zeros, "fc.bias": zeros[0]}, path)
    message = (
        f"{path} holds the state dict of an unknown network (2 arrays, the first of them "
        "conv1.weight, fc.bias); expected one of torchvision mobilenet_v3_small, torchvision "
        "mobilenet_v3_large, timm mobilenetv3_small_050, "
    )
    with pytest.raises(WeightsError, match=re.escape(message)) as error:
        load_source(HALF, path, include_top=True)
    assert set(NETWORKS) <= set(re.split(", |; | of ", str(error.value)))


@pytest.mark.parametrize(
    "rename", [("blocks.1.1", "blocks.1.2"), ("blocks.5.0.conv", "blocks.9.0.x")]
)
def test_another_network_with_the_names_of_timm(rename, tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({key.replace(*rename): v for key, v in state_of(TIMM).items()}, path)
    with pytest.raises(WeightsError, match=r"holds the state dict of an unknown|does not fit"):
        load_source(HALF, path, include_top=True)


# Where the source frameworks are installed


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_stored_logits_are_what_the_source_framework_answers(name):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("torchvision" if "torchvision" in name else "timm")
    found = answer(name)
    assert found["shapes"] == STORED[name]["shapes"]
    for size, want in STORED[name]["logits"].items():
        np.testing.assert_allclose(found["logits"][size], want, atol=1e-4 * np.std(want))
