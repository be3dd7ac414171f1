"""Evaluation and prediction of a run, against the model called by hand."""

from __future__ import annotations

import json
import re
import warnings

import keras
import numpy as np
import pytest
from PIL import Image

from inshape.data.batches import Batches
from inshape.data.catalogue import Listing, read_catalogue
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.errors import DataError, RequestError
from inshape.evaluation.api import evaluate
from inshape.evaluation.metrics import as_probabilities
from inshape.evaluation.probabilities import gives_probabilities, predict_probabilities
from inshape.prediction import predict
from inshape.runs import Run

layers = keras.layers
LABELS = ("dark", "light")


def brightness_model(shape, activation="softmax"):
    """Tells light pictures from dark ones."""
    image = keras.Input(shape)
    x = layers.GlobalAveragePooling2D()(image)
    x = layers.Dense(
        2, name="head_logits", activation=None if activation != "inside" else "softmax"
    )(x)
    if activation == "softmax":
        x = layers.Activation("softmax", name="head_probabilities")(x)
    model = keras.Model(image, x)
    kernel = np.full((shape[-1], 1), 0.01 / shape[-1]) * [-1, 1]
    model.get_layer("head_logits").set_weights([kernel, np.array([1.28, -1.28])])
    return model


def run_of(folder, shape, size_hw=None):
    run = Run.create(folder, {"seed": 0})
    prepared = Preparation.of(tuple(shape))
    run = run.updated(preparation=prepared.at(size_hw or shape[:2]).as_dict(), status="complete")
    run.save_labels(LABELS)
    run.save_model(brightness_model(shape))
    return run


@pytest.fixture
def photos(tmp_path, rng):
    """Grey levels 20, 70 (dark) and 180, 230 (light), and one light picture among the dark."""
    folder = tmp_path / "photos"
    for label, name, level in (
        ("dark", "a", 20),
        ("dark", "b", 70),
        ("dark", "wrong", 250),
        ("light", "c", 180),
        ("light", "d", 230),
    ):
        (folder / label).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(level - 5, level + 5, (40, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / label / f"{name}.png")
    return folder


@pytest.mark.parametrize("shape", [(13, 10, 1), (8, 8, 3)])
def test_scores_and_mistakes(shape, tmp_path, photos):
    run = run_of(tmp_path / "run", shape)
    evaluation = evaluate(run, photos)
    assert evaluation.accuracy.value == pytest.approx(4 / 5)
    assert evaluation.scores.confusion.tolist() == [[2, 1], [0, 2]]
    (mistake,) = evaluation.mistakes
    assert (mistake.picture, mistake.label, mistake.guess) == ("dark/wrong.png", "dark", "light")
    assert mistake.probability > 0.85
    saved = json.loads((run.folder / "metrics.json").read_text())
    assert saved == evaluation.as_dict()
    assert set(saved["accuracy"]) == {"value", "low", "high"}
    assert saved["shape"] == "x".join(map(str, shape))


def test_the_table_names_scores_classes_and_mistakes(tmp_path, photos):
    text = str(evaluate(run_of(tmp_path / "run", (8, 8, 3)), photos, save=False))
    for part in ("accuracy", "0.800", "macro F1", "calibration error", "light", "dark/wrong.png"):
        assert part in text
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_model_of_any_size_is_measured_at_several(tmp_path, photos):
    run = run_of(tmp_path / "run", (None, None, 1), size_hw=(12, 12))
    evaluation = evaluate(run, photos, sizes=[7, (20, 15)])
    assert list(evaluation.by_size) == ["7x7", "20x15"]
    assert all(result.value == pytest.approx(4 / 5) for result in evaluation.by_size.values())
    assert evaluation.as_dict()["by_size"]["20x15"]["value"] == pytest.approx(4 / 5)


def test_a_model_of_one_size_refuses_another(tmp_path, photos):
    run = run_of(tmp_path / "run", (13, 10, 1))
    text = "size 7x7; the model takes 13x10 only; train with an input of ?x?x1"
    with pytest.raises(RequestError, match=re.escape(text)):
        evaluate(run, photos, sizes=[7])


def test_a_split_is_chosen(tmp_path, photos):
    split = tmp_path / "split"
    (split / "train").mkdir(parents=True)
    (photos / "dark").rename(split / "train" / "dark")
    (split / "train" / "light").mkdir()
    (photos / "light" / "c.png").rename(split / "train" / "light" / "c.png")
    photos.rename(split / "test")
    run = run_of(tmp_path / "run", (8, 8, 3))
    assert evaluate(run, split).scores.pictures == 1  # the test split, where there is one
    assert evaluate(run, split, split="train").scores.pictures == 4
    text = "no pictures in split 'validation'; expected one of: test, train"
    with pytest.raises(DataError, match=re.escape(text)):
        evaluate(run, split, split="validation")


def test_pictures_without_classes_are_refused(tmp_path, photos):
    run = run_of(tmp_path / "run", (8, 8, 3))
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    unlabelled = read_catalogue(Listing(arrays=pixels, class_names=LABELS))
    with pytest.raises(DataError, match=re.escape("no labelled pictures to evaluate on")):
        evaluate(run, unlabelled)


@pytest.mark.parametrize("activation", ["softmax", "inside", "logits"])
def test_probabilities_sum_to_one_whatever_the_model_puts_out(activation, rng):
    pixels = rng.integers(0, 255, (9, 13, 10, 1), np.uint8)
    batches = Batches.open(open_source((pixels, [0, 1, 0] * 3)), Preparation.of("13x10x1"))
    model = brightness_model((13, 10, 1), activation)
    result = predict_probabilities(model, batches)
    logits = 0.01 * pixels.mean(axis=(1, 2)) * [-1, 1] + [1.28, -1.28]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result, expected, rtol=1e-4)
    assert gives_probabilities(model) == (activation != "logits")


