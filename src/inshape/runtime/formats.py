"""The formats that a model can be exported to, and what each needs.

A new one is a module with two functions, ``write(model, path, conversion)`` and
``load(path, threads)``, and a line in `FORMATS`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RequestError, UnknownName
from ..extras import install
from ..geometry.operators import Io

OPSET = 17
"""The ONNX operator set: read by onnxruntime from 1.12 on."""


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of exported file."""

    name: str
    suffix: str
    """Of the file or folder."""
    files: str
    """The module here that writes and loads it."""
    runtime: str
    """What runs it; imported before a loading is timed."""
    needs: tuple[str, ...] = ()
    """The modules that write and run it."""
    extra: str = ""
    """What to install for them."""
    is_quantised: bool = False
    """Whether it is calibrated on pictures."""
    is_micro: bool = False
    """Whether it is for micro-controllers: bytes in and out, and their operators alone."""
    marker: str = ""
    """A file by which a folder of this kind is known, where its name has no suffix."""
    takes_batch: bool = False
    """Whether the number of pictures per call can be fixed; LiteRT files take one."""

    def is_of(self, path: Path) -> bool:
        """Whether a file or folder is of this kind, by its name or what lies in it."""
        if self.marker:
            return (path / self.marker).exists()
        return path.suffix.lower() == self.suffix

    def io_of(self, io: Io) -> Io:
        """The type of its input and output where ``io`` is asked for."""
        if not self.is_quantised:
            return "float32"
        return "int8" if self.is_micro else io

    @property
    def module(self) -> str:
        """The full name of the module that writes and loads it."""
        return f"{__package__}.{self.files}"


def _litert(name: str, *tools: str, extra: str = "cpu") -> Format:
    return Format(
        name=name,
        suffix=".tflite",
        files="litert_files",
        runtime="ai_edge_litert.interpreter",
        needs=("ai_edge_litert", *tools),
        extra=extra,
        is_quantised=bool(tools),
    )


_ONNX = ("tf2onnx", "onnx", "onnxruntime")
_ALL = (
    _litert("litert"),
    _litert("litert-float16"),
    _litert("litert-dynamic"),
    _litert("litert-int8", "ai_edge_quantizer", extra="cpu"),
    Format(
        name="micro",
        suffix=".tflite",
        files="litert_files",
        runtime="ai_edge_litert.interpreter",
        needs=("ai_edge_litert", "ai_edge_quantizer", "tflite_micro"),
        extra="cpu,micro",
        is_quantised=True,
        is_micro=True,
    ),
    Format(
        name="onnx",
        suffix=".onnx",
        files="onnx_files",
        runtime="onnxruntime",
        needs=_ONNX,
        extra="onnx",
        takes_batch=True,
    ),
    Format(
        name="openvino",
        suffix=".xml",
        files="openvino_files",
        runtime="openvino",
        needs=(*_ONNX, "openvino"),
        extra="onnx,openvino",
        takes_batch=True,
    ),
    Format(
        name="savedmodel",
        suffix="",
        files="savedmodel_files",
        runtime="tensorflow",
        marker="saved_model.pb",
    ),
    # inshape's own layers, which a file may hold, are known to Keras once they are imported.
    Format(name="keras", suffix=".keras", files="keras_files", runtime="inshape.graph.layers"),
)
FORMATS = {form.name: form for form in _ALL}
"""Every format by name: LiteRT as it is, with float16 weights, with int8 weights, all in int8, and
that for micro-controllers, with C files; then those of other runtimes."""


def format_name(value: Any) -> str:
    """Read the name of a format, in any case."""
    name = str(value).strip().lower()
    if name not in FORMATS:
        raise UnknownName("format", value, FORMATS)
    return name


def formats_of(names: Sequence[str]) -> tuple[Format, ...]:
    """The formats of these names, once each; their tools are installed.

    Raises:
        RequestError: if none is named, or a tool is missing.
    """
    forms = tuple(FORMATS[name] for name in dict.fromkeys(names))
    if not forms:
        raise RequestError(f"no format to export to; expected some of {', '.join(FORMATS)}")
    for form in forms:
        check_installed(form)
    return forms


def check_installed(form: Format) -> None:
    """Refuse a format whose tools are missing.

    Raises:
        RequestError: if a module it needs is not installed.
    """
    missing = [name for name in form.needs if importlib.util.find_spec(name) is None]
    if missing:
        raise RequestError(
            f"format {form.name} needs {', '.join(missing)}; expected them to be installed; "
            f"{install(*form.extra.split(','))}"
        )
