"""Downloads that break off, against a server that does it."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
from tools.imagenet_downloads import downloads

from inshape.backbones import backbones, find
from inshape.errors import WeightsError
from inshape.weights.download import fetch, published

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def target(server, tmp_path):
    (server.folder / "a.h5").write_bytes(CONTENT)
    return tmp_path / "cache" / "models" / "a.h5"


@pytest.mark.parametrize("digest", [SHA256, MD5, None])
def test_a_whole_download_is_made_once(digest, server, target):
    for _ in range(2):
        assert fetch(f"{server.url}a.h5", target, digest=digest, whom="Net") == target
    assert target.read_bytes() == CONTENT
    assert server.asked == [("/a.h5", "")]
    assert [p.name for p in target.parent.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("digest", [SHA256, None])
def test_a_connection_that_breaks_off_is_resumed(digest, server, target, capsys):
    server.breaks_off_after = [100_000, 50_000]
    fetch(f"{server.url}a.h5", target, digest=digest, whom="Net")
    assert target.read_bytes() == CONTENT
    assert server.asked == [("/a.h5", ""), ("/a.h5", "bytes=100000-"), ("/a.h5", "bytes=150000-")]
    assert capsys.readouterr().out == ""


def test_the_next_call_goes_on_where_the_last_one_gave_up(server, target):
    server.breaks_off_after = [100_000, 0, 0]
    url = f"{server.url}a.h5"
    message = (
        f"cannot download a.h5 for Net (the connection broke off after 100000 of 300000 bytes); "
        f"expected a connection, or the file of {url} at {target}; put it there, or give weights= "
        "a file of your own"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        fetch(url, target, digest=None, whom="Net")
    assert not target.exists()
    fetch(url, target, digest=None, whom="Net")
    assert target.read_bytes() == CONTENT
    assert server.asked[-1] == ("/a.h5", "bytes=100000-")


def test_a_link_that_stalls_keeps_what_came(server, target, monkeypatch):
    monkeypatch.setattr("inshape.weights.download._TIMEOUT_S", 0.2)
    server.stalls, server.breaks_off_after = True, [100_000, 0, 50_000]
    url = f"{server.url}a.h5"
    with pytest.raises(WeightsError, match=re.escape("cannot download a.h5 for Net (timed out)")):
        fetch(url, target, digest=None, whom="Net")
    assert target.with_name("a.h5.part").read_bytes() == CONTENT[:150_000]
    fetch(url, target, digest=None, whom="Net")
    assert target.read_bytes() == CONTENT
    wanted = [wanted for _, wanted in server.asked]
    assert wanted == ["", "bytes=100000-", "bytes=100000-", "bytes=150000-"]


def test_a_file_that_changed_in_between_is_fetched_anew(server, target):
    server.breaks_off_after = [100_000, 0, 0]
    url = f"{server.url}a.h5"
    with pytest.raises(WeightsError):
        fetch(url, target, digest=None, whom="Net")
    (server.folder / "a.h5").write_bytes(CONTENT[::-1])
    fetch(url, target, digest=None, whom="Net")
    assert target.read_bytes() == CONTENT[::-1]


def test_without_a_hash_or_an_etag_nothing_is_resumed(server, target):
    server.tagged = False
    server.breaks_off_after = [100_000]
    fetch(f"{server.url}a.h5", target, digest=None, whom="Net")
    assert target.read_bytes() == CONTENT
    assert server.asked == [("/a.h5", ""), ("/a.h5", "")]


def test_a_partial_file_that_is_whole_already(server, target):
    target.parent.mkdir(parents=True)
    target.with_name("a.h5.part").write_bytes(CONTENT)
    fetch(f"{server.url}a.h5", target, digest=SHA256, whom="Net")
    assert target.read_bytes() == CONTENT


def test_another_hash_is_refused_and_nothing_of_it_kept(server, target):
    url, other = f"{server.url}a.h5", "0" * 64
    message = (
        f"cannot download a.h5 for Net (what arrived from {url} has another hash than {other})"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        fetch(url, target, digest=other, whom="Net")
    assert list(target.parent.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_replaced(server, target):
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT[:99])
    fetch(f"{server.url}a.h5", target, digest=SHA256, whom="Net")
    assert target.read_bytes() == CONTENT


def test_a_file_that_is_not_there(server, target):
    message = "cannot download a.h5 for Net (Not Found); expected a connection, or the file of "
    with pytest.raises(WeightsError, match=re.escape(message)):
        fetch(f"{server.url}b.h5", target, digest=None, whom="Net")


def test_the_date_of_a_file_stands_for_its_tag(server, target):
    server.tagged = False
    server.headers["/a.h5"] = {"Last-Modified": "Mon, 02 Nov 2026 09:00:00 GMT"}
    server.breaks_off_after = [100_000]
    fetch(f"{server.url}a.h5", target, digest=None, whom="Net")
    assert target.read_bytes() == CONTENT
    assert server.asked[-1] == ("/a.h5", "bytes=100000-")


@pytest.mark.parametrize("place", ["bytes 7-299999/300000", "items 100000-", ""])
def test_another_part_than_was_asked_for_is_not_joined(place, server, target):
    server.headers["/a.h5"] = {"Content-Range": place}
    server.breaks_off_after = [100_000]
    fetch(f"{server.url}a.h5", target, digest=None, whom="Net")
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["", "bytes=100000-", ""]


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"", "is empty"), (b"\n<!DOCTYPE html><p>Please sign in", "is a web page")],
)
def test_what_is_no_file_of_weights_is_not_kept(content, fault, server, target):
    (server.folder / "a.h5").write_bytes(content)
    with pytest.raises(WeightsError, match=f"what arrived from {server.url}a.h5 {fault}"):
        fetch(f"{server.url}a.h5", target, digest=None, whom="Net")
    assert list(target.parent.iterdir()) == []
    (server.folder / "a.h5").write_bytes(CONTENT)
    target.write_bytes(content)  # as an earlier version would have kept it
    assert fetch(f"{server.url}a.h5", target, digest=None, whom="Net").read_bytes() == CONTENT


@pytest.mark.parametrize("note", [b"\xff\xfe", b"a\r\nHost: elsewhere"])
def test_a_broken_note_of_what_came_is_dropped(note, server, target):
    target.parent.mkdir(parents=True)
    target.with_name("a.h5.part").write_bytes(b"of something else")
    target.with_name("a.h5.part-etag").write_bytes(note)
    fetch(f"{server.url}a.h5", target, digest=None, whom="Net")
    assert target.read_bytes() == CONTENT
    assert server.asked == [("/a.h5", "")]


@pytest.mark.parametrize(
    "name", ["MobileNetV3Small-minimalistic", "MobileNetV3Large-0.75", "MobileNetV2-0.35", "VGG16"]
)
def test_the_published_files_are_those_that_keras_asks_for(name):
    for _, top, *asked in downloads(find(name)):
        known = published()[name, top == "1"]
        assert [known.file, known.url, known.hash or ""] == asked


def test_every_network_with_imagenet_weights_has_its_files_in_the_table():
    names = {b.name for b in backbones() if b.has_imagenet}
    assert set(published()) == {(name, top) for name in names for top in (True, False)}
