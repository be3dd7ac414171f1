"""Every family, rebuilt, is what its own constructor builds: a part of ``benchmarks.families``.

The benchmark takes the published networks at ten sizes.
"""

from __future__ import annotations

from dataclasses import replace

import keras
import pytest
from benchmarks.families import Case, cases, compare
from tests.narrow import NARROW

_REPEATED = {
    "MobileNetV3Small-1.0",
    "MobileNetV3Small-1.0-minimalistic",
    "MobileNetV3Large-1.0",
    "MobileNetV3Large-1.0-minimalistic",
    "MobileNetV3Large-0.75-minimalistic",
}
"""Wider than one that is here, or of the blocks of two."""

_CASES = [
    pytest.param(replace(case, make=NARROW.get(case.name, case.make)), id=case.name)
    for case in cases()
    # The top of a large network is built at one shape only; MobileNetV3's is part of the subject.
    if case.arguments["include_top"] == case.name.startswith("MobileNetV3")
    if case.name not in _REPEATED
]


@pytest.mark.slow
@pytest.mark.parametrize("case", _CASES)
def test_rebuilt_equals_the_constructors_own(case: Case):
    # One size for both, so that the constructor's own network is made and run once. The benchmark
    # tries ten sizes.
    rows = list(compare(case, ("97x130x3",), ((97, 130),), statistics_hw=(97, 130)))
    keras.utils.clear_session()
    static, *dynamic = rows
    assert static.largest_difference is not None, static.note
    assert static.between_pictures > 1e-3 * static.largest_output, "the output ignores its input"
    assert static.largest_difference <= 1e-5 * static.largest_output
    (at_run_time,) = dynamic
    if case.name.startswith("NASNet"):
        assert "pads by the size of its map" in at_run_time.note
    else:
        assert at_run_time.largest_difference <= 1e-5 * at_run_time.largest_output
