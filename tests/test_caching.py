"""Kept results: found again under the same facts, made again when anything of them is damaged."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from inshape.caching import Cache, checksum_of, key_of

FACTS = {"format": 1, "shape": (97, 64, 1), "of": {"b": 2, "a": [None, 1.5]}}


def rows(file, content=b"0123456789" * 1000):
    file.write(content)
    return {"skipped": {3: "cut short"}, "range": (0.0, 1.0)}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "kept")


def names(cache):
    return sorted(path.name for path in cache.folder.iterdir())


def test_an_entry_is_found_again_as_it_was_saved(cache):
    saved = cache.save(FACTS, rows, suffix=".rows")
    assert Cache(cache.folder).load(FACTS) == saved
    assert saved.path.read_bytes() == b"0123456789" * 1000
    assert saved.notes == {"skipped": {"3": "cut short"}, "range": [0.0, 1.0]}  # as JSON has it
    record = json.loads((cache.folder / f"{key_of(FACTS)}.json").read_text())
    assert record["facts"]["shape"] == [97, 64, 1]
    assert record["hash"] == checksum_of(saved.path)
    assert len(names(cache)) == 2


def test_the_key_follows_from_the_facts_and_not_from_their_order():
    assert key_of(FACTS) == key_of(dict(reversed(FACTS.items())))
    assert key_of({"n": (1, 2)}) == key_of({"n": [1, 2]})
    assert key_of({2: "a", 10: "b"}) == key_of({"2": "a", "10": "b"})
    others = [{}, {**FACTS, "format": 2}, {**FACTS, "shape": (64, 97, 1)}, {**FACTS, "more": None}]
    assert len({key_of(facts) for facts in (FACTS, *others)}) == 5


def test_other_facts_find_nothing(cache):
    assert cache.load(FACTS) is None  # not even the folder
    cache.save(FACTS, rows, suffix=".rows")
    assert cache.load({**FACTS, "format": 2}) is None


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip, "its content has changed"),
        (cut, "9999 bytes where 10000 were written"),
        (os.remove, "the file is missing"),
    ],
)
def test_damaged_content_is_removed_and_made_again(damage, reason, cache):
    path = cache.save(FACTS, rows, suffix=".rows").path
    other = cache.save({**FACTS, "format": 2}, rows, suffix=".rows")
    damage(path)
    message = f"{path} is damaged ({reason}); it is made again"
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$") as caught:
        assert cache.load(FACTS) is None
    assert len(caught) == 1
    assert cache.load(FACTS) is None  # gone, so that nothing warns again
    assert not path.exists()
    again = cache.save(FACTS, rows, suffix=".rows")
    assert cache.load(FACTS) == again
    assert cache.load({**FACTS, "format": 2}) == other


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (lambda text: text.replace("cut short", "cut shirt"), "its record has changed"),
        (lambda text: text.replace(".rows", ".roes"), "its record has changed"),
        (lambda text: text[:-9], "its record cannot be read: JSONDecodeError"),
        (lambda text: "", "its record cannot be read: JSONDecodeError"),
        (lambda text: "[]", "its record cannot be read: TypeError"),
        (lambda text: '{"file": null, "notes": {}}', "its record cannot be read: KeyError"),
        (lambda text: '{"facts": {}}', "its record cannot be read: KeyError"),
    ],
)
def test_a_damaged_record_is_removed_with_its_content(text, reason, cache):
    cache.save(FACTS, rows, suffix=".rows")
    record = cache.folder / f"{key_of(FACTS)}.json"
    record.write_text(text(record.read_text()))
    with pytest.warns(UserWarning, match=re.escape(reason)):
        assert cache.load(FACTS) is None
    assert names(cache) == []


def test_a_record_under_anothers_name_is_refused(cache):
    cache.note({"of": 1}, {"answer": 1})
    record = cache.folder / f"{key_of({'of': 1})}.json"
    record.rename(record.with_stem(key_of({"of": 2})))
    with pytest.warns(UserWarning, match="its record belongs to something else"):
        assert cache.load({"of": 2}) is None


def test_content_without_its_record_is_nobodys(cache):
    """A process that ends between the two leaves this."""
    path = cache.save(FACTS, rows, suffix=".rows").path
    (cache.folder / f"{key_of(FACTS)}.json").unlink()
    assert cache.load(FACTS) is None
    assert cache.save(FACTS, rows, suffix=".rows").path == path
    assert len(names(cache)) == 2


def test_content_may_be_filled_in_any_order(cache):
    def write(file):
        file.seek(6)
        file.write(b"end")
        file.seek(0)
        file.write(b"begin")
        file.truncate(12)
        return {}

    assert cache.save(FACTS, write, suffix="").path.read_bytes() == b"begin\0end\0\0\0"
    assert cache.load(FACTS) is not None


def test_an_array_is_written_in_parts_and_mapped(cache, rng):
    values = rng.normal(size=(7, 5)).astype("float32")

    def write(file):
        header = {"descr": values.dtype.str, "fortran_order": False, "shape": values.shape}
        np.lib.format.write_array_header_1_0(file, header)
        for row in values:
            file.write(row.data)
        return {}

    cache.save(FACTS, write, suffix=".npy")
    np.testing.assert_array_equal(np.load(cache.load(FACTS).path, mmap_mode="r"), values)


def test_content_for_its_maker_only_is_there_as_long_as_its_entry(cache):
    once = cache.save(FACTS, lambda file: file.write(b"now") and None, suffix=".rows")
    again = cache.save(FACTS, lambda file: file.write(b"then") and None, suffix=".rows")
    assert cache.load(FACTS) is None
    assert once.path.read_bytes() == b"now"  # another's is not in its place, nor is it cleaned up
    path = again.path
    del again
    assert not path.exists()
    del once
    assert names(cache) == []


def test_notes_alone_are_kept_and_replaced(cache):
    cache.note(FACTS, {"answer": 41})
    cache.note(FACTS, {"answer": 42, "missing": float("nan")})
    entry = cache.load(FACTS)
    assert entry.notes["answer"] == 42
    assert np.isnan(entry.notes["missing"])
    assert names(cache) == [entry.path.name]


def test_a_failed_writer_leaves_nothing(cache):
    first = cache.save(FACTS, rows, suffix=".rows")

    def fail(file):
        file.write(b"half")
        raise KeyboardInterrupt

    for facts in (FACTS, {"of": "more"}):
        with pytest.raises(KeyboardInterrupt):
            cache.save(facts, fail, suffix=".rows")
    assert cache.load(FACTS) == first
    assert len(names(cache)) == 2


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    for write in (lambda c: c.save(FACTS, rows, suffix=""), lambda c: c.note(FACTS, {})):
        with pytest.raises(OSError, match="file"):
            write(Cache(tmp_path / "file"))


OFTEN = """
import sys, time
from pathlib import Path
from inshape.caching import Cache

