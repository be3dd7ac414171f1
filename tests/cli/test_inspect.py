"""`inshape inspect` shows the plan that Python makes."""

import json

import keras
import pytest

import inshape
from inshape.planning import PlanRequest
from inshape.requests import options_of
from inshape.training.request import TrainRequest

SMALL = "MobileNetV3Small-minimalistic"


def plan_anew(*args, **options):
    # Keras numbers the names of layers from 0 again.
    keras.utils.clear_session()
    return inshape.plan(*args, **options)


@pytest.fixture(autouse=True)
def _numbered_from_zero():
    keras.utils.clear_session()


@pytest.mark.parametrize("shape", ["97x64x1", "?x?x3"])
def test_it_prints_the_plan(call, shape):
    answer = call("inspect", SMALL, shape)
    assert answer.code == 0
    assert answer.out == f"{plan_anew(SMALL, shape)}\n"
    assert answer.err == ""


def test_options_reach_the_plan(call):
    answer = call(
        *("inspect", SMALL, "--input", "96x128x4", "--strategy", "restride", "--json"),
        *("--stem", "bilinear", "--factor", 2, "--channels", "0,1,2,-"),
    )
    plan = plan_anew(
        SMALL,
        (96, 128, 4),
        strategy="restride",
        stem="bilinear",
        factor=2,
        channels=(0, 1, 2, None),
    )
    assert answer.code == 0
    assert answer.json == json.loads(json.dumps(plan.as_dict()))
    assert answer.err == f"{plan}\n"


def test_the_working_size_reaches_the_plan(call):
    answer = call("inspect", SMALL, "--input", "97x64x1", "--working", "160x128", "--json")
    assert answer.json["strategy"] == "resize"
    assert answer.json["geometry"]["working_shape"] == "160x128x1"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["MobilNetV3Small", "--input", "96x96x3"], "did you mean MobileNetV3Small?"),
        ([SMALL, "--input", "96x96x3", "--strategy", "restrde"], "did you mean restride?"),
        ([SMALL, "--input", "96x96x3", "--channels", "summ"], "did you mean sum?"),
        (
            [SMALL, "--input", "96x96x3", "--working", "big"],
            "--working 'big'; expected a size as HxW",
        ),
        (["nothing.keras", "--input", "96x96x3"], "nothing.keras"),
    ],
)
def test_a_bad_request_is_one_line(call, words, text):
    answer = call("inspect", *words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("inshape: error: ")
    assert answer.err.count("\n") == 1
    assert text in answer.err


def test_the_shape_may_be_an_option(call):
    answer = call("inspect", SMALL, "--input", "97x64x1", "--json")
    assert answer.code == 0
    assert answer.json["input_shape"] == "97x64x1"


def test_the_head_reaches_the_plan(call):
    answer = call("inspect", SMALL, "96x96x1", "--classes", 5, "--head", "gem", "--json")
    plan = plan_anew(SMALL, "96x96x1", classes=5, head="gem")
    assert answer.json["geometry"]["params"] == plan.geometry.params
    assert answer.json["footprint"] == plan.footprint.as_dict()
    assert "5 classes" in answer.json["head"]
    maps = call("inspect", SMALL, "96x96x1", "--features", "8,16", "--json").json
    assert maps["head"] == "none; the last maps at strides 8, 16"


def test_a_head_has_the_options_that_it_has_in_a_training(call):
    in_training = {o.flag for o in options_of(TrainRequest) if o.group == "head"}
    assert in_training <= {o.flag for o in options_of(PlanRequest)}
    words = ("--classes", 5, "--hidden", 8, "--pretrained-dense", "--json")
    head = inshape.Head(classes=5, hidden=8, pretrained_dense=True)
    plan = plan_anew(SMALL, "96x96x1", head=head)
    keras.utils.clear_session()
    assert call("inspect", SMALL, "96x96x1", *words).json == json.loads(json.dumps(plan.as_dict()))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--head", "top", "--pool", "max"], "head='top' keeps the network's own head as it is; "),
        (["--head", "2x"], "--head '2x'; expected a size as HxW, height first"),
        (["--features", "4;8"], "--features '4;8'; expected a whole number"),
        (["--factor", "two"], "--factor 'two'; expected a whole number"),
        (["--factor", "0"], "--factor 0; expected 1 or more"),
        (["--classes", "0"], "--classes 0; expected 1 or more"),
    ],
)
def test_a_value_is_refused_by_the_name_of_its_option(call, words, text):
    answer = call("inspect", SMALL, "96x96x1", *words)
    assert answer.code == 2
    assert answer.err.startswith(f"inshape: error: {text}")
