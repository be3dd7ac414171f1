"""Batches from memory, disk and files; the three must agree to the bit."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inshape.data.batches import Batches
from inshape.data.decode import load
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.data.split import split
from inshape.data.stores import memory_budget
from inshape.errors import DataError, UnknownName

PREPARATION = Preparation.of("17x24x1")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(45):
        path = tmp_path / "photos" / "abc"[i % 3] / f"{i:02}.{('png', 'jpg')[i % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 30 + i, 3), np.uint8)).save(path)
    return tmp_path / "photos"


def everything(batches, split=None):
    """All pictures and labels of a split, in the catalogue's order."""
    pictures, labels = zip(*batches.iterate(split, 8), strict=True)
    return np.concatenate(pictures), np.concatenate(labels)


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_every_cache_gives_what_the_files_hold(folder, tmp_path, cache):
    catalogue = split(open_source(folder), validation=0.2)
    batches = Batches.open(catalogue, PREPARATION, cache=cache, cache_dir=tmp_path / "cache")
    assert batches.cache_report.kind == cache
    pictures, labels = everything(batches, "validation")
    positions = catalogue.indices("validation")
    assert len(pictures) == 9
    assert np.array_equal(labels, catalogue.labels[positions])
    for picture, position in zip(pictures, positions, strict=True):
        assert np.array_equal(picture, load(catalogue.path(position), PREPARATION))
    assert pictures.dtype == np.uint8


def test_seed_and_epoch_fix_the_order(folder, tmp_path):
    catalogue = open_source(folder)
    kept = [
        Batches.open(catalogue, PREPARATION, cache=cache, cache_dir=tmp_path)
        for cache in ("memory", "disk", "none")
    ]
    epochs = [
        [(x.astype(int), y) for x, y in b.iterate(batch_size=7, shuffle=True, seed=4, epoch=2)]
        for b in kept
    ]
    assert [len(y) for _, y in epochs[0]] == [7] * 6 + [3]
    for other in epochs[1:]:
        for (x, y), (x2, y2) in zip(epochs[0], other, strict=True):
            assert np.array_equal(x, x2)
            assert np.array_equal(y, y2)
    order = np.random.default_rng([4, 2]).permutation(45)
    assert np.array_equal(np.concatenate([y for _, y in epochs[0]]), catalogue.labels[order])
    later = next(y for _, y in kept[0].iterate(batch_size=45, shuffle=True, seed=4, epoch=3))
    assert not np.array_equal(later, catalogue.labels[order])


def test_auto_goes_from_memory_to_disk_to_none(folder, tmp_path, monkeypatch):
    catalogue = open_source(folder)
    need = 45 * 17 * 24
    open_at = dict(cache_dir=tmp_path / "cache")
    fits = Batches.open(catalogue, PREPARATION, memory_budget_bytes=need, **open_at).cache_report
    assert (fits.kind, fits.bytes) == ("memory", need)
    assert str(fits) == "45 pictures in memory (17.9 KiB; fits in 17.9 KiB)"
    disk = Batches.open(
        catalogue, PREPARATION, memory_budget_bytes=need - 1, **open_at
    ).cache_report
    assert (disk.kind, disk.reused) == ("disk", False)
    assert disk.path.stat().st_size == need
    again = Batches.open(catalogue, PREPARATION, memory_budget_bytes=0, **open_at).cache_report
    assert again.reused
    assert "from an earlier run" in str(again)
    monkeypatch.setattr("inshape.data.stores._free_bytes", lambda folder: need)
    none = Batches.open(catalogue, PREPARATION, memory_budget_bytes=0, **open_at).cache_report
    assert none.kind == "none"
    assert "decoded for every epoch (17.9 KiB would not fit in 0 B of memory, nor in" in str(none)


