"""The card of an exported file: labels, shape, preparation and whatever else a program needs."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..writing import parse_json
from .onnx_files import properties_of

CARD = "inshape.json"
"""Its name inside a LiteRT file and in the folder of a SavedModel."""
KEY = "inshape"
"""Its name among the properties of an ONNX file."""


def read_card(path: Path) -> dict[str, Any] | None:
    """The card of an exported file, from inside it or from the JSON beside it, if there is one."""
    try:
        text = _text_of(path)
        return None if text is None else parse_json(text)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RequestError(
            f"{path} cannot be used: what it says of itself cannot be read ({error}); expected the "
            "card that was exported with it; export it again"
        ) from error


def _text_of(path: Path) -> str | None:
    text = None
    if path.suffix == ".tflite" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if CARD in archive.namelist():
                text = archive.read(CARD).decode("utf-8")
    elif path.suffix == ".onnx":
        text = properties_of(path).get(KEY)
    elif (path / CARD).is_file():
        text = (path / CARD).read_text(encoding="utf-8")
    beside = path.with_name(f"{path.name}.json")
    if text is None and beside.exists():
        text = beside.read_text(encoding="utf-8")
    return text


def batch_in(card: Mapping[str, Any]) -> int:
    """Pictures per call: as many as the file is made for, one where it takes any number."""
    batch = card["input"].get("batch", 1)
    return batch if isinstance(batch, int) else 1
