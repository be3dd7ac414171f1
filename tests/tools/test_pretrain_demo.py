"""Pictures from formulas, and the training that makes the demonstration checkpoint."""

from __future__ import annotations

import doctest
import importlib
import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.narrow import NARROW
from tools.formula import catalogue
from tools.formula.catalogue import COUNTS, FAMILIES, FormulaClass, classes, rendered
from tools.pretrain_demo import Course, Learner, learn, main, train

TINY = Course(
    steps=5, batch=8, px=32, drawn_px=32, pictures=4, warm=2, counts=tuple((f, 1) for f in FAMILIES)
)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_seed_decides_the_pictures(family):
    one = FormulaClass(family, 2)
    drawn = one.draw(3, 40, seed=5)
    assert drawn.shape == (3, 40, 40)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, one.draw(3, 40, seed=5))
    assert (drawn != one.draw(3, 40, seed=6)).any()
    assert (drawn != FormulaClass(family, 3).draw(3, 40, seed=5)).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_of_a_class_differ_and_resemble_each_other(family):
    drawn = np.stack([FormulaClass(family, n).draw(6, 48, seed=0) for n in range(12)])
    assert all(len(np.unique(each.reshape(6, -1), axis=0)) == 6 for each in drawn)
    # Place and phase hardly matter to the strength of frequencies.
    rows = np.log1p(np.abs(np.fft.fft2(drawn))[..., :25]).reshape(12, 6, -1)
    middles = rows[:, :4].mean(1)
    apart = np.linalg.norm(rows[:, 4:, None] - middles, axis=-1)
    right = (apart.argmin(-1) == np.arange(12)[:, None]).mean()
    assert right > 0.5, right  # by chance 0.08


@pytest.mark.parametrize("family", FAMILIES)
def test_no_picture_is_empty(family):
    for number in range(12):
        drawn = FormulaClass(family, number).draw(2, 48, seed=0)
        assert (drawn.std((1, 2)) > 5).all(), number


def test_every_class_is_there_once():
    every = classes()
    assert len(set(every)) == len(every) == sum(COUNTS.values()) == 480


def test_pictures_are_drawn_once_and_kept(tmp_path, monkeypatch):
    wanted = classes({"strokes": 2, "outlines": 1})
    first = list(rendered(tmp_path, wanted, count=3, px=32, seed=0))
    assert len(list(tmp_path.iterdir())) == 3
    (tmp_path / "outlines-0-3x32-0.npy").unlink()
    monkeypatch.setitem(catalogue.FAMILIES, "strokes", None)  # must not be drawn again
    again = list(rendered(tmp_path, wanted, count=3, px=32, seed=0))
    np.testing.assert_array_equal(first, again)


def test_composing_depends_on_seed_and_step_alone():
    import tensorflow as tf
    from tools.formula.compose import compose

    grey = tf.constant(np.stack([FormulaClass("strokes", n).draw(1, 40, 0)[0] for n in range(8)]))
    fills = tf.zeros(8, tf.bool)

    def at(step, seed=0):
        return compose(grey, fills, tf.constant(step), px=32, seed=seed).numpy()

    first = at(3)
    assert first.shape == (8, 32, 32, 3)
    assert first.min() >= 0
    assert 200 < first.max() <= 255
    np.testing.assert_array_equal(first, at(3))
    assert (first != at(4)).mean() > 0.5
    assert (first != at(3, seed=1)).mean() > 0.5
    is_grey = [np.ptp(picture, axis=-1).max() < 1e-2 for step in range(8) for picture in at(step)]
    assert 0.15 < np.mean(is_grey) < 0.6


def test_what_fills_the_picture_goes_on_filling_it():
    import tensorflow as tf
    from tools.formula.compose import _Dice, _moved

    white = tf.ones((64, 40, 40, 1))
    filled = _moved(white, tf.ones(64, tf.bool), 32, _Dice(0, tf.constant(0))).numpy()
    shape = _moved(white, tf.zeros(64, tf.bool), 32, _Dice(0, tf.constant(0))).numpy()
    assert (filled > 0.99).mean() > 0.97
    assert (shape > 0.99).mean() < 0.9


def test_each_picture_comes_once_an_epoch():
    course = Course(batch=8)
    first = np.concatenate([course.order_of(step, 26) for step in range(3)])
    second = np.concatenate([course.order_of(step, 26) for step in range(3, 6)])
    assert len(set(first.tolist())) == len(set(second.tolist())) == 24
    assert (first != second).any()


