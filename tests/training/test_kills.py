"""Killed in each part of a training; what goes on ends alike."""

from __future__ import annotations

import json
import re
import signal

import pytest

from inshape.data.catalogue import Catalogue
from inshape.errors import DataError, UnreadablePicture
from inshape.progress import Progress
from inshape.requests import flat, make
from inshape.runs import Run
from inshape.shapes import InputShape
from inshape.training import api
from inshape.training.api import resume, run_training
from inshape.training.request import TrainRequest, request_of

# A training that kills or interrupts itself in the named part.
PROGRAM = """
import json, os, signal, sys
from contextlib import contextmanager
from dataclasses import replace
from inshape.features.extract import Extraction
from inshape.progress import Progress
from inshape.requests import restore
from inshape.training import phases
from inshape.training.api import run_training
from inshape.training.request import TrainRequest

how, place, record = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # which jobs in the background ignore

def die():
    os.kill(os.getpid(), signal.SIGKILL if how == "killed" else signal.SIGINT)

class Killing(Progress):
    @contextmanager
    def bar(self, title, **_):
        yield lambda done, total: die() if done == total // 2 + 2 else None

rows, run_phase = Extraction.rows, phases.run_phase

def rows_until_the_mirrored(self, split, view, folder, forward, progress=None):
    def advance(done, total):
        if view == "mirrored":
            die()
    return rows(self, split, view, folder, forward, advance)

def run_until_a_step(phase):
    is_teacher = phase.path.parts[-3] == "teacher"
    if f"{'teacher ' * is_teacher}{phase.name}" == place:
        phase = replace(phase, progress=Killing())
    return run_phase(phase)

if place == "features":
    Extraction.rows = rows_until_the_mirrored
else:
    phases.run_phase = run_until_a_step
run_training(restore(TrainRequest, json.loads(record)), Progress.to_stderr(True))
"""


@pytest.fixture
def train_apart(run_program):
    """A training in a process of its own: its exit code and all that it said."""

    def train(how, place, request):
        ended = run_program(PROGRAM, how, place, json.dumps(request.as_dict()))
        return ended.returncode, ended.stderr

    return train


@pytest.fixture(scope="module")
def request_for(photos, network, tmp_path_factory):
    """A request in a new folder, of two short epochs unless it says otherwise."""

    def build(**choices):
        usual = {
            "source": str(photos), "shape": "17x12x1", "backbone": str(network), "weights": None,
            "strategy": "rebuild", "epochs": 2, "head_epochs": 2, "patience": 99, "batch_size": 8,
            "validation": 0.25, "hidden": 8,
        }  # fmt: skip
        out = tmp_path_factory.mktemp("killed") / "run"
        return make(TrainRequest, out=out, **{**usual, **choices})

    return build


@pytest.fixture(scope="module")
def whole(request_for):
    """The same training without a kill, once for the same choices."""
    runs = {}

    def run(**choices):
        key = json.dumps(choices)
        if key not in runs:
            runs[key] = run_training(request_for(**choices), Progress())
        return runs[key]

    return run


@pytest.mark.parametrize(
    ("place", "choices", "done"),
    [
        ("features", {"unfreeze": "last"}, []),
        ("head", {"unfreeze": "last"}, []),
        ("body", {"unfreeze": "all"}, ["head"]),
    ],
    ids=["features", "head", "body"],
)
def test_a_run_killed_anywhere_goes_on_to_the_same_result(
    place, choices, done, train_apart, request_for, whole, assert_same_run
):
    request = request_for(**choices)
    code, message = train_apart("killed", place, request)
    assert code == -signal.SIGKILL, message
    cut = Run.open(request.out)
    assert (cut.status, cut.record["done"]) == ("running", done)
    assert (cut.checkpoints / f"{place}.npz").exists() == (place != "features")
    kept = cut.checkpoints / "features"
    assert len(list(kept.glob("*.part"))) == (place == "features")
    resumed = resume(cut)
    assert [row["phase"] for row in resumed.history_rows()] == ["head", "head", "body", "body"]
    assert_same_run(resumed, whole(**choices), exactly=False)


class Cut(BaseException):
    """A kill, as far as what has been written is concerned."""


def cut_before(monkeypatch, where, name, is_time=lambda *_: True):
    """Cut what calls something, once, before it is called."""
    real = getattr(where, name)

    def cut(*arguments, **options):
        if is_time(*arguments):
            raise Cut
        return real(*arguments, **options)

    monkeypatch.setattr(where, name, cut)


