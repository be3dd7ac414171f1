"""Why a file may not answer as the model does, and what to try."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.labels import classes

from inshape.exporting.api import export
from inshape.exporting.causes import certain_loss, find_faults, likely_cause
from inshape.runs import load_model
from inshape.runtime.formats import FORMATS
from inshape.tasks.bootstrap import Score
from inshape.tasks.classification import Classification
from inshape.tasks.detection import Detection

INT8, HALF, PLAIN, MICRO = (
    FORMATS[name] for name in ("litert-int8", "litert-float16", "litert", "micro")
)
SURE = np.array([[0.9, 0.1], [0.1, 0.9]] * 10)
UNSURE = np.array([[0.52, 0.48], [0.48, 0.52]] * 10)


@pytest.mark.parametrize(
    ("form", "reference", "fault", "line"),
    [
        (
            INT8,
            UNSURE,
            None,
            "is unsure of most .* 0.04 apart.*min_agreement=0.95",
        ),
        (
            INT8,
            SURE,
            None,
            r"ranges may not fit .* calibrate on more \(calibration=500",
        ),
        (PLAIN, SURE, None, "the converter computes a layer otherwise; export another format"),
        (INT8, SURE, "layer 'a' has weights", "layer 'a' has weights"),
    ],
)
def test_the_likely_cause_of_one_other_answer_in_twenty(form, reference, fault, line):
    answers = reference.copy()
    answers[3] = answers[3, ::-1]
    assert re.search(line, likely_cause(classes(2), form, answers, reference, fault))


def test_a_scale_that_weights_share_is_the_likelier_cause():
    line = "all weights of a layer share one scale; export it with granularity per-channel"
    answers = UNSURE[::-1]
    assert likely_cause(classes(2), INT8, answers, UNSURE, None, "per-tensor") == line
    assert likely_cause(classes(2), PLAIN, answers, UNSURE, None, "per-tensor") != line


def test_answers_that_are_not_finite_are_the_cause():
    answers = SURE.copy()
    answers[:2] = np.nan
    line = "it answers NaN or infinity to 2 of 20 pictures"
    assert likely_cause(classes(2), PLAIN, answers, SURE, None).startswith(line)


def test_a_weight_that_float16_does_not_hold_is_named_before_the_file_is_written(run):
    """By the layer's name in Keras, with a remedy that has no such fault."""
    model = load_model(run.model_path)
    kernel, bias = model.get_layer("head_logits").get_weights()
    kernel[0] = 1e6
    model.get_layer("head_logits").set_weights([kernel, bias])
    line = "layer 'head_logits' holds a weight of 1e+06, and float16 ends at 65504; export litert"
    assert find_faults(model, [HALF, PLAIN], []) == {"litert-float16": line}
    assert find_faults(model, [PLAIN], []) == {}


def test_every_file_of_8_bits_is_looked_at_before_it_is_written(run):
    """A channel of the picture that never varies has weights that hide those of the others."""
    model = load_model(run.model_path)
    kernel = model.get_layer("stem").get_weights()[0]
    kernel[:, :, 0] = 1e6
    model.get_layer("stem").set_weights([kernel])
    pictures = np.random.default_rng(0).uniform(0, 255, (4, 1, 17, 13, 3)).astype(np.float32)
    pictures[..., 0] = 127.5  # which the network takes as 0
    faults = find_faults(model, [INT8, MICRO, PLAIN], list(pictures))
    assert set(faults) == {"litert-int8", "micro"}
    assert "8 bits" in faults["micro"]
    assert faults["micro"] == faults["litert-int8"]


def test_the_table_says_why_a_file_failed(run, tmp_path, monkeypatch):
    from inshape.exporting import api

    monkeypatch.setattr(api, "find_faults", lambda *args: {"litert-dynamic": "layer 'x' is odd"})
    monkeypatch.setattr(api._Judge, "answer", lambda self, *args: 1 - self.reference)
    with pytest.warns(UserWarning, match="litert-dynamic: layer 'x' is odd"):
        exports = export(run, "litert-dynamic", timing=False, out=tmp_path / "x")
    (file,) = exports.failed
    assert file.as_dict()["cause"] == "layer 'x' is odd"
    assert "expected 97.0\N{NO-BREAK SPACE}%: layer 'x' is odd" in str(exports)


def test_a_score_that_is_lower_for_certain_is_told_though_pictures_agree():
    task = Detection(("cat", "dog"))
    line = certain_loss(task, Score(-0.078, -0.114, -0.044))
    assert line is not None
    assert line.startswith("its mAP50 is 0.078 lower (at least 0.044), expected at most 0.015; ")
    assert certain_loss(task, Score(-0.03, -0.05, -0.01)) is None  # it may be less
    assert certain_loss(task, Score(float("nan"), float("nan"), float("nan"))) is None
    # Of one class a picture, the share of the same answers says it.
    assert certain_loss(Classification(("a", "b")), Score(-0.078, -0.114, -0.044)) is None
