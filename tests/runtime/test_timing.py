"""Files timed in processes of their own: one, or several in turns."""

from __future__ import annotations

import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from inshape.errors import RunError
from inshape.runtime import timing
from inshape.runtime.litert_files import to_litert
from inshape.runtime.timing import time_file, time_together

layers = keras.layers
SHAPE = (33, 24, 1)


def network(filters):
    image = keras.Input(SHAPE)
    x = layers.Conv2D(filters, 3, activation="relu")(image)
    x = layers.Conv2D(filters, 3, activation="relu")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x))


@pytest.fixture(scope="module")
def files():
    return {n: (to_litert(network(filters)), SHAPE) for n, filters in ((4, 2), (7, 128))}


def test_each_file_has_its_times(files):
    times = time_together(files)
    assert list(times) == [4, 7]
    for rows in times.values():
        assert rows[0][0] == 1
        assert all(0 < median <= p95 for _, median, p95 in rows)
    assert times[4][0][1] < times[7][0][1]  # 1 to 4,000 in operations


def test_a_file_that_cannot_be_run_does_not_stop_the_rest(files):
    times = time_together({1: (b"no file", SHAPE), 4: files[4]})
    assert np.isfinite(times[4][0][1])
    assert isinstance(times[1], RunError)
    text = r"a LiteRT file could not be timed \(.*cannot be read by litert.*\); expected one that"
    assert re.match(text, str(times[1]))


def test_nothing_takes_no_process(monkeypatch):
    monkeypatch.setattr("subprocess.run", None)
    assert time_together({}) == {}


def test_a_file_that_cannot_be_timed_says_why(tmp_path):
    path = tmp_path / "a.tflite"
    path.write_bytes(b"no file")
    text = rf"{re.escape(str(path))} could not be timed \(.*cannot be read by litert.*\); expected"
    with pytest.raises(RunError, match=text):
        time_file(path, SHAPE, threads=1)


def test_every_turn_runs_every_file_with_each_number_of_threads(files, tmp_path, monkeypatch):
    path = tmp_path / "a.tflite"
    path.write_bytes(files[4][0])
    loads = []
    real = timing._measure_once
    monkeypatch.setattr(
        timing, "_measure_once", lambda *words: loads.append(words[1]) or real(*words)
    )
    file = timing.File(str(path), (1, *SHAPE), threads=(1, 2))
    effort = timing.Effort(turns=2, warm_ups=1, least_runs=3, seconds=0.0)
    rows = timing.measure([file], effort)
    assert loads == [1, 2, 1, 2]
    assert [(row.threads, row.runs) for row in rows] == [(1, 6), (2, 6)]


def test_a_litert_file_is_timed_without_a_framework(files, tmp_path):
    path = tmp_path / "a.tflite"
    path.write_bytes(files[4][0])
    code = (
        "import sys\n"
        "from inshape.runtime import formats, runners, timing\n"
        f"timing.measure([timing.File({str(path)!r}, {(1, *SHAPE)}, (1,))],"
        " timing.Effort(1, 0, 1, 0.0))\n"
        "assert 'ai_edge_litert' in sys.modules\n"
        "assert not {'keras', 'tensorflow', 'sklearn', 'scipy'} & set(sys.modules)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
