"""Evaluation and prediction of a run, against the model called by hand."""

from __future__ import annotations

import csv
import json
import re
import shutil
import warnings

import keras
import numpy as np
import pytest
from PIL import Image
from tests.labels import classes

from inshape.data.batches import Batches
from inshape.data.catalogue import Listing, read_catalogue
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.errors import DataError, OutputExists, RequestError, UnknownName
from inshape.evaluation.answers import gives_answers, predict_answers
from inshape.evaluation.api import evaluate
from inshape.features.heatmaps import Heatmaps
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


def run_of(folder, shape, size_hw=None, model=None):
    run = Run.create(folder, {"seed": 0})
    prepared = Preparation.of(tuple(shape))
    run = run.updated(preparation=prepared.at(size_hw or shape[:2]).as_dict(), status="complete")
    run.save_labels(LABELS)
    run.save_model(model or brightness_model(shape))
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
    run = run.updated(plan={"input_shape": "?x?x1"})
    evaluation = evaluate(run, photos, sizes=[7, (20, 15)], save=False)
    assert list(evaluation.by_size) == ["7x7", "20x15"]
    assert all(result.value == pytest.approx(4 / 5) for result in evaluation.by_size.values())
    assert evaluation.as_dict()["by_size"]["20x15"]["value"] == pytest.approx(4 / 5)


def test_a_model_of_one_size_refuses_another_before_it_is_loaded(tmp_path, photos):
    run = run_of(tmp_path / "run", (13, 10, 1))
    run = run.updated(plan={"input_shape": "13x10x1"})
    run.model_path.write_bytes(b"no model")
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
    result = predict_answers(model, classes(2), batches)
    logits = 0.01 * pixels.mean(axis=(1, 2)) * [-1, 1] + [1.28, -1.28]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result, expected, rtol=1e-4)
    assert gives_answers(model) == (activation != "logits")


def test_probabilities_of_large_logits_are_finite():
    result = classes(2).answers(np.array([[1000.0, -1000.0]], "float32"), is_final=False)
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
    with pytest.warns(UserWarning, match="pictures of float64 are read with full_scale 0:1, "):
        predict(run, unit)
    with pytest.warns(UserWarning, match="pictures of float64 are read with full_scale 0:1, "):
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


def single_output_model(shape, activation):
    """How light a picture is, by one output."""
    image = keras.Input(shape)
    x = layers.GlobalAveragePooling2D()(image)
    x = layers.Dense(1, name="head_logits")(x)
    if activation is not None:
        x = layers.Activation(activation)(x)
    model = keras.Model(image, x)
    model.get_layer("head_logits").set_weights(
        [np.full((shape[-1], 1), 0.02 / shape[-1]), np.array([-2.56])]
    )
    return model


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_a_single_output_is_that_of_the_second_class(activation, tmp_path, photos):
    shape = (8, 8, 3)
    run = run_of(tmp_path / "run", shape, model=single_output_model(shape, activation))
    evaluation = evaluate(run, photos, save=False)
    assert evaluation.scores.confusion.tolist() == [[2, 1], [0, 2]]
    # 1 / (1 + exp(2.56 - 0.02 * level)), as the two logits of the other model have it.
    by_two = predict(run_of(tmp_path / "two", shape), photos)
    for one, other in zip(predict(run, photos), by_two, strict=True):
        assert one.label == other.label
        assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_a_sigmoid_for_each_class_is_no_softmax():
    outputs = np.array([[0.9, 0.8, 0.1]], "float32")
    np.testing.assert_array_equal(classes(3).answers(outputs, is_final=True), outputs)
    image = keras.Input((4, 4, 1))
    x = layers.Dense(3, activation="sigmoid")(layers.Flatten()(image))
    assert gives_answers(keras.Model(image, x))


def test_labels_that_are_not_as_many_as_the_outputs_are_refused(tmp_path, photos):
    run = run_of(tmp_path / "run", (8, 8, 3))
    run.save_labels(("dark", "dim", "light"))
    text = f"{run.folder} tells 2 classes apart and has 3 labels; expected a label for every class"
    for ask in (predict, evaluate):
        with pytest.raises(RequestError, match=re.escape(text)):
            ask(run, photos)


def test_a_bad_picture_of_three_costs_one_answer(tmp_path, photos, rng):
    run = run_of(tmp_path / "run", (8, 8, 3))
    whole = photos / "light" / "c.png"
    (photos / "light" / "cut.png").write_bytes(whole.read_bytes()[:900])
    (photos / "light" / "d.png").rename(photos / "d.png")
    shutil.rmtree(photos / "dark")
    paths = [whole, photos / "light" / "cut.png", photos / "d.png"]
    for asked in (paths, photos):
        with pytest.warns(UserWarning, match=r"cut.png is left out: "):
            assert [p.label for p in predict(run, asked)] == ["light", "light"]
    with pytest.warns(UserWarning, match=r"none.png is left out: No such file"):
        assert len(predict(run, [whole, photos / "none.png", whole])) == 2
    # A picture that the preparation cannot take is one picture too.
    pixels = [np.full((9, 7, channels), 200, np.uint8) for channels in (3, 5, 3)]
    with pytest.warns(UserWarning, match=r"\[1\] is left out: picture \[1\]"):
        assert [p.picture for p in predict(run, pixels)] == ["[0]", "[2]"]


