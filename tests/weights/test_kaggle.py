"""KerasHub's presets: its own library where it is installed, its attributes where it is not."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tools.pytorch_goldens import GOLDENS, pictures, seeded_state

from inshape.backbones import find
from inshape.errors import WeightsError
from inshape.extras import install
from inshape.weights import kaggle
from inshape.weights.kaggle import from_kaggle
from inshape.weights.sources import load_source

STORED = json.loads(GOLDENS.read_text(encoding="utf-8"))["timm mobilenetv3_small_050"]
NAME = "kaggle://keras/mobilenetv3/keras/mobilenet_v3_small_050_imagenet"
HALF = find("MobileNetV3Small-0.5")
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def state() -> dict[str, np.ndarray]:
    return seeded_state({key: tuple(shape) for key, shape in STORED["shapes"].items()})


class MobileNetBackbone:
    """KerasHub's network as far as its layers and their attributes go."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.layers = list(self._layers())

    def get_layer(self, name: str) -> Any:
        return next(layer for layer in self.layers if layer.name == name)

    def _layers(self) -> Iterator[Any]:
        yield self.conv("conv_stem", name="input_conv")
        yield self.norm("bn1", name="input_batch_norm")
        names = {key.rsplit(".", 2)[0] for key in self.arrays if key.startswith("blocks.")}
        for block in sorted({".".join(name.split(".")[:3]) for name in names}):
            layer = SimpleNamespace(name=block.replace("blocks.", "block_").replace(".", "_"))
            if f"{block}.conv.weight" in self.arrays:
                layer.conv, layer.batch_normalization = (
                    self.conv(f"{block}.conv"),
                    self.norm(f"{block}.bn1"),
                )
                yield layer
                continue
            is_first = block == "blocks.0.0"
            convs = ("conv_dw", "conv_pw") if is_first else ("conv_pw", "conv_dw", "conv_pwl")
            for number, conv in enumerate(convs, start=1):
                setattr(layer, f"conv{number}", self.conv(f"{block}.{conv}"))
                setattr(layer, f"batch_normalization{number}", self.norm(f"{block}.bn{number}"))
            gate = None
            if f"{block}.se.conv_reduce.weight" in self.arrays:
                gate = SimpleNamespace(
                    conv_reduce=self.conv(f"{block}.se.conv_reduce"),
                    conv_expand=self.conv(f"{block}.se.conv_expand"),
                )
            setattr(layer, "se_layer" if is_first else "squeeze_excite", gate)
            yield layer

    def conv(self, key: str, **attributes: Any) -> Any:
        kernel, bias = self.arrays[f"{key}.weight"], self.arrays.get(f"{key}.bias")
        turned = kernel.transpose((2, 3, 1, 0) if kernel.ndim == 4 else (1, 0))
        return SimpleNamespace(kernel=turned, bias=bias, use_bias=bias is not None, **attributes)

    def norm(self, key: str, **attributes: Any) -> Any:
        a = self.arrays
        return SimpleNamespace(
            gamma=a[f"{key}.weight"],
            beta=a[f"{key}.bias"],
            moving_mean=a[f"{key}.running_mean"],
            moving_variance=a[f"{key}.running_var"],
            **attributes,
        )


def serve(monkeypatch, from_preset: Any, backbone_from_preset: Any = None) -> None:
    models = SimpleNamespace(
        ImageClassifier=SimpleNamespace(from_preset=from_preset),
        Backbone=SimpleNamespace(from_preset=backbone_from_preset),
    )
    monkeypatch.setitem(sys.modules, "keras_hub", SimpleNamespace(models=models))


def classifier(scale: Any = 1 / (255 * DEVIATION), offset: Any = -MEAN / DEVIATION) -> Any:
    network = MobileNetBackbone(state())
    converter = SimpleNamespace(scale=scale, offset=offset)
    return SimpleNamespace(
        backbone=network,
        preprocessor=SimpleNamespace(image_converter=converter),
        output_conv=network.conv("conv_head"),
        output_dense=network.conv("classifier"),
    )


def test_a_preset_answers_as_timms_network_does(monkeypatch):
    asked: list[str] = []
    serve(monkeypatch, lambda name: asked.append(name) or classifier())
    model = load_source(HALF, NAME, include_top=True)
    assert asked == [NAME]
    got, want = np.asarray(model(pictures((224, 224)))), STORED["logits"]["224x224"]
    assert np.abs(got - want).max() < 1e-4 * np.std(want)


def test_the_presets_own_normalisation_is_used(monkeypatch):
    serve(monkeypatch, lambda _: classifier(scale=1 / 255, offset=None))
    origin = from_kaggle(NAME).origin
    assert (origin.mean, origin.deviation) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    serve(monkeypatch, lambda _: classifier())
    np.testing.assert_allclose(from_kaggle(NAME).origin.mean, MEAN, atol=1e-6)


def test_a_preset_without_a_classifier(monkeypatch):
    def refuse(_: str) -> None:
        raise ValueError("num_classes")

    serve(monkeypatch, refuse, lambda _: MobileNetBackbone(state()))
    assert len(load_source(HALF, NAME, include_top=False).output_shape) == 4
    with pytest.raises(WeightsError, match=re.escape(f"{NAME} holds {HALF.name} without its cl")):
        load_source(HALF, NAME, include_top=True)


def test_a_preset_of_another_network(monkeypatch):
    serve(monkeypatch, lambda _: SimpleNamespace(backbone=SimpleNamespace()))
    message = (
        f"{NAME} holds a SimpleNamespace, expected KerasHub's MobileNetBackbone; use a preset of "
        "MobileNetV3, or bring the network as a Keras model"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        from_kaggle(NAME)


def test_no_connection(monkeypatch):
    def fail(_: str) -> None:
        raise ConnectionError("no route to host. Try later")

    serve(monkeypatch, fail)
    message = (
        f"cannot load {NAME} (ConnectionError: no route to host); expected a connection, or the "
        "preset in kagglehub's cache; download it with kagglehub.model_download("
        f"{NAME.removeprefix('kaggle://')!r}) where there is one, or give a file"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        from_kaggle(NAME)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    message = (
        f"{NAME} needs keras-hub, which is not installed; {install('kaggle')}, or give "
        "weights='imagenet' or a file"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        from_kaggle(NAME)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_preset_that_keras_hub_wrote(tmp_path):
    hub = pytest.importorskip("keras_hub", reason="keras-hub is not installed")
    convert = pytest.importorskip("keras_hub.src.utils.timm.convert_mobilenet")
    config = convert.convert_backbone_config({"architecture": "mobilenetv3_small_050"})
    network = hub.models.MobileNetBackbone(**config, image_shape=(224, 224, 3))
    task = hub.models.MobileNetImageClassifier(network, num_classes=10)
    arrays = state()

    class Loader:
        def port_weight(self, variable: Any, hf_weight_key: str, hook_fn: Any = None) -> None:
            values = arrays[hf_weight_key]
            variable.assign(hook_fn(values, None) if hook_fn else values)

    convert.convert_weights(network, Loader(), {})
    convert.convert_head(task, Loader(), {})
    task.save_to_preset(str(tmp_path))
    found = kaggle.from_kaggle(str(tmp_path))
    assert found.origin.architecture == "mobilenetv3_small_050"
    counted = {key for key in arrays if key.endswith("num_batches_tracked")}
    assert set(found._tensors.shapes) == set(arrays) - counted
    for key in set(arrays) - counted:
        np.testing.assert_array_equal(found._tensors.read(key), arrays[key])
