"""Several files timed in turns, in a process of their own."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

from inshape.errors import RunError
from inshape.runtime.conversion import litert_file
from inshape.runtime.latency import latencies

layers = keras.layers


def network(filters):
    image = keras.Input((33, 24, 1))
    x = layers.Conv2D(filters, 3, activation="relu")(image)
    x = layers.Conv2D(filters, 3, activation="relu")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x))


@pytest.fixture(scope="module")
def files():
    return {n: (litert_file(network(filters)), (33, 24, 1)) for n, filters in ((4, 2), (7, 128))}


def test_each_file_has_its_times(files):
    found = latencies(files)
    assert list(found) == [4, 7]
    for rows in found.values():
        assert rows[0][0] == 1
        assert all(0 < median <= p95 for _, median, p95 in rows)
    assert found[4][0][1] < found[7][0][1]  # 1 to 4,000 in operations


def test_a_file_that_cannot_be_run_does_not_stop_the_rest(files):
    found = latencies({1: (b"no file", (33, 24, 1)), 4: files[4]})
    assert np.isfinite(found[4][0][1])
    assert isinstance(found[1], RunError)
    text = r"a LiteRT file could not be timed \(.*cannot be read by litert.*\); expected one that"
    assert re.match(text, str(found[1]))


def test_nothing_takes_no_process(monkeypatch):
    monkeypatch.setattr("subprocess.run", None)
    assert latencies({}) == {}
