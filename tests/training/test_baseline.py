"""What plain Keras has without a training, against Keras and scikit-learn by hand."""

from __future__ import annotations

import json
from functools import partial

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from inshape.data.batches import Batches
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.data.split import split
from inshape.heads import Head
from inshape.planning import PlanRequest, decide_plan, look_up, open_network
from inshape.progress import Progress
from inshape.requests import make
from inshape.training import baseline
from inshape.training.baseline import BASELINE, Trained, measure_baseline


def read(run):
    return json.loads((run.folder / BASELINE).read_text())


def about_to_begin(photos, network, shape, *, strategy="resize", is_pretrained=True):
    catalogue = split(open_source(photos), validation=0.25, seed=0)
    request = make(
        PlanRequest, backbone=network, input_shape=shape, strategy=strategy, head=Head(classes=3)
    )
    is_named = isinstance(network, str)
    opened = (look_up if is_named else partial(open_network, weights=None))(network, top=True)
    plan = decide_plan(request, opened)
    return Trained(
        plan=plan,
        network=opened,
        is_pretrained=is_pretrained,
        model=None if is_named else plan.carried_out_on(opened).model,
        batches=Batches.open(catalogue, Preparation.of(shape)),
        seed=0,
    )


@pytest.fixture(scope="module")
def measured(train_small, tmp_path_factory):
    """The run of two phases once more, with a baseline."""
    return train_small(tmp_path_factory.mktemp("runs") / "a", seed=1, baseline=True)


def by_hand(network, batches, repeats=1):
    """Right or wrong for each picture for validation, by ``clone_model`` and a logistic model."""
    shape = batches.preparation.shape
    image = keras.Input((*shape.hw, shape.channels * repeats))
    clone = keras.models.clone_model(network, input_tensors=image)
    clone.set_weights(network.get_weights())
    ends = [clone.get_layer(name).output for name in ("stem_relu", "last_stride")]
    maps = keras.Model(clone.inputs[0], ends)
    rows, labels = [], []
    for name in ("train", "validation"):
        pictures, answers = next(batches.iterate(name, 10_000))
        pictures = np.repeat(pictures.astype("float32"), repeats, axis=-1)
        means = [np.mean(m, axis=(1, 2)) for m in maps.predict(pictures, verbose=0)]
        rows.append(np.concatenate(means, axis=1))
        labels.append(answers)
    scale = StandardScaler().fit(rows[0])
    model = LogisticRegression(C=30 / len(rows[0]), max_iter=1000, tol=1e-6)
    model.fit(scale.transform(rows[0]), labels[0])
    return (model.predict(scale.transform(rows[1])) == labels[1]).astype(float).tolist()


def test_it_is_what_keras_and_scikit_learn_say(photos, build_network):
    for shape in ((32, 24, 1), (32, 24, 3)):  # the second is asked about repeated grey pictures
        training = about_to_begin(photos, build_network(shape), "9x7x1")
        record = measure_baseline(training, Progress())
        expected = by_hand(training.network.model, training.batches, repeats=shape[2])
        assert record["scores"] == expected
        assert record["score"]["value"] == pytest.approx(np.mean(expected), abs=1e-6)
        assert 0.3 < np.mean(expected) < 0.9  # or any two probes would agree
        assert record["repeats"] == shape[2]
        assert (record["trained_on"], record["pictures"]) == (36, 12)


def test_the_gain_is_that_on_the_same_pictures(measured):
    record = read(measured)
    after = measured.record["metrics"]["validation"]["accuracy"]
    assert record["trained"]["value"] == pytest.approx(after, abs=1e-6)
    gain = after - np.mean(record["scores"])
    assert record["gain"]["value"] == pytest.approx(gain, abs=1e-6)
    assert record["gain"]["low"] <= record["gain"]["value"] <= record["gain"]["high"]
    assert measured.record["seconds"]["baseline"] > 0


def test_it_changes_nothing_in_the_training(measured, plain, assert_same_run):
    assert not (plain.folder / BASELINE).exists()
    assert "baseline" not in plain.record["seconds"]
    assert_same_run(measured, plain)


def test_many_pictures_are_sampled_alike_before_and_after(photos, build_network, monkeypatch):
    monkeypatch.setattr(baseline, "_MOST", 7)
    training = about_to_begin(photos, build_network(), "17x12x1", strategy="rebuild")
    record = measure_baseline(training, Progress())
    assert 7 <= record["trained_on"] <= 10
    count = record["pictures"]
    assert 7 <= count <= 10
    # Answers that are right of the pictures that were asked about alone.
    validation = training.batches.catalogue.indices("validation")
    chosen = baseline.sample_of(training.batches.catalogue.strata[validation], 7, 0)
    labels = training.batches.catalogue.labels[validation]
    answers = np.eye(3)[(labels + 1) % 3]
    answers[chosen] = np.eye(3)[labels[chosen]]
    written = {}
    monkeypatch.setattr(baseline, "read_json", lambda path: record)
    monkeypatch.setattr(baseline, "write_json", lambda path, value: written.update(value))
    run = type("Folder", (), {"folder": photos})
    baseline.compare_with_baseline(run, training.batches, answers, 0)
    assert written["trained"]["value"] == 1.0
    assert written["gain"]["value"] == pytest.approx(1 - record["score"]["value"], abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "native", "choices", "problem"),
    [
        ("17x12x1", (32, 24, 1), {"is_pretrained": False}, "random weights know nothing that"),
        ("17x12x3", (32, 24, 1), {}, "plain Keras takes pictures of 1 channel here, as small was "
         "trained with, and these have 3"),
        ("31x40x3", "MobileNetV3Small", {}, "keras.applications builds MobileNetV3Small from "
         "32x32 pixels on, and not at 31x40"),
    ],
)  # fmt: skip
def test_what_plain_keras_cannot_is_said(photos, build_network, shape, native, choices, problem):
    network = native if isinstance(native, str) else build_network(native)
    training = about_to_begin(photos, network, shape, **choices)
    record = measure_baseline(training, Progress())
    assert list(record) == ["problem"]
    assert record["problem"].startswith(problem)


def test_a_failure_ends_no_training(train_small, tmp_path, monkeypatch):
    def fail(*args):
        raise MemoryError("no more")

    monkeypatch.setattr(baseline, "features_of", fail)
    run = train_small(tmp_path / "a", baseline=True, unfreeze="none", views=1)
    assert run.status == "complete"
    assert read(run) == {"problem": "MemoryError: no more"}
    page = (run.folder / "report.html").read_text()
    assert "There is no baseline: MemoryError: no more." in page