def test_a_kill_between_two_files_loses_neither(request_for, whole, assert_same_run, monkeypatch):
    """The history behind the last checkpoint, and the page behind the end."""
    request = request_for(unfreeze="last")
    with monkeypatch.context() as patch:
        cut_before(patch, Run, "save_history", lambda _, rows: len(rows) == 4)
        with pytest.raises(Cut):
            run_training(request, Progress())
    cut = Run.open(request.out)
    assert (len(cut.history_rows()), cut.record["done"]) == (3, ["head"])
    for name in (".run-0123abcd.json", ".model-0123abcd.keras"):
        (cut.folder / name).write_text("half")
    with monkeypatch.context() as patch:
        cut_before(patch, api, "leave_report")
        with pytest.raises(Cut):
            resume(cut)
    cut = Run.open(request.out)
    assert (cut.status, (cut.folder / "report.html").exists()) == ("complete", False)
    complete = resume(cut)
    assert_same_run(complete, whole(unfreeze="last"), exactly=False)
    expected = {p.name for p in whole(unfreeze="last").folder.iterdir()}
    assert {p.name for p in complete.folder.iterdir()} == expected
    assert {"history.csv", "report.html"} <= expected
    assert list(complete.checkpoints.iterdir()) == []


def test_a_run_does_not_go_on_with_fewer_pictures(request_for, monkeypatch):
    request = request_for(unfreeze="none", epochs=0)
    with monkeypatch.context() as patch:
        cut_before(patch, api, "keep_validation")
        with pytest.raises(Cut):
            run_training(request, Progress())
    cut = Run.open(request.out)
    load = Catalogue.load_compact

    def load_all_but_one(self, index, preparation):
        if self.names[index] == "lie/03.png":
            raise UnreadablePicture("lie/03.png: Input/output error; expected it; restore it")
        return load(self, index, preparation)

    monkeypatch.setattr(Catalogue, "load_compact", load_all_but_one)
    text = (
        "lie/03.png cannot be read any more (lie/03.png: Input/output error); expected the "
        f"pictures with which {cut.folder} began; restore it or train anew"
    )
    with pytest.raises(DataError, match=re.escape(text)):
        resume(cut)
    monkeypatch.setattr(Catalogue, "load_compact", load)
    assert resume(cut).status == "complete"


def test_every_option_survives_a_kill(train_apart, request_for, every_option):
    """The student's and, since the teacher was being trained, the teacher's."""
    request = request_for(**every_option)
    code, message = train_apart("killed", "teacher head", request)
    assert code == -signal.SIGKILL, message
    cut = Run.open(request.out)
    assert request_of(cut) == request
    assert api._reopen(cut, None, None, Progress()).request == request
    teacher = Run.open(cut.folder / "teacher")
    assert (teacher.checkpoints / "head.npz").exists()
    of_teacher = request.of_teacher(InputShape.of("32x24x1"), teacher.folder)
    assert api._reopen(teacher, None, None, Progress()).request == of_teacher
    # But for what the teacher cannot share, it is trained as the student is.
    changed = {"shape", "out", "options", "limits"}
    assert {n for n, v in flat(of_teacher).items() if v != flat(request)[n]} == {*changed, "recipe"}
    same = of_teacher.recipe.but(distil=True, recalibrate=True, fixres=True)
    assert same == request.recipe


def test_ctrl_c_saves_and_says_how_to_go_on(train_apart, request_for):
    request = request_for(unfreeze="last")
    code, message = train_apart("interrupted", "body", request)
    assert code == 1
    assert f"stopped; go on with: inshape train --resume {request.out}\n" in message
    run = Run.open(request.out)
    assert run.status == "interrupted"
    assert (run.checkpoints / "body.npz").exists()
    assert run.load_model().output_shape == (None, 3)  # with the head trained, it can be used


def test_an_export_killed_at_a_random_point_goes_on(repo_dir, tmp_path, run_program):
    """Sixty points of every command are ``python -m benchmarks.kills``."""
    words = ["--points", "1", "--commands", "export", "--seed", "5", "--out", tmp_path]
    program = "import sys; from benchmarks.kills import main; sys.exit(main())"
    process = run_program(program, *words, folder=repo_dir)
    assert process.returncode == 0, process.stdout
    (point,) = json.loads((tmp_path / "kills.json").read_text())["points"]
    assert (point["command"], point["answer"], point["faults"]) == ("export", "", [])
