"""Every family, rebuilt, is what its own constructor builds: a part of ``benchmarks.families``.

The benchmark takes the published networks at ten sizes. Here a family's general constructor repeats
each of its blocks as seldom as it can: what is repeated is rebuilt alike.
"""

from __future__ import annotations

import importlib
from functools import partial
from unittest.mock import patch

import keras
import pytest
from benchmarks.families import Case, cases, compare

efficientnet, efficientnet_v2, convnext, densenet, inception_resnet_v2, nasnet, resnet = (
    importlib.import_module(f"keras.src.applications.{family}")
    for family in (
        "efficientnet",
        "efficientnet_v2",
        "convnext",
        "densenet",
        "inception_resnet_v2",
        "nasnet",
        "resnet",
    )
)


def _resnet(stack, *, preact, **arguments):
    def stages(x):
        x = stack(x, 16, 3, stride1=1, name="conv2")
        for name in ("conv3", "conv4", "conv5"):
            x = stack(x, 16, 2, name=name)
        return x

    return resnet.ResNet(
        stages, preact=preact, use_bias=True, weights_name="resnet50", **arguments
    )


def _inception_resnet(**arguments):
    block = inception_resnet_v2.inception_resnet_block

    def once(x, scale, block_type, block_idx, activation="relu"):
        if 1 < block_idx and activation is not None:
            return x
        return block(x, scale, block_type, block_idx, activation)

    with patch.object(inception_resnet_v2, "inception_resnet_block", once):
        return keras.applications.InceptionResNetV2(**arguments)


# The depth rounds up to one of each block, but for the two that differ within their stage.
_SCALED = {"width_coefficient": 0.35, "depth_coefficient": 0.4, "default_size": 224}
_SMALL = {
    "EfficientNetB0": partial(efficientnet.EfficientNet, **_SCALED),
    "EfficientNetV2B0": partial(
        efficientnet_v2.EfficientNetV2,
        **_SCALED,
        blocks_args=efficientnet_v2.DEFAULT_BLOCKS_ARGS["efficientnetv2-b0"],
    ),
    "ConvNeXtTiny": partial(
        convnext.ConvNeXt, depths=[1, 1, 2, 1], projection_dims=[16, 24, 32, 48]
    ),
    "DenseNet121": partial(densenet.DenseNet, blocks=[2, 2, 2, 2]),
    "NASNetMobile": partial(
        nasnet.NASNet,
        penultimate_filters=96,
        num_blocks=1,
        stem_block_filters=32,
        skip_reduction=False,
    ),
    "ResNet50": partial(_resnet, resnet.stack_residual_blocks_v1, preact=False),
    "ResNet50V2": partial(_resnet, resnet.stack_residual_blocks_v2, preact=True),
    "InceptionResNetV2": _inception_resnet,
    "MobileNet": partial(keras.applications.MobileNet, alpha=0.25),
    "MobileNetV2": partial(keras.applications.MobileNetV2, alpha=0.35),
}


def _cases():
    for case in cases():
        is_subject = case.name.startswith("MobileNetV3")
        # The top of a large network is built at one shape only; MobileNetV3's is built here.
        if case.arguments["include_top"] != is_subject or "1.0" in case.name or case.name == "MobileNetV3Large-0.75-minimalistic":
            continue
        make = _SMALL.get(case.name, case.make)
        yield pytest.param(
            Case(case.name, make, case.arguments, case.native_hw), id=case.name
        )


@pytest.mark.slow
@pytest.mark.parametrize("case", list(_cases()))
def test_rebuilt_equals_the_constructors_own(case: Case):
    # One size for both, so that the constructor's own network is made and run once. The benchmark
    # tries ten sizes.
    rows = list(compare(case, ("97x130x3",), ((97, 130),), statistics_hw=(97, 130)))
    keras.utils.clear_session()
    static, *dynamic = rows
    assert static.largest_difference is not None, static.note
    assert static.between_pictures > 1e-3 * static.largest_output, "the output ignores its input"
    assert static.largest_difference <= 1e-5 * static.largest_output
    (at_run_time,) = dynamic
    if case.name.startswith("NASNet"):
        assert "pads by the size of its map" in at_run_time.note
    else:
        assert at_run_time.largest_difference <= 1e-5 * at_run_time.largest_output
