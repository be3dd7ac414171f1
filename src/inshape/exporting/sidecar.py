"""What travels with an exported file: its card, inside and beside it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from .._version import __version__
from ..importing.imported import CARD_KEY
from ..runs import Run
from ..runtime.cards import CARD
from ..runtime.formats import OPSET, Format
from ..runtime.litert import quantisation_of
from ..runtime.metadata import Description, add_metadata
from ..shapes import InputShape
from ..tasks.find import restore_task
from ..writing import format_json
from .request import ExportRequest

LABELS = "labels.txt"
"""The name of the classes inside a LiteRT file, where its metadata and older tools look."""


def make_card(run: Run, form: Format, request: ExportRequest, *, is_final: bool) -> dict[str, Any]:
    """Everything that a program needs to use a file, as plain values."""
    plan = run.record["plan"]
    preparation, words = run.preparation, run.task.output_words
    dtype = form.io_of(request.io)
    per_call = 1 if form.suffix == ".tflite" else (form.takes_batch and request.batch) or "any"
    card: dict[str, Any] = {
        "inshape": __version__,
        "format": form.name,
        "task": run.task.as_dict(),
        "labels": list(run.labels),
        "input": {
            "shape": plan["input_shape"],
            "layout": "NHWC",
            "dtype": dtype,
            "range": [0, 255],
            "colour": preparation.colour,
            "batch": per_call,
        },
        "output": {"kind": words[0] if is_final else words[1], "dtype": dtype},
        "preparation": preparation.as_dict(),
        "model": {name: plan[name] for name in ("backbone", "strategy", "channels")},
    }
    if form.name == "onnx":
        card["opset"] = OPSET
    if form.is_quantised:
        card["weights"] = {"dtype": "int8", "granularity": request.granularity}
    return card


def add_quantisation(card: dict[str, Any], path: Path) -> dict[str, Any]:
    """A card with what only a LiteRT file of bytes knows: ``scale`` and ``zero_point``.

    A byte ``q`` of input or output stands for ``scale * (q - zero_point)``.
    """
    if card["input"]["dtype"] == "float32":
        return card
    numbers = quantisation_of(path)
    return {**card, **{side: {**card[side], **numbers[side]} for side in numbers}}


def embed(path: Path, form: Format, card: dict[str, Any]) -> None:
    """Put the card into the file itself; OpenVINO's and Keras's are left as they are.

    A LiteRT file has metadata and may be followed by a ZIP archive, in which TensorFlow Lite
    Metadata packs label files (https://ai.google.dev/edge/litert/models/metadata); ONNX has
    properties, and a SavedModel is a folder.
    """
    text = format_json(card)
    if form.suffix == ".tflite":
        path.write_bytes(add_metadata(path.read_bytes(), _describe(card)))
        # A FlatBuffer says itself where everything stands: what follows it disturbs no reader.
        # Entries without a date: the same model is the same file.
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(zipfile.ZipInfo(CARD), text)
            labels = "".join(f"{label}\n" for label in card["labels"])
            archive.writestr(zipfile.ZipInfo(LABELS), labels)
    elif form.suffix == ".onnx":
        import onnx

        model = onnx.load(str(path))
        onnx.helper.set_model_props(model, {CARD_KEY: text, "labels": "\n".join(card["labels"])})
        onnx.save(model, str(path))
    elif form.name == "savedmodel":
        (path / CARD).write_text(text, encoding="utf-8")


def _describe(card: dict[str, Any]) -> Description:
    return Description(
        name=card["model"]["backbone"],
        version=card["inshape"],
        colour=card["input"]["colour"],
        size_hw=InputShape.of(card["input"]["shape"]).hw,
        labels_file=LABELS,
        output=card["output"]["kind"],
        says=restore_task(card["task"], card["labels"]).output_words[2],
    )