def test_an_unwritable_disk(folder, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    catalogue = open_source(folder)
    message = f"{blocked}: File exists; expected room for 17.9 KiB of prepared pictures; free some"
    with pytest.raises(DataError, match=re.escape(message)):
        Batches.open(catalogue, PREPARATION, cache="disk", cache_dir=blocked)
    fallen = Batches.open(catalogue, PREPARATION, memory_budget_bytes=0, cache_dir=blocked)
    assert fallen.cache_report.kind == "none"
    assert blocked.read_text() == "not a folder"


def test_a_changed_picture_or_preparation_is_prepared_anew(folder, tmp_path):
    options = {"cache": "disk", "cache_dir": tmp_path / "cache"}
    first = Batches.open(open_source(folder), PREPARATION, **options)
    assert not Batches.open(
        open_source(folder), Preparation.of("17x24x1", fit="crop"), **options
    ).cache_report.reused
    Image.new("RGB", (20, 30)).save(folder / "a" / "00.png")
    changed = Batches.open(open_source(folder), PREPARATION, **options)
    assert not changed.cache_report.reused
    assert everything(changed)[0][0].max() == 0
    assert everything(first)[0][0].max() > 0


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def damage(folder, kind):
    (content,), (record,) = folder.glob("*.pictures"), folder.glob("*.json")
    if kind == "a flipped byte":
        flip(content, 17 * 24 * 20 + 5)
    elif kind == "a cut file":
        content.write_bytes(content.read_bytes()[:-1])
    elif kind == "a file that is gone":
        content.unlink()
    elif kind == "a cut index":
        record.write_text(record.read_text()[:-40])
    elif kind == "an index that skips another picture":
        record.write_text(record.read_text().replace('"44"', '"43"'))


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("a flipped byte", "its content has changed"),
        ("a cut file", "18359 bytes where 18360 were written"),
        ("a file that is gone", "the file is missing"),
        ("a cut index", "its record cannot be read: JSONDecodeError"),
        ("an index that skips another picture", "its record has changed since it was written"),
    ],
)
def test_a_damaged_cache_is_noticed_and_made_again(folder, tmp_path, kind, problem):
    (folder / "c" / "44.png").write_text("no picture")  # the last one, which the file ends with
    catalogue = open_source(folder)
    options = {"cache": "disk", "cache_dir": tmp_path / "cache"}
    expected, _ = everything(Batches.open(catalogue, PREPARATION, cache="memory"))
    Batches.open(catalogue, PREPARATION, **options)
    damage(tmp_path / "cache", kind)
    text = re.escape(f"is damaged ({problem}); it is made again")
    with pytest.warns(UserWarning, match=text) as caught:
        again = Batches.open(catalogue, PREPARATION, **options)
    assert len(caught) == 1
    assert not again.cache_report.reused
    assert np.array_equal(everything(again)[0], expected)
    later = Batches.open(catalogue, PREPARATION, **options)  # warnings are errors
    assert later.cache_report.reused
    assert [s.name for s in later.skipped] == ["c/44.png"]
    assert np.array_equal(everything(later)[0], expected)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_rows_of_any_memory_layout_are_kept(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        (tmp_path / "photos" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        picture = np.asfortranarray(rng.integers(0, 255, (9, 7, 5), np.uint8))
        np.save(tmp_path / "photos" / "ab"[i % 2] / f"{i}.npy", picture)
    catalogue = open_source(tmp_path / "photos")
    for cache in ("memory", "disk", "none"):
        batches = Batches.open(
            catalogue, Preparation.of("9x7x5"), cache=cache, cache_dir=tmp_path / "cache"
        )
        for row, name in zip(everything(batches)[0], catalogue.names, strict=True):
            assert np.array_equal(row, np.load(tmp_path / "photos" / name))


def test_fractions_are_kept_in_float(tmp_path):
    stored = np.random.default_rng(0).integers(0, 65535, (9, 10, 8, 2)).astype(np.uint16)
    catalogue = open_source((stored, [0, 1, 2] * 3))
    for cache in ("memory", "disk", "none"):
        batches = Batches.open(
            catalogue, Preparation.of("10x8x2"), cache=cache, cache_dir=tmp_path / "cache"
        )
        pictures, _ = everything(batches)
        assert pictures.dtype == np.float32
        np.testing.assert_allclose(pictures, stored / 257.0, rtol=1e-5)
    assert len(list((tmp_path / "cache").iterdir())) == 2  # one file and its record, no leftovers


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_unreadable_pictures_are_left_out_and_named(folder, tmp_path, cache):
    truncated, text = folder / "a" / "03.jpg", folder / "c" / "02.png"
    truncated.write_bytes(truncated.read_bytes()[:600])
    text.write_text("no picture")
    catalogue = open_source(folder)
    assert len(catalogue) == 45
    for _ in range(2):  # the second time, the disk has it already
        batches = Batches.open(catalogue, PREPARATION, cache=cache, cache_dir=tmp_path / "cache")
        assert len(batches) == 43
        assert [s.name for s in batches.skipped] == ["a/03.jpg", "c/02.png"]
        assert "truncated" in batches.skipped[0].reason.lower()
        assert batches.skipped[1].reason == "not a picture that can be identified"
        pictures, labels = everything(batches)
        assert len(pictures) == 43
        last = len(batches.catalogue) - 1
        assert np.array_equal(pictures[last], load(batches.catalogue.path(last), PREPARATION))
        assert labels[last] == 2
    (folder / "b" / "01.jpg").write_bytes(b"x")
    message = "3 of 45 pictures cannot be read; expected at most 5%; restore or remove a/03.jpg ("
    with pytest.raises(DataError, match=re.escape(message)):
        Batches.open(open_source(folder), PREPARATION, cache=cache, cache_dir=tmp_path / "cache")


def test_only_the_pictures_in_use_count_towards_too_many(tmp_path):
    rng = np.random.default_rng(0)
    for split_name, count in (("train", 60), ("test", 10)):
        for i in range(2 * count):
            path = tmp_path / split_name / "ab"[i % 2] / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (9, 8, 3), np.uint8)).save(path)
    for i in range(5):  # 5 of 145 in all, but a fifth of the test pictures
        (tmp_path / "train" / "a" / f"empty{i}.png").write_bytes(b"")
    whole = split(open_source(tmp_path))
    assert [s.split for s in whole.skipped] == ["train"] * 5
    tested = Batches.open(whole.take(whole.indices("test")), PREPARATION)
    assert (len(tested), tested.skipped) == (20, ())
    trained = Batches.open(whole.take(whole.indices("train")), PREPARATION)
    assert len(trained.skipped) == 5


