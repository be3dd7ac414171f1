"""KerasHub's presets: ``kaggle://keras/mobilenetv3/keras/mobilenet_v3_small_100_imagenet``.

``keras_hub`` downloads them by ``kagglehub``, which verifies, resumes and caches. Its MobileNetV3
is timm's, layer by layer, so that its arrays are handed on under timm's names.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..extras import install
from .origin import Three, origin_of
from .state_dict import StateDict
from .tensors import Tensors

PREFIX = "kaggle://"


def from_kaggle(name: str) -> StateDict:
    """Download a preset, or find it in kagglehub's cache."""
    try:
        models = importlib.import_module("keras_hub").models
    except ImportError as error:
        raise WeightsError(
            f"{name} needs keras-hub, which is not installed; {install('kaggle')}, or "
            "give weights='imagenet' or a file"
        ) from error
    try:
        preset = _loaded(models, name)
    except Exception as error:  # its own errors, kagglehub's and those of the HTTP library
        reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")
        raise WeightsError(
            f"cannot load {name} ({type(error).__name__}: {reason}); expected a connection, or the "
            "preset in kagglehub's cache; download it with kagglehub.model_download("
            f"{name.removeprefix(PREFIX)!r}) where there is one, or give a file"
        ) from error
    network = getattr(preset, "backbone", preset)
    if type(network).__name__ != "MobileNetBackbone":
        raise WeightsError(
            f"{name} holds a {type(network).__name__}, expected KerasHub's MobileNetBackbone; use "
            "a preset of MobileNetV3, or bring the network as a Keras model"
        )
    arrays = dict(_arrays(preset, network))
    tensors = Tensors({key: tuple(v.shape) for key, v in arrays.items()}, arrays.__getitem__)
    return StateDict(name, tensors, _normalised(name, preset, tensors))


def _loaded(models: Any, name: str) -> Any:
    try:
        return models.ImageClassifier.from_preset(name)
    except ValueError:  # a preset without a classifier
        return models.Backbone.from_preset(name)


def _normalised(name: str, preset: Any, tensors: Tensors) -> Any:
    """The network, with the mean and deviation of the preset's own preprocessing."""
    origin = origin_of(name, tensors)
    converter = getattr(getattr(preset, "preprocessor", None), "image_converter", None)
    if converter is None or converter.scale is None:
        return origin
    scale = np.broadcast_to(converter.scale, 3).astype(float)
    offset = np.broadcast_to(0.0 if converter.offset is None else converter.offset, 3)
    deviation = 1 / (255 * scale)
    return replace(origin, mean=_three(-offset * deviation), deviation=_three(deviation))


def _three(values: NDArray[Any]) -> Three:
    red, green, blue = (round(float(v), 7) for v in values)
    return red, green, blue


def _arrays(preset: Any, network: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    yield from _conv("conv_stem", network.get_layer("input_conv"))
    yield from _norm("bn1", network.get_layer("input_batch_norm"))
    for layer in network.layers:
        place = re.fullmatch(r"block_(\d+)_(\d+)", layer.name)
        if place is not None:
            yield from _block(f"blocks.{place[1]}.{place[2]}", layer)
    if preset is not network:
        yield from _conv("conv_head", preset.output_conv)
        yield from _conv("classifier", preset.output_dense)


def _block(prefix: str, block: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    gate = getattr(block, "squeeze_excite", None) or getattr(block, "se_layer", None)
    if gate is not None:
        yield from _conv(f"{prefix}.se.conv_reduce", gate.conv_reduce)
        yield from _conv(f"{prefix}.se.conv_expand", gate.conv_expand)
    if hasattr(block, "conv"):  # the last one
        yield from _conv(f"{prefix}.conv", block.conv)
        yield from _norm(f"{prefix}.bn1", block.batch_normalization)
        return
    is_first = not hasattr(block, "conv3")
    names = ("conv_dw", "conv_pw") if is_first else ("conv_pw", "conv_dw", "conv_pwl")
    for number, name in enumerate(names, start=1):
        yield from _conv(f"{prefix}.{name}", getattr(block, f"conv{number}"))
        yield from _norm(f"{prefix}.bn{number}", getattr(block, f"batch_normalization{number}"))


def _conv(prefix: str, layer: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    kernel = np.asarray(layer.kernel)
    yield f"{prefix}.weight", np.transpose(kernel, (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0))
    if layer.use_bias:
        yield f"{prefix}.bias", np.asarray(layer.bias)


def _norm(prefix: str, layer: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    yield f"{prefix}.weight", np.asarray(layer.gamma)
    yield f"{prefix}.bias", np.asarray(layer.beta)
    yield f"{prefix}.running_mean", np.asarray(layer.moving_mean)
    yield f"{prefix}.running_var", np.asarray(layer.moving_variance)