def test_probabilities_of_large_logits_are_finite():
    result = as_probabilities(np.array([[1000.0, -1000.0]], "float32"), is_probability=False)
    assert result.tolist() == [[1.0, 0.0]]


def test_predictions_of_a_folder_a_file_a_list_and_an_array(tmp_path, photos):
    run = run_of(tmp_path / "run", (13, 10, 1))
    result = predict(run, photos, top=2)
    assert [p.label for p in result] == ["dark", "dark", "light", "light", "light"]
    assert result[0].picture == str(photos / "dark" / "a.png")
    for one in result:
        assert one.top[0] == (one.label, one.probability)
        assert sum(p for _, p in one.top) == pytest.approx(1.0, abs=1e-6)
    (alone,) = predict(run, photos / "light" / "d.png", top=1)
    assert (alone.label, len(alone.top)) == ("light", 1)
    assert alone.probability == pytest.approx(result[4].probability)
    paths = [photos / "light" / "d.png", photos / "dark" / "a.png"]
    assert [p.picture for p in predict(run, paths)] == [str(p) for p in paths]
    pixels = np.stack([np.full((13, 10), 30, np.uint8), np.full((13, 10), 240, np.uint8)])
    listed = predict(run, pixels)
    assert [(p.picture, p.label) for p in listed] == [("[0]", "dark"), ("[1]", "light")]
    assert str(listed[0]).startswith("[0]: dark 0.")
    assert json.dumps(listed[0].as_dict())


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        ((13, 10, 3), (64, 48, 3), 1),
        ((13, 10, 1), (64, 48, 1), 1),
        ((13, 10, 1), (64, 48, 3), 1),  # a colour picture for a grey model
        ((13, 10, 1), (64, 48), 1),
        ((13, 10, 3), (5, 64, 48), 5),  # grey pictures for a colour model
        ((13, 10, 5), (64, 48, 5), 1),
        ((13, 10, 5), (2, 64, 48, 5), 2),
    ],
)
def test_an_array_of_one_picture_and_of_several(tmp_path, rng, model, shape, expected):
    run = run_of(tmp_path / "run", model)
    result = predict(run, rng.integers(180, 230, shape, np.uint8))
    assert [p.picture for p in result] == [f"[{i}]" for i in range(expected)]
    assert {p.label for p in result} == {"light"}


@pytest.mark.parametrize("shape", [(64,), (6, 64, 48), (2, 3, 64, 48, 5)])
def test_an_array_that_is_no_picture(tmp_path, shape):
    run = run_of(tmp_path / "run", (13, 10, 5))
    text = f"an array of shape {shape}; expected (pictures, height, width, channels) or one picture"
    with pytest.raises(DataError, match=re.escape(text)):
        predict(run, np.zeros(shape, np.uint8))


def test_an_array_file_without_labels(tmp_path, rng):
    run = run_of(tmp_path / "run", (13, 10, 3))
    np.save(tmp_path / "new.npy", rng.integers(180, 230, (3, 20, 30, 3), np.uint8))
    assert [p.label for p in predict(run, tmp_path / "new.npy")] == ["light"] * 3


def test_pictures_from_0_to_1_are_told(tmp_path, rng):
    run = run_of(tmp_path / "run", (13, 10, 3))
    unit = rng.random((4, 20, 30, 3))
    with pytest.warns(UserWarning, match="4 of 4 pictures have values from .* multiply by 255"):
        predict(run, unit)
    with pytest.warns(UserWarning, match="4 of 4 pictures have values from .* multiply by 255"):
        evaluate(run, (unit, [0, 1, 1, 0]), resamples=20)


def test_what_is_wrong_with_the_pictures_is_told(tmp_path, photos):
    run = run_of(tmp_path / "run", (8, 8, 3))
    (photos / "light" / "c.png").rename(photos / "stray.png")
    (photos / "light" / "copy.png").write_bytes((photos / "dark" / "a.png").read_bytes())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        evaluate(run, photos, resamples=20)
    lines = [str(w.message) for w in caught if w.category is UserWarning]
    assert lines[0].endswith("1 picture lies outside the class folders and cannot be used")
    assert lines[1].startswith("1 picture stands under two or more classes")


def test_bad_requests_for_predictions(tmp_path, photos):
    run = run_of(tmp_path / "run", (8, 8, 3))
    with pytest.raises(RequestError, match=re.escape("top=0; expected 1 or more")):
        predict(run, photos, top=0)
    with pytest.raises(DataError, match=re.escape("an empty list of pictures")):
        predict(run, [])
    broken = tmp_path / "broken.png"
    broken.write_bytes((photos / "dark" / "a.png").read_bytes()[:200])
    with pytest.raises(DataError, match=re.escape("broken.png")):
        predict(run, broken)


def test_reliability_adds_up_to_the_accuracy(tmp_path, photos):
    run = run_of(tmp_path / "run", (13, 10, 1))
    scores = evaluate(run, photos, resamples=50).scores
    bins = json.loads((run.folder / "metrics.json").read_text())["reliability"]
    assert len(bins) == 15
    assert sum(b["pictures"] for b in bins) == scores.pictures
    right = sum(b["pictures"] * b["accuracy"] for b in bins if b["pictures"])
    assert right / scores.pictures == pytest.approx(scores.accuracy.value, abs=1e-5)