def test_skipped_pictures_of_no_split_go_to_training(folder):
    (folder / "a" / "empty.png").write_bytes(b"")
    divided = split(open_source(folder), validation=0.2)
    assert len(divided.take(divided.indices("train")).skipped) == 1
    assert divided.take(divided.indices("validation")).skipped == ()


@pytest.mark.parametrize("problem", [OSError(5, "Input/output error"), FileNotFoundError(2, "no")])
def test_what_could_not_be_read_for_a_moment_is_tried_again(folder, tmp_path, monkeypatch, problem):
    from inshape.data import decode

    catalogue = open_source(folder)
    options = {"cache": "disk", "cache_dir": tmp_path / "cache"}
    real = decode._decode_file

    def failing(path, preparation):
        if path.name == "03.jpg":
            raise problem
        return real(path, preparation)

    with monkeypatch.context() as patched:
        patched.setattr(decode, "_decode_file", failing)
        assert len(Batches.open(catalogue, PREPARATION, **options)) == 44
    again = Batches.open(catalogue, PREPARATION, **options)
    assert (len(again), again.cache_report.reused) == (45, False)
    assert Batches.open(catalogue, PREPARATION, **options).cache_report.reused


def test_a_class_that_cannot_be_read(folder):
    (folder / "rare").mkdir()
    (folder / "rare" / "a.jpg").write_text("no picture")
    message = "class 'rare': none of its 1 pictures can be read; expected some; restore the files"
    with pytest.raises(DataError, match=re.escape(message)):
        Batches.open(open_source(folder), PREPARATION)


