"""What the page starts, and what it refuses to start, without a page."""

from __future__ import annotations

import re
import time

import pytest

from inshape.errors import RequestError
from inshape.studio import app, jobs
from inshape.studio.files import Files
from inshape.studio.request import StudioRequest

BACKBONE = "MobileNetV3Small-minimalistic"


def test_without_gradio_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=re.escape("pip install 'inshape[studio]'")):
        app.build(StudioRequest(tmp_path))


def test_a_job_that_cannot_be_is_failed_with_its_line(tmp_path):
    files = Files.of(tmp_path)
    folder = tmp_path / "runs" / "a"
    job = jobs.start(files, "train", folder, f"inshape train no --input 8x8x1 --out {folder}")
    with pytest.raises(RequestError, match="runs/a is being written by another command"):
        jobs.start(files, "export", folder, "inshape export runs/a")
    while job.is_running:
        time.sleep(0.05)
    described = jobs.describe(files, "train", "runs/a")
    assert described["state"] == "failed"
    assert described["line"].startswith("inshape: error: ")
    assert jobs.find(files, "train", folder) == job  # as another process finds it


def test_a_page_trains_only_on_what_is_below(tmp_path):
    files = Files.of(tmp_path)
    words = {"weights": "none", "size": "8x8x1", "strategy": "auto", "epochs": 1, "out": "a"}
    for source, message in (("../x", "is not below"), ("x", "there is no folder x")):
        with pytest.raises(RequestError, match=message):
            jobs.start_training(files, source, BACKBONE, **words)
    (tmp_path / "x").mkdir()
    with pytest.raises(RequestError, match="unknown weights '/etc/passwd'"):
        jobs.start_training(files, "x", BACKBONE, **{**words, "weights": "/etc/passwd"})
    with pytest.raises(RequestError, match="the studio runs no train of 'b'"):
        jobs.stop(files, "train", "b")
