"""Every option of every command: its text, its default, and the way there and back."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

import inshape
from inshape.cli.app import run
from inshape.cli.commands import COMMANDS, RESUME, command_for
from inshape.cli.parser import parse
from inshape.comparison.request import CompareRequest
from inshape.comparison.result import Candidate
from inshape.errors import RequestError, ShapeError, UnknownName
from inshape.evaluation.request import EvaluateRequest
from inshape.exporting.request import ExportRequest
from inshape.heads import Head
from inshape.limits import Limits
from inshape.planning import AdaptRequest, PlanRequest
from inshape.prediction import PredictRequest
from inshape.reporting.request import ReportRequest
from inshape.requests import (
    REQUIRED,
    Range,
    Request,
    Without,
    Written,
    command_of,
    field_texts,
    groups,
    make,
    many,
    options_of,
    own_options,
    read_hw,
    read_weights,
    read_whole,
    read_word_or_number,
    restore,
)
from inshape.runs import Run
from inshape.shapes import InputShape
from inshape.strategies.decide import StrategyOptions
from inshape.training.recipe import Recipe
from inshape.training.request import ResumeRequest, TrainRequest

HERE = Path(__file__).resolve().parent
KINDS = {**{name: command.kind for name, command in COMMANDS.items()}, "resume": RESUME.kind}
NEEDED = {
    "backbone": "VGG16", "input_shape": "97x64x1", "shape": "97x64x1", "source": HERE,
    "out": "runs/a", "run": "runs/a", "pictures": str(HERE), "subject": "runs/a",
    "file": "a.tflite",
}  # fmt: skip

# What an option of its own kind may be; numbers, switches and choices are made up below. Each has
# something that a shell, a parser or a list could take for something else.
SAMPLES = {
    "csv": [HERE / "answers.csv"],
    "save_heatmaps": ["heat"],
    "save_masks": ["masks"],
    "save_boxes": ["boxes"],
    "mask_ignore": ["11,255", (), 7],
    "mask_names": [HERE / "answers.csv"],
    "on": ["a,b"],
    "shape": ["auto", "?x?x4", "1x2x3"],
    "input_shape": ["?x64x3", (33, 40, 1)],
    "source": [HERE / "data", "/a b/-c"],
    "unlabelled": [HERE / "data"],
    "out": [Path("a b"), "-x", "~/a", "runs/ä"],
    "folder": [Path("a b")],
    "backbone": ["MobileNetV3Large", "-a.keras", "my net.keras"],
    "backbones": ["VGG16", ["VGG16", "my net.keras"]],
    "weights": [None, Path("a b.h5"), "hf://a/b", "-w"],
    "mlflow": ["http://a:5000", "sqlite:///a b.db", "-"],
    "unfreeze": [2, "all", "conv_7", 0],
    "pool": ["gem", (2, 3)],
    "channels": ["luma", (0, 1, None), (None, 2)],
    "working_hw": [(97, 64)],
    "max_latency": [2.5, "0.1us", 12345678.9, 5],
    "max_macs": [30_000_000, "1.5G"],
    "max_flash": ["1MiB", 3],
    "max_ram": ["256KiB", 1_000_001],
    "head": ["top", "max", (2, 3)],
    "features": [(8,), [4, 8, 16]],
    "classes": [2, 1000],
    "shapes": ["64x48x1", ["64x48x1", "?x?x3"], (9, 8, 3)],
    "strategies": ["rebuild", ["rebuild", "resize"]],
    "ray": ["local", "10.0.0.7:6379"],
    "sizes": [64, [(64, 96), 128]],
    "split": ["test"],
    "to": ["onnx", ["litert", "litert-int8"]],
    "data": [HERE, "/a b"],
    "calibrate_on": [HERE],
    "run": [Path("runs/b"), "a b"],
    "subject": ["runs/b"],
    "file": ["b.onnx"],
    "pictures": [["/a.png", "/b c.png"], "/d"],
    "name": ["mobilenet", "-v"],
    "optimizer": ["sgd", "lion"],
    "fold": ["2/5"],
    "outputs": ["a", ["a/b", "c:0"]],
    "pixels": ["imagenet", (-1, 1), "0:1"],
}
FILE = {"backbones": "net.keras"}
TOGETHER = {
    ("compare", "finetune"): {"out": "a"},
    ("compare", "outputs"): FILE,
    ("compare", "pixels"): FILE,
}


def samples(name, option):
    """Values of an option that are not its default."""
    is_number = option.name in ("pictures", "out") and option.mark(Range)
    if option.is_switch:
        return [value for value in (True, False) if value != option.default]
    if option.choices:
        return [choice for choice in option.choices if choice != option.default]
    if (name, option.name) == ("adapt", "out"):
        return [HERE / "not there.keras"]
    if (name, option.name) == ("compare", "channels"):
        return ["luma", ["sum", (0, 1, None)], [(None, 2)]]
    if option.name == "crop_margin":
        return [0.875]
    if option.name == "candidates":
        return [Candidate("a", "8x8x1", "rebuild"), [Candidate("a", "9x8x1", "resize", "sum")]]
    if option.name in SAMPLES and not is_number:
        return SAMPLES[option.name]
    limits = option.mark(Range)
    low, high = (0, 9) if limits is None else (limits.low, min(limits.high, limits.low + 7))
    if option.written.metavar == "N":
        values = [int(low), int(high), int(high) - 1]
    else:
        values = [low + (high - low) / 3, high, low + 1e-7, 1e-5]
    values = [v for v in values if v != option.default and low <= v <= high]
    return [2, 3] if option.name == "finetune" else values


def minimal(kind):
    """A request with nothing but what it needs."""
    return make(
        kind, **{o.name: NEEDED[o.name] for o in own_options(kind) if o.default is REQUIRED}
    )


def parsed(command):
    """The request of a command."""
    program, *words = shlex.split(command)
    assert program == "inshape"
    found, rest = command_for(words)
    return parse(found.kind, rest, program="inshape", description="")


def changed(name, kind):
    """Requests in which every option of a command has each of its samples once.

    Each changes as many options at once as go together; what goes with none of them stands alone.
    """
    left = [
        (option.name, value)
        for option in options_of(kind)
        if option.flag
        for value in samples(name, option)
    ]
    while left:
        request, before, later, names = minimal(kind), len(left), [], set()
        for option_name, value in left:
            try:
                assert option_name not in names
                request = request.but(
                    **{option_name: value, **TOGETHER.get((name, option_name), {})}
                )
                names.add(option_name)
            except (AssertionError, RequestError):
                later.append((option_name, value))
        assert len(later) < before, left
        yield request
        left = later


def differing(one, other):
    """What tells two requests of a kind apart."""
    ours, theirs = one.as_dict(), other.as_dict()
    return {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_every_option_is_said_by_a_command_and_by_a_record_and_read_back(name, kind, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    command_name = "train" if name == "resume" else name
    for request in (minimal(kind), *changed(name, kind)):
        command = command_of(command_name, request)
        assert command is not None, request
        read = parsed(command)
        assert read == request, differing(read, request)
        record = json.loads(json.dumps(request.as_dict(), allow_nan=False))
        assert restore(kind, record) == request, differing(restore(kind, record), request)


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_what_the_command_line_leaves_out_is_in_the_record(name, kind):
    for option in options_of(kind):
        for value in () if option.flag else samples(name, option):
            request = minimal(kind).but(**{option.name: value})
            assert command_of(name, request) is None
            assert restore(kind, json.loads(json.dumps(request.as_dict()))) == request


@pytest.mark.parametrize("name", KINDS)
def test_help_shows_every_option_with_its_text_and_its_default(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    words = ["train", "--resume", "a"] if name == "resume" else [name]
    assert run([*words, "--help"]) == 0
    # Without spaces, since lines are broken at commas too.
    shown = re.sub(r"[│╭╮╰╯─\s]", "", capsys.readouterr().out)

    def is_shown(text):
        return "".join(text.split()) in shown

    for option in options_of(KINDS[name]):
        if not option.flag:
            continue
        assert option.text, option.name
        assert is_shown(option.text), option.name
        if option.default is REQUIRED:
            assert is_shown(f"{option.text} (required)")
        elif option.default not in (None, False, (), ""):
            text = "on" if option.default is True else option.written.write(option.default)
            assert is_shown(f"{option.text} (default: {text})")
        if option.is_switch and option.default is not False:
            assert is_shown(f"--{option.flag}, --no-{option.flag}")
    for flag in ("--json", "--debug", "--help"):
        assert is_shown(flag)
    example = COMMANDS["train" if name == "resume" else name].example
    assert name == "resume" or is_shown(example)


@pytest.mark.parametrize(
    "function",
    [inshape.plan, inshape.adapt, inshape.train, inshape.resume, inshape.evaluate, inshape.predict,
     inshape.compare, inshape.report, inshape.export],
)  # fmt: skip
def test_help_of_a_function_has_every_option(function):
    import inspect

    parameters = inspect.signature(function).parameters
    lines = inspect.getdoc(function).splitlines()
    described = {line.split(":")[0].strip() for line in lines if line.startswith("    ")}
    for name in parameters:
        assert name in described, name
    positional = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 2
    assert "{options}" not in function.__doc__
    with pytest.raises(UnknownName, match="unknown option 'bogus'; choose from: "):
        function(*[None] * 0, bogus=1)


def test_an_unknown_keyword_names_the_nearest_one():
    with pytest.raises(UnknownName, match=r"unknown option 'epoch'; did you mean epochs\?"):
        inshape.train("photos", "96x96x3", out="a", epoch=3)
    with pytest.raises(UnknownName, match=r"unknown option 'neck'; choose from: backbone, input_"):
        inshape.plan("VGG16", "96x96x3", neck=True)


def test_a_function_takes_two_values_by_place():
    text = (
        "train was given 3 values without a name; expected at most 2 (source, shape); "
        "name the others"
    )
    with pytest.raises(RequestError, match=re.escape(text)):
        inshape.train("photos", "96x96x3", "runs/a")
    with pytest.raises(RequestError, match="plan was given backbone twice; leave one out"):
        inshape.plan("VGG16", backbone="VGG16")
    with pytest.raises(RequestError, match=r"out is missing; expected: The run folder to make\."):
        inshape.train("photos", "96x96x3")


def test_a_group_is_given_whole_or_by_its_options():
    whole = make(
        TrainRequest, source="a", shape="8x8x1", out="b", recipe=Recipe(epochs=3, flip=False)
    )
    assert whole == make(TrainRequest, source="a", shape="8x8x1", out="b", epochs=3, flip=False)
    assert whole.but(epochs=5).recipe == Recipe(epochs=5, flip=False)
    assert whole.but(recipe=Recipe()).recipe == Recipe()
    both = make(TrainRequest, source="a", shape="8x8x1", out="b", recipe=Recipe(epochs=3), views=4)
    assert both.recipe == Recipe(epochs=3, views=4)
    text = "recipe={'epochs': 3}; expected a Recipe, or its options by their own names"
    with pytest.raises(RequestError, match=re.escape(text)):
        make(TrainRequest, source="a", shape="8x8x1", out="b", recipe={"epochs": 3})


def test_what_a_group_leaves_out_is_no_option_of_the_whole():
    with pytest.raises(UnknownName, match="unknown option 'classes'"):
        make(TrainRequest, source="a", shape="8x8x1", out="b", classes=5)
    with pytest.raises(UnknownName, match="unknown option 'min_accuracy'"):
        make(TrainRequest, source="a", shape="8x8x1", out="b", min_accuracy=0.5)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"epochs": -1}, "epochs=-1; expected 0 or more"),
        ({"epochs": 2.5}, "epochs=2.5; expected a whole number"),
        ({"epochs": True}, "epochs=True; expected a whole number"),
        ({"epochs": "many"}, "epochs='many'; expected a whole number"),
        ({"head_epochs": None}, "head_epochs=None; expected a whole number"),
        ({"views": 0}, "views=0; expected 1 or more"),
        ({"seed": 2**31}, "seed=2147483648; expected 0 to 2147483647"),
        ({"learning_rate": float("nan")}, "learning_rate=nan; expected a number"),
        ({"learning_rate": "1e-"}, "learning_rate='1e-'; expected a number"),
        ({"ema": 1}, "ema=1.0; expected 0 to 0.99999"),
        ({"flip": "maybe"}, "flip='maybe'; expected true or false"),
        ({"flip": 1}, "flip=1; expected true or false"),
        ({"unfreeze": 1.5}, "unfreeze=1.5; expected a word or a whole number"),
        ({"working_hw": "96x96x3"}, "working_hw='96x96x3'; expected a size as HxW, height first"),
        ({"working_hw": (0, 96)}, "working_hw=(0, 96); expected a size as HxW"),
        ({"working_hw": 96}, "working_hw=96; expected a size as HxW"),
        ({"working_hw": (96.5, 96)}, "working_hw=(96.5, 96); expected a size as HxW"),
        ({"max_latency": "5 minutes"}, "max_latency='5 minutes'; expected a number with one of us"),
        ({"max_macs": "many"}, "max_macs='many'; expected a number with one of k, m, g, such as"),
        ({"max_flash": "1 ms"}, "max_flash='1 ms'; expected a number with one of b, kb, mb, gb, k"),
        ({"max_ram": ""}, "max_ram=''; expected a number with one of b, kb, mb, gb, kib, mib, gib"),
        ({"max_ram": -1}, "max_ram=-1; expected a number with one of b"),
        ({"max_ram": float("inf")}, "max_ram=inf; expected a number with one of b"),
        ({"max_ram": True}, "max_ram=True; expected a number with one of b"),
        ({"weights": 3}, "weights=3; expected imagenet, none, demo, a file, hf://OWNER/NAME or k"),
        ({"out": 3}, "out=3; expected a path"),
        ({"shape": 300}, "input 300 is not a shape, expected a height, a width and channels; "),
        ({"shape": "96x96"}, "input '96x96' is not a shape; write HxWxC, such as 96x128x1"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_one_line(changes, text):
    with pytest.raises(RequestError, match=re.escape(text)) as raised:
        make(TrainRequest, **{"source": "a", "shape": "8x8x1", "out": "b", **changes})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"augment": "lots"}, "unknown augment 'lots'; choose from: none, light, strong"),
        ({"picture_fit": "squash"}, "unknown picture_fit 'squash'; choose from: stretch, letterb"),
        ({"strategy": "restrde"}, "unknown strategy 'restrde'; did you mean restride?"),
        ({"channels": "summ"}, "unknown channel rule 'summ'; did you mean sum?"),
        ({"pool": "agv"}, "unknown pool 'agv'; did you mean avg?"),
        ({"augment": ["light"]}, "unknown augment \"['light']\"; did you mean light?"),
    ],
)
def test_a_word_that_is_no_choice_is_one_line(changes, text):
    with pytest.raises(UnknownName, match=re.escape(text)):
        make(TrainRequest, **{"source": "a", "shape": "8x8x1", "out": "b", **changes})


def test_where_a_list_is_taken_one_value_is_taken_too():
    compared = make(CompareRequest, source="a", shapes="64x64x3", backbones="MobileNetV3Small")
    assert compared.shapes == (InputShape(64, 64, 3),)
    assert compared.backbones == ("MobileNetV3Small",)
    one = Candidate("a", "8x8x1", "rebuild")
    assert make(CompareRequest, source="a", candidates=one).candidates == (one,)
    for shapes in ((64, 64, 3), InputShape(64, 64, 3), [(64, 64, 3)], np.array([64, 64, 3])):
        assert compared.but(shapes=shapes) == compared
    assert compared.but(channels=(0, 1, None)).channels == ("0,1,-",)
    assert compared.but(channels=[np.int64(0), None]).channels == ("0,-",)
    assert compared.but(channels="sum,mean").channels == ("sum", "mean")
    assert compared.but(strategies="rebuild").strategies == ("rebuild",)
    assert make(PlanRequest, backbone="a", input_shape="8x8x1", features=8).features == (8,)
    assert make(ExportRequest, run="a", to="ONNX").to == ("onnx",)
    assert make(EvaluateRequest, run="a", source="b", sizes=64).sizes == ((64, 64),)
    for shapes in ("64,64,3", [np.int64(64)] * 2 + [3], (np.int64(64), 64.0, np.uint8(3))):
        assert compared.but(shapes=shapes) == compared
    assert compared.but(shapes="64,96,3").shapes == (InputShape(64, 96, 3),)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([64, 96], ((64, 64), (96, 96))),
        ([64, 96, 128], ((64, 64), (96, 96), (128, 128))),
        (["64", (64, 96)], ((64, 64), (64, 96))),
        (np.array([64, 96]), ((64, 64), (96, 96))),
        ("64,96", ((64, 64), (96, 96))),
        ("64x96", ((64, 96),)),
        ((64, 96), ((64, 96),)),
        (np.int64(64), ((64, 64),)),
        ([np.int64(64), (np.int64(64), 96)], ((64, 64), (64, 96))),
    ],
)
def test_a_number_is_a_square_and_a_pair_one_size(sizes, expected):
    request = make(EvaluateRequest, run="a", source="/b", sizes=sizes)
    assert request.sizes == expected
    assert parsed(command_of("evaluate", request)).sizes == expected


def test_numbers_of_numpy_are_numbers():
    values = {"epochs": np.int32(3), "mixup": np.float32(0.5), "flip": np.bool_(False)}
    assert Recipe(**values) == Recipe(epochs=3, mixup=0.5, flip=False)
    assert make(CompareRequest, source="a", channels=[np.int64(0), 1, None]).channels == ("0,1,-",)


def test_a_candidate_is_what_it_names_however_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model.keras").touch()
    plain = Candidate(str(tmp_path / "model.keras"), "32x32x1", "rebuild")
    measured = plain.but(input_shape=(32, 32, 1), macs=3, pictures=9)
    for candidate in ("~ 32X32X1 rebuild", measured):
        assert make(CompareRequest, source="a", candidates=candidate).candidates == (plain,)
    for text, candidate in (
        ("unknown strategy 'rebild'; did you mean rebuild?", plain.but(strategy="rebild")),
        ("input '32x32' is not a shape", "VGG16 32x32 rebuild"),
    ):
        with pytest.raises(RequestError, match=re.escape(text)):
            make(CompareRequest, source="a", candidates=[candidate])


@pytest.mark.parametrize(
    "part",
    [{"shapes": "8x8x1"}, {"strategies": "resize"}, {"backbones": "VGG16"}, {"channels": "sum"}],
)
def test_candidates_stand_for_every_combination(part):
    (name,) = part
    text = f"{name} beside candidates, each of which names its own; expected one of the two; leave "
    with pytest.raises(RequestError, match=re.escape(text)):
        make(CompareRequest, source="a", candidates="VGG16 8x8x1 rebuild", **part)


def test_colours_that_a_shape_cannot_have_are_refused():
    text = "colour 'grey' with 3 channels; expected 1"
    for named in ({"shapes": ["8x8x1", "8x8x3"]}, {"candidates": "VGG16 8x8x3 rebuild"}):
        with pytest.raises(RequestError, match=re.escape(text)):
            make(CompareRequest, source="a", colour="grey", **named)


@pytest.mark.parametrize(
    ("kind", "changes", "text"),
    [
        (CompareRequest, {"shapes": 300}, "input 300 is not a shape, expected a height, a width"),
        (CompareRequest, {"shapes": [96, 96]}, "input (96, 96) has 2 axes, expected 3"),
        (CompareRequest, {"shapes": ["96x96x1", 3]}, "input 3 is not a shape"),
        (CompareRequest, {"strategies": "rebild"}, "unknown strategy 'rebild'; did you mean rebui"),
        (
            CompareRequest,
            {"strategies": "auto"},
            "unknown strategy 'auto'; choose from: resize, re",
        ),
        (
            CompareRequest,
            {"strategies": "resize:16"},
            "strategies='resize:16'; expected strategies, or",
        ),
        (CompareRequest, {"strategies": ["restride:0"]}, "restride:16 for one at output stride 16"),
        (CompareRequest, {"channels": "sum,men"}, "unknown channel rule 'men'; did you mean mean?"),
        (CompareRequest, {"backbones": [3]}, "backbones=3; expected names or files; save a "),
        (CompareRequest, {"channels": 1.5}, "unknown channel rule '1.5'"),
        (CompareRequest, {"channels": []}, "channels=[]; expected channel rules, such as sum, or"),
        (CompareRequest, {"channels": ["sum", ["r"]]}, "channels=['r']; expected the number of a"),
        (
            CompareRequest,
            {"candidates": [3]},
            "candidates=3; expected a candidate, or BACKBONE HxWxC ST",
        ),
        (PlanRequest, {"features": "4;8"}, "features='4;8'; expected a whole number"),
        (PlanRequest, {"features": [0.5]}, "features=0.5; expected a whole number"),
        (ExportRequest, {"to": ["onx"]}, "unknown format 'onx'; did you mean onnx?"),
        (EvaluateRequest, {"sizes": "64,big"}, "sizes='big'; expected a size as HxW"),
        (EvaluateRequest, {"sizes": (64, 96, 128)}, "sizes=(64, 96, 128); expected a size as HxW"),
        (CompareRequest, {"shapes": "64,64"}, "input '64,64' is not a shape; write HxWxC, such as"),
    ],
)
def test_a_list_that_cannot_be_is_one_line(kind, changes, text):
    with pytest.raises(RequestError, match=re.escape(text)):
        minimal(kind).but(**changes)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (TrainRequest, {"source": (np.zeros((2, 8, 8)), [0, 1])}),
        (TrainRequest, {"backbone": object()}),
        (TrainRequest, {"head": Head(classes=3)}),
        (TrainRequest, {"head": Head(activation="logits")}),
        (TrainRequest, {"limits": Limits(min_accuracy=0.5)}),
        (CompareRequest, {"candidates": Candidate("a", "8x8x1", "rebuild")}),
        (CompareRequest, {"backbones": ["a,b.keras"]}),  # would be read as two
        (CompareRequest, {"backbones": [" a.keras"]}),
        (PlanRequest, {"head": Head(classes=3)}),
        (EvaluateRequest, {"resamples": 5}),
        (PredictRequest, {"pictures": np.zeros((8, 8, 3))}),
        (PredictRequest, {"pictures": ["/a.png", np.zeros((8, 8, 3))]}),
        (ReportRequest, {"subject": object()}),
    ],
)
def test_what_only_python_can_say_has_no_command(kind, changes):
    assert command_of("x", minimal(kind).but(**changes)) is None
    assert command_of("x", minimal(kind)) is not None


def test_a_run_is_written_as_its_folder(tmp_path):
    run = Run.create(tmp_path / "a b", {})
    request = make(ResumeRequest, run=run)
    assert command_of("train", request) == f"inshape train --resume '{run.folder}'"
    assert request.as_dict() == {
        "run": str(run.folder),
        "source": None,
        "unlabelled": None,
        "prolong": 0,
        "ray": None,
    }


def test_what_looks_like_an_option_is_kept_apart():
    request = make(PlanRequest, backbone="--a", input_shape="8x8x1", factor=2)
    assert command_of("inspect", request) == "inshape inspect --factor 2 -- --a 8x8x1"
    request = make(CompareRequest, source="/a", out="-b")
    assert command_of("compare", request) == "inshape compare /a --out=-b"


def test_pictures_are_written_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request = make(TrainRequest, source="photos", shape="8x8x1", out="a")
    assert command_of("train", request).startswith(f"inshape train {tmp_path / 'photos'} ")
    assert request.as_dict()["source"] == str(tmp_path / "photos")


def test_files_are_written_in_full(tmp_path, monkeypatch):
    """A record and a command hold from any folder; names stay names, whatever lies beside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "runs").mkdir()
    for name in ("net.keras", "weights", "VGG16", "imagenet", "runs/model.keras"):
        (tmp_path / name).touch()
    for backbone, weights, expected in (
        ("net.keras", Path("weights"), (str(tmp_path / "net.keras"), str(tmp_path / "weights"))),
        ("~/net.keras", "~/weights", (str(tmp_path / "net.keras"), str(tmp_path / "weights"))),
        (Path("runs"), None, (str(tmp_path / "runs/model.keras"), None)),
        ("VGG16", "imagenet", ("VGG16", "imagenet")),
        ("missing.keras", "hf://a/b", ("missing.keras", "hf://a/b")),
    ):
        request = make(
            TrainRequest, source="/a", shape="8x8x1", out="b", backbone=backbone, weights=weights
        )
        record = request.as_dict()
        assert (record["backbone"], record["weights"]) == expected
        read = parsed(command_of("train", request))
        assert (read.backbone, read.weights) == expected
        compared = make(CompareRequest, source="/a", backbones=[backbone], weights=weights)
        assert compared.as_dict()["backbones"] == [expected[0]]
        assert parsed(command_of("compare", compared)).backbones == (expected[0],)
    compared = make(CompareRequest, source="/a", candidates="net.keras 8x8x1 rebuild")
    assert compared.as_dict()["candidates"] == [f"{tmp_path / 'net.keras'} 8x8x1 rebuild"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "compare /a --shapes 8x8x1 --json --shapes=9x9x1",
            "--shapes is given twice; expected it once; put commas between its values; see",
        ),
        ("compare /a --channels sum --channels mean", "--channels is given twice; expected it o"),
        ("train /a --input 8x8x1 --out b --seed 1 --seed 1", "--seed is given twice; expected it"),
        ("train /a --input 8x8x1 --out b --flip --no-flip", "--flip is given twice; expected it"),
        ("train /a --input 8x8x1 --out b --batch-size 2 --batch_size 3", "--batch-size is given"),
        ("train --resume a --resume b", "--resume is given twice; expected it once; leave one out"),
        ("doctor --json --json", "--json is given twice; expected it once; leave one out; see"),
    ],
)
def test_an_option_stands_once(line, text):
    with pytest.raises(RequestError, match=re.escape(text)):
        parsed(f"inshape {line}")


