"""A training's request: what is recorded of it and the command in its run say all of it."""

from __future__ import annotations

import json
import shlex

import pytest

from inshape.cli.commands import command_for
from inshape.cli.parser import parse
from inshape.heads import Head
from inshape.requests import command_of, make, options_of, restore
from inshape.runs import Run
from inshape.shapes import InputShape
from inshape.strategies.decide import StrategyOptions
from inshape.training.request import TrainRequest, request_of


def value_of(request, option):
    holder = request if option.group is None else getattr(request, option.group)
    return getattr(holder, option.name)


def parsed(command):
    """The request that a command line makes."""
    program, *words = shlex.split(command)
    assert program == "inshape"
    kind, rest = command_for(words)
    return parse(kind.kind, rest, program="inshape train", description="")


@pytest.fixture
def everything(every_option, tmp_path):
    """A request in which no option is as it is by default, whatever can go together."""
    more = {
        "source": str(tmp_path / "my photos"), "out": tmp_path / "runs" / "a", "shape": "auto",
        "backbone": "MobileNetV3Large", "weights": "hf://owner/name", "mlflow": "http://a:5000",
        "rand_augment": 0.3, "stem": "plain", "factor": 3, "output_stride": 16, "folds": 4,
        "ray": "auto", "unlabelled": str(tmp_path / "more"),
        "mask_names": tmp_path / "classes.txt", "map_stride": 4, "outputs": ("a", "b"),
        "pixels": "-1:1",
    }  # fmt: skip
    return make(TrainRequest, **{**every_option, **more})


def test_every_option_comes_back_from_the_record_and_from_the_command(everything):
    at_default = [o.name for o in options_of(TrainRequest) if value_of(everything, o) == o.default]
    assert not at_default
    record = json.loads(json.dumps(everything.as_dict()))
    assert restore(TrainRequest, record) == everything
    assert parsed(command_of("train", everything)) == everything


def test_what_can_be_killed_leaves_few_options_at_their_defaults(every_option):
    request = make(TrainRequest, source=None, out="a", **every_option)
    at_default = {o.name for o in options_of(TrainRequest) if value_of(request, o) == o.default}
    # The network and its weights, a server, what needs pictures in colour, the options of
    # another strategy, more trainings, other machines, other pictures, what is said of masks,
    # and of a file.
    assert at_default == {
        "backbone", "weights", "mlflow", "rand_augment", "stem", "factor", "output_stride",
        "folds", "ray", "unlabelled", "mask_names", "map_stride", "outputs", "pixels",
    }  # fmt: skip


def test_the_command_of_a_run_asks_for_the_same_training(plain):
    request = parsed(plain.record["command"])
    assert request.out == plain.folder.with_name("plain-again")
    assert request.but(out=plain.folder) == request_of(plain)


def test_pictures_that_are_given_anew_stand_in_the_request(plain):
    assert request_of(plain, "elsewhere") == request_of(plain).but(source="elsewhere")


def test_a_run_that_only_python_can_ask_for_has_no_command(build_network, tmp_path):
    request = make(
        TrainRequest,
        source=tmp_path,
        shape="9x7x1",
        out="a",
        backbone=build_network(),
        weights=None,
    )
    assert command_of("train", request) is None
    assert request.as_dict()["backbone"] is None


@pytest.mark.parametrize(
    ("shape", "native", "options", "expected"),
    [
        ("96x64x1", "224x224x3", {}, ("224x224x3", "auto")),
        ("96x64x3", "224x224x3", {}, ("224x224x3", "zero")),
        ("96x64x4", "224x224x3", {}, ("224x224x4", "zero")),
        ("96x64x3", "32x24x1", {}, ("32x24x3", "zero")),
        ("96x64x1", "224x224x3", {"colour": "bands"}, ("224x224x1", "zero")),
    ],
)
def test_a_teacher_has_channels_that_the_pictures_have(shape, native, options, expected):
    request = make(TrainRequest, source=None, shape=shape, out="a", channels="zero", **options)
    teacher = request.of_teacher(InputShape.of(native), request.out / "teacher")
    assert (str(teacher.shape), teacher.options.channels) == expected


def test_groups_can_be_given_whole(tmp_path):
    request = make(
        TrainRequest, source=None, shape="9x7x1", out=tmp_path, head=Head(hidden=8),
        options=StrategyOptions(strategy="resize"), epochs=3,
    )  # fmt: skip
    assert (request.head.hidden, request.options.strategy, request.recipe.epochs) == (
        8,
        "resize",
        3,
    )
    record = Run.create(tmp_path / "run", {"request": request.as_dict()})
    assert request_of(record) == request.but(out=tmp_path / "run")
