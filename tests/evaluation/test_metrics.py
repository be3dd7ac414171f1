"""Scores: scikit-learn and brute force are the judges, the binomial law that of the intervals."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sklearn import metrics as judge

from inshape.errors import DataError
from inshape.tasks import bootstrap
from inshape.tasks.bootstrap import Score, mean_score
from inshape.tasks.class_scores import score


def predictions(rng, count=400, classes=12, skill=1.5):
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes)) + skill * np.eye(classes)[labels]
    exponents = np.exp(logits)
    return exponents / exponents.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize(("count", "classes"), [(400, 12), (37, 3), (5, 2)])
def test_values_are_scikit_learns(count, classes, rng):
    probabilities, labels = predictions(rng, count, classes)
    guessed = probabilities.argmax(axis=1)
    result = score(probabilities, labels, [str(i) for i in range(classes)], resamples=5)
    occurring = np.union1d(labels, guessed)
    assert result.accuracy.value == pytest.approx(judge.accuracy_score(labels, guessed))
    assert result.balanced_accuracy.value == pytest.approx(
        np.mean([np.mean(guessed[labels == c] == c) for c in np.unique(labels)])
    )
    assert result.macro_f1.value == pytest.approx(
        judge.f1_score(labels, guessed, labels=occurring, average="macro")
    )
    np.testing.assert_array_equal(
        result.confusion, judge.confusion_matrix(labels, guessed, labels=range(classes))
    )
    for kind, function in (("precision", judge.precision_score), ("recall", judge.recall_score)):
        expected = function(
            labels, guessed, labels=range(classes), average=None, zero_division=np.nan
        )
        got = [getattr(c, kind).value for c in result.classes]
        np.testing.assert_allclose(got, expected)


def test_top5_is_scikit_learns(rng):
    probabilities, labels = predictions(rng)
    result = score(probabilities, labels, [str(i) for i in range(12)], resamples=5)
    expected = judge.top_k_accuracy_score(labels, probabilities, k=5)
    assert result.top5.value == pytest.approx(expected)
    assert score(probabilities[:, :9], labels % 9, list("abcdefghi"), resamples=5).top5 is None


def test_calibration_error_by_hand():
    # Two bins: (0.8, 0.8 wrong) -> |0.8 - 0.5| on 2 of 3 pictures; 1.0 right -> 0 on the third.
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.0, 1.0]])
    result = score(probabilities, np.array([0, 1, 1]), ["a", "b"], resamples=5)
    assert result.calibration_error.value == pytest.approx(2 / 3 * 0.3)


def test_calibration_error_by_brute_force(rng):
    probabilities, labels = predictions(rng, 300, 4)
    confidence, guessed = probabilities.max(axis=1), probabilities.argmax(axis=1)
    expected = 0.0
    for low in range(15):
        inside = [low / 15 <= c < (low + 1) / 15 or (low == 14 and c == 1) for c in confidence]
        if any(inside):
            gap = np.mean(confidence[inside]) - np.mean((guessed == labels)[inside])
            expected += abs(gap) * np.mean(inside)
    result = score(probabilities, labels, list("abcd"), resamples=5)
    assert result.calibration_error.value == pytest.approx(expected)


def test_the_interval_of_accuracy_is_the_binomial_laws(rng):
    labels = np.zeros(400, int)
    probabilities = np.tile([0.9, 0.1], (400, 1))
    probabilities[:80] = [0.1, 0.9]  # 80 % right
    result = score(probabilities, labels, ["a", "b"], resamples=2000).accuracy
    spread = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert result.low == pytest.approx(0.8 - spread, abs=0.006)
    assert result.high == pytest.approx(0.8 + spread, abs=0.006)


@pytest.mark.parametrize("at_once", [1, 2**18])
def test_intervals_are_those_of_drawing_again_and_again(at_once, rng, monkeypatch):
    """Each score of each draw by scikit-learn; a draw without a class has no recall of it."""
    monkeypatch.setattr(bootstrap, "_DRAWN_AT_ONCE", at_once)
    probabilities, labels = predictions(rng, 25, 6)
    guessed, names = probabilities.argmax(axis=1), range(6)
    result = score(probabilities, labels, [str(i) for i in names], resamples=60, seed=3)
    draws, drawing = [], np.random.default_rng(3)
    for _ in range(60):
        rows = drawing.integers(25, size=25)
        y, g = labels[rows], guessed[rows]
        options = {"labels": names, "average": None, "zero_division": np.nan}
        recall = judge.recall_score(y, g, **options)
        f1 = judge.f1_score(y, g, labels=np.union1d(y, g), average="macro")
        precision = judge.precision_score(y, g, **options)
        draws.append([np.mean(y == g), np.nanmean(recall), f1, *precision, *recall])
    expected = np.nanquantile(draws, [0.025, 0.975], axis=0).T
    assert np.isnan(draws).any()
    scores = [result.accuracy, result.balanced_accuracy, result.macro_f1]
    scores += [c.precision for c in result.classes] + [c.recall for c in result.classes]
    np.testing.assert_allclose([(s.low, s.high) for s in scores], expected)


def test_the_interval_of_a_mean_is_that_of_drawing_again_and_again(rng):
    values = rng.normal(size=31)
    drawing = np.random.default_rng(5)
    means = [values[drawing.integers(31, size=31)].mean() for _ in range(400)]
    result = mean_score(values, resamples=400, seed=5)
    assert result.value == pytest.approx(values.mean())
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    with_gaps = np.insert(values, [3, 9], np.nan)
    assert mean_score(with_gaps, resamples=400, seed=5) == result


def test_the_mean_of_few_values():
    assert mean_score(np.array([0.25])) == Score(0.25, 0.25, 0.25)
    assert mean_score(np.array([True, True])) == Score(1.0, 1.0, 1.0)
    for nothing in (np.array([]), np.array([np.nan])):
        assert mean_score(nothing).as_dict() == {"value": None, "low": None, "high": None}
    assert score(np.eye(2)[[0]], np.array([0]), ["a", "b"]).accuracy == Score(1.0, 1.0, 1.0)
    assert score(np.eye(2), np.array([0, 1]), ["a", "b"], resamples=1).accuracy.value == 1.0


def test_the_same_seed_gives_the_same_interval(rng):
    probabilities, labels = predictions(rng, 50, 3)
    once, again, other = (
        score(probabilities, labels, list("abc"), seed=s).calibration_error for s in (0, 0, 1)
    )
    assert once == again
    assert (once.low, once.high) != (other.low, other.high)


def test_a_class_without_pictures_has_no_recall():
    result = score(np.eye(3)[[0, 1]], np.array([0, 1]), list("abc"), resamples=5)
    absent = result.classes[2]
    assert np.isnan(absent.recall.value)
    assert np.isnan(absent.precision.value)
    assert result.balanced_accuracy.value == 1.0
    assert absent.recall.as_dict() == {"value": None, "low": None, "high": None}
    assert str(absent.recall) == "-"


def test_a_score_reads_well():
    assert str(Score(0.81234, 0.7, 0.9)) == "0.812  [0.700, 0.900]"


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(DataError, match=re.escape("no pictures to score; expected at least one")):
        score(np.zeros((0, 2)), np.zeros(0, int), ["a", "b"])
    text = "probabilities of shape (3, 2); expected (3, 4) for 3 pictures and 4 classes"
    with pytest.raises(DataError, match=re.escape(text)):
        score(np.ones((3, 2)), np.zeros(3, int), list("abcd"))
