"""Folders and tables, written for each test."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inshape.data.catalogue import Listing, read_catalogue, refuse_too_many
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source, source_text
from inshape.errors import DataError
from inshape.requests import command_of, make, restore
from inshape.tasks.classification import Classification
from inshape.tasks.names import in_order
from inshape.training.request import TrainRequest

RNG = np.random.default_rng(0)


def photo(path, seed=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = RNG if seed is None else np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 255, (12, 9, 3), np.uint8)).save(path)
    return path


def folder_of(root, counts):
    for name, count in counts.items():
        for i in range(count):
            photo(root / name / f"{i}.png")
    return root


def test_a_folder_per_class(tmp_path):
    folder_of(tmp_path, {"dog": 3, "cat": 2, "ant/young": 1})
    photo(tmp_path / ".hidden" / "a.png")
    photo(tmp_path / "cat" / ".a.png")
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    photo(tmp_path / "stray.png")
    catalogue = open_source(tmp_path)
    assert catalogue.class_names == ("ant", "cat", "dog")
    assert catalogue.counts() == {"ant": 1, "cat": 2, "dog": 3}
    assert catalogue.names[0] == "ant/young/0.png"
    assert set(catalogue.splits) == {""}
    assert catalogue.warnings == (
        f"{tmp_path}: left out 1 file that is no picture: 1 .txt",
        f"{tmp_path}: 1 picture lies outside the class folders and cannot be used",
        f"{tmp_path / 'empty'}: no pictures in it, so it is no class",
    )
    assert catalogue.load(0, Preparation.of("6x5x1")).shape == (6, 5, 1)


def test_a_folder_of_splits(tmp_path):
    folder_of(tmp_path / "train", {"a": 2, "b": 3})
    folder_of(tmp_path / "val", {"a": 1, "b": 1})
    folder_of(tmp_path / "test", {"b": 1})
    catalogue = open_source(str(tmp_path))
    assert catalogue.counts("train") == {"a": 2, "b": 3}
    assert catalogue.counts("validation") == {"a": 1, "b": 1}
    assert catalogue.counts("test") == {"a": 0, "b": 1}
    assert catalogue.warnings == ("test has no pictures of 'a'",)


@pytest.mark.parametrize(
    "words",
    [("Training", "Testing", "Valid"), ("train_set", "TEST", "Val"), ("train", "test", "val")],
)
def test_splits_are_known_by_any_of_their_names(tmp_path, words):
    for name, count in zip(words, (3, 2, 1), strict=True):
        folder_of(tmp_path / name, {"a": count, "b": count})
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.xml").write_text("<a/>")
    catalogue = open_source(tmp_path)
    assert catalogue.class_names == ("a", "b")
    counts = [catalogue.counts(split)["a"] for split in ("train", "test", "validation")]
    assert counts == [3, 2, 1]
    assert catalogue.warnings == (
        f"{tmp_path}: left out 1 file that is no picture: 1 .xml",
        f"{tmp_path / 'annotations'}: no pictures in it, so it is no split",
    )


def test_splits_beside_other_pictures_are_refused(tmp_path):
    for name in ("train", "val", "extra"):
        folder_of(tmp_path / name, {"a": 2, "b": 2})
    message = f"{tmp_path}: extra beside train, val; expected splits alone or classes alone; move"
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(tmp_path)
    assert len(open_source(tmp_path, task=Classification(("a", "b")), labels="optional")) == 12


def test_a_class_called_train_is_a_class(tmp_path):
    folder_of(tmp_path, {"train": 2, "bus": 2})
    assert open_source(tmp_path).class_names == ("bus", "train")


def test_copies_across_splits_and_classes_are_warned_of(tmp_path):
    folder_of(tmp_path / "train", {"a": 2, "b": 2})
    folder_of(tmp_path / "val", {"a": 1, "b": 1})
    content = (tmp_path / "train" / "a" / "0.png").read_bytes()
    (tmp_path / "val" / "a" / "copy.png").write_bytes(content)
    (tmp_path / "train" / "b" / "copy.png").write_bytes(content)
    warnings = open_source(tmp_path).warnings
    assert warnings == (
        "1 picture stands under two or more classes; remove the wrong copies",
        "1 identical picture stands in two or more splits, which makes measured accuracy too high; "
        "remove the copies",
    )


def test_the_fingerprint_follows_contents_not_places(tmp_path):
    for root in ("one", "two"):
        for i, name in enumerate("abab"):
            photo(tmp_path / root / name / f"{i}.png", seed=i)
    one, two = (open_source(tmp_path / root) for root in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    assert one.take([3, 2, 1, 0]).fingerprint == one.fingerprint
    photo(tmp_path / "two" / "a" / "0.png", seed=9)
    assert open_source(tmp_path / "two").fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda f: f / "none",
            "none: no such file or folder; expected a folder with one subfolder",
        ),
        (lambda f: f, ": nothing in it, no pictures; expected one subfolder of pictures"),
        (
            lambda f: folder_of(f, {"only": 3}),
            ": only one class, 'only'; expected two or more; add pictures of what is not 'only'",
        ),
        (
            lambda f: photo(f / "a.png").parent,
            ": 1 picture and no class folders; expected one subfolder per class; sort",
        ),
        (
            lambda f: photo(f / "a.png"),
            "a.png: not a source of labelled pictures; expected a folder with one subfolder",
        ),
    ],
)
def test_unusable_paths(tmp_path, make, message):
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(make(tmp_path))


def test_only_other_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_text("x")
    with pytest.raises(DataError, match=re.escape("only .txt files in it, no pictures; expected")):
        open_source(tmp_path)


def test_a_validation_class_unknown_to_training(tmp_path):
    folder_of(tmp_path / "train", {"a": 1, "b": 1})
    folder_of(tmp_path / "validation", {"a": 1, "zebra": 1})
    message = "validation has pictures of 'zebra', of which training has none; expected the same"
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(tmp_path)


def test_known_classes(tmp_path):
    folder_of(tmp_path, {"b": 2})
    catalogue = open_source(tmp_path, task=Classification(("a", "b", "c")))
    assert catalogue.labels.tolist() == [1, 1]
    message = "unknown class 'b'; expected some of: x, y; rename the folders or labels, or train"
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(tmp_path, task=Classification(("x", "y")))


def test_pictures_without_labels(tmp_path):
    photo(tmp_path / "a.png")
    photo(tmp_path / "b.jpg")
    flat = open_source(tmp_path, labels="optional")
    assert flat.labels.tolist() == [-1, -1]
    assert not flat.is_labelled.any()
    assert (
        len(open_source(tmp_path / "a.png", labels="optional", task=Classification(("x", "y"))))
        == 1
    )


def test_empty_files_are_skipped_and_too_many_stop(tmp_path):
    folder_of(tmp_path, {"a": 20, "b": 20})
    (tmp_path / "a" / "zero.png").write_bytes(b"")
    catalogue = open_source(tmp_path)
    assert len(catalogue) == 40
    assert [(s.name, s.reason) for s in catalogue.skipped] == [("a/zero.png", "the file is empty")]
    for i in range(3):
        (tmp_path / "b" / f"zero{i}.jpg").write_bytes(b"")
    message = (
        "4 of 44 pictures cannot be read; expected at most 5%; restore or remove "
        "a/zero.png (the file is empty); b/zero0.jpg (the file is empty)"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(tmp_path)


def test_no_readable_pictures():
    from inshape.data.catalogue import Skipped

    refuse_too_many([Skipped("a", "r")], 20)
    message = "no readable pictures: 2 of 2 pictures cannot be read"
    with pytest.raises(DataError, match=re.escape(message)):
        refuse_too_many([Skipped("a", "r"), Skipped("b", "r")], 2)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv(tmp_path, separator):
    rows = [("Path", "label", "split")]
    for i, (label, split) in enumerate([("10", "train"), ("9", "val"), ("9", ""), ("10", "Test")]):
        photo(tmp_path / "p" / f"{i}.png")
        rows.append((f"p/{i}.png", label, split))
    table = tmp_path / ("t.tsv" if separator == "\t" else "t.csv")
    table.write_text("\ufeff" + "\n".join(separator.join(r) for r in rows) + "\n\n", "utf-8")
    catalogue = open_source(table.parent / table.name, task=Classification(("9", "10")))
    assert catalogue.labels.tolist() == [1, 0, 0, 1]
    assert catalogue.splits.tolist() == ["train", "validation", "", "test"]


def test_missing_files_of_a_table_are_skipped(tmp_path):
    lines = ["path,label"]
    for i in range(39):
        photo(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{'ab'[i % 2]}")
    (tmp_path / "t.csv").write_text("\n".join([*lines, "gone.png,a"]))
    catalogue = open_source(tmp_path / "t.csv")
    assert len(catalogue) == 39
    assert catalogue.skipped[0].name == "gone.png"
    assert catalogue.skipped[0].reason == "No such file or directory"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,b\n1,2",
            "t.csv: columns a, b; expected path, label and perhaps split; name the column",
        ),
        ("path,b,c\n1,2,3", "t.csv: columns path, b, c; expected path, label and perhaps split; n"),
        ("path,label\nx.png,", "t.csv: row 1 (x.png) has no label; expected one in every row"),
        (
            "path,label,split\nx.png,a,dev",
            "t.csv: row 1 has split 'dev'; expected train, validation",
        ),
        ("path,label\nx,y.png,a", "t.csv: row 1 has 3 fields; expected 2 as in the header; quote"),
        ("path,label\n", "t.csv: no pictures; expected a folder with one subfolder per class"),
    ],
)
def test_unusable_tables(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(tmp_path / "t.csv")


def test_a_table_that_is_no_text(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match=re.escape("t.csv: not UTF-8 text; expected a CSV table")):
        open_source(tmp_path / "t.csv")


def test_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for i in range(4):
        photo(tmp_path / f"{i}.png")
    columns = {"image": [f"{i}.png" for i in range(4)], "class": [1, 0, 1, 0]}
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet").labels.tolist() == [1, 0, 1, 0]
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=re.escape("expected a Parquet table; write it again")):
        open_source(tmp_path / "t.parquet")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "t.parquet").write_bytes(b"")
    message = "reading Parquet needs pyarrow; expected it to be installed; run: pip install"
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(tmp_path / "t.parquet")


def pictures(count, shape=(9, 7, 3)):
    return RNG.integers(0, 255, (count, *shape), np.uint8)


def test_a_request_keeps_every_kind_of_source(tmp_path, monkeypatch):
    tf = pytest.importorskip("tensorflow")
    folder_of(tmp_path / "photos", {"a": 2, "b": 2})
    table = tmp_path / "t.csv"
    table.write_text("path,label\nphotos/a/0.png,a\nphotos/b/0.png,b")
    x = pictures(4)
    np.savez(tmp_path / "d.npz", x=x, y=[0, 1, 0, 1])
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", [0, 1, 0, 1])
    monkeypatch.chdir(tmp_path)
    options = {"shape": "12x9x3", "out": tmp_path / "run"}
    for name, count in (("photos/", 4), ("t.csv", 2), ("d.npz", 4), ("x.npy", 4)):
        for source in (name, Path(name)):
            request = make(TrainRequest, source=source, **options)
            assert len(open_source(request.source)) == count
            # In full, so that the run can be resumed and the command repeated from elsewhere.
            assert request.as_dict()["source"] == str(tmp_path / name)
            assert f"inshape train {tmp_path / name} " in command_of("train", request)
            assert restore(TrainRequest, request.as_dict()) == request.but(source=tmp_path / name)
    labels = [0, 1, 0, 1]
    arrays = (x, labels)
    dataset = tf.data.Dataset.from_tensor_slices((x, labels))
    for source in (arrays, [x.tolist(), labels], dataset, open_source(arrays)):
        request = make(TrainRequest, source=source, **options)
        assert request.source is source  # never copied
        assert source_text(source) == "the data"
        assert request.as_dict()["source"] is None
        assert command_of("train", request) is None
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_source(make(TrainRequest, source="~/photos", **options).source).root == Path(
        tmp_path / "photos"
    )


def test_something_else_altogether():
    with pytest.raises(DataError, match=re.escape("data of type int; expected a folder with one")):
        open_source(17)


def test_a_catalogue_passes_through_and_progress_is_reported():
    steps = []
    catalogue = open_source((pictures(3), [0, 1, 1]), progress=lambda *step: steps.append(step))
    assert open_source(catalogue) is catalogue
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_class_order():
    assert in_order(["10", "2", "1"]) == ["1", "2", "10"]
    assert in_order(["b", "10", "2"]) == ["10", "2", "b"]
    catalogue = read_catalogue(
        Listing(arrays=pictures(1), classes=["10"], task=Classification(("2", "10")))
    )
    assert catalogue.labels.tolist() == [1]
