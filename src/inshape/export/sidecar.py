"""What travels with an exported file: its card, inside and beside it, an example, a C array."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._version import __version__
from ..data.decode import DRAFT_GAP
from ..data.prepare import Preparation
from ..runs import Run
from .formats import Format, Io

CARD = "inshape.json"
"""The card's name inside a LiteRT file, and its key in an ONNX one."""
LABELS = "labels.txt"
"""The name under which TensorFlow Lite's own tools look for labels inside a file."""


def card_of(run: Run, form: Format, io: Io) -> dict[str, Any]:
    """Everything that a program needs to use a file rightly.

    Args:
        run: where it comes from.
        form: its format.
        io: type of input and output of a quantised file.

    Returns:
        Plain values that JSON can hold.
    """
    request = run.record["request"]
    preparation = run.preparation
    model_shape = request["shape"]
    return {
        "inshape": __version__,
        "format": form.name,
        "labels": list(run.labels),
        "input": {
            "shape": model_shape,
            "layout": "NHWC",
            "dtype": io if form.is_quantised else "float32",
            "range": [0, 255],
            "colour": preparation.colour,
        },
        "output": {"kind": "probabilities", "dtype": io if form.is_quantised else "float32"},
        "preparation": preparation.as_dict(),
        "model": {name: request[name] for name in ("backbone", "strategy", "channels")},
    }


def embed(path: Path, form: Format, card: dict[str, Any]) -> None:
    """Put the card into the file itself.

    A LiteRT file may be followed by a ZIP archive, which is how TensorFlow Lite Metadata packs
    label files (https://ai.google.dev/edge/litert/models/metadata); ONNX has properties.

    Args:
        path: the file.
        form: its format; others than LiteRT and ONNX are left as they are.
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
        onnx.helper.set_model_props(model, {"inshape": text, "labels": "\n".join(card["labels"])})
        onnx.save(model, str(path))


def card_in(path: Path) -> dict[str, Any] | None:
    """The card of an exported file: from inside it, or from the JSON beside it.

    Args:
        path: the file.

    Returns:
        The card, or ``None`` if it has none.
    """
    beside = path.with_name(f"{path.name}.json")
    if path.suffix == ".tflite" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if CARD in archive.namelist():
                return json.loads(archive.read(CARD))
    if beside.exists():
        return json.loads(beside.read_text(encoding="utf-8"))
    return None


_CALLS = {
    ".tflite": (
        "from ai_edge_litert.interpreter import Interpreter",
        """model = Interpreter(file)
model.allocate_tensors()
taken, given = model.get_input_details()[0], model.get_output_details()[0]
if taken["dtype"] != np.float32:
    scale, zero = taken["quantization"]
    limits = np.iinfo(taken["dtype"])
    pixels = np.clip(np.round(pixels / scale + zero), limits.min, limits.max)
model.set_tensor(taken["index"], pixels[None].astype(taken["dtype"]))
model.invoke()
answer = model.get_tensor(given["index"])[0]""",
    ),
    ".onnx": (
        "import onnxruntime",
        """model = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
answer = model.run(None, {"picture": pixels[None]})[0][0]""",
    ),
    ".xml": (
        "import openvino",
        """settings = {"INFERENCE_PRECISION_HINT": "f32"}
model = openvino.Core().compile_model(file, "CPU", settings)
answer = model(pixels[None])[0][0]""",
    ),
}


def example(path: Path, preparation: Preparation, labels: Sequence[str]) -> str | None:
    """A short program that classifies a picture with nothing but the runtime, NumPy and Pillow.

    Args:
        path: the file.
        preparation: how its pictures are prepared.
        labels: its classes.

    Returns:
        The text; ``None`` where the format or the preparation needs more than that.
    """
    height, width = preparation.shape.hw
    simple = preparation.fit == "stretch" and preparation.antialias
    simple &= preparation.interpolation in ("bilinear", "bicubic")
    simple &= preparation.colour in ("grey", "rgb") and preparation.full_scale is None
    if path.suffix not in _CALLS or not simple or height is None or width is None:
        return None
    imported, called = _CALLS[path.suffix]
    mode = "L" if preparation.colour == "grey" else "RGB"
    draft_wh = math.ceil(width * DRAFT_GAP), math.ceil(height * DRAFT_GAP)
    pixels = "np.asarray(picture, np.float32)" + ("[..., None]" if mode == "L" else "")
    return f'''"""Classify a picture: python {path.name}.py PICTURE"""

import sys
from pathlib import Path

import numpy as np
{imported}
from PIL import Image, ImageOps

file = str(Path(__file__).parent / {path.name!r})
labels = {list(labels)!r}
picture = Image.open(sys.argv[1])
picture.draft({mode!r}, ({draft_wh[0]}, {draft_wh[1]}))  # a large JPEG is decoded smaller
picture = ImageOps.exif_transpose(picture).convert({mode!r})
picture = picture.resize(({width}, {height}), Image.Resampling.{preparation.interpolation.upper()})
pixels = {pixels}
{called}
print(labels[int(answer.argmax())])
'''


def c_array(content: bytes, name: str, arena_bytes: int) -> str:
    """A LiteRT file as a C source for micro-controllers.

    Args:
        content: of the file.
        name: of the array.
        arena_bytes: what its tensors take.

    Returns:
        The text of a header.

    Example:
        >>> c_array(bytes([1, 255]), "model", 64).splitlines()[-2].strip()
        '0x01, 0xff,'
    """
    rows = [
        "    " + " ".join(f"0x{byte:02x}," for byte in content[i : i + 16])
        for i in range(0, len(content), 16)
    ]
    return "\n".join(
        [
            "// For TensorFlow Lite Micro. The arena holds the tensors; the interpreter's own",
            "// records come on top (a few KiB to some tens, printed by arena_used_bytes()).",
            "#pragma once",
            "#include <cstddef>",
            f"constexpr size_t {name}_tensor_bytes = {arena_bytes};",
            f"constexpr size_t {name}_size = {len(content)};",
            f"alignas(16) const unsigned char {name}[] = {{",
            *rows,
            "};",
            "",
        ]
    )
