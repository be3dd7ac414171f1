"""What is planned is what is built: parameters and the last map, to the number."""

from __future__ import annotations

import keras
import pytest

from inshape.adaptation import attach
from inshape.planning import PlanRequest, decide_plan, open_network
from inshape.requests import make
from inshape.strategies.decide import STRATEGIES

NAMES = [
    "MobileNetV3Small",
    "MobileNetV3Large-0.75",
    "MobileNetV3Small-minimalistic",
    "MobileNetV2-0.35",
    "MobileNet-0.25",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "ResNet50",
    "DenseNet121",
    "Xception",
    "ConvNeXtTiny",
    "InceptionV3",
]


@pytest.fixture(scope="module", params=NAMES)
def network(request):
    keras.backend.clear_session()
    return open_network(request.param, None, top=False)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_planned_is_what_is_built(network, strategy, channels):
    shape = f"97x130x{channels}"
    plans = {
        classes: decide_plan(
            make(
                PlanRequest,
                backbone=network.name,
                input_shape=shape,
                strategy=strategy,
                classes=classes,
            ),
            network,
        )
        for classes in (None, 5, 1000)
    }
    features = plans[None].carried_out_on(network).model
    pool = features.get_layer("head_pool")
    base = keras.Model(features.input, pool.input, name=features.name)
    at_the_shape = base.compute_output_spec(keras.KerasTensor((1, 97, 130, channels)))
    for classes, plan in plans.items():
        # What `build` does behind the network, whose layers the three share here.
        model = features if classes is None else attach(base, plan.request.ending)
        assert plan.geometry.params == model.count_params()
        assert (1, *plan.geometry.final_map.hw, plan.geometry.final_channels) == at_the_shape.shape
        assert model.output_shape == (None, classes or at_the_shape.shape[-1])