def test_lists_stay_lists_in_a_record():
    request = make(CompareRequest, source="/a", shapes=["8x8x1", (9, None, 3)])
    record = request.as_dict()
    assert record["shapes"] == ["8x8x1", "9x?x3"]
    assert record["backbones"] == ["MobileNetV3Small"]
    assert record["strategies"] is None
    assert make(PlanRequest, backbone="a", input_shape="8x8x1", features=[4, 8]).as_dict()[
        "features"
    ] == [4, 8]


def test_a_record_without_what_is_needed_is_refused():
    record = minimal(TrainRequest).as_dict()
    assert restore(TrainRequest, {"source": "/a", "shape": "8x8x1", "out": "b"}).recipe == Recipe()
    del record["shape"]
    with pytest.raises(RequestError, match="shape is missing; expected: Input shape: height"):
        restore(TrainRequest, record)
    assert restore(TrainRequest, record, shape="9x9x1").shape == InputShape(9, 9, 1)


def test_a_request_is_read_once_and_stays(tmp_path):
    request = make(TrainRequest, source="a", shape=(8, 8, 1), out="b", epochs="3", max_ram="1KiB")
    assert (request.recipe.epochs, request.limits.max_ram) == (3, 1024)
    assert request.but() == request
    with pytest.raises(AttributeError):
        request.seed = 3
    assert hash(Recipe(epochs=3)) == hash(Recipe().but(epochs=3))


