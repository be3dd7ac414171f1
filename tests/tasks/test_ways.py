"""Tags and numbers from the pictures to a file for a device."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import inshape

layers = keras.layers
QUICK = {"epochs": 3, "batch_size": 8, "validation": 0.25, "learning_rate": 0.01}


def network():
    keras.utils.set_random_seed(3)
    image = keras.Input((24, 20, 1))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(16, 3, strides=2, activation="relu", padding="same")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(7)(x), name="small")


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def drawn(rng):
    """Stripes that lie or not, stand or not, on more or less light."""
    rows, columns = np.mgrid[:24, :20]
    lies, stands = rng.random(2) < 0.5
    light = rng.uniform(40, 200)
    picture = light + lies * 40 * np.sin(2 * rows) + stands * 40 * np.sin(2 * columns)
    picture += rng.normal(0, 4, picture.shape)
    tags = "|".join(tag for tag, is_there in (("lies", lies), ("stands", stands)) if is_there)
    return np.clip(picture, 0, 255).astype(np.uint8), tags, f"{light / 10:.2f}"


@pytest.fixture(scope="module", params=["multi-label", "regression"])
def way(request, tmp_path_factory):
    """A table of each kind, a run on it, and its files."""
    home = tmp_path_factory.mktemp(request.param)
    rng = np.random.default_rng(1)
    column = 1 if request.param == "multi-label" else 2
    rows = []
    for number in range(96):
        one = drawn(rng)
        Image.fromarray(one[0]).save(home / f"{number:02}.png")
        rows.append((f"{number:02}.png", one[column]))
    for name, part in (("train", rows[:72]), ("test", rows[72:])):
        with (home / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *part])
    network().save(home / "small.keras")
    run = inshape.train(
        home / "train.csv", "24x20x1", out=home / "run", backbone=home / "small.keras",
        weights=None, strategy="rebuild", unfreeze="all", task=request.param, **QUICK,
    )  # fmt: skip
    exports = inshape.export(run, ["litert", "litert-int8"], timing=False, min_agreement=0.5)
    return request.param, home, run, exports


def test_it_learns_and_is_measured_in_its_own_scores(way):
    name, home, run, _ = way
    assert run.task.name == name == run.record["task"]["name"]
    score = {"multi-label": "f1", "regression": "r2"}[name]
    assert run.record["metrics"]["validation"][score] > 0.8
    history = table(home / "run" / "history.csv")
    assert all(f"val_{score}" in row for row in history)
    evaluation = inshape.evaluate(run, home / "test.csv")
    assert evaluation.accuracy.value > 0.8
    record = json.loads((home / "run" / "metrics.json").read_text())
    wanted = {
        "multi-label": {"mean_average_precision", "macro_f1", "micro_f1", "exact"},
        "regression": {"mae", "rmse", "r2", "bias"},
    }[name]
    assert wanted <= set(record)
    assert ("macro F1" if name == "multi-label" else "mean absolute error") in str(evaluation)
    page = (home / "run" / "report.html").read_text()
    assert {"multi-label": "Average precision", "regression": "Answers and labels"}[name] in page


def test_the_model_gives_the_answers_themselves(way):
    name, home, run, _ = way
    answers = inshape.predict(run, home / "test.csv")
    labels = {row["path"]: row["label"] for row in table(home / "test.csv")}
    model = run.load_model()
    pixels = np.stack(
        [np.asarray(Image.open(one.picture), "float32")[..., None] for one in answers]
    )
    rows = np.asarray(model(pixels))
    assert rows.shape == (24, 2 if name == "multi-label" else 1)
    rights = [labels[Path(one.picture).name] for one in answers]
    if name == "multi-label":
        for one, row in zip(answers, rows, strict=True):
            given = [tag for tag, p in zip(("lies", "stands"), row, strict=True) if p >= 0.5]
            assert one.label == "|".join(given)
        assert (
            np.mean([one.label == right for one, right in zip(answers, rights, strict=True)]) > 0.7
        )
    else:
        np.testing.assert_allclose([one.value for one in answers], rows[:, 0], rtol=1e-3)
        np.testing.assert_allclose(
            [one.value for one in answers], np.array(rights, float), atol=4.0
        )


def test_files_answer_as_the_model_does(way):
    name, home, run, exports = way
    assert not exports.refused
    assert ("R2" if name == "regression" else "F1 per picture") in str(exports)
    for file in exports.files:
        assert file.agreement >= 0.8, file
        card = json.loads(Path(file.path + ".json").read_text())
        assert card["task"]["name"] == name
        assert (
            card["output"]["kind"] == {"multi-label": "probabilities", "regression": "values"}[name]
        )
        evaluation = inshape.evaluate(file.path, home / "test.csv")
        assert evaluation.accuracy.value == pytest.approx(
            inshape.evaluate(run, home / "test.csv", save=False).accuracy.value, abs=0.1
        )


@pytest.mark.parametrize("form", ["litert", "litert-int8", "bytes"])
def test_the_program_beside_a_file_says_the_same(form, way, tmp_path, monkeypatch):
    name, home, run, exports = way
    if form == "bytes":
        options = {"io": "int8", "timing": False, "min_agreement": 0.5, "out": tmp_path}
        path = inshape.export(run, "litert-int8", **options).files[0].path
    else:
        path = next(file.path for file in exports.files if file.format == form)
    for number in (72, 80):
        picture = home / f"{number}.png"
        monkeypatch.setattr(sys, "argv", ["example", str(picture)])
        out = StringIO()
        with redirect_stdout(out):
            runpy.run_path(path + ".py")
        (expected,) = inshape.predict(path, picture)
        if name == "multi-label":
            assert out.getvalue().strip() == expected.label
        else:
            assert float(out.getvalue()) == pytest.approx(expected.value, rel=1e-4)


def test_other_labels_of_a_table_do_not_matter_to_answers(way, tmp_path):
    _, home, run, _ = way
    (tmp_path / "t.csv").write_text(f"path,label\n{home / '72.png'},cat\n{home / '73.png'},dog\n")
    assert len(inshape.predict(run, tmp_path / "t.csv")) == 2


def test_answers_go_into_a_table(way, tmp_path):
    name, home, run, _ = way
    inshape.predict(run, [home / "72.png", home / "73.png"], csv=tmp_path / "a.csv")
    first, _ = table(tmp_path / "a.csv")
    assert set(first) >= ({"label", "probability"} if name == "multi-label" else {"value"})


def test_candidates_are_compared_by_it(way):
    name, home, _, _ = way
    comparison = inshape.compare(
        home / "train.csv", shapes=["24x20x1", "6x5x1"], backbones=home / "small.keras",
        strategies="rebuild", weights=None, latency=False, task=name,
    )  # fmt: skip
    # The mean light is seen at any size, stripes are not.
    by_shape = {c.input_shape: c.accuracy.value for c in comparison.candidates}
    assert by_shape["24x20x1"] > 0.7
    assert name == "regression" or by_shape["24x20x1"] > by_shape["6x5x1"] + 0.1
    assert comparison.as_dict()["task"] == name


def test_a_prolonged_run_goes_on_in_the_same_numbers(way, tmp_path):
    name, home, run, _ = way
    again = inshape.train(
        home / "train.csv", "24x20x1", out=tmp_path / "run", backbone=home / "small.keras",
        weights=None, strategy="rebuild", unfreeze="all", task=name, **QUICK, seed=1,
    )  # fmt: skip
    longer = inshape.resume(again, prolong=2)
    score = run.task.score_name
    assert longer.record["metrics"]["validation"][score] > 0.8
    assert longer.task == again.task


def test_folds_give_the_mean_and_the_spread(way, tmp_path):
    name, home, run, _ = way
    options = {**QUICK, "unfreeze": "none", "folds": 3, "task": name}
    crossed = inshape.train(
        home / "train.csv", "24x20x1", out=tmp_path / "run", backbone=home / "small.keras",
        weights=None, strategy="rebuild", **options,
    )  # fmt: skip
    score, facts = run.task.score_name, crossed.record["metrics"]["folds"]
    assert facts["mean"] == pytest.approx(np.mean(facts["scores"]), abs=1e-6)
    assert facts["deviation"] == pytest.approx(np.std(facts["scores"], ddof=1), abs=1e-6)
    held_out = []
    for number, of_fold in enumerate(facts["scores"], 1):
        fold = inshape.Run.open(crossed.folder / "folds" / str(number))
        assert fold.record["metrics"]["validation"][score] == of_fold
        part = json.loads((fold.folder / "held_out.json").read_text())
        assert part["pictures"] == 24
        with pytest.warns(UserWarning, match="24 of 72 that were held out"):
            evaluation = inshape.evaluate(fold, home / "train.csv", save=False)
        held_out.append(evaluation.split)
        assert evaluation.accuracy.value == pytest.approx(part["scores"][0]["value"], abs=1e-6)
    assert held_out == ["validation"] * 3
    # The run itself is what it would have been without.
    assert crossed.record["done"] == ["folds", "head", "body"]
    assert "standard deviation" in (crossed.folder / "report.html").read_text()


def test_folds_of_a_network_from_python_go_on_after_a_stop(way, tmp_path, monkeypatch):
    """Which is no file that a resumed training could open."""
    from inshape.training import api

    name, home, _, _ = way
    real, begun = api._start, []

    def stopped(request, progress):
        begun.append(request.recipe.fold)
        if request.recipe.fold == "2/2" and len(begun) == 3:
            raise KeyboardInterrupt
        return real(request, progress)

    monkeypatch.setattr(api, "_start", stopped)
    options = {"weights": None, "strategy": "rebuild", **QUICK, "unfreeze": "none"}
    with pytest.raises(KeyboardInterrupt):
        inshape.train(
            home / "train.csv", "24x20x1", out=tmp_path / "run", backbone=network(), folds=2,
            task=name, **options,
        )  # fmt: skip
    run = inshape.resume(tmp_path / "run")
    assert begun == ["", "1/2", "2/2", "2/2"]
    assert len(run.record["metrics"]["folds"]["scores"]) == 2
