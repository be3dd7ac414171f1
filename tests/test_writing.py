"""JSON holds finite numbers, whoever writes and whoever reads it."""

from __future__ import annotations

import re

import pytest

from inshape.errors import RunError
from inshape.writing import format_json, parse_json, write_json


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_written(number, tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"loss": 1.5})
    line = re.escape(f"a result is {number} (metrics.head[1]), which JSON cannot hold")
    with pytest.raises(RunError, match=line):
        write_json(path, {"metrics": {"head": [0.5, number]}})
    assert parse_json(path.read_text()) == {"loss": 1.5}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_what_is_not_finite_is_not_read(word):
    with pytest.raises(ValueError, match=f"it holds {word}, which is no finite number"):
        parse_json(f'{{"loss": {word}}}')


def test_numbers_come_back_as_they_were():
    values = {"a": [0.1, -3, 1e300, None, True], "b": {"c": "NaN"}}
    assert parse_json(format_json(values, indent=2)) == values
