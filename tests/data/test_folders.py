"""Folders as people have them: links, litter, splits that are flat, names of every kind."""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import unicodedata

import numpy as np
import pytest
from PIL import Image

from inshape.data import contents, decode
from inshape.data.contents import look_into
from inshape.data.sources import open_source
from inshape.errors import DataError
from inshape.tasks.classification import Classification

RNG = np.random.default_rng(0)


def encoded(kind="png"):
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 255, (12, 9, 3), np.uint8)).save(file, kind)
    return file.getvalue()


def fill(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("0.png", "1.png"):
        (folder / name).write_bytes(encoded())
    return folder


def classes(root, *names, count=2):
    for name in names:
        fill(root / name, *(f"{i}.png" for i in range(count)))
    return root


def test_pictures_of_other_endings_are_read_and_the_rest_is_counted(tmp_path):
    classes(tmp_path, "a", "b")
    (tmp_path / "a" / "x.avif").write_bytes(encoded("avif"))
    (tmp_path / "a" / "X.JP2").write_bytes(encoded("jpeg2000"))
    for i in range(3):
        (tmp_path / "b" / f"{i}.xml").write_text("<a/>")
    (tmp_path / "b" / "clip.mp4").write_bytes(b"")
    catalogue = open_source(tmp_path)
    assert catalogue.counts() == {"a": 4, "b": 2}
    assert catalogue.warnings == (
        f"{tmp_path}: left out 4 files that are no pictures: 3 .xml, 1 .mp4",
    )


def test_a_picture_without_an_ending_is_known_by_its_first_bytes(tmp_path):
    classes(tmp_path, "a", "b")
    for kind in ("jpeg", "png", "gif", "bmp", "tiff", "webp", "avif", "jpeg2000", "ppm"):
        (tmp_path / "a" / kind).write_bytes(encoded(kind))
    (tmp_path / "a" / "photo.jpg_large").write_bytes(encoded("jpeg"))
    (tmp_path / "a" / "2024.05.17").write_bytes(encoded("jpeg"))
    (tmp_path / "b" / "README").write_text("no picture")
    catalogue = open_source(tmp_path)
    assert catalogue.counts() == {"a": 13, "b": 2}
    assert catalogue.warnings == (
        f"{tmp_path}: left out 1 file that is no picture: 1 without an ending",
    )
    for index in range(len(catalogue)):
        assert decode.decode(catalogue.path(index)).array.shape[:2] == (12, 9)


def test_heic_without_pillow_heif_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "has_heic", lambda: False)
    monkeypatch.setattr(contents, "has_heic", lambda: False)
    heic = b"\0\0\0\x1cftypheic" + bytes(40)
    classes(tmp_path / "some", "a", "b")
    (tmp_path / "some" / "a" / "x.HEIC").write_bytes(heic)
    advice = "1 .heic; for HEIC run: pip install pillow-heif"
    assert open_source(tmp_path / "some").warnings[0].endswith(advice)
    (tmp_path / "all" / "a").mkdir(parents=True)
    (tmp_path / "all" / "a" / "x.heic").write_bytes(heic)
    with pytest.raises(DataError, match=re.escape("pip install pillow-heif")):
        open_source(tmp_path / "all")
    (tmp_path / "x.jpg").write_bytes(heic)
    with pytest.raises(DataError, match=re.escape("x.jpg: HEIC, which takes pip install")):
        decode.decode(tmp_path / "x.jpg")
    one = tmp_path / "all" / "a" / "x.heic"
    assert open_source(one, task=Classification(("a", "b")), labels="optional").names == ("x.heic",)


