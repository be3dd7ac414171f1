"""A LiteRT file without the operators that only say how its numbers lie.

Converters write the type of weights, the order of a picture's axes and the dilation of a
convolution as operators of their own.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from .litert_file import DAMAGE, LiteRTFile, NotLiteRT, Operator, Tensor

_CHANNELS_LAST = [0, 2, 3, 1]
_CASTS = ("DEQUANTIZE", "QUANTIZE")
_SAME, _VALID = 0, 1
"""The schema's paddings."""


def folded(file: LiteRTFile) -> LiteRTFile:
    """The file without them, which computes the same."""
    try:
        for fold in (_constants, _picture, _dilations):
            file = fold(file)
    except DAMAGE as error:
        raise NotLiteRT from error
    return file


def _constants(file: LiteRTFile) -> LiteRTFile:
    """Without operators that only bring weights to another type, as to float32."""
    tensors, operators = list(file.tensors), list[Operator]()
    for operator in file.operators:
        is_cast = operator.kind in _CASTS and not operator.is_custom
        if is_cast and operator.inputs and operator.inputs[0] >= 0:
            source, target = tensors[operator.inputs[0]], tensors[operator.outputs[0]]
            if source.content is not None:
                tensors[operator.outputs[0]] = replace(source, name=target.name)
                continue
        operators.append(operator)
    return replace(file, tensors=tuple(tensors), operators=tuple(operators))


def _picture(file: LiteRTFile) -> LiteRTFile:
    """With its picture's channels last, where nothing is done before they are brought there."""
    reader = _sole_reader(file, file.inputs)
    while reader is not None and reader.kind in _CASTS:
        reader = _sole_reader(file, reader.outputs)
    if reader is None or reader.kind != "TRANSPOSE" or _numbers(file, reader, 1) != _CHANNELS_LAST:
        return file
    tensors, (index, *_) = list(file.tensors), reader.outputs
    picture = tensors[file.inputs[0]]
    shape, signature = (
        tuple(sizes[axis] for axis in _CHANNELS_LAST)
        for sizes in (picture.shape, picture.signature)
    )
    tensors[index] = replace(picture, shape=shape, signature=signature)
    operators = tuple(operator for operator in file.operators if operator is not reader)
    return replace(file, tensors=tuple(tensors), operators=operators, inputs=(index,))


def _sole_reader(file: LiteRTFile, tensors: tuple[int, ...]) -> Operator | None:
    """The operator that alone reads what is one tensor."""
    readers = [
        operator for operator in file.operators if not {*tensors}.isdisjoint(operator.inputs)
    ]
    is_sole = len(tensors) == len(readers) == 1 and tensors[0] not in file.outputs
    return readers[0] if is_sole else None


def _dilations(file: LiteRTFile) -> LiteRTFile:
    """With dilated convolutions instead of those that are given every so manieth pixel."""
    writers = {operator.outputs[0]: operator for operator in file.operators}
    tensors, operators = list(file.tensors), list[Operator]()
    for operator in file.operators:
        convolution = writers.get(_first(operator))
        start = None if convolution is None else writers.get(_first(convolution))
        if (
            operator.kind == "BATCH_TO_SPACE_ND"
            and convolution is not None
            and convolution.kind in ("CONV_2D", "DEPTHWISE_CONV_2D")
            and start is not None
            and start.kind == "SPACE_TO_BATCH_ND"
        ):
            operators += _dilated(file, tensors, (start, convolution, operator))
        else:
            operators.append(operator)
    return replace(file, tensors=tuple(tensors), operators=tuple(operators))


def _dilated(
    file: LiteRTFile, tensors: list[Tensor], steps: tuple[Operator, Operator, Operator]
) -> list[Operator]:
    """A dilated convolution, and its padding if Keras has no word for it; or the last step.

    What is padded before and cut off behind comes to one padding.
    """
    start, convolution, end = steps
    block, pads, crops = (_numbers(file, *place) for place in ((start, 1), (start, 2), (end, 2)))
    options: Any = copy(convolution.options)
    if (options.padding, options.strideH, options.strideW) != (_VALID, 1, 1):
        return [end]
    around = np.subtract(pads, crops).reshape(-1, 2)
    if len(block) != 2 or block != _numbers(file, end, 1) or len(around) != 2 or around.min() < 0:
        return [end]
    options.dilationHFactor, options.dilationWFactor = block
    size = file.tensors[convolution.inputs[1]].shape[1:3]
    total = np.multiply(np.subtract(size, 1), block)
    operators: list[Operator] = []
    x = start.inputs[0]
    if np.array_equal(around, np.stack([total // 2, total - total // 2], 1)):
        options.padding = _SAME
    elif around.any():
        amounts = np.zeros((4, 2), np.int32)
        amounts[1:3] = around
        content = np.frombuffer(amounts.tobytes(), np.uint8)
        tensors.append(Tensor("", amounts.shape, "INT32", content=content))
        source = tensors[x]
        shape = tuple(np.add(source.shape, amounts.sum(1)).tolist())
        tensors.append(replace(tensors[start.outputs[0]], shape=shape, signature=()))
        inputs, x = (x, len(tensors) - 2), len(tensors) - 1
        operators.append(replace(start, kind="PAD", inputs=inputs, outputs=(x,), options=None))
    inputs = (x, *convolution.inputs[1:])
    whole = replace(convolution, inputs=inputs, outputs=end.outputs, options=options)
    return [*operators, whole]


def _first(operator: Operator) -> int:
    return operator.inputs[0] if operator.inputs else -1


def _numbers(file: LiteRTFile, operator: Operator, place: int) -> list[int]:
    """The whole numbers of a constant input; none if there are no such."""
    if place >= len(operator.inputs) or operator.inputs[place] < 0:
        return []
    try:
        values = file.tensors[operator.inputs[place]].values()
    except NotLiteRT:
        return []
    return [int(n) for n in values.ravel()] if values.dtype.kind == "i" else []
