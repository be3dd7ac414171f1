"""Every bad input gets one line of inshape's own; ``pytest -s`` prints the table."""

from __future__ import annotations

import importlib
import pkgutil
import re
import warnings
from pathlib import Path

from tests import bad_inputs
from tests.bad_inputs.case import BadInput

from inshape.errors import InshapeError


def _all() -> list[tuple[str, BadInput]]:
    rooms = sorted(module.name for module in pkgutil.iter_modules(bad_inputs.__path__))
    return [
        (room, bad)
        for room in rooms
        if room != "case"
        for bad in importlib.import_module(f"tests.bad_inputs.{room}").BAD_INPUTS
    ]


def _answer(bad: BadInput, folder: Path) -> tuple[str, str]:
    """What was said, and what is wrong with how it was said."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            returned = bad.give(folder)
        except InshapeError as error:
            answer, fault = str(error), ""
            if "\n" in answer.strip():
                fault = "more than one line"
            elif "unexpected" in answer:
                fault = "an error that nobody foresaw"
        except Exception as error:
            answer, fault = f"{type(error).__name__}: {error}", "not an error of inshape's own"
        else:
            said = [str(warning.message) for warning in warned]
            answer, fault = "; ".join([*said, str(returned)]), ""
    if not fault and not re.search(bad.answer, answer):
        fault = f"does not hold {bad.answer!r}"
    return answer, fault


def test_every_bad_input_has_its_answer(tmp_path):
    faults = []
    for number, (room, bad) in enumerate(_all()):
        folder = tmp_path / str(number)
        folder.mkdir()
        answer, fault = _answer(bad, folder)
        said = answer.replace(str(folder), "")
        print(f"{room:10} {bad.name:45} {said}")
        if fault:
            faults.append(f"{room}: {bad.name}: {fault}: {said}")
    assert not faults, "\n".join(faults)
