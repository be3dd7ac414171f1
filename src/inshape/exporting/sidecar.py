"""What travels with an exported file: its card, inside and beside it, and a C array."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import RequestError
from ..runs import Run
from ..runtime.arena import Arena
from ..runtime.formats import OPSET, Format, Io
from ..runtime.litert import quantisation_of
from ..runtime.onnx_files import properties_of
from ..writing import format_json, parse_json

CARD = "inshape.json"
"""The card's name inside a LiteRT file and in the folder of a SavedModel."""
LABELS = "labels.txt"
"""The name under which TensorFlow Lite's own tools look for labels inside a file."""
_KEY = "inshape"  # in an ONNX file's properties


def make_card(
    run: Run, form: Format, *, io: Io, batch: int | None, is_softmax: bool
) -> dict[str, Any]:
    """Everything that a program needs to use a file, as plain values; see `ExportRequest`."""
    plan = run.record["plan"]
    preparation = run.preparation
    dtype = io if form.is_quantised else "float32"
    per_call = 1 if form.suffix == ".tflite" else (form.takes_batch and batch) or "any"
    card: dict[str, Any] = {
        "inshape": __version__,
        "format": form.name,
        "labels": list(run.labels),
        "input": {
            "shape": plan["input_shape"],
            "layout": "NHWC",
            "dtype": dtype,
            "range": [0, 255],
            "colour": preparation.colour,
            "batch": per_call,
        },
        "output": {"kind": "probabilities" if is_softmax else "logits", "dtype": dtype},
        "preparation": preparation.as_dict(),
        "model": {name: plan[name] for name in ("backbone", "strategy", "channels")},
    }
    if form.name == "onnx":
        card["opset"] = OPSET
    return card


def batch_in(card: Mapping[str, Any]) -> int:
    """Pictures per call: as many as the file is made for, one where it takes any number."""
    batch = card["input"].get("batch", 1)
    return batch if isinstance(batch, int) else 1


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

    A LiteRT file may be followed by a ZIP archive, which is how TensorFlow Lite Metadata packs
    label files (https://ai.google.dev/edge/litert/models/metadata); ONNX has properties, and a
    SavedModel is a folder.
    """
    text = format_json(card)
    if form.suffix == ".tflite":
        # A FlatBuffer says itself where everything stands: what follows it disturbs no reader.
        # Entries without a date: the same model is the same file.
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(zipfile.ZipInfo(CARD), text)
            labels = "".join(f"{label}\n" for label in card["labels"])
            archive.writestr(zipfile.ZipInfo(LABELS), labels)
    elif form.suffix == ".onnx":
        import onnx

        model = onnx.load(str(path))
        onnx.helper.set_model_props(model, {_KEY: text, "labels": "\n".join(card["labels"])})
        onnx.save(model, str(path))
    elif form.name == "savedmodel":
        (path / CARD).write_text(text, encoding="utf-8")


def read_card(path: Path) -> dict[str, Any] | None:
    """The card of an exported file, from inside it or from the JSON beside it, if there is one."""
    text = None
    if path.suffix == ".tflite" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if CARD in archive.namelist():
                text = archive.read(CARD).decode("utf-8")
    elif path.suffix == ".onnx":
        text = properties_of(path).get(_KEY)
    elif (path / CARD).is_file():
        text = (path / CARD).read_text(encoding="utf-8")
    beside = path.with_name(f"{path.name}.json")
    if text is None and beside.exists():
        text = beside.read_text(encoding="utf-8")
    if text is None:
        return None
    try:
        return parse_json(text)
    except ValueError as error:
        raise RequestError(
            f"{path} cannot be used: what it says of itself is no JSON ({error}); expected the "
            "card that was exported with it; export it again"
        ) from error


def c_array(content: bytes, name: str, arena: Arena | None) -> str:
    """A LiteRT file as a C++ header for micro-controllers, with the memory that it needs besides.

    Example:
        >>> c_array(bytes([1, 255]), "model", Arena(64, 96)).splitlines()[-2].strip()
        '0x01, 0xff,'
    """
    rows = [
        "    " + " ".join(f"0x{byte:02x}," for byte in content[i : i + 16])
        for i in range(0, len(content), 16)
    ]
    return "\n".join(
        [
            "// For TensorFlow Lite for Microcontrollers.",
            "#pragma once",
            "#include <cstddef>",
            *_arena_lines(name, arena),
            f"constexpr size_t {name}_size = {len(content)};",
            f"alignas(16) const unsigned char {name}[] = {{",
            *rows,
            "};",
            "",
        ]
    )


def _arena_lines(name: str, arena: Arena | None) -> list[str]:
    if arena is None:
        return ["// Its arena depends on the size of the picture."]
    tensors = f"constexpr size_t {name}_tensor_bytes = {arena.tensor_bytes};"
    if arena.total_bytes is None:
        return [
            "// What the tensors take at most at one moment. The arena must hold the interpreter's",
            "// own records besides; arena_used_bytes() tells, and so does exporting with the",
            "// package tflite-micro installed.",
            tensors,
        ]
    return [
        "// What the interpreter took when it ran this file, measured with its reference kernels",
        "// on a 64-bit machine; optimised kernels may need scratch memory besides.",
        f"constexpr size_t {name}_arena_size = {arena.total_bytes};",
        "// Of it, what the tensors take at most at one moment.",
        tensors,
    ]