def test_heic(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    classes(tmp_path, "a", "b")
    heif.from_pillow(Image.new("RGB", (50, 40), (200, 30, 40))).save(tmp_path / "a" / "x.heic")
    shutil.copy(tmp_path / "a" / "x.heic", tmp_path / "a" / "no_ending")
    assert open_source(tmp_path).counts() == {"a": 4, "b": 2}
    array = decode.decode(tmp_path / "a" / "x.heic").array
    assert array.shape == (40, 50, 3)
    assert np.abs(array - np.array([200, 30, 40.0])).max() <= 3


def test_class_folders_that_are_links(tmp_path):
    classes(tmp_path / "store", "c")
    root = classes(tmp_path / "photos", "a", "b")
    (root / "c").symlink_to(tmp_path / "store" / "c")
    (root / "a" / "more.png").symlink_to(tmp_path / "store" / "c" / "0.png")
    catalogue = open_source(root)
    assert catalogue.counts() == {"a": 3, "b": 2, "c": 2}
    assert [w for w in catalogue.warnings if "left out" in w] == []


def test_circles_of_links_end(tmp_path):
    classes(tmp_path, "a", "b")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "self.png").symlink_to(tmp_path / "b" / "self.png")
    found = look_into(tmp_path)
    assert found.pictures == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
    assert found.left_out == [
        "a/up (links that lead round in a circle)",
        "b/self.png (Too many levels of symbolic links)",
    ]
    # Each of these holds links to all the others: eight factorial ways through them.
    for one in range(8):
        fill(tmp_path / "web" / str(one), "0.png")
    for one in range(8):
        for other in range(8):
            (tmp_path / "web" / str(one) / f"to{other}").symlink_to(tmp_path / "web" / str(other))
    assert len(look_into(tmp_path / "web").pictures) <= 8 * 8**3


def test_what_is_no_plain_file_is_not_opened(tmp_path):
    classes(tmp_path, "a", "b")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    os.mkfifo(tmp_path / "a" / "pipe")
    (tmp_path / "b" / "zero.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path / "b")  # a socket's whole path may have a hundred letters only
        server.bind("socket.png")
        os.chdir(here)
        catalogue = open_source(tmp_path)
    assert catalogue.counts() == {"a": 2, "b": 2}
    assert catalogue.warnings == (
        f"{tmp_path}: left out a/pipe (a pipe, not a file), a/pipe.png (a pipe, not a file), "
        "b/socket.png (a socket, not a file), b/zero.jpg (a device, not a file)",
    )
    table = tmp_path / "t.csv"
    names = ["a/pipe.png", "b/zero.jpg", "a"] + ["a/0.png", "b/0.png"] * 30
    table.write_text("path,label\n" + "".join(f"{n},{i % 2}\n" for i, n in enumerate(names)))
    assert [(s.name, s.reason) for s in open_source(table).skipped] == [
        ("a/pipe.png", "a pipe, not a file"),
        ("b/zero.jpg", "a device, not a file"),
        ("a", "a folder, not a file"),
    ]
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=re.escape("pipe.csv: a pipe, not a file; expected a")):
        open_source(tmp_path / "pipe.csv")


def test_what_cannot_be_read_is_named_with_its_reason(tmp_path, monkeypatch):
    classes(tmp_path, "a", "b", "locked")
    scandir = os.scandir

    def scan(folder):  # the tests may run as someone to whom nothing is locked
        if str(folder).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(contents.os, "scandir", scan)
    catalogue = open_source(tmp_path)
    assert catalogue.class_names == ("a", "b")
    assert catalogue.warnings == (f"{tmp_path}: left out locked (Permission denied)",)
    message = "locked: Permission denied; expected a folder that can be read; correct its"
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(tmp_path / "locked")


def test_what_systems_leave_behind_is_no_class(tmp_path):
    classes(tmp_path, "a", "b", "@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found")
    classes(tmp_path / "a", "@eaDir", ".thumbnails")
    catalogue = open_source(tmp_path)
    assert catalogue.counts() == {"a": 2, "b": 2}
    assert catalogue.warnings == ()


def test_one_level_too_deep(tmp_path):
    classes(tmp_path / "x" / "data" / "photos", "a", "b")
    catalogue = open_source(tmp_path / "x")
    assert catalogue.class_names == ("a", "b")
    assert catalogue.names[0] == "data/photos/a/0.png"
    assert catalogue.warnings == (
        f"{tmp_path / 'x'}: all its pictures are in data/photos, whose subfolders are taken",
    )
    for split in ("train", "val"):
        classes(tmp_path / "y" / "data" / split / split, "a", "b")
    catalogue = open_source(tmp_path / "y")
    assert catalogue.counts("train") == catalogue.counts("validation") == {"a": 2, "b": 2}
    # A class with subfolders is one where it is known to be one.
    classes(tmp_path / "z" / "a", "young", "old")
    assert open_source(tmp_path / "z", task=Classification(("a", "b"))).counts() == {"a": 4, "b": 0}
    classes(tmp_path / "w" / "train", "a", "b")
    classes(tmp_path / "w" / "val" / "a", "young", "old")
    assert open_source(tmp_path / "w").counts("validation") == {"a": 4, "b": 0}


