"""Pictures, folders and tables that are not as they should be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from inshape.data.decode import decode
from inshape.data.sources import open_source
from inshape.data.split import split

from .case import BadInput

_DOTS = np.arange(96, dtype=np.uint8).reshape(8, 4, 3)


def _photos(folder: Path, *names: str) -> Path:
    """Two classes with ten pictures each, and pictures of these names."""
    usual = [f"{name}/{i}.png" for name in "ab" for i in range(10)]
    for number, name in enumerate((*usual, *names)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_DOTS + np.uint8(number)).save(path, "png")
    return folder


def _warned(source: Path) -> str:
    catalogue = open_source(source)
    left_out = [f"{skipped.name} ({skipped.reason})" for skipped in catalogue.skipped]
    return "; ".join([*catalogue.warnings, *left_out, f"read {catalogue.counts()}"])


def _with(change: Callable[[Path], Any], *names: str) -> Callable[[Path], object]:
    """Opens two good classes after a change to their folder."""

    def give(folder: Path) -> object:
        change(_photos(folder, *names))
        return _warned(folder)

    return give


def _table(text: str | bytes) -> Callable[[Path], object]:
    """Opens a table beside two good classes."""

    def give(folder: Path) -> object:
        table = _photos(folder) / "t.csv"
        table.write_bytes(text.encode() if isinstance(text, str) else text)
        return _warned(table)

    return give


def _unclear_folder(*names: str) -> Callable[[Path], object]:
    """Opens a folder of nothing but these pictures."""

    def give(folder: Path) -> object:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(_DOTS).save(path, "png")
        return _warned(folder)

    return give


def _one_each(folder: Path) -> object:
    for number, name in enumerate("ab"):
        (folder / name).mkdir()
        Image.fromarray(_DOTS + np.uint8(number)).save(folder / name / "0.png")
    return split(open_source(folder))


def _two_each(folder: Path) -> object:
    pictures = np.arange(4 * 96, dtype=np.uint8).reshape(4, 8, 4, 3)
    return split(open_source((pictures, [0, 0, 1, 1]))).warnings


def _tiff_bomb(folder: Path) -> object:
    # A header of 30000x30000 pixels whose strips are not there.
    tifffile.imwrite(folder / "a.tif", _DOTS[..., 0], compression="zlib")
    with tifffile.TiffFile(folder / "a.tif", mode="r+b") as file:
        page = file.pages[0]
        page.tags["ImageLength"].overwrite(30_000)
        page.tags["ImageWidth"].overwrite(30_000)
    return decode(folder / "a.tif")


def _heic_as_jpeg(folder: Path) -> object:
    (folder / "a.jpg").write_bytes(b"\0\0\0\x1cftypheic" + bytes(64))
    return decode(folder / "a.jpg")


def _pipe(folder: Path) -> object:
    os.mkfifo(folder / "t.csv")
    return _warned(folder / "t.csv")


def _line_break(folder: Path) -> object:
    for name in ("x\ny.png", "z.png"):
        (_photos(folder) / "a" / name).touch()
    return _warned(folder)


def _latin_name(folder: Path) -> None:
    with open(os.path.join(os.fsencode(folder), b"a/caf\xe9.png"), "wb") as file:
        file.write((folder / "a" / "0.png").read_bytes())


def _link(name: str, target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).symlink_to(target)


BAD_INPUTS = [
    BadInput(
        "files that are no pictures",
        _with(lambda f: (f / "a" / "x.mp4").touch()),
        r"left out 1 file that is no picture: 1 \.mp4",
    ),
    BadInput(
        "HEIC without the extra, or damaged",
        _heic_as_jpeg,
        r"a\.jpg: .*(pip install pillow-heif|restore or remove)",
    ),
    BadInput("a pipe", _with(lambda f: os.mkfifo(f / "a" / "x.png")), r"a/x\.png \(a pipe"),
    BadInput("a link to a device", _with(_link("b/x.png", "/dev/zero")), r"b/x\.png \(a device"),
    BadInput("a link to itself", _with(_link("b/x.png", "x.png")), r"b/x\.png \(Too many levels"),
    BadInput("a link to the folder above", _with(_link("b/up", "..")), r"b/up \(links that lead"),
    BadInput("a link to nothing", _with(_link("b/x.png", "gone.png")), r"b/x\.png \(No such file"),
    BadInput("a name in Latin-1", _with(_latin_name), r"caf\\xe9\.png \(a name that is not UTF-8"),
    BadInput("a network drive's own folder", _with(lambda _: None, "@eaDir/x.png"), "read {'a': 1"),
    BadInput(
        "one level too deep", _unclear_folder("d/a/0.png", "d/b/1.png"), "all its pictures are in d"
    ),
    BadInput("one class alone", _unclear_folder("a/0.png"), "only one class, 'a'; expected two"),
    BadInput("pictures without class folders", _unclear_folder("0.png"), "sort the pictures into"),
    BadInput(
        "a flat test folder beside train",
        _unclear_folder("train/a/0.png", "train/b/1.png", "test/2.png"),
        "test: 1 picture lies outside the class folders and cannot be used",
    ),
    BadInput(
        "a flat train folder", _unclear_folder("train/0.png", "val/a/1.png"), "train: 1 picture"
    ),
    BadInput(
        "one picture per class", _one_each, "no class has two distinct .* add pictures, or say"
    ),
    BadInput("two pictures per class", _two_each, "no class has more than 2 distinct pictures"),
    BadInput("30000x30000 pixels in a small TIFF", _tiff_bomb, "30000x30000 .* scale it down"),
    BadInput(
        "backslashes in a table", _table("path,label\na\\0.png,x\nb\\1.png,y"), "written otherwise"
    ),
    BadInput("paths without an ending", _table("path,label\na/0,x\nb/1,y"), "'a/0' for 'a/0.png'"),
    BadInput(
        "columns of other names", _table("pic,kind\na/0.png,x\nb/1.png,y"), "'kind' is taken as"
    ),
    BadInput("a table without a header", _table("a/0.png,x\nb/1.png,y"), "'column 1' is taken as"),
    BadInput("one-hot columns", _table("path,x,z\na/0.png,1,0\nb/1.png,0,1"), "as the classes"),
    BadInput(
        "two of the one-hot columns", _table("path,x,z\na/0.png,1,1"), "x, z are taken as the tags"
    ),
    BadInput("columns that say nothing", _table("id,age,sex\n77,3,f"), "name the column path"),
    BadInput(
        "a table of pictures elsewhere", _table("path,label\nq.png,x"), "none of its pictures"
    ),
    BadInput("NUL bytes in a table", _table("path,label\na/0\0.png,x"), "a NUL byte in row 1"),
    BadInput("a giant field", _table("path,label\n" + "a" * 200_000), "larger than field limit"),
    BadInput("an open quote", _table('path,label\n"a/0.png,x'), "quote fields"),
    BadInput(
        "a table in UTF-16", _table("path,label".encode("utf-16")), "not UTF-8 text; .* save it"
    ),
    BadInput("an empty table", _table(""), "an empty file; expected columns path and label"),
    BadInput("a pipe as a table", _pipe, r"t\.csv: a pipe, not a file"),
    BadInput("a line break in a file's name", _line_break, r"a/x\\ny\.png \(the file is empty"),
    BadInput(
        "a path in Latin-1", lambda _: open_source(os.fsdecode(b"caf\xe9")), "not UTF-8, which"
    ),
    BadInput("a path that is too long", lambda _: open_source("x" * 300), "no such file or folder"),
]
