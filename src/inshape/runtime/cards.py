"""The card of an exported file: labels, shape, preparation and whatever else a program needs."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..graph.hdf5 import DAMAGE
from ..importing.imported import CARD_KEY
from ..text import first_line
from ..writing import parse_json, reading
from .onnx_files import properties_of

CARD = "inshape.json"
"""Its name inside a LiteRT file and in the folder of a SavedModel."""
_CARD = "the card that was exported with it; export it again"
_MOST_PICTURES = 2**16


def read_card(path: Path) -> dict[str, Any] | None:
    """The card of an exported file, from inside it or from the JSON beside it, if there is one."""
    try:
        text = _text_of(path)
        return None if text is None else parse_json(text)
    except DAMAGE as error:
        raise RequestError(
            f"{path} cannot be used: what it says of itself cannot be read ({first_line(error)}); "
            f"expected {_CARD}"
        ) from error


def _text_of(path: Path) -> str | None:
    text = None
    if path.suffix == ".tflite" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if CARD in archive.namelist():
                text = archive.read(CARD).decode("utf-8")
    elif path.suffix == ".onnx":
        text = properties_of(path).get(CARD_KEY)
    elif (path / CARD).is_file():
        text = (path / CARD).read_text(encoding="utf-8")
    beside = path.with_name(f"{path.name}.json")
    if text is None and beside.exists():
        text = beside.read_text(encoding="utf-8")
    return text


def reading_card(path: Path) -> AbstractContextManager[None]:
    """Say in one line that what is looked up in a file's card is not as it was exported."""
    return reading(path, f"{_CARD}, inside it or beside it")


def batch_in(card: Mapping[str, Any]) -> int:
    """Pictures per call: as many as the file is made for, one where it takes any number."""
    batch = card["input"].get("batch", 1)
    return batch if isinstance(batch, int) and 1 <= batch <= _MOST_PICTURES else 1
