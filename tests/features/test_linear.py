"""Linear classifiers on features, against scikit-learn and hand arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.labels import classes as of_classes

from inshape.features import linear
from inshape.features.linear import cross_validated, fit_linear, temperature


def blobs(rng, classes, count=150, features=8):
    labels = np.arange(count) % classes
    centres = rng.normal(size=(classes, features)) * 1.5
    rows = centres[labels] + rng.normal(size=(count, features))
    return (rows * 10 + 3).astype("float32"), labels


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_fit_is_scikit_learns_at_the_chosen_strength(classes, rng):
    rows, labels = blobs(rng, classes)
    held_out, held_out_labels = rows[100:], labels[100:]
    rows, labels = rows[:100], labels[:100]
    fit = fit_linear(
        of_classes(classes), [rows], labels, (held_out, held_out_labels),
        output_weights=np.ones(classes, "float32"), seed=0,
    )  # fmt: skip
    spread = np.maximum(rows.std(axis=0), np.median(rows.std(axis=0)))
    scaled = (rows - rows.mean(axis=0)) / spread
    judge = LogisticRegression(C=fit.strength / 100, tol=1e-6, max_iter=5000).fit(scaled, labels)
    expected = judge.predict_proba((held_out - rows.mean(axis=0)) / spread)
    logits = held_out @ fit.kernel + fit.bias
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=0.04)  # near the optimum is enough
    assert fit.score == pytest.approx((expected.argmax(axis=1) == held_out_labels).mean(), abs=0.03)


def test_a_class_without_pictures_is_never_guessed(rng):
    rows, labels = blobs(rng, 3)
    labels = np.where(labels == 1, 0, labels)
    fit = fit_linear(
        of_classes(3),
        [rows],
        labels,
        (rows, labels),
        output_weights=np.ones(3, "float32"),
        seed=0,
    )
    assert 1 not in (rows @ fit.kernel + fit.bias).argmax(axis=1)


def test_views_are_fitted_together_and_many_rows_are_drawn(rng, monkeypatch):
    rows, labels = blobs(rng, 3)
    monkeypatch.setattr(linear, "_MOST_ROWS", 80)
    labels[7] = 3  # a class with a single picture is drawn nevertheless
    fit = fit_linear(
        of_classes(4),
        [rows, rows],
        labels,
        (rows, labels),
        output_weights=np.ones(4, "float32"),
        seed=0,
    )
    assert fit.score > 0.8
    assert np.abs(fit.kernel[:, 3]).max() > 0


def test_without_validation_a_middle_strength_is_taken(rng):
    rows, labels = blobs(rng, 3)
    fit = fit_linear(
        of_classes(3), [rows], labels, (rows[:0], labels[:0]),
        output_weights=np.ones(3, "float32"), seed=0,
    )  # fmt: skip
    assert fit.strength == 30.0
    assert math.isnan(fit.score)


@pytest.mark.parametrize("threads", [1, 3])
def test_held_out_rows_are_classified_as_by_scikit_learn(threads, rng):
    rows, labels = blobs(rng, 3)
    rows += rng.normal(size=rows.shape).astype("float32") * 20
    rows[:, 2] = 7.0  # never differs
    rows[:, 3] *= 1e4
    folds = [held_out for _, held_out in KFold(4, shuffle=True, random_state=0).split(rows)]
    expected = np.zeros(len(labels), bool)
    for held_out in folds:
        rest = np.setdiff1d(np.arange(len(labels)), held_out)
        judge = make_pipeline(
            StandardScaler(), LogisticRegression(C=30 / len(rest), tol=1e-3, max_iter=150)
        )
        judge.fit(rows[rest], labels[rest])
        expected[held_out] = judge.predict(rows[held_out]) == labels[held_out]
    correct = cross_validated(of_classes(3), rows, labels, folds, threads=threads)
    np.testing.assert_array_equal(correct, expected)
    assert 0.4 < correct.mean() < 0.95  # neither all nor chance


def test_small_features_are_told_apart_as_well_as_large_ones(rng):
    # Those of random weights may all be below 1e-6.
    rows, labels = blobs(rng, 3)
    rows[:, 0] = 0  # a channel that never fires
    folds = np.array_split(np.arange(len(labels)), 3)
    correct = cross_validated(of_classes(3), rows, labels, folds)
    assert correct.mean() > 0.8
    np.testing.assert_array_equal(
        cross_validated(of_classes(3), rows * 2.0**-40, labels, folds), correct
    )


def test_a_feature_that_hardly_ever_fires_gets_no_weight_that_hides_the_others(rng):
    """One that is 0 on all but a picture of each class, and then says which it is."""
    rows, labels = blobs(rng, 3, count=90, features=40)
    rows[:, 0] = 0.0
    rows[:3, 0] = labels[:3] * 1e-4
    fit = fit_linear(
        of_classes(3), [rows], labels, (rows[60:], labels[60:]),
        output_weights=np.ones(3, "float32"), seed=0,
    )  # fmt: skip
    largest = np.abs(fit.kernel).max(axis=1)
    assert largest[0] <= largest.max() < 40 * np.median(largest)


def test_scores_by_hand():
    accuracy, loss = of_classes(2).score_and_loss(
        np.log([[0.5, 0.5], [0.2, 0.8]]), np.array([0, 1])
    )
    assert accuracy == 1.0
    assert loss == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)


def test_the_temperature_undoes_a_scaling(rng):
    logits = rng.normal(size=(4000, 5)).astype("float32") * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(5, p=p / p.sum()) for p in probabilities.astype(float)])
    # Labels drawn from the probabilities themselves, so the logits are right as they are.
    assert temperature(of_classes(5), logits, labels) == pytest.approx(1.0, rel=0.06)
    assert temperature(of_classes(5), logits * 3, labels) == pytest.approx(3.0, rel=0.06)
    assert temperature(of_classes(5), logits[:0], labels[:0]) == 1.0
