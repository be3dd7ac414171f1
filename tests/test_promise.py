"""What is planned is what is built: parameters and the last map, to the number."""

from __future__ import annotations

import keras
import pytest
from tests.narrow import NARROW, without_values

from inshape.adaptation import attach
from inshape.graph.rewrite import rebuild
from inshape.heads import Head
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
def network(request, networks_opened_once):
    """A named network, of as few of its family's blocks as there can be."""
    keras.backend.clear_session()
    name = request.param
    networks_opened_once()  # and no other test gets this one
    with pytest.MonkeyPatch.context() as patch:
        if name in NARROW:
            patch.setattr(keras.applications, name, NARROW[name])
        network = open_network(name, None, top=False)
    networks_opened_once()
    return network


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
        for classes in (None, 5)
    }
    plans[1000] = plans[5].but(classes=None, head=Head(classes=1000))
    with without_values():
        base, _ = rebuild(
            network.model,
            network.spec,
            plans[None].input_shape,
            changed=plans[None].decision.spec,
            outputs=plans[None].outputs,
        )
        models = {n: attach(base, plan.request.ending) for n, plan in plans.items()}
        at_the_shape = base.compute_output_spec(keras.KerasTensor((1, 97, 130, channels))).shape
    for classes, plan in plans.items():
        assert plan.geometry.params == models[classes].count_params()
        assert (1, *plan.geometry.final_map.hw, plan.geometry.final_channels) == at_the_shape
        assert models[classes].output_shape == (None, classes or at_the_shape[-1])
