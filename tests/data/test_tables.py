"""Tables as people have them: other columns, other paths, no header."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from inshape.data.sources import open_source
from inshape.errors import DataError

NAMES = ("a/0.png", "a/1.png", "b/2.jpg", "b/3.png")


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(NAMES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 6, 3), 40 * i, np.uint8)).save(tmp_path / name)
    return tmp_path


def open_table(folder, text):
    (folder / "t.csv").write_text(text, "utf-8")
    return open_source(folder / "t.csv")


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            "path,label\na\\0.png,x\na\\1.png,x\nb\\2.jpg,y\nb\\3.png,y",
            "4 paths are written otherwise",
        ),
        ("path,label\na/0,x\na/1,x\nb/2,y\nb/3,y", "such as 'a/0' for 'a/0.png'"),
        ("path,label\n0,x\n1,x\n2,y\n3,y", "such as '0' for 'a/0.png'"),
        (
            "path,label\nA/0.PNG,x\nold/a/1.png,x\nC:\\me\\b\\2.jpg,y\nb/3.png,y",
            "3 paths are written",
        ),
        ("id,breed\n0,x\n1,x\n2,y\n3,y", "column 'id' is taken as the path"),
        ("Image Id,dx\n0,x\n1,x\n2,y\n3,y", "such as '0' for 'a/0.png'"),
        (",foto,tier\n0,0.png,x\n1,1.png,x\n2,2.jpg,y\n3,3.png,y", "'tier' is taken as the label"),
        ("a/0.png,x\na/1.png,x\nb/2.jpg,y\nb/3.png,y", "'column 1' is taken as the path"),
        ("x;0\nx;1\ny;2\ny;3", "'column 2' is taken as the path"),
        ("image,x,y\n0,1,0\n1,1.0,0.0\n2,0,1\n3,0,1", "columns x, y are taken as the classes"),
        ("path,age,x,y\n0,31,1,0\n1,8,1,0\n2,9,0,1\n3,7,0,1", "columns x, y are taken as the"),
    ],
)
def test_tables_that_are_understood(folder, text, warning):
    catalogue = open_table(folder, text)
    assert [catalogue.path(i).resolve() for i in range(4)] == [folder / name for name in NAMES]
    assert [catalogue.task.text(label) for label in catalogue.labels] == ["x", "x", "y", "y"]
    assert any(warning in line for line in catalogue.warnings)


def test_a_table_without_a_header_may_have_splits(folder):
    catalogue = open_table(
        folder, "a/0.png,x,train\na/1.png,x,val\nb/2.jpg,y,train\nb/3.png,y,val\n"
    )
    assert catalogue.splits.tolist() == ["train", "validation"] * 2


def test_a_path_that_could_be_two_pictures_is_neither(folder):
    (folder / "b" / "0.png").write_bytes((folder / "a" / "0.png").read_bytes())
    (folder / "a" / "4.png").write_bytes((folder / "a" / "1.png").read_bytes())
    lines = ["a/1.png,x", "b/3.png,y"] * 39
    # 0.png lies in two folders; a/3.png is gone, and b/3.png is another picture; 4 is named itself.
    text = "\n".join(["path,label", *lines, "0.png,x", "a/3.png,x", "a/4.png,x", "old/4.png,x"])
    assert [s.name for s in open_table(folder, text).skipped] == ["0.png", "a/3.png", "old/4.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,breed\n7,x\n8,y", "t.csv: columns id, breed; expected path, label and perhaps split"),
        ("path,age,sex\na/0.png,3,f", "t.csv: columns path, age, sex; expected path, label and"),
        ("path,label\n7.png,x\n8.png,y", "t.csv: none of its pictures is there, such as '7.png'"),
        ("path,label\n,x", "t.csv: row 1 () has no path; expected one in every row"),
        ("path,label,label\na/0.png,x,y", "t.csv: more than one column 'label'; expected each"),
        ("path,label\na/0\0.png,x", "t.csv: a NUL byte in row 1; expected UTF-8 text; save it as"),
        (f"path,label\n{'a' * 200_000},x", "t.csv: field larger than field limit (131072); exp"),
        ('path,label\n"a/0.png,x\na/1.png,x', "t.csv: row 1 has 1 fields; expected 2 as in the"),
        ("", "t.csv: an empty file; expected columns path and label; write them"),
        ("\n\n", "t.csv: an empty file; expected columns path and label; write them"),
    ],
)
def test_tables_that_cannot_be_used_are_told_why(folder, text, message):
    with pytest.raises(DataError, match=re.escape(message)):
        open_table(folder, text)


def test_a_table_of_another_program(folder):
    (folder / "t.csv").write_text("path,label\na/0.png,x", "utf-16-le")
    with pytest.raises(DataError, match=re.escape("t.csv: a NUL byte in the header; expected")):
        open_source(folder / "t.csv")


def test_parquet_of_pictures_instead_of_paths(folder):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"image": [{"bytes": b"x", "path": "a/0.png"}], "label": [1.0]})
    parquet.write_table(table, folder / "t.parquet")
    message = "column image holds values of type dict; expected paths of files; write the pictures"
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(folder / "t.parquet")
    table = arrow.table({"image": ["a/0.png", "b/3.png"], "label": [None, float("nan")]})
    parquet.write_table(table, folder / "t.parquet")
    with pytest.raises(DataError, match=re.escape("row 1 (a/0.png) has no label")):
        open_source(folder / "t.parquet")