@pytest.mark.parametrize(
    ("train", "rest"), [("train", "test"), ("Training", "Test"), ("train", "val"), ("Train", "val")]
)
def test_a_flat_split_beside_training_is_left_out(tmp_path, train, rest):
    classes(tmp_path / train, "a", "b")
    fill(tmp_path / rest)
    catalogue = open_source(tmp_path)
    assert catalogue.counts("train") == {"a": 2, "b": 2}
    assert len(catalogue) == 4
    assert catalogue.warnings == (
        f"{tmp_path / rest}: 2 pictures lie outside the class folders and cannot be used",
    )
    assert len(open_source(tmp_path, labels="optional")) == 6


def test_a_test_split_in_one_folder_that_is_no_class_is_left_out(tmp_path):
    classes(tmp_path / "train", "a", "b")
    fill(tmp_path / "test" / "unknown")
    catalogue = open_source(tmp_path)
    assert len(catalogue) == 4
    lie = "2 pictures lie outside the class folders and cannot be used"
    assert catalogue.warnings == (f"{tmp_path / 'test' / 'unknown'}: {lie}",)
    classes(tmp_path / "test", "a")  # beside which it is a class, and a wrong one
    with pytest.raises(DataError, match=re.escape("test has pictures of 'unknown', of which")):
        open_source(tmp_path)


@pytest.mark.parametrize(("train", "rest"), [("train", "test"), ("train", "val"), ("Train", "val")])
def test_flat_training_pictures_are_refused(tmp_path, train, rest):
    fill(tmp_path / train)
    classes(tmp_path / rest, "a", "b")
    message = f"{tmp_path / train}: 2 pictures and no class folders; expected one subfolder per"
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(tmp_path)
    (tmp_path / "labels.csv").write_text("id,label")
    with pytest.raises(DataError, match=re.escape("into folders or give the table labels.csv")):
        open_source(tmp_path)


def test_names_that_look_alike_are_one_class(tmp_path):
    composed, apart = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))
    assert composed != apart
    for split, name in (("train", composed), ("val", apart)):
        classes(tmp_path / split, name, "b")
    catalogue = open_source(tmp_path)
    assert catalogue.class_names == ("b", composed)
    assert catalogue.counts("validation") == {"b": 2, composed: 2}
    assert all(catalogue.path(i).exists() for i in range(len(catalogue)))
    # A model that was trained on the other form keeps its own name.
    later = open_source(tmp_path / "train", task=Classification(("b", apart)))
    assert later.class_names == ("b", apart)
    assert later.counts() == {"b": 2, apart: 2}
    assert (
        open_source(
            tmp_path / "val", task=Classification(("b", apart)), labels="optional"
        ).labels.min()
        == 0
    )


def test_names_that_are_not_utf_8_are_left_out(tmp_path):
    classes(tmp_path, "a", "b")
    for name in (b"a/caf\xe9.png", b"\xe9t\xe9"):
        path = os.path.join(os.fsencode(tmp_path), name)
        if name.endswith(b".png"):
            with open(path, "wb") as file:
                file.write(encoded())
        else:
            os.mkdir(path)
    catalogue = open_source(tmp_path)
    assert catalogue.counts() == {"a": 2, "b": 2}
    assert catalogue.warnings == (
        rf"{tmp_path}: left out a/caf\xe9.png (a name that is not UTF-8; rename it), "
        r"\xe9t\xe9 (a name that is not UTF-8; rename it)",
    )
    assert len(catalogue.fingerprint) == 64


def test_whatever_a_name_holds_a_message_is_one_line(tmp_path):
    classes(tmp_path / "photos", "a", "b")
    (tmp_path / "photos" / "a" / "x\ny.png").touch()
    with pytest.raises(DataError) as caught:
        open_source(tmp_path / "photos")
    assert r"remove a/x\ny.png (the file is empty)" in str(caught.value)
    path = os.path.join(tmp_path, os.fsdecode(b"caf\xe9"))
    with pytest.raises(DataError, match=re.escape(r"caf\xe9: a path that is not UTF-8, which no")):
        open_source(path)