def test_the_rate_rises_stays_and_falls():
    course = Course(steps=1000, warm=100, falling=0.25, rate=1.0)
    rates = [course.rate_at(step) for step in (0, 49, 99, 500, 749, 875, 999)]
    assert rates == pytest.approx([0.01, 0.5, 1, 1, 1, 0.5, 0.004])


@pytest.mark.slow
def test_a_killed_training_ends_in_the_same_weights(tmp_path, run_program):
    """The second training begins with the state that a kill after three steps leaves behind."""
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    # In processes of their own: determinism holds for a whole process of TensorFlow. It starts in
    # the children; what takes seconds to import is imported once for both.
    code = (
        "import os, shutil, sys; from pathlib import Path\n"
        "import keras, tensorflow, inshape.backbones, tools.formula.compose\n"
        "from tests.narrow import NARROW\n"
        "from tools import pretrain_demo as p\n"
        "keras.applications.MobileNetV3Small = NARROW['MobileNetV3Small']\n"
        f"course = p.{TINY!r}\n"
        "home, taken = Path(sys.argv[1]), p.Learner.take_step\n"
        "def step(self, *a):\n"
        "    if self.step == 3 and not (home / 'parts').exists():\n"
        "        (home / 'parts').mkdir()\n"
        "        shutil.copy(home / 'whole' / 'state.npz', home / 'parts')\n"
        "    return taken(self, *a)\n"
        "p.Learner.take_step = step\n"
        "for name in ('whole', 'parts'):\n"
        "    if not os.fork():\n"
        "        to = home / f'{name}.safetensors'\n"
        "        p.train(course, home / name, to, threads=1, every_s=0)\n"
        "        sys.stdout.flush()\n"
        "        os._exit(0)\n"
        "    assert os.wait()[1] == 0\n"
    )
    done = run_program(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("going on from step 3 of 5") == 1
    assert whole.read_bytes() == parts.read_bytes()
    kernel = load_file(whole)["conv/kernel"]
    assert np.isfinite(kernel).all()


@pytest.mark.slow
def test_another_course_cannot_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("keras.applications.MobileNetV3Small", NARROW["MobileNetV3Small"])
    state = tmp_path / "state.npz"
    wanted = classes(dict(TINY.counts))
    learner = Learner(TINY, wanted)
    keys = ["Ctrl-C"]

    def take_step(self, pictures, labels):
        # A real step is traced for seconds and takes place in the test above.
        if self.step == 2 and keys:
            raise KeyboardInterrupt(keys.pop())
        self.model.weights[0].assign_add(np.ones(self.model.weights[0].shape))
        self.step += 1
        return 1.0, 0.5

    monkeypatch.setattr(Learner, "take_step", take_step)
    with pytest.raises(KeyboardInterrupt):
        learn(learner, np.zeros(0), np.zeros(0), state, every_s=100)
    with np.load(state) as kept:
        assert json.loads(str(kept["about"]))["step"] == 2
    learn(learner, np.zeros(0), np.zeros(0), state, every_s=0)
    assert learner.step == 5
    longer = Learner(Course(**{**_fields(TINY), "steps": 9}), wanted)
    longer.resume(state)
    assert longer.step == 5
    np.testing.assert_array_equal(longer.model.weights[0], learner.model.weights[0])
    other = Learner(Course(**{**_fields(TINY), "rate": 0.5}), wanted)
    text = f"{state} was begun with rate 0.0025, this is 0.5; give the same, or another --out"
    with pytest.raises(SystemExit, match=re.escape(text)):
        other.resume(state)


def _fields(course):
    return {name: getattr(course, name) for name in course.__dataclass_fields__}


def test_the_command_line_reaches_the_training(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("tools.pretrain_demo.train", lambda *a, **k: calls.append((a, k)))
    main(["--out", str(tmp_path), "--steps", "7", "--threads", "2"])
    ((course, out, to), options) = calls[0]
    assert (course.steps, out, to) == (7, tmp_path, tmp_path / "demo.safetensors")
    assert options == {"threads": 2}
    assert train is not None


def test_the_shipped_checkpoint_says_how_it_was_made():
    from inshape.weights.demo import PATH

    length = int.from_bytes(PATH.read_bytes()[:8], "little")
    about = json.loads(PATH.read_bytes()[8 : 8 + length])["__metadata__"]
    assert json.loads(about["course"]) == json.loads(json.dumps(_fields(Course())))


@pytest.mark.parametrize("module", ["formula.catalogue"])
def test_the_examples_hold(module):
    failed, tried = doctest.testmod(importlib.import_module(f"tools.{module}"))
    assert tried
    assert not failed
