"""Networks that cost little: a small member of each family, and any network without its values.

A small member is made by its family's general constructor in ``keras.applications``, with each kind
of block as seldom as it can be: what is repeated, or wider, is treated alike.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import keras


def _of(family: str) -> Any:
    return importlib.import_module(f"keras.src.applications.{family}")


def _resnet(stack: str, *, preact: bool, **arguments: Any) -> keras.Model:
    stack_blocks = getattr(_of("resnet"), stack)

    def stages(x: Any) -> Any:
        x = stack_blocks(x, 16, 3, stride1=1, name="conv2")
        for name in ("conv3", "conv4", "conv5"):
            x = stack_blocks(x, 16, 2, name=name)
        return x

    return _of("resnet").ResNet(
        stages, preact=preact, use_bias=True, weights_name="resnet50", **arguments
    )


def _inception_resnet(**arguments: Any) -> keras.Model:
    module = _of("inception_resnet_v2")
    block = module.inception_resnet_block

    def once(x: Any, scale: float, block_type: str, block_idx: int, activation: Any = "relu"):
        is_repeated = block_idx > 1 and activation is not None
        return x if is_repeated else block(x, scale, block_type, block_idx, activation)

    with patch.object(module, "inception_resnet_block", once):
        return module.InceptionResNetV2(**arguments)


def _without_repeats(family: str, constructor: str, **arguments: Any) -> keras.Model:
    """With every loop over equal blocks run once."""
    module = _of(family)
    with patch.object(module, "range", lambda count: range(min(count, 1)), create=True):
        return getattr(module, constructor)(**arguments)


def _mobilenet_v3(**arguments: Any) -> keras.Model:
    module = _of("mobilenet_v3")
    block = module._inverted_res_block
    repeated = {2, 5, 7, 9, 10}

    def once(x: Any, *settings: Any):
        return x if settings[-1] in repeated else block(x, *settings)

    with patch.object(module, "_inverted_res_block", once):
        return module.MobileNetV3Small(**arguments)


# The depth rounds up to a block and one that repeats it.
_SCALED = {"width_coefficient": 0.35, "depth_coefficient": 0.4, "default_size": 224}

NARROW: dict[str, Callable[..., keras.Model]] = {
    "ConvNeXtTiny": partial(
        _of("convnext").ConvNeXt, depths=[1, 1, 2, 1], projection_dims=[16, 24, 32, 48]
    ),
    "DenseNet121": partial(_of("densenet").DenseNet, blocks=[2, 2, 2, 2]),
    "EfficientNetB0": partial(_of("efficientnet").EfficientNet, **_SCALED),
    "EfficientNetV2B0": partial(
        _of("efficientnet_v2").EfficientNetV2,
        **_SCALED,
        blocks_args=_of("efficientnet_v2").DEFAULT_BLOCKS_ARGS["efficientnetv2-b0"],
    ),
    "InceptionResNetV2": _inception_resnet,
    "InceptionV3": partial(_without_repeats, "inception_v3", "InceptionV3"),
    "MobileNet": partial(keras.applications.MobileNet, alpha=0.25),
    "MobileNetV2": partial(keras.applications.MobileNetV2, alpha=0.35),
    "MobileNetV3Small": _mobilenet_v3,
    "NASNetMobile": partial(
        _of("nasnet").NASNet,
        penultimate_filters=96,
        num_blocks=1,
        stem_block_filters=32,
        skip_reduction=False,
    ),
    "ResNet50": partial(_resnet, "stack_residual_blocks_v1", preact=False),
    "ResNet50V2": partial(_resnet, "stack_residual_blocks_v2", preact=True),
    "Xception": partial(_without_repeats, "xception", "Xception"),
}
"""Constructors by the name of the family's smallest published member."""


@contextmanager
def without_values() -> Iterator[None]:
    """Networks that are built in here have layers, shapes and counts, but no values."""
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        # Else Keras draws the values the next time that it leaves such a scope.
        keras.utils.clear_session(free_memory=False)
