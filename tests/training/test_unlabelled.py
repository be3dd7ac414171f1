"""Pictures without labels, which a teacher answers."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from PIL import Image
from tests.labels import classes
from tests.training.conftest import build_network, striped

from inshape.errors import DataError, RequestError
from inshape.evaluation.api import evaluate
from inshape.runs import Run
from inshape.training import phases
from inshape.training.api import resume
from inshape.training.feeds import MixedFeed, targets_of
from inshape.training.phases import Stopped
from inshape.training.request import request_of


@pytest.fixture(scope="module")
def colour_network(tmp_path_factory):
    """The network for RGB."""
    path = tmp_path_factory.mktemp("network") / "colour.keras"
    build_network((32, 24, 3)).save(path)
    return path


@pytest.fixture(scope="module")
def unlabelled(photos, tmp_path_factory):
    """The labelled pictures once more, and ten that nobody labelled."""
    folder = tmp_path_factory.mktemp("more") / "pictures"
    shutil.copytree(photos, folder)
    rng = np.random.default_rng(1)
    for number in range(10):
        Image.fromarray(striped(number % 3, (34, 24), rng)).save(folder / f"more-{number}.png")
    return folder


@pytest.fixture(scope="module")
def choices(colour_network, unlabelled):
    """A grey student of a network in colour, at the same height and width."""
    return {"shape": "32x24x1", "backbone": colour_network, "unlabelled": unlabelled}


@pytest.fixture(scope="module")
def run(train_small, choices, tmp_path_factory):
    """A run that was taught by unlabelled pictures too."""
    return train_small(tmp_path_factory.mktemp("runs") / "a", **choices)


def test_pictures_that_validate_are_not_learned_from(run):
    record = run.record
    validating = sum(record["data"]["validation"].values())
    assert record["unlabelled"]["pictures"] == 48 + 10 - validating
    assert record["done"] == ["teacher", "head", "body", "distil"]


def test_the_teacher_sees_colour_and_labelled_pictures_alone(run):
    teacher = Run.open(run.folder / "teacher")
    assert str(teacher.preparation.shape) == "32x24x3"
    assert teacher.record["request"]["unlabelled"] is None
    assert "unlabelled" not in teacher.record


def test_a_training_goes_on_with_the_same_pictures_alone(
    run, train_small, choices, unlabelled, tmp_path, monkeypatch, assert_same_run
):
    def stop(*_):
        raise KeyboardInterrupt

    copy = tmp_path / "pictures"
    shutil.copytree(unlabelled, copy)
    with monkeypatch.context() as patch:
        patch.setattr(phases, "run_phase", stop)
        with pytest.raises(Stopped):
            train_small(tmp_path / "a", **{**choices, "unlabelled": copy})
    (copy / "more-3.png").rename(tmp_path / "more-3.png")
    with pytest.raises(DataError, match=re.escape(f"the pictures in {copy} are not those that")):
        resume(tmp_path / "a")
    assert_same_run(resume(tmp_path / "a", unlabelled=unlabelled), run)


def test_pictures_that_were_no_files_are_wanted_again(train_small, choices, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    pictures = np.random.default_rng(0).integers(0, 255, (4, 34, 24), np.uint8)
    more = {**choices, "unlabelled": (pictures, [0] * 4)}
    with monkeypatch.context() as patch:
        patch.setattr(phases, "run_phase", stop)
        with pytest.raises(Stopped):
            train_small(tmp_path / "a", **more)
    with pytest.raises(RequestError, match=re.escape("expected them again; give unlabelled=")):
        resume(tmp_path / "a")
    assert request_of(Run.open(tmp_path / "a")).recipe.distil


def test_pictures_that_all_validate_are_refused(train_small, photos, choices, tmp_path):
    split = tmp_path / "photos"
    shutil.copytree(photos, split / "train")
    for folder in sorted((split / "train").iterdir()):
        for file in sorted(folder.iterdir())[:4]:
            target = split / "val" / folder.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            file.rename(target)
    same = {**choices, "unlabelled": split / "val"}
    with pytest.raises(DataError, match=r"all 12 pictures are among those for validation; .*leave"):
        train_small(tmp_path / "a", source=split, **same)
    assert not (tmp_path / "a").exists()


def test_pictures_that_a_teacher_answered_count_as_seen(run, unlabelled, photos, tmp_path):
    """But for those that validate; the ten that nobody had labelled are labelled later."""
    folder = tmp_path / "lie"
    folder.mkdir()
    for file in unlabelled.glob("more-*.png"):
        shutil.copy(file, folder)
    Image.fromarray(np.zeros((34, 24), np.uint8)).save(folder / "new.png")
    shutil.copytree(photos / "stand", tmp_path / "stand")
    seen = 10 + 16 - run.record["data"]["validation"]["stand"]
    with pytest.warns(UserWarning, match=f"{seen} of 27 pictures were trained on"):
        assert evaluate(run, tmp_path).seen_in_training == seen


class Counted:
    """Batches that say where they come from."""

    def __init__(self, name, steps, rows):
        self.name, self.steps, self.rows = name, steps, rows

    def epoch(self, number):
        return ((self.name, number, step) for step in range(self.steps))

    def validation(self, size):
        return iter([self.name])


def test_both_kinds_of_batches_come_in_an_order_that_is_drawn():
    feed = MixedFeed(Counted("labelled", 3, 8), Counted("unlabelled", 20, 5), seed=0)
    assert (feed.steps, feed.rows) == (23, 8)
    epochs = [list(feed.epoch(number)) for number in (0, 1, 0)]
    assert epochs[0] == epochs[2]
    assert [e[0] for e in epochs[0]] != [e[0] for e in epochs[1]]
    for number in (0, 1):
        expected = [("labelled", number, i) for i in range(3)]
        expected += [("unlabelled", number, i) for i in range(20)]
        assert sorted(epochs[number]) == expected
    assert list(feed.validation(4)) == ["labelled"]


def test_unknown_labels_are_no_targets():
    assert targets_of(classes(3), np.array([-1, -1]), 0.1) is None
    np.testing.assert_allclose(targets_of(classes(3), np.array([2]), 0.0), [[0, 0, 1]])
