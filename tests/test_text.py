"""How numbers are read and written, and what a device's limits say."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inshape.errors import RequestError
from inshape.limits import ALL, COSTS, TIMED, Limits, format_cost
from inshape.tasks.bootstrap import Score
from inshape.text import (
    align,
    clip_name,
    first_line,
    format_bytes,
    format_count,
    format_interval,
    format_ms,
    format_number,
    format_pair,
    format_percent,
    format_points,
    format_seconds,
    format_shape,
    format_value,
    join_some,
    plural,
    read_bytes,
    read_count,
    read_ms,
)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 B"), (1, "1 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1000, "1000 B"),
        (83_000, "81.1 KiB"), (2**20 - 1, "1.0 MiB"), (2**20, "1.0 MiB"),
        (1_047_000, "1022.5 KiB"), (3 * 2**30, "3.0 GiB"), (2**30 - 1, "1.0 GiB"), (None, "?"),
    ],
)  # fmt: skip
def test_bytes_have_a_binary_unit(amount, text):
    assert format_bytes(amount) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0"), (999, "999"), (1000, "1.0K"), (999_949, "999.9K"), (999_950, "1.0M"),
        (999_999, "1.0M"), (216_589_760, "216.6M"), (1_500_000_000, "1.5G"), (None, "?"),
    ],
)  # fmt: skip
def test_counts_have_a_decimal_unit(amount, text):
    assert format_count(amount) == text


@given(st.integers(0, 2**45))
def test_what_is_written_is_near_what_it_was(amount):
    """Read back by the other half of the file, to half of the last digit."""
    for text, value in (
        (format_bytes(amount), read_bytes(format_bytes(amount))),
        (format_count(amount), read_count(format_count(amount))),
    ):
        number = float(re.match(r"[\d.]+", text)[0])
        unit = value / number if number else 1
        assert abs(value - amount) <= 0.051 * unit + 1
        assert number < 1024 or "G" in text


@given(st.floats(0, 1e9))
def test_milliseconds_are_read_back(value):
    assert read_ms(f"{value!r}ms") == value


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("256KiB", 2**18), ("256 kib", 2**18), ("1.5 MB", 1_500_000), ("1GB", 10**9),
        ("1GiB", 2**30), ("100", 100), ("100B", 100), (" 3 kB ", 3000), (".5MiB", 2**19),
        ("0.1B", 1), (512, 512), (1.5, 2), ("1e3", 1000),
    ],
)  # fmt: skip
def test_an_amount_of_memory_is_read(text, amount):
    assert read_bytes(text) == amount


def test_other_amounts_are_read():
    assert [read_count(t) for t in ("30M", "1.5g", "20 k", 7)] == [30_000_000, 1.5e9, 20_000, 7]
    assert [read_ms(t) for t in ("5ms", "5", "0.5 s", "250us", "250µs")] == [5, 5, 500, 0.25, 0.25]


@pytest.mark.parametrize(
    "value", ["", "KiB", "1 KB 2", "-1", "1,5", "1e", "1 mib s", -1, math.nan, math.inf, True, None]
)
def test_what_is_no_amount_is_refused(value):
    for read in (read_bytes, read_count, read_ms):
        with pytest.raises(RequestError, match=re.escape(f"{value!r}; expected a number with one")):
            read(value)


def test_a_long_value_is_repeated_in_part():
    with pytest.raises(RequestError) as raised:
        read_bytes("many " * 100)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (format_pair((32, 32)), "32"), (format_pair((32, 16)), "32x16"),
        (format_pair((13.714, None)), "13.7x?"), (format_pair((None, None)), "?"),
        (format_shape((7, None, 576)), "7x?x576"),
        (format_number(None), "–"), (format_number(math.inf), "–"), (format_number(0.5), "0.500"),
        (format_percent(None), "–"), (format_percent(1.0), "100.0\N{NO-BREAK SPACE}%"),
        (format_interval(None), "–"), (format_interval({"value": 1.0, "low": None}), "–"),
        (format_interval({"low": 0.0, "high": 1.0}), "0.0 to 100.0\N{NO-BREAK SPACE}%"),
        (format_points(None), "–"), (format_points(-0.0123), "-1.2"),
        (format_ms(None), "–"), (format_ms(0.1234), "0.12 ms"), (format_ms(9.996), "10.00 ms"),
        (format_ms(99.0), "99.0 ms"), (format_ms(12345.6), "12346 ms"),
        (format_seconds(9.94), "9.9 s"), (format_seconds(10), "10 s"),
        (format_seconds(3600), "1 h 0 min"), (format_seconds(7325), "2 h 2 min"),
        (format_value([]), "none"), (format_value(["a", 0.50]), "a, 0.5"),
        (format_value({"a": {"b": False}}), "a b no"),
        (plural(0, "class", "classes"), "0 classes"), (plural(1, "class", "classes"), "1 class"),
        (join_some(["a"]), "a"), (join_some([*"abcdefg"]), "a, b, c, d, e and 2 more"),
        (first_line(KeyError()), "KeyError"), (first_line("\n two  words.\nmore"), "two words"),
        (clip_name("a" * 24), "a" * 24), (clip_name("a" * 24 + "b"), "~" + "a" * 22 + "b"),
    ],
)  # fmt: skip
def test_written(written, text):
    assert written == text


def test_columns_are_as_wide_as_their_widest_cell():
    assert align([("a", "b", "1"), ("ccc", "", "100")], left=2) == ["a    b    1", "ccc     100"]


def candidate(**values):
    """What a candidate is for its limits."""
    return SimpleNamespace(**{**dict.fromkeys(ALL), **values})


@pytest.mark.parametrize(
    ("name", "value", "limit", "text"),
    [
        ("flash_bytes", 262_144, 256_000, "flash 256.0 KiB is over 250.0 KiB"),
        ("flash_bytes", 1_028, 1_024, "flash 1.004 KiB is over 1.000 KiB"),
        ("flash_bytes", 1_004, 1_000, "flash 1004 B is over 1000 B"),
        ("ram_bytes", 500, 200, "RAM 500 B is over 200 B"),
        ("ram_bytes", 2**20 + 1, 2**20, "RAM 1.000001 MiB is over 1.000000 MiB"),
        ("macs", 93_000, 20_000, "93.0 kMACs is over 20.0 kMACs"),
        ("macs", 30_000_001, 30_000_000, "30.000001 MMACs is over 30.000000 MMACs"),
        ("macs", 12, 9, "12 MACs is over 9 MACs"),
        ("latency_ms", 0.5304, 0.53, "latency 0.5304 ms is over 0.5300 ms"),
        ("latency_ms", 12.34, 5.0, "latency 12.3 ms is over 5.00 ms"),
        ("accuracy", Score(0.5, 0.4, 0.6), 0.51, "accuracy 0.500 is under 0.51"),
    ],
)
def test_a_value_and_its_limit_are_told_apart(name, value, limit, text):
    field = "min_accuracy" if name == "accuracy" else f"max_{name.split('_')[0]}"
    limits = Limits(**{field: limit})
    assert limits.of(name) == limit
    assert limits.exceeded_by(candidate(**{name: value})) == text
    assert limits.is_any


def test_what_is_at_its_limit_keeps_to_it():
    limits = Limits(max_macs=9, max_ram="1KiB", max_latency="2ms", min_accuracy=0.5)
    at = candidate(macs=9, ram_bytes=1024, latency_ms=2.0, accuracy=Score(0.5, 0.4, 0.6))
    assert limits.exceeded_by(at) is None
    assert not Limits().is_any
    assert Limits().exceeded_by(candidate()) is None


def test_what_is_not_known_is_over_the_limit():
    untimed = candidate(macs=5)
    assert Limits(max_macs=6).exceeded_by(untimed) is None
    for field, name, word in (
        ("max_latency", "latency_ms", "latency"), ("max_macs", "macs", "number of MACs"),
        ("max_flash", "flash_bytes", "flash"), ("max_ram", "ram_bytes", "RAM"),
        ("min_accuracy", "accuracy", "accuracy"),
    ):  # fmt: skip
        text = f"its {word} is not known, and there is a limit"
        assert Limits(**{field: 1}).exceeded_by(candidate(), [name]) == text
    # What is not known yet is asked for later.
    assert Limits(min_accuracy=0.5).exceeded_by(untimed, TIMED) is None


def test_accuracy_is_a_share():
    with pytest.raises(RequestError, match=re.escape("min_accuracy=80.0; expected 0 to 1")):
        Limits(min_accuracy=80)


def test_every_cost_is_written_with_its_unit():
    texts = [format_cost(name, 2_000_000) for name in COSTS]
    assert texts == ["2000000 ms", "2.0 MMACs", "1.9 MiB", "1.9 MiB"]
