"""Arrays, in memory and in files, and datasets."""

from __future__ import annotations

import re

import numpy as np
import pytest

from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.errors import DataError
from inshape.tasks.classification import Classification

RNG = np.random.default_rng(0)


def pictures(count, shape=(9, 7, 3)):
    return RNG.integers(0, 255, (count, *shape), np.uint8)


def test_arrays_with_every_kind_of_label():
    x = pictures(4)
    for y in (
        [1, 0, 2, 1],
        np.eye(3)[[1, 0, 2, 1]],
        np.array([[1], [0], [2], [1]]),
        [1.0, 0, 2, 1],
    ):
        catalogue = open_source((x, y))
        assert catalogue.class_names == ("0", "1", "2")
        assert catalogue.labels.tolist() == [1, 0, 2, 1]
    words = open_source((x, ["b", "a", "c", "b"]))
    assert words.class_names == ("a", "b", "c")
    assert words.labels.tolist() == [1, 0, 2, 1]
    some = words.take([2, 0])
    ready = some.load(0, Preparation.of("9x7x3"))
    assert np.array_equal(ready, x[2])


def test_grey_arrays_and_pictures_of_several_sizes():
    grey = open_source((pictures(2, (9, 7)), [0, 1]))
    assert grey.load(1, Preparation.of("9x7x3")).shape == (9, 7, 3)
    mixed = open_source(([pictures(1, (5, 8, 1))[0], pictures(1, (9, 4, 1))[0]], [0, 1]))
    assert mixed.load(1, Preparation.of("?x?x1")).shape == (9, 4, 1)
    message = "picture [0]: 1 band of unstated meaning; expected 4 (bands)"
    with pytest.raises(DataError, match=re.escape(message)):
        mixed.load(0, Preparation.of("5x5x4"))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (
            np.zeros((3, 4)),
            [0, 1, 0],
            "pictures of shape (3, 4); expected (pictures, height, width[",
        ),
        (np.zeros((3, 4, 4, 1)), [0, 1], "3 pictures and 2 labels; expected one label per picture"),
        (np.zeros((2, 4, 4, 1)), [-1, 1], "label -1; expected 0 up; number the classes from 0"),
        (
            np.zeros((2, 4, 4, 1)),
            [np.nan, 1],
            "labels of type float64; expected whole numbers from 0",
        ),
        (
            np.zeros((2, 4, 4, 1)),
            [[1, 2], [0, 1]],
            "labels of shape (2, 2) that are not 0 and 1 for each of 2 classes",
        ),
        (
            np.zeros((2, 4, 4, 1)),
            np.zeros((2, 2, 2)),
            "labels of shape (2, 2, 2); expected one class",
        ),
        (np.zeros((2, 4, 4, 1)), [1, 1], "the data: only one class, '1'; expected two or more"),
    ],
)
def test_unusable_arrays(x, y, message):
    with pytest.raises(DataError, match=re.escape(message)):
        open_source((x, y))


def test_a_label_beyond_the_class_names():
    with pytest.raises(DataError, match=re.escape("label 2; expected 0 to 1; number the classes")):
        open_source((pictures(2), [0, 2]), task=Classification(("a", "b")))


def test_npz_and_npy(tmp_path):
    np.savez(
        tmp_path / "d.npz",
        x_train=pictures(4),
        y_train=[0, 1, 0, 1],
        x_val=pictures(2),
        y_val=[1, 0],
    )
    catalogue = open_source(tmp_path / "d.npz")
    assert catalogue.splits.tolist() == ["train"] * 4 + ["validation"] * 2
    assert catalogue.labels.tolist() == [0, 1, 0, 1, 1, 0]
    np.savez(tmp_path / "bad.npz", a=pictures(1))
    message = "bad.npz: arrays a; expected x and y, or x_train, y_train, x_val, y_val, ...; name"
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(tmp_path / "bad.npz")
    for content in (b"none", (tmp_path / "d.npz").read_bytes()[:500]):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match=re.escape("expected an .npz file; write it again")):
            open_source(tmp_path / "bad.npz")
    x = pictures(3)
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(
        DataError, match=re.escape("x.npy: no labels beside it; expected x.npy with")
    ):
        open_source(tmp_path / "x.npy")
    np.save(tmp_path / "y.npy", [0, 1, 1])
    mapped = open_source(tmp_path / "x.npy")
    assert isinstance(mapped.arrays.base, np.memmap)
    assert np.array_equal(mapped.load(2, Preparation.of("9x7x3")), x[2])


def test_npy_of_grey_pictures_without_an_axis_of_channels(tmp_path):
    x = pictures(4, (9, 7))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", [0, 1, 1, 0])
    catalogue = open_source(tmp_path / "x.npy")
    assert catalogue.labels.tolist() == [0, 1, 1, 0]
    assert np.array_equal(catalogue.load(2, Preparation.of("9x7x1"))[..., 0], x[2])


def test_npy_without_labels(tmp_path):
    np.save(tmp_path / "new.npy", pictures(5))
    np.save(tmp_path / "one.npy", pictures(1)[0])
    names = ["a", "b"]
    several = open_source(
        tmp_path / "new.npy", labels="optional", task=Classification(tuple(names))
    )
    assert (several.names[4], several.labels.tolist()) == ("[4]", [-1] * 5)
    one = open_source(tmp_path / "one.npy", labels="optional", task=Classification(tuple(names)))
    assert one.names == ("one.npy",)


@pytest.mark.parametrize("damage", ["text", "header alone", "empty", "objects"])
@pytest.mark.parametrize("name", ["x.npy", "y.npy"])
def test_a_damaged_npy_is_one_line(tmp_path, damage, name):
    np.save(tmp_path / "x.npy", pictures(3))
    np.save(tmp_path / "y.npy", [0, 1, 1])
    path = tmp_path / name
    if damage == "objects":
        np.save(path, np.array([{}, {}, {}], object), allow_pickle=True)
    else:
        contents = {"text": b"no array", "header alone": path.read_bytes()[:60], "empty": b""}
        path.write_bytes(contents[damage])
    with pytest.raises(DataError, match=re.escape("expected an .npy file; write it")) as caught:
        open_source(tmp_path / "x.npy")
    assert str(caught.value).startswith(str(path))
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize("batch", [None, 2])
def test_a_tensorflow_dataset(batch):
    tf = pytest.importorskip("tensorflow")
    x = pictures(5, (6, 8, 1))
    dataset = tf.data.Dataset.from_tensor_slices((x, [0, 1, 2, 1, 0]))
    catalogue = open_source(dataset if batch is None else dataset.batch(batch))
    assert catalogue.labels.tolist() == [0, 1, 2, 1, 0]
    assert np.array_equal(catalogue.load(4, Preparation.of("6x8x1")), x[4])
    with pytest.raises(DataError, match=re.escape("an endless tf.data.Dataset; expected a finite")):
        open_source(dataset.repeat())
    with pytest.raises(DataError, match=re.escape("expected (picture, label) with pictures of (")):
        open_source(tf.data.Dataset.from_tensor_slices(x))


def test_a_dataset_too_large_for_memory(monkeypatch):
    tf = pytest.importorskip("tensorflow")
    monkeypatch.setattr("inshape.data.arrays.DATASET_BYTES", 100)
    dataset = tf.data.Dataset.from_tensor_slices((pictures(5), [0, 1, 2, 1, 0]))
    with pytest.raises(DataError, match=re.escape("GiB; expected one that fits in memory; give")):
        open_source(dataset)
