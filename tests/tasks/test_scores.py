"""Scores, heads and splits of tags and numbers: scikit-learn and hand arithmetic are the judges."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sklearn import metrics as judge
from sklearn.linear_model import LogisticRegression, Ridge
from tests.labels import classes

from inshape.data.sources import open_source
from inshape.data.split import split
from inshape.errors import DataError, RequestError
from inshape.features.linear import cross_validated, fit_linear
from inshape.heads import Head
from inshape.tasks.find import restore_task, task_of
from inshape.tasks.multilabel import MultiLabel
from inshape.tasks.regression import Regression

TAGS = MultiLabel(("a", "b", "c"))


def tagged(rng, count=300):
    labels = (rng.random((count, 3)) < [0.5, 0.2, 0.7]).astype(np.int8)
    answers = 1 / (1 + np.exp(-(rng.normal(size=(count, 3)) + 2 * labels - 1)))
    return answers, labels


def test_scores_of_tags_are_scikit_learns(rng):
    answers, labels = tagged(rng)
    given = answers >= 0.5
    scores = TAGS.score(answers, labels, resamples=20)
    assert scores.mean_average_precision.value == pytest.approx(
        judge.average_precision_score(labels, answers, average="macro")
    )
    assert scores.macro_f1.value == pytest.approx(judge.f1_score(labels, given, average="macro"))
    assert scores.micro_f1.value == pytest.approx(judge.f1_score(labels, given, average="micro"))
    assert scores.exact.value == pytest.approx(judge.accuracy_score(labels, given))
    for number, tag in enumerate(scores.tags):
        of_tag = labels[:, number], given[:, number]
        assert tag.recall.value == pytest.approx(judge.recall_score(*of_tag))
        assert tag.precision.value == pytest.approx(judge.precision_score(*of_tag))
        assert tag.recall.low < tag.recall.value < tag.recall.high
    rows = TAGS.row_scores(answers, labels)
    assert rows.mean() == pytest.approx(
        judge.f1_score(labels, given, average="samples", zero_division=1.0)
    )


def test_a_tag_that_never_occurs_has_no_precision_and_hides_no_other(rng):
    answers, labels = tagged(rng, 50)
    labels[:, 2] = 0
    scores = TAGS.score(answers, labels, resamples=5)
    assert np.isnan(scores.tags[2].average_precision.value)
    assert scores.mean_average_precision.value == pytest.approx(
        judge.average_precision_score(labels[:, :2], answers[:, :2])
    )


def test_equal_answers_are_found_together_in_whatever_order_they_stand(rng):
    """As those of an 8-bit file are, which has few different ones."""
    answers, labels = tagged(rng, 120)
    answers = answers.round(1)
    for order in (np.arange(120), rng.permutation(120)):
        scores = TAGS.score(answers[order], labels[order], resamples=2)
        assert scores.mean_average_precision.value == pytest.approx(
            judge.average_precision_score(labels, answers, average="macro")
        )


def test_what_keras_measures_in_training_is_what_is_measured_afterwards(rng):
    answers, labels = tagged(rng, 64)
    logits = np.log(answers / (1 - answers))
    score, loss = TAGS.score_and_loss(logits, labels)
    name, options = TAGS.metric
    metric = getattr(keras.metrics, name)(**options)
    metric.update_state(labels.astype("float32"), answers.astype("float32"))
    assert score == pytest.approx(float(metric.result()), abs=1e-5)
    name, options = TAGS.loss
    of_keras = getattr(keras.losses, name)(**options)(labels.astype("float32"), logits)
    assert loss == pytest.approx(float(of_keras), rel=1e-5)


def test_scores_of_numbers_are_scikit_learns(rng):
    labels = rng.normal(30, 9, 200)
    answers = (labels + rng.normal(1, 4, 200))[:, None]
    scores = Regression(("age",)).score(answers, labels, resamples=50)
    assert scores.mae.value == pytest.approx(judge.mean_absolute_error(labels, answers))
    assert scores.rmse.value == pytest.approx(judge.root_mean_squared_error(labels, answers))
    assert scores.r2.value == pytest.approx(judge.r2_score(labels, answers))
    assert scores.r2.low < scores.r2.value < scores.r2.high
    assert scores.bias.value == pytest.approx((answers[:, 0] - labels).mean())
    task = Regression(("age",)).fitted(labels)
    assert task.row_scores(answers, labels).mean() == pytest.approx(scores.r2.value)
    logits = (answers - task.mean) / task.deviation
    assert task.score_and_loss(logits, labels)[0] == pytest.approx(scores.r2.value, abs=1e-5)


def test_linear_heads_are_scikit_learns(rng):
    rows = rng.normal(size=(200, 6)).astype("float32")
    weights = rng.normal(size=(6, 3))
    labels = (rows @ weights + rng.normal(size=(200, 3)) > 0).astype(np.int8)
    fit = fit_linear(
        TAGS, [rows], labels, (rows, labels), output_weights=np.ones(3, "float32"), seed=0
    )
    scaled = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), np.median(rows.std(axis=0)))
    for tag in range(3):
        alone = LogisticRegression(C=fit.strength / 200, tol=1e-8).fit(scaled, labels[:, tag])
        logits = rows @ fit.kernel[:, tag] + fit.bias[tag]
        expected = alone.decision_function(scaled)
        np.testing.assert_allclose(logits, expected, rtol=0.03, atol=0.1)  # near is enough

    numbers = rows @ weights[:, 0] * 7 + 40 + rng.normal(size=200)
    task = Regression(("age",)).fitted(numbers)
    fit = fit_linear(
        task, [rows], numbers, (rows, numbers), output_weights=np.ones(1, "float32"), seed=0
    )
    ridge = Ridge(alpha=200 / fit.strength).fit(scaled, numbers)
    found = task.answers(rows @ fit.kernel + fit.bias, is_final=False)[:, 0]
    np.testing.assert_allclose(found, ridge.predict(scaled), rtol=1e-3)
    folds = np.array_split(np.arange(200), 4)
    assert cross_validated(task, rows, numbers, folds).mean() > 0.95


def test_a_tag_that_all_or_no_pictures_have_is_always_or_never_given(rng):
    rows = rng.normal(size=(30, 4)).astype("float32")
    labels = np.stack([np.ones(30), np.zeros(30), rows[:, 0] > 0], axis=1).astype(np.int8)
    fit = fit_linear(
        TAGS, [rows], labels, (rows, labels), output_weights=np.ones(3, "float32"), seed=0
    )
    given = rows @ fit.kernel + fit.bias > 0
    assert given[:, 0].all()
    assert not given[:, 1].any()


def test_every_split_has_a_share_of_each_tag_and_of_all_numbers(rng):
    pictures = rng.integers(0, 255, (200, 6, 6, 1), np.uint8)
    rows = (rng.random((200, 3)) < [0.5, 0.06, 0.3]).astype(int)
    catalogue = split(open_source((pictures, rows)), validation=0.25)
    assert catalogue.task.name == "multi-label"
    held_out, of_all = catalogue.counts("validation"), catalogue.counts()
    for tag, count in of_all.items():
        assert held_out[tag] == pytest.approx(count / 4, abs=max(2, count / 8))
    numbers = rng.normal(size=200)
    catalogue = split(open_source((pictures, numbers)), validation=0.25)
    chosen = catalogue.labels[catalogue.indices("validation")]
    assert chosen.mean() == pytest.approx(numbers.mean(), abs=0.1)
    assert chosen.std() == pytest.approx(numbers.std(), rel=0.15)


def test_a_picture_stands_in_the_stratum_of_its_rarest_tag():
    labels = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1], [0, 0, 0], [-1, -1, -1]])
    assert TAGS.strata(labels).tolist() == [1, 0, 2, 2, 3, -1]
    assert [TAGS.stratum_name(number) for number in (1, 3)] == ["b", "no tag"]


def test_labels_say_what_the_task_is_unless_it_is_named():
    assert task_of(["1", "2"], None).name == "classification"
    assert task_of([("1",), ()], None).name == "multi-label"
    assert task_of([1.5, 2.0], None).name == "regression"
    assert task_of(["1", "2"], None, "regression").read(["1", "2"]).tolist() == [1.0, 2.0]
    with pytest.raises(DataError, match="label 'cat'; expected a finite number in every row"):
        task_of(["cat"], None, "regression").read(["cat"])


@pytest.mark.parametrize(
    ("values", "x", "task"),
    [
        ([0.5, 2.0, 3.0, 4.0], None, "regression"),
        ([0, 2, 3, 4], "regression", "regression"),
        ([[1, 0], [0, 1], [1, 0], [0, 1]], None, "classification"),
        ([[1, 0], [0, 1], [1, 0], [0, 1]], "multi-label", "multi-label"),
        ([[1, 1], [0, 1], [0, 0], [0, 1]], None, "multi-label"),
    ],
)
def test_arrays(values, x, task):
    pictures = np.arange(4 * 5 * 5, dtype=np.uint8).reshape(4, 5, 5, 1)
    catalogue = open_source((pictures, values), task=x or "auto")
    assert catalogue.task.name == task
    if task == "regression":
        assert catalogue.labels.tolist() == [float(v) for v in values]


def test_tables(tmp_path, rng):
    from PIL import Image

    for number in range(4):
        pixels = rng.integers(0, 255, (6, 5), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    table = tmp_path / "t.csv"

    def of(text, **options):
        table.write_text(text)
        return open_source(table, **options)

    tags = of("path,label\n0.png,cat|dog\n1.png,\n2.png,dog\n3.png, cat |")
    assert tags.class_names == ("cat", "dog")
    assert tags.labels.tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]
    columns = of("path,cat,dog\n0.png,1,1\n1.png,0,0\n2.png,0,1\n3.png,1,0")
    assert columns.labels.tolist() == tags.labels.tolist()
    assert "columns cat, dog are taken as the tags" in " ".join(columns.warnings)
    numbers = of("path,age\n0.png,1.5\n1.png,3\n2.png,4\n3.png,6")
    (line,) = (w for w in numbers.warnings if "regression" in w)
    assert "column 'age': numbers with a fraction, taken as regression; where it is" in line
    assert "any number of tags in each, taken as multi-label; where" in " ".join(tags.warnings)
    assert not of("path,label\n0.png,a|b\n1.png,c", task="multi-label").warnings
    as_classes = of("path,label\n0.png,1.5\n1.png,2.5", task="classification")
    assert (as_classes.class_names, as_classes.warnings) == (("1.5", "2.5"), ())
    assert (numbers.class_names, numbers.labels.tolist()) == (("age",), [1.5, 3.0, 4.0, 6.0])
    whole = "path,label\n0.png,1\n1.png,3\n2.png,4\n3.png,6"
    assert of(whole).task.name == "classification"
    assert of(whole, task="regression").labels.tolist() == [1.0, 3.0, 4.0, 6.0]
    with pytest.raises(DataError, match="row 2 has 'cat' as its label; expected a finite"):
        of("path,label\n0.png,1\n1.png,cat", task="regression")
    with pytest.raises(DataError, match=r"row 1 has 2 of the columns cat, dog set; expected exac"):
        of("path,cat,dog\n0.png,1,1\n1.png,0,1", task="classification")
    with pytest.raises(DataError, match=r"row 2 .* has no label"):
        of("path,label\n0.png,1.5\n1.png,")
    again = of("path,label\n0.png,b\n1.png,a|c", task=TAGS)
    assert again.labels.tolist() == [[0, 1, 0], [1, 0, 1]]
    with pytest.raises(DataError, match="unknown class 'd'"):
        of("path,label\n0.png,b\n1.png,a|d", task=TAGS)


def test_heads_suit_the_labels():
    assert TAGS.head(Head()).last_activation == "sigmoid"
    assert classes(3).head(Head()).last_activation == "softmax"
    with pytest.raises(RequestError, match="a head with 'sigmoid', and labels that need 'softmax'"):
        classes(3).head(Head(activation="sigmoid"))
    with pytest.raises(RequestError, match="a head of 1 classes, and pictures of 3"):
        classes(3).head(Head(classes=1))
    with pytest.raises(RequestError, match="a head with 'softmax', and labels that need 'sigmoid'"):
        TAGS.head(Head(activation="softmax"))
    head = Regression(("age",), 20.0, 10.0).head(Head())
    assert (head.classes, head.last_activation, head.scale, head.offset) == (1, "logits", 10, 20)
    with pytest.raises(RequestError, match="class_weights for pictures with a number each"):
        Regression(("age",)).output_weights(np.ones(3), 1.0)
    with pytest.raises(DataError, match="3 pictures with the same age; expected different numbers"):
        Regression(("age",)).fitted(np.ones(3))


def test_a_record_gives_the_task_back():
    for task in (TAGS, Regression(("age",), 20.0, 10.0)):
        assert restore_task(task.as_dict(), task.names) == task
