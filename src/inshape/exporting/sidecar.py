"""What travels with an exported file: its card, inside and beside it, and a C array."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

from .._version import __version__
from ..runs import Run
from ..runtime.arena import Arena
from ..runtime.formats import OPSET, Format, Io

CARD = "inshape.json"
"""The card's name inside a LiteRT file and in the folder of a SavedModel."""
LABELS = "labels.txt"
"""The name under which TensorFlow Lite's own tools look for labels inside a file."""
_KEY = "inshape"  # in an ONNX file's properties


def card_of(
    run: Run, form: Format, *, io: Io, batch: int | None, is_softmax: bool
) -> dict[str, Any]:
    """Everything that a program needs to use a file rightly.

    Args:
        run: where it comes from.
        form: its format.
        io: type of input and output of a quantised file.
        batch: pictures per call of an ONNX or OpenVINO file; ``None`` for any number.
        is_softmax: whether the model puts out probabilities; logits otherwise.

    Returns:
        Plain values that JSON can hold.
    """
    request = run.record["request"]
    preparation = run.preparation
    kind = io if form.is_quantised else "float32"
    calls = 1 if form.suffix == ".tflite" else (form.takes_batch and batch) or "any"
    card: dict[str, Any] = {
        "inshape": __version__,
        "format": form.name,
        "labels": list(run.labels),
        "input": {
            "shape": request["shape"],
            "layout": "NHWC",
            "dtype": kind,
            "range": [0, 255],
            "colour": preparation.colour,
            "batch": calls,
        },
        "output": {"kind": "probabilities" if is_softmax else "logits", "dtype": kind},
        "preparation": preparation.as_dict(),
        "model": {name: request[name] for name in ("backbone", "strategy", "channels")},
    }
    if form.name == "onnx":
        card["opset"] = OPSET
    return card


def completed(card: dict[str, Any], path: Path) -> dict[str, Any]:
    """A card with what only the file itself knows: the numbers that its bytes stand for.

    Args:
        card: from `card_of`.
        path: the file, before the card is put into it.

    Returns:
        For a LiteRT file of bytes, the card with ``scale`` and ``zero_point`` of input and output:
        a byte ``q`` stands for ``scale * (q - zero_point)``. The same card otherwise.
    """
    if card["input"]["dtype"] == "float32":
        return card
    from ai_edge_litert.interpreter import (
        Interpreter,  # pyright: ignore[reportMissingTypeStubs]
    )

    run: Any = Interpreter(model_path=str(path))
    sides = {"input": run.get_input_details()[0], "output": run.get_output_details()[0]}
    numbers = {
        side: {
            "scale": float(found["quantization"][0]),
            "zero_point": int(found["quantization"][1]),
        }
        for side, found in sides.items()
    }
    return {**card, **{side: {**card[side], **numbers[side]} for side in sides}}


def embed(path: Path, form: Format, card: dict[str, Any]) -> None:
    """Put the card into the file itself.

    A LiteRT file may be followed by a ZIP archive, which is how TensorFlow Lite Metadata packs
    label files (https://ai.google.dev/edge/litert/models/metadata); ONNX has properties, and a
    SavedModel is a folder.

    Args:
        path: the file.
        form: its format; OpenVINO's and Keras's are left as they are.
        card: what to put in.
    """
    text = json.dumps(card, ensure_ascii=False)
    if form.suffix == ".tflite":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(CARD, text)
            archive.writestr(LABELS, "".join(f"{label}\n" for label in card["labels"]))
    elif form.suffix == ".onnx":
        import onnx

        model = onnx.load(str(path))
        onnx.helper.set_model_props(model, {_KEY: text, "labels": "\n".join(card["labels"])})
        onnx.save(model, str(path))
    elif form.name == "savedmodel":
        (path / CARD).write_text(text, encoding="utf-8")


def card_in(path: Path) -> dict[str, Any] | None:
    """The card of an exported file: from inside it, or from the JSON beside it.

    Args:
        path: the file.

    Returns:
        The card, or ``None`` if it has none.
    """
    text = None
    if path.suffix == ".tflite" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if CARD in archive.namelist():
                text = archive.read(CARD).decode("utf-8")
    elif path.suffix == ".onnx":
        text = _property(path)
    elif (path / CARD).is_file():
        text = (path / CARD).read_text(encoding="utf-8")
    beside = path.with_name(f"{path.name}.json")
    if text is None and beside.exists():
        text = beside.read_text(encoding="utf-8")
    return None if text is None else json.loads(text)


def _property(path: Path) -> str | None:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    try:
        session: Any = onnxruntime.InferenceSession(
            str(path), _light(onnxruntime), providers=["CPUExecutionProvider"]
        )
    except Exception:  # it is said to be unreadable where it is run
        return None
    return session.get_modelmeta().custom_metadata_map.get(_KEY)


def _light(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return options


def c_array(content: bytes, name: str, arena: Arena | None) -> str:
    """A LiteRT file as a C++ header for micro-controllers.

    Args:
        content: of the file.
        name: of the array.
        arena: the memory that it needs besides.

    Returns:
        The text.

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
