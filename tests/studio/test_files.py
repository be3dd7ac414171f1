"""What a page may read and write: names from outside lead nowhere else, and archives stay small."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile

import numpy as np
import pytest
from PIL import Image

from inshape.errors import DataError, OutputExists, RequestError
from inshape.studio import files as module
from inshape.studio.files import Files, check_picture

NASTY = "<img src=x onerror=alert(1)>"


def png(height=8, width=6):
    file = io.BytesIO()
    Image.fromarray(np.full((height, width), 90, np.uint8)).save(file, "png")
    return file.getvalue()


@pytest.fixture
def files(tmp_path):
    (tmp_path / "root" / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "root" / "photos" / NASTY).mkdir()
    for label in ("cat", NASTY):
        (tmp_path / "root" / "photos" / label / "0.png").write_bytes(png())
    (tmp_path / "secret").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "secret")
    return Files.of(tmp_path / "root")


def packed(path, entries, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def test_a_folder_has_to_be_there(tmp_path):
    with pytest.raises(RequestError, match=re.escape("no is no folder; expected one to work in")):
        Files.of(tmp_path / "no")


@pytest.mark.parametrize(
    "name", ["..", "../secret", "/etc/passwd", "link", "link/a", "photos/../../secret", ".", "a/.."]
)
def test_no_name_leads_out_of_the_folder(files, name):
    with pytest.raises(RequestError, match="is not below the studio's folder"):
        files.below(name)


@pytest.mark.parametrize("name", ["", " ", "a\0b"])
def test_what_is_no_name_is_refused(files, name):
    with pytest.raises(RequestError, match="is no name of a file or folder"):
        files.below(name)


def test_the_pages_own_folder_is_not_the_users(files):
    with pytest.raises(RequestError, match="is the studio's own"):
        files.below(f"{module.OWN}/uploads")


@pytest.mark.parametrize("name", ["a|b", "a\nb", "runs/ a", "runs/.a", "b" * 101, "a\\b", "c:"])
def test_a_new_folder_has_a_name_for_every_system(files, name):
    with pytest.raises(RequestError, match="cannot name a folder"):
        files.new(name)


def test_a_new_folder_is_new(files):
    assert files.new("runs/a") == files.root / "runs" / "a"
    with pytest.raises(OutputExists, match="photos exists already"):
        files.new("photos")


def test_sources_are_folders_of_two_classes_or_more(files):
    (files.root / "photos" / "cat" / "deep").mkdir()
    assert files.sources() == ["photos"]


def test_a_zip_becomes_a_folder_per_class(files, tmp_path):
    entries = {f"all/{label}/{i}.png": png() for label in ("a", NASTY) for i in range(2)}
    entries |= {"all/readme.txt": b"no picture", "__MACOSX/all/a/._0.png": b"litter"}
    place = files.unpack(packed(tmp_path / "a.zip", entries), "new")
    assert place == files.root / "new" / "all"
    assert sorted(p.name for p in place.iterdir()) == sorted(["a", NASTY])
    assert (place / "a" / "1.png").read_bytes() == png()
    assert "new/all" in files.sources()


@pytest.mark.parametrize(
    "name",
    ["../a.png", "/a.png", "a/../../b.png", "a\\..\\b.png", "C:/a.png", "a\n.png", "a//b.png"],
)
def test_no_entry_leads_out_of_the_archive(files, tmp_path, name):
    archive = packed(tmp_path / "a.zip", {"x/0.png": png(), name: png()})
    with pytest.raises(DataError, match="is no plain file below it"):
        files.unpack(archive, "new")
    assert not (files.root / "new").exists()
    assert sorted(os.listdir(files.root)) == ["link", "photos"]
    assert not list((tmp_path / "secret").iterdir())


def test_a_link_in_an_archive_is_refused(files, tmp_path):
    entry = zipfile.ZipInfo("a/0.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = packed(tmp_path / "a.zip", {entry: "/etc/passwd"})
    with pytest.raises(DataError, match="is no plain file below it"):
        files.unpack(archive, "new")


def test_an_archive_that_swells_is_refused(files, tmp_path):
    bomb = packed(
        tmp_path / "a.zip", {"a/0.png": bytes(5_000_000)}, compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(DataError, match="unpacks to more than 100 times its size"):
        files.unpack(bomb, "new")
    assert sorted(os.listdir(files.root)) == ["link", "photos"]


def test_an_archive_of_too_many_files_is_refused(files, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ENTRIES", 2)
    archive = packed(tmp_path / "a.zip", {f"a/{i}.png": png() for i in range(3)})
    with pytest.raises(DataError, match="holds 3 files; expected at most 2"):
        files.unpack(archive, "new")


def test_what_is_no_archive_is_refused(files, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match=re.escape("a.zip cannot be unpacked")):
        files.unpack(tmp_path / "a.zip", "new")
    with pytest.raises(DataError, match="holds no pictures"):
        files.unpack(packed(tmp_path / "b.zip", {"a/b.txt": b"text"}), "new")


def test_pictures_have_a_limit(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png(20, 30))
    check_picture(tmp_path / "a.png")
    monkeypatch.setattr(module, "_PICTURE_PIXELS", 599)
    with pytest.raises(DataError, match=re.escape("a.png has 600 pixels; expected at most 599")):
        check_picture(tmp_path / "a.png")
    (tmp_path / "a.html").write_bytes(png())
    with pytest.raises(DataError, match=re.escape("a.html is not named as a picture is")):
        check_picture(tmp_path / "a.html")


def test_a_picture_is_added_to_its_class(files, tmp_path):
    (tmp_path / "shot.png").write_bytes(png())
    names = [files.add_picture(tmp_path / "shot.png", "photos", label) for label in ("dog", "cat")]
    assert [files.name_of(p) for p in names] == ["photos/dog/0000.png", "photos/cat/0001.png"]
    assert files.add_picture(tmp_path / "shot.png", "photos", NASTY).parent.name == NASTY
    for label in ("../dog", "", ".dog"):
        with pytest.raises(RequestError, match="cannot name a folder"):
            files.add_picture(tmp_path / "shot.png", "photos", label)


def test_what_is_offered_lies_among_the_uploads(files):
    offered = files.offer(files.root / "photos" / "cat" / "0.png")
    assert offered.is_relative_to(files.own / "uploads")
    assert offered.read_bytes() == png()
    assert files.offer(files.root / "photos" / "cat" / "0.png") == offered
