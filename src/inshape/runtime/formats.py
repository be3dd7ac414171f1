"""The formats that a model can be exported to, and what each needs."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..errors import RequestError, UnknownName

Io: TypeAlias = Literal["float32", "int8", "uint8"]
OPSET = 17
"""The ONNX operator set: read by onnxruntime from 1.12 on."""


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of exported file.

    Attributes:
        name: as it is asked for.
        suffix: of the file; none is a folder.
        needs: the modules that write and run it.
        extra: what to install for them.
        is_quantised: whether it is calibrated on pictures.
    """

    name: str
    suffix: str
    needs: tuple[str, ...] = ()
    extra: str = ""
    is_quantised: bool = False

    @property
    def takes_batch(self) -> bool:
        """Whether the number of pictures per call can be fixed; LiteRT files take one."""
        return self.name in ("onnx", "openvino")


_LITERT = ("ai_edge_litert",)
FORMATS = {
    made.name: made
    for made in (
        Format("litert", ".tflite", _LITERT, "cpu"),
        Format("litert-float16", ".tflite", _LITERT, "cpu"),
        Format("litert-dynamic", ".tflite", _LITERT, "cpu"),
        Format("litert-int8", ".tflite", (*_LITERT, "ai_edge_quantizer"), "cpu,quantize", True),
        Format("onnx", ".onnx", ("tf2onnx", "onnx", "onnxruntime"), "onnx"),
        Format("openvino", ".xml", ("tf2onnx", "onnx", "onnxruntime", "openvino"), "onnx,openvino"),
        Format("savedmodel", ""),
        Format("keras", ".keras"),
    )
}
"""Every format by name: LiteRT as it is, with float16 weights, with int8 weights, all in int8."""


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

    Args:
        form: the format.

    Raises:
        RequestError: if a module it needs is not installed.
    """
    missing = [name for name in form.needs if importlib.util.find_spec(name) is None]
    if missing:
        raise RequestError(
            f"format {form.name} needs {', '.join(missing)}; expected them to be installed; "
            f"pip install 'inshape[{form.extra}]'"
        )