@pytest.mark.parametrize("is_listed", [False, True])
def test_a_list_of_one_answers_as_its_path(is_listed, tmp_path, photos):
    run = run_of(tmp_path / "run", (8, 8, 3))
    bare = photos / "light" / "bare"
    (photos / "light" / "c.png").rename(bare)  # a picture without a suffix
    (photos / "bad.png").write_bytes(b"no picture")

    def ask(path):
        return predict(run, [path] if is_listed else path)

    (one,) = ask(bare)
    assert (one.picture, one.label) == (str(bare), "light")
    assert [p.label for p in ask(photos / "dark")] == ["dark", "dark", "light"]
    text = "no readable pictures: 1 of 1 pictures cannot be read; expected at least one; restore"
    with pytest.raises(DataError, match=re.escape(text)):
        ask(photos / "bad.png")
    with pytest.raises(DataError, match="no such file"):
        ask(photos / "none.png")


def test_folders_and_files_stand_in_one_list(tmp_path, photos):
    run = run_of(tmp_path / "run", (8, 8, 3))
    result = predict(run, [photos / "light" / "d.png", photos / "dark"])
    assert [p.label for p in result] == ["light", "dark", "dark", "light"]
    assert result[1].picture == str(photos / "dark" / "a.png")


def test_an_answer_below_the_threshold_is_unsure(tmp_path, photos):
    run = run_of(tmp_path / "run", (8, 8, 3))
    result = predict(run, photos, threshold=0.8)
    # A level of 70 is dark by 1 / (1 + exp(0.02 * (70 - 128))) = 0.76, one of 180 light by 0.74.
    assert [p.label for p in result] == ["dark", "unsure", "light", "unsure", "light"]
    assert result[1].top[0][0] == "dark"
    assert "b.png: unsure, dark 0.7" in str(result[1])


def test_the_answers_as_a_table(tmp_path, photos):
    run = run_of(tmp_path / "run", (8, 8, 3))
    path = tmp_path / "new" / "answers.csv"
    result = predict(run, photos, csv=path, top=2)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["picture", "label", "probability", "label_2", "probability_2"]
    assert [(r["picture"], r["label"]) for r in rows] == [(p.picture, p.label) for p in result]
    assert float(rows[0]["probability_2"]) == pytest.approx(result[0].top[1][1], abs=1e-6)
    with pytest.raises(OutputExists, match=re.escape(f"{path} exists already")):
        predict(run, photos, csv=path)


def left_model():
    """Tells what is light on the left from what is dark there."""
    image = keras.Input((8, 8, 1))
    x = layers.Dense(2, activation="softmax")(layers.Flatten()(image))
    model = keras.Model(image, x)
    left = (np.arange(64) % 8 < 4)[:, None] * 0.0002 * np.array([-1.0, 1.0])
    model.layers[-1].set_weights([left, np.zeros(2)])
    return model


def test_mirror_images_are_averaged(tmp_path, rng):
    run = run_of(tmp_path / "run", (8, 8, 1), model=left_model())
    pixels = rng.integers(0, 255, (3, 8, 8, 1), np.uint8)
    pixels[:, :, :4] //= 4

    def lightness(*asked, **options):
        return [dict(p.top)["light"] for p in predict(run, *asked, **options)]

    plain, mirrored = lightness(pixels), lightness(pixels[:, :, ::-1])
    assert np.abs(np.subtract(plain, mirrored)).max() > 0.05
    expected = (np.array(plain) + np.array(mirrored)) / 2
    np.testing.assert_allclose(lightness(pixels, tta=True), expected, atol=1e-6)
    unflipped = run.updated(request={"recipe": {"flip": False}})
    with pytest.raises(RequestError, match=r"tta asks for mirror images, but .* flip=False"):
        predict(unflipped, pixels, tta=True)


def test_heat_stands_where_the_class_is(tmp_path):
    image = keras.Input((12, 16, 1))
    x = layers.Conv2D(1, 1, use_bias=False, name="map")(image)
    x = layers.Dense(2, name="head_logits")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, layers.Activation("softmax")(x))
    model.get_layer("map").set_weights([np.ones((1, 1, 1, 1))])
    model.get_layer("head_logits").set_weights([np.array([[-1.0, 1.0]]), np.array([9.0, 0.0])])
    pixels = np.zeros((1, 12, 16, 1), np.float32)
    pixels[0, 2:5, 9:14] = 250
    heatmaps = Heatmaps(model, (12, 16))
    # The map is the picture, and the mean over it has one weight: heat is the picture over its top.
    np.testing.assert_allclose(heatmaps(pixels, np.array([1]))[0], pixels[0, :, :, 0] / 250)
    assert not heatmaps(pixels, np.array([0])).any()  # dark: nothing light speaks for it
    run = run_of(tmp_path / "run", (12, 16, 1), model=model)
    (one,) = predict(run, pixels.astype(np.uint8), save_heatmaps=tmp_path / "heat")
    assert one.label == "light"
    assert one.heatmap == one.as_dict()["heatmap"] == str(tmp_path / "heat" / "00000_0.png")
    drawn = np.asarray(Image.open(one.heatmap), float).sum(axis=-1)
    assert drawn.shape == (12, 16)
    assert drawn[2:5, 9:14].min() > 2 * drawn[7:, :].max()


def test_pictures_of_some_classes(tmp_path, photos):
    run = run_of(tmp_path / "run", (8, 8, 3))
    evaluation = evaluate(run, photos, on=["dark"], save=False)
    assert evaluation.scores.pictures == 3
    assert evaluation.accuracy.value == pytest.approx(2 / 3)
    with pytest.raises(UnknownName, match="unknown class 'dim'"):
        evaluate(run, photos, on="dark,dim")
    shutil.rmtree(photos / "light")
    with pytest.raises(DataError, match=re.escape("no pictures of 'light' in split 'all'")):
        evaluate(run, photos, on="light")