cache, start, content = Cache(Path(sys.argv[1])), float(sys.argv[2]), sys.argv[3].encode() * 5000

def write(file):
    file.write(content)
    return {}

time.sleep(max(0.0, start - time.time()))
for turn in range(100):
    assert cache.save({"turn": turn}, write, suffix=".rows").path.read_bytes() == content
    assert cache.load({"turn": turn}).path.read_bytes() in (b"1" * 5000, b"2" * 5000)
"""


def test_writers_of_one_entry_do_not_disturb_each_other(cache):
    """Of one size and other content, as two processes that compute floats may have it."""
    start = str(time.time() + 1.0)
    writers = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", OFTEN, str(cache.folder), start, n])
        for n in "12"
    ]
    assert [process.wait(60) for process in writers] == [0, 0]
    assert all(cache.load({"turn": turn}) for turn in range(100))
    assert not list(cache.folder.glob("*.part"))


KILLED = """
import os, signal, sys
from pathlib import Path
from inshape.caching import Cache

def write(file):
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()  # until it is closed
    return {}

Cache(Path(sys.argv[1])).save({"of": sys.argv[2]}, write, suffix=".rows")
"""

ONCE = """
import sys
from pathlib import Path
from inshape.caching import Cache

entry = Cache(Path(sys.argv[1])).save({}, lambda file: file.write(b"now") and None, suffix=".rows")
assert entry.path.exists()
"""


def test_content_for_its_maker_only_goes_with_the_process(cache):
    subprocess.run([sys.executable, "-W", "error", "-c", ONCE, str(cache.folder)], check=True)
    assert names(cache) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_what_a_killed_writer_left_is_removed_and_a_living_ones_is_not(cache):
    writers = []
    for kind in ("living", "killed"):
        command = [sys.executable, "-c", KILLED, str(cache.folder), kind]
        writers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert writers[-1].stdout.readline() == b"writing\n"
    writers[1].wait()
    assert len(list(cache.folder.glob("*.part"))) == 2
    cache.save(FACTS, rows, suffix=".rows")
    (part,) = cache.folder.glob("*.part")
    assert key_of({"of": "living"}) in part.name
    for process in writers:
        process.communicate()
    assert writers[0].returncode == 0
    assert cache.load({"of": "living"}).path.read_bytes() == b"half"
    assert not list(cache.folder.glob("*.part"))
