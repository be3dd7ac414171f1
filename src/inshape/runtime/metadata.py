"""TensorFlow Lite Metadata: what a LiteRT file says of its picture and its scores.

MediaPipe Tasks, ML Kit and Android Studio read it: how pixels become numbers, and which of the
files behind the model names the classes. No package that is kept up writes it without MediaPipe's
whole runtime, so its tables are written here, by the numbers that their fields have in
``metadata_schema.fbs`` (https://github.com/google-ai-edge/mediapipe, ``mediapipe/tasks/metadata``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np

from ..importing.litert_file import METADATA, litert_schema
from .flatbuffer import pack_model, read_model

_IDENTIFIER = b"M001"
_PARSER = "1.0.0"
"""The first version of the schema, which has every field that is used here."""
_OUTPUTS = {"probabilities": "probability", "logits": "logit", "values": "value"}
_COLOURS = {"rgb": 1, "grey": 2}
_FEATURE, _IMAGE = 1, 2  # kinds of content
_NORMALISATION = 1  # a kind of process unit
_AXIS_LABELS = 2  # a kind of associated file


@dataclass(frozen=True, slots=True)
class Description:
    """What a classifier's file says of itself."""

    name: str
    version: str
    colour: str
    """``"rgb"``, ``"grey"``, or another word for channels that are neither."""
    size_hw: tuple[int | None, int | None]
    labels_file: str
    """The name, in the archive behind the model, of the file with one class per line."""
    output: str
    """``"probabilities"`` in [0, 1], ``"logits"``, or ``"values"``."""
    says: str
    """What each of them says."""


def add_metadata(content: bytes, description: Description) -> bytes:
    """A LiteRT file that says how it is used; its network stays as it is."""
    model, schema = read_model(content), litert_schema()
    entry: Any = schema.MetadataT()
    entry.name, entry.buffer = METADATA, len(model.buffers)
    buffer: Any = schema.BufferT()
    buffer.data = np.frombuffer(compose_metadata(description), np.uint8)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), entry]
    return pack_model(model)


def compose_metadata(description: Description) -> bytes:
    """The metadata alone."""
    writer = _Writer()
    model = writer.table(
        (0, "text", description.name),
        (1, "text", "Says what is in a picture."),
        (2, "text", description.version),
        (3, "tables", [_subgraph(writer, description)]),
        (7, "text", _PARSER),
    )
    return writer.finish(model)


def _subgraph(writer: _Writer, description: Description) -> int:
    # The network takes pixels as they are: its own layers bring them to the range that it needs.
    normalisation = writer.table((0, "floats", [0.0]), (1, "floats", [1.0]))
    unit = writer.table((0, "Uint8", _NORMALISATION), (1, "table", normalisation))
    picture = writer.table(
        (0, "text", "image"),
        (1, "text", "The picture, its pixels from 0 to 255."),
        (3, "table", _content(writer, _IMAGE, _image(writer, description))),
        (4, "tables", [unit]),
        (5, "table", writer.table((0, "floats", [255.0]), (1, "floats", [0.0]))),
    )
    labels = writer.table(
        (0, "text", description.labels_file),
        (1, "text", "The classes, one per line."),
        (2, "Int8", _AXIS_LABELS),
    )
    name, says = _OUTPUTS[description.output], description.says
    if description.output == "logits":
        says = "The score of each class before the last activation."
    score = [
        (0, "text", name),
        (1, "text", says),
        (3, "table", _content(writer, _FEATURE, writer.table())),
        (6, "tables", [labels]),
    ]
    if description.output == "probabilities":
        score.append((5, "table", writer.table((0, "floats", [1.0]), (1, "floats", [0.0]))))
    return writer.table((2, "tables", [picture]), (3, "tables", [writer.table(*score)]))


def _image(writer: _Writer, description: Description) -> int:
    height, width = description.size_hw
    fields: list[_Field] = [(0, "Int8", _COLOURS.get(description.colour, 0))]
    if height is not None and width is not None:
        fields.append((1, "table", writer.table((0, "Uint32", width), (1, "Uint32", height))))
    return writer.table(*fields)


def _content(writer: _Writer, kind: int, properties: int) -> int:
    return writer.table((0, "Uint8", kind), (1, "table", properties))


_Field = tuple[int, str, Any]
"""The number of a field in its table, the kind of its value, and the value."""


class _Writer:
    """Writes the tables of a FlatBuffer, inner ones first."""

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1024)

    def table(self, *fields: _Field) -> int:
        """A table of such fields; where it stands."""
        # What a field refers to stands before the table that holds it.
        placed = [(number, *self._place(kind, value)) for number, kind, value in fields]
        self._builder.StartObject(1 + max((number for number, _, _ in placed), default=-1))
        for number, kind, value in placed:
            prepend: Callable[[int, Any, int], None] = getattr(self._builder, f"Prepend{kind}Slot")
            prepend(number, value, 0)
        return int(self._builder.EndObject())

    def finish(self, root: int) -> bytes:
        """The whole."""
        self._builder.Finish(root, file_identifier=_IDENTIFIER)
        return bytes(self._builder.Output())

    def _place(self, kind: str, value: Any) -> tuple[str, Any]:
        if kind == "text":
            value = self._builder.CreateString(value)
        elif kind == "floats":
            value = self._builder.CreateNumpyVector(np.asarray(value, np.float32))
        elif kind == "tables":
            value = self._vector(value)
        elif kind != "table":
            return kind, value
        return "UOffsetTRelative", value

    def _vector(self, tables: Sequence[int]) -> int:
        self._builder.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            self._builder.PrependUOffsetTRelative(table)
        return int(self._builder.EndVector())
