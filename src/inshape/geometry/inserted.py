"""What stands between the picture and the network because inshape once put it there.

An adapted model may be adapted again. Its resizing and its channel layers are then replaced: a
second one in front of the first would resize twice. They are told from a user's own by their names
and by their place, both of which a file keeps.
"""

from __future__ import annotations

import re

from ..shapes import InputShape
from .spec import GraphSpec, LayerSpec

RESIZE, REPEAT, PROJECT = "resize_picture", "repeat_channel", "project_channels"
FLOATS, WHOLE = "picture_as_floats", "picture_as_read"
ROUND, CLIP = "picture_rounded", "picture_clipped"
_NAMES = re.compile(rf"({RESIZE}|{REPEAT}|{PROJECT}|{FLOATS}|{WHOLE}|{ROUND}|{CLIP})(_\d+)?")


def inserted(spec: GraphSpec) -> dict[str, LayerSpec]:
    """The inserted calls by what they are, the one right behind the picture first.

    Example:
        >>> picture = LayerSpec(0, "image", "input", (), 0)
        >>> resize = LayerSpec(1, "resize_picture", "resize", (0,), 1, target_hw=(64, 48))
        >>> conv = LayerSpec(2, "conv", "conv", (1,), 2, kernel_hw=(3, 3))
        >>> spec = GraphSpec("tiny", (picture, resize, conv), (2,), InputShape(9, 9, 3))
        >>> list(inserted(spec))
        ['resize_picture']
    """
    readers = spec.consumers()
    at, calls = 0, dict[str, LayerSpec]()
    while len(set(readers[at])) == 1 and at not in spec.outputs:
        layer = spec[readers[at][0]]
        name = _NAMES.fullmatch(layer.name)
        if name is None or not _is_as_made(layer, name[1]) or name[1] in calls:
            break
        calls[name[1]] = layer
        at = layer.index
    return calls


def _is_as_made(layer: LayerSpec, name: str) -> bool:
    if name == RESIZE:
        return layer.op == "resize"
    if name == REPEAT:
        return layer.op == "concat" and len(set(layer.inputs)) == 1
    if name == PROJECT:
        return layer.op == "conv" and layer.kernel_hw == layer.stride_hw == (1, 1)
    return not layer.params


def without_inserted(spec: GraphSpec, *names: str) -> GraphSpec:
    """The graph without some of the inserted calls, as if it had been read without them.

    Positions stay; what is taken out hands on what it reads.
    """
    calls = inserted(spec)
    rows, columns, channels = spec.input_shape.as_tuple()
    for name in names:
        call = calls[name]
        if name == RESIZE and call.target_hw is not None:
            rows, columns = call.target_hw
        elif name in (REPEAT, PROJECT):
            channels = call.native_shape[-1]
        spec = spec.with_call(call.index, op="identity", target_hw=None, params=0, answering=None)
    shape = InputShape(rows, columns, channels or 0)
    at = 0
    spec = spec.but(input_shape=shape).with_call(0, native_shape=shape.as_tuple())
    for call in calls.values():  # those in between read and put out what they now get
        *hw, depth = spec[at].native_shape
        if spec[call.index].op == "resize":
            hw = list(call.target_hw or hw)
        elif spec[call.index].op in ("concat", "conv"):
            depth = call.native_shape[-1]
        spec = spec.with_call(call.index, native_shape=(*hw, depth))
        at = call.index
    return spec