def test_unit_pictures_are_noticed():
    unit = np.random.default_rng(0).integers(0, 2, (6, 8, 9, 3), np.uint8)
    batches = Batches.open(open_source((unit, [0, 1] * 3)), Preparation.of("8x9x3"))
    (warning,) = batches.catalogue.warnings
    begin = "6 of 6 pictures have values from 0 to 1, which is black; expected 0 to 255; "
    assert warning == begin + "multiply them by 255, or make them floats"
    deep = Preparation.of("8x9x3", full_scale=4095)
    read = Batches.open(open_source((unit.astype(np.float32), [0, 1] * 3)), deep)
    (warning,) = read.catalogue.warnings
    assert warning.endswith("; they are read with full_scale 0:4095, and hold other values")


def test_a_wrong_picture_stops_and_is_named(folder):
    np.save(folder / "b" / "five.npy", np.zeros((8, 8, 5), np.uint8))
    message = "five.npy: 5 bands of unstated meaning; expected 1 (grey)"
    with pytest.raises(DataError, match=re.escape(message)):
        Batches.open(open_source(folder), PREPARATION)


def test_a_batch_needs_one_size(folder):
    message = "preparation at ?x24x1; expected a known height and width, since a batch has one size"
    with pytest.raises(DataError, match=re.escape(message)):
        Batches.open(open_source(folder), Preparation.of("?x24x1"))


def test_unknown_caches(folder):
    message = "unknown cache 'ram'; choose from: auto, memory, disk, none"
    with pytest.raises(UnknownName, match=re.escape(message)):
        Batches.open(open_source(folder), PREPARATION, cache="ram")


def test_the_budget_is_bounded():
    assert 0 <= memory_budget() <= 4 * 2**30


@pytest.mark.parametrize("cache", ["disk", "none"])
def test_memory_stays_bounded(tmp_path, cache):
    # 1200 pictures of 128x128x3 take 59 MB; the process may grow by 40 MB.
    if not Path("/proc/self/status").exists():
        pytest.skip("measures memory through /proc")
    script = f"""
        from pathlib import Path
        import numpy as np
        from PIL import Image
        from inshape.data.batches import Batches
        from inshape.data.prepare import Preparation
        from inshape.data.sources import open_source

        folder = Path({str(tmp_path)!r}) / "photos"
        for i in range(1200):
            path = folder / "ab"[i % 2] / f"{{i}}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((16, 16, 3), i % 251, np.uint8)).save(path)

        def kilobytes(field):
            lines = Path("/proc/self/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith(field)).split()[1])

        before = kilobytes("VmRSS")
        batches = Batches.open(
            open_source(folder), Preparation.of("128x128x3"), cache={cache!r},
            cache_dir=folder.parent / "cache", workers=2,
        )
        assert sum(len(y) for _, y in batches.iterate(batch_size=16, shuffle=True)) == 1200
        assert batches.cache_report.kind == {cache!r}
        grown = kilobytes("VmHWM") - before
        assert grown < 40_000, grown
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_a_picture_that_changes_in_use_stops_and_is_named(folder, cache):
    """Before it is prepared, or where each epoch reads it anew."""
    catalogue = open_source(folder)
    batches = Batches.open(catalogue, PREPARATION, cache="none")
    first = catalogue.path(0)
    first.write_bytes(catalogue.path(1).read_bytes())
    text = f"{first} has changed since the pictures were listed; expected them to stay"
    with pytest.raises(DataError, match=re.escape(text)):
        everything(
            batches if cache == "none" else Batches.open(catalogue, PREPARATION, cache=cache)
        )


def test_a_picture_that_vanishes_in_use_stops_and_is_named(folder):
    catalogue = open_source(folder)
    batches = Batches.open(catalogue, PREPARATION, cache="none")
    catalogue.path(0).unlink()
    text = f"{catalogue.path(0)}: no such file, though it could be read before"
    with pytest.raises(DataError, match=re.escape(text)):
        everything(batches)