@dataclass(frozen=True, slots=True)
class Base(Request):
    """What others derive from."""

    first: int = 1
    """Of the base."""
    silent: int = 2

    @property
    def no_field(self) -> int:
        """No text of a field."""
        return 3


@dataclass(frozen=True, slots=True)
class Derived(Base):
    """Has its base's fields too."""

    second: Annotated[int, Range(0, 5)] | None = None
    """Of the class
    itself."""
    first: int = 4
    """Said anew."""


@dataclass(frozen=True, slots=True)
class Whole(Request):
    """Has a group."""

    group: Annotated[Derived, Without(("first",))] = Derived()
    """The group."""
    third: Annotated[str, Written(str.upper)] = "A"
    """A word."""


def test_texts_stand_below_their_fields():
    assert field_texts(Base) == {"first": "Of the base."}
    assert field_texts(Derived) == {"first": "Said anew.", "second": "Of the class itself."}


def test_options_of_a_request_are_its_own_and_its_groups():
    assert [(o.name, o.group) for o in options_of(Whole)] == [
        ("third", None), ("silent", "group"), ("second", "group"),
    ]  # fmt: skip
    assert groups(Whole) == {"group": (Derived, frozenset({"first"}))}
    assert make(Whole, third="b", second=3).as_dict() == {
        "third": "B", "group": {"first": 4, "silent": 2, "second": 3},
    }  # fmt: skip
    with pytest.raises(RequestError, match="second=6; expected 0 to 5"):
        make(Whole, second=6)


