"""A short program that goes with an exported file and needs only its runtime, NumPy and Pillow.

It holds the lines that its own preparation needs and no others, so that it can be read at a glance
and carried over to a device.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

from ..data.colour import LUMA
from ..data.decode import DRAFT_GAP
from ..data.prepare import MOST_VALUE, Preparation
from ..geometry.operators import Io
from ..tasks.task import Task
from ..text import write_ends

_IMPORTS = {
    ".tflite": "from ai_edge_litert.interpreter import Interpreter",
    ".onnx": "import onnxruntime",
    ".xml": "import openvino",
}
_ONNX = """\
model = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
answer = model.run(None, {"picture": pixels})[0][0]"""
_OPENVINO = """\
model = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
answer = model(pixels)[0][0]"""
_BOX = {
    "letterbox": """\
whole = Image.new({mode}, ({width}, {height}), {fill})
inner_wh = [max(1, round(n * scale)) for n in picture.size]
inner = {resized}
whole.paste(inner, (({width} - inner.width) // 2, ({height} - inner.height) // 2))
picture = whole""",
    "crop": """\
kept_w, kept_h = min(picture.width, {width} / scale), min(picture.height, {height} / scale)
left, top = (picture.width - kept_w) / 2, (picture.height - kept_h) / 2
picture = {resized}""",
}


def compose_example(
    path: Path, preparation: Preparation, task: Task, *, io: Io, is_fixed: bool, is_final: bool
) -> str | None:
    """A program that asks a file about a picture, whose input may have a fixed size.

    ``None`` where the format or the preparation needs more than that: bands that are neither grey
    nor RGB, reduction by area or without antialiasing. Where there is a full scale, it takes grey
    pictures of more than 8 bits; colour ones Pillow does not read.
    """
    if path.suffix not in _IMPORTS or not _is_simple(preparation):
        return None
    call = {".onnx": _ONNX, ".xml": _OPENVINO}.get(path.suffix) or _litert(io, is_fixed)
    kind = "of 8 bits" if preparation.full_scale is None else "of 8 bits or of deeper grey"
    lines = [
        f'"""Say what is in a picture {kind}: python {path.name}.py PICTURE"""\n',
        *(["import math"] if preparation.fit != "stretch" else []),
        "import sys",
        "from pathlib import Path\n",
        "import numpy as np",
        _IMPORTS[path.suffix],
        f"from PIL import Image, {'ImageDraw, ' if task.lies_as == 'boxes' else ''}ImageOps\n",
        f"file = str(Path(__file__).parent / {path.name!r})",
        f"labels = {list(task.names)!r}",
        *_prepared(preparation),
        call,
        *task.program(is_final=is_final),
    ]
    return "\n".join(lines) + "\n"


def _is_simple(preparation: Preparation) -> bool:
    smooth = preparation.antialias and preparation.interpolation in ("bilinear", "bicubic")
    return (
        preparation.shape.is_static
        and (smooth or preparation.interpolation == "nearest")
        and preparation.colour in ("grey", "rgb")
        and preparation.fill == round(preparation.fill)
    )


def _prepared(preparation: Preparation) -> list[str]:
    """The lines from the file to ``pixels``, equal to what `inshape.data.decode.load` does."""
    mode = "L" if preparation.colour == "grey" else "RGB"
    scaled = [] if preparation.full_scale is None else _scaled(*preparation.full_scale)
    lines = ["picture = Image.open(sys.argv[1])", *_drafted(preparation, mode)]
    lines += [
        *(['tags = getattr(picture, "tag_v2", {})'] if scaled else []),
        "picture = ImageOps.exif_transpose(picture)",
        *scaled,
        "if picture.has_transparency_data:  # goes over white",
        '    white = Image.new("RGB", picture.size, "white")',
        '    white.paste(picture, mask=picture.convert("RGBA").getchannel("A"))',
        "    picture = white",
    ]
    ready = f'picture.mode not in ("{mode}", "F")' if scaled else f'picture.mode != "{mode}"'
    if mode == "L":
        lines += [
            f"if {ready}:",
            f"    grey = np.asarray(picture.convert('RGB'), np.float32) @ np.float32({LUMA})",
            "    picture = Image.fromarray(np.rint(grey).astype(np.uint8))",
        ]
    elif scaled:
        lines += [f"if {ready}:", '    picture = picture.convert("RGB")']
    else:
        lines.append('picture = picture.convert("RGB")')
    lines += _fitted(preparation, mode)
    pixels = f"np.asarray(picture, np.float32)[None{', ..., None' if mode == 'L' else ''}]"
    if not scaled:
        return [*lines, f"pixels = {pixels}"]
    lines.append(f"pixels = np.clip({pixels}, 0, 255)")
    if mode == "RGB":
        lines += ["if pixels.ndim == 3:", "    pixels = np.repeat(pixels[..., None], 3, axis=-1)"]
    return lines


def _scaled(low: float, high: float) -> list[str]:
    """The lines that bring grey of more than 8 bits to [0, 255], as floats."""
    low_text, high_text = write_ends((low, high)).split(":")
    return [
        'if picture.mode[0] in "IF":  # more than 8 bits',
        f"    low, high = {low_text}, {high_text}",
        "    stored = np.asarray(picture).astype(np.float32)",
        f"    missing = ~(np.abs(stored) < {MOST_VALUE!r})",
        '    missing |= stored == float(tags.get(42113, "nan").strip(" \\0"))  # GDAL\'s no data',
        "    values = low + high - np.clip(stored, low, high) if tags.get(262) == 0 else stored",
        "    values = (np.where(missing, low, values) - low) * np.float32(255 / (high - low))",
        "    picture = Image.fromarray(np.clip(values, 0, 255).astype(np.float32))",
    ]


def _drafted(preparation: Preparation, mode: str) -> list[str]:
    """Let a large JPEG be decoded at a reduced scale, as in training."""
    height, width = preparation.shape.hw
    if preparation.interpolation == "nearest":
        return [f"picture.draft({mode!r}, picture.size)"] if mode == "L" else []
    if preparation.fit == "stretch":
        gap = Fraction(str(DRAFT_GAP))
        wanted = str(tuple(math.ceil(n * gap) for n in (width, height) if n is not None))
        lines = [f"wanted = {wanted}"] if height != width else []
    else:
        wanted = ""
        lines = [
            "wide, high = picture.size[::-1] if sideways else picture.size",
            f"scale = {_scale(preparation, 'wide', 'high')}",
            f"wanted = [math.ceil(round(n * scale * {DRAFT_GAP}, 6)) for n in (wide, high)]",
        ]
    if lines:
        # draft() works on the stored picture; from 5 on, its EXIF orientation swaps the sides.
        lines.insert(0, "sideways = picture.getexif().get(0x0112, 1) >= 5")
        wanted = "wanted[::-1] if sideways else wanted"
    return [*lines, f"picture.draft({mode!r}, {wanted})  # a large JPEG is decoded smaller"]


def _scale(preparation: Preparation, wide: str, high: str) -> str:
    height, width = preparation.shape.hw
    pick, margin = ("min", "") if preparation.fit == "letterbox" else ("max", "")
    if preparation.fit == "crop" and preparation.crop_margin != 1.0:
        margin = f" / {preparation.crop_margin}"
    return f"{pick}({width} / {wide}, {height} / {high}){margin}"


def _fitted(preparation: Preparation, mode: str) -> list[str]:
    height, width = preparation.shape.hw
    method = f"Image.Resampling.{preparation.interpolation.upper()}"
    if preparation.fit == "stretch":
        return [f"picture = picture.resize(({width}, {height}), {method})"]
    resized = (
        f"picture.resize(inner_wh, {method})"
        if preparation.fit == "letterbox"
        else f"picture.resize(({width}, {height}), {method}, "
        "(left, top, left + kept_w, top + kept_h))"
    )
    fill = int(preparation.fill)
    values = {
        "mode": repr(mode) if preparation.full_scale is None else "picture.mode",
        "height": height,
        "width": width,
        "fill": fill if mode == "L" else (fill,) * 3,
        "resized": resized,
    }
    if preparation.full_scale is not None and mode == "RGB":
        values["fill"] = f'{fill} if picture.mode == "F" else {(fill,) * 3}'
    scale = f"scale = {_scale(preparation, 'picture.width', 'picture.height')}"
    return [scale, _BOX[preparation.fit].format(**values)]


def _litert(io: Io, is_fixed: bool) -> str:
    lines = [
        "model = Interpreter(file)",
        "(source,), (target,) = model.get_input_details(), model.get_output_details()",
    ]
    if not is_fixed:
        lines.append('model.resize_tensor_input(source["index"], pixels.shape)')
    lines.append("model.allocate_tensors()")
    if io != "float32":
        # Without the clip, a value of 255.4 would wrap around to 0.
        low, high = (-128, 127) if io == "int8" else (0, 255)
        lines += [
            'scale, zero = source["quantization"]',
            f"pixels = np.clip(np.round(pixels / scale + zero), {low}, {high}).astype(np.{io})",
        ]
    lines += [
        'model.set_tensor(source["index"], pixels)',
        "model.invoke()",
        'answer = model.get_tensor(target["index"])[0]',
    ]
    if io != "float32":
        lines += [
            'scale, zero = target["quantization"]',
            "answer = scale * (answer.astype(np.float32) - zero)",
        ]
    return "\n".join(lines)