def test_readers():
    assert read_hw(" 1 × 9 ") == (1, 9)
    assert read_hw("97X64") == (97, 64)
    assert read_whole(np.int64(3)) == 3
    assert read_word_or_number("12") == 12
    assert read_word_or_number("all") == "all"
    assert [read_weights(w) for w in ("none", "None", None, "a.h5")] == [None, None, None, "a.h5"]
    assert many(read_whole)({1, 2}) == (1, 2)
    truths = {"yes": True, "On": True, "true": True, "no": False, "OFF": False, "False": False}
    assert {word: Recipe(flip=word).flip for word in truths} == truths
    assert many(read_whole)(iter([1, 2])) == (1, 2)
    assert many(str)("a, b,,c ") == ("a", "b", "c")
    with pytest.raises(ShapeError):
        many(InputShape.of)([None, None])


def test_adapt_refuses_an_output_before_any_work(tmp_path):
    for out, text in (
        ("a.h5", "out a.h5 is not a .keras file; name one, such as a.keras"),
        (tmp_path / "no" / "a.keras", "there is no folder"),
    ):
        with pytest.raises(RequestError, match=re.escape(text)):
            make(AdaptRequest, backbone="VGG16", input_shape="96x96x3", out=out)


def test_options_that_were_given():
    options = StrategyOptions(channels="0,1,2,-", working_hw="97x64", stem="nearest", factor=2)
    assert options.channels == (0, 1, 2, None)
    assert options.given() == {"working_hw": (97, 64), "stem": "nearest", "factor": 2}
    assert StrategyOptions().given() == {}
