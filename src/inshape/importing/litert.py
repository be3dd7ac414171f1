"""LiteRT files (``.tflite``): their operators as the layers of a Keras model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import keras

from ..errors import GraphError, InshapeError, UnknownName, WeightsError
from ..graph.walk import sole
from ..text import first_line, format_shape, free_name, join_some, plural
from .imported import RANGE_UNKNOWN, Imported
from .litert_file import LiteRTFile, NotLiteRT, Operator, Tensor, parse, picture_statistics
from .litert_folds import folded
from .operators import OPERATORS, READS_FIRST_ALONE, Reading, Step, refusal

_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
_ENDINGS = ("ARG_MAX", "TOPK_V2", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5")
"""What makes answers of a network's maps, and is no part of it; custom operators are too."""
_BYTES = {"UINT8": 0, "INT8": 128}
"""What is added to them to have a picture's pixels."""
_FLOATS = ("FLOAT32", "FLOAT16")
_MOST_IN_MAP = 2**28
_SPARE_VALUES = 2**20
_LAST_WORD = re.compile(
    r"/(Relu6?|BiasAdd|Conv2D|convolution|depthwise|MatMul|add|FusedBatchNorm\w*|Fused\w*)(_\d+)?$"
)
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_NAME = 80
_LAST_NAMED = 12
_SHARE_IN_SCOPE = 0.8


def read(path: Path, outputs: Sequence[str]) -> Imported:
    """Read a file as a functional model; ``outputs`` are names of its tensors."""
    try:
        file = folded(parse(path.read_bytes()))
        _check_picture(file)
        return _read(file, outputs, path.stem)
    except NotLiteRT as error:
        raise WeightsError(
            f"{path}: {error}; expected a whole .tflite file of one network that reads one "
            "picture; download or convert it again"
        ) from error
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from error


def _check_picture(file: LiteRTFile) -> None:
    if len(file.inputs) != 1:
        raise NotLiteRT(f"it reads {len(file.inputs)} inputs")
    picture = file.tensors[file.inputs[0]]
    sizes = picture.sizes
    if len(sizes) != 4 or sizes[-1] is None or not 0 < prod(picture.shape) <= _MOST_IN_MAP:
        raise NotLiteRT(f"it reads {format_shape(sizes)}, which is no picture")
    if picture.type not in (*_FLOATS, *_BYTES):
        raise NotLiteRT(f"it reads {picture.type}")


def _read(file: LiteRTFile, outputs: Sequence[str], name: str) -> Imported:
    end = _named_end(file, outputs) if outputs else _end(file)
    picture = file.tensors[file.inputs[0]]
    image = keras.Input(picture.sizes[1:], name="image")
    scaled, notes = _scaled(file, picture, image)
    reading = Reading(file, scaled)
    names = _Names(file)
    budget = 2 * file.size_bytes + _SPARE_VALUES
    for operator in _needed(file, end.tensors):
        budget -= sum(_constant_values(file, operator))
        if budget < 0:
            raise refusal(file, operator, "its weights are those of other operators, many times")
        step = Step(reading, operator, names.of(file.tensors[operator.outputs[0]].name))
        for index, result in zip(operator.outputs, _results(step), strict=False):
            reading.maps[index] = result
    ends = [reading.maps.get(i) for i in end.tensors]
    if not ends or any(x is None for x in ends):
        raise NotLiteRT("its output is not computed from its picture")
    model = keras.Model(image, sole(ends), name=_clean(name) or "network")
    return Imported(model, (*end.notes, *notes))


def _constant_values(file: LiteRTFile, operator: Operator) -> list[int]:
    tensors = (file.tensors[i] for i in operator.inputs if i >= 0)
    return [prod(x.shape) for x in tensors if x.content is not None and not x.odd]


def _results(step: Step) -> Sequence[Any]:
    """The maps that an operator puts out, each of the shape that the file says."""
    reader, operator = OPERATORS.get(step.operator.kind), step.operator
    if reader is None or operator.is_custom:
        raise step.refused("no layer is known for it")
    for index in operator.outputs:
        shape = step.file.tensors[index].shape
        if prod(shape) > _MOST_IN_MAP:
            raise step.refused(f"a map of {format_shape(shape)} is too large")
    try:
        result = reader(step)
    except InshapeError:
        raise
    except Exception as error:  # Keras and its backends raise their own
        raise step.refused(first_line(error)) from error
    results = result if isinstance(result, list) else [result]
    for index, each in zip(operator.outputs, results, strict=False):
        stated, computed = step.file.tensors[index].sizes, tuple(each.shape)
        if not _agree(stated, computed):
            raise step.refused(
                f"a layer gives {format_shape(computed[1:])} where the file says "
                f"{format_shape(stated[1:])}"
            )
    return results


def _agree(stated: Sequence[int | None], computed: Sequence[int | None]) -> bool:
    """Whether two shapes are the same, whatever their batches; what is not known may be so."""
    pairs = zip(stated[1:], computed[1:], strict=False)
    return len(stated) == len(computed) and all(None in pair or len({*pair}) == 1 for pair in pairs)


# The picture


def _scaled(file: LiteRTFile, picture: Tensor, image: Any) -> tuple[Any, list[str]]:
    """The picture as the network's numbers, of pixels from 0 to 255."""
    stated = _of_bytes(picture) if picture.type in _BYTES else _of_metadata(file, picture)
    if stated is None:
        readers = [
            operator.kind for operator in file.operators if file.inputs[0] in operator.inputs
        ]
        # Or else the network brings them to its range itself.
        is_open = picture.type not in _BYTES and _AFFINE.isdisjoint(readers)
        return image, [RANGE_UNKNOWN] if is_open else []
    scale, offset = (x[0] if len(set(x)) == 1 else x for x in stated)
    if (scale, offset) == (1, 0):
        return image, []
    numbers: dict[str, Any] = {"scale": scale, "offset": offset}
    layer = keras.layers.Rescaling(**numbers, name="pixels")
    return layer(image), []


_AFFINE = {"ADD", "SUB", "MUL", "DIV"}


def _of_bytes(picture: Tensor) -> tuple[list[float], list[float]] | None:
    """Scale and offset of what its bytes stand for; without a scale they are pixels."""
    if len(picture.scale) != 1:
        return None
    scale = float(picture.scale[0])
    return [scale], [-scale * (int(picture.zero_point[0]) + _BYTES[picture.type])]


def _of_metadata(file: LiteRTFile, picture: Tensor) -> tuple[list[float], list[float]] | None:
    """Scale and offset for all channels or each, by the statistics that a file brings."""
    statistics = picture_statistics(file.metadata)
    channels = picture.shape[-1]
    if statistics is None or any(len(x) not in (1, channels) for x in statistics):
        return None
    mean, deviation = (x * channels if len(x) == 1 else x for x in statistics)
    if min(deviation) <= 0:
        return None
    offsets = [-m / d for m, d in zip(mean, deviation, strict=True)]
    return [1 / d for d in deviation], offsets


# The end


@dataclass(frozen=True, slots=True)
class _End:
    """Where the model stops."""

    tensors: tuple[int, ...]
    notes: tuple[str, ...] = ()


def _named_end(file: LiteRTFile, outputs: Sequence[str]) -> _End:
    own = [op for op in file.operators if not op.is_custom]
    written = [i for operator in own for i in operator.outputs]
    names = [_base(file.tensors[i].name) for i in written]
    chosen: list[int] = []
    for name in outputs:
        if names.count(_base(name)) != 1:
            known = join_some([f'"{n}"' for n in reversed(names)], _LAST_NAMED)
            raise UnknownName(
                "output", name, names, answer=f"choose one of the file's, from the last: {known}"
            )
        chosen.append(written[names.index(_base(name))])
    return _End(tuple(dict.fromkeys(chosen)))


def _end(file: LiteRTFile) -> _End:
    """The file's own outputs, or the maps of which operators make its answers."""
    cut = _cut_off(file)
    answers = set(chain(*(operator.outputs for operator in cut)))
    read = chain(file.outputs, *(operator.inputs for operator in cut))
    ends = tuple(i for i in dict.fromkeys(read) if i not in answers and _is_map(file, i))
    if not cut:
        return _End(ends)
    if not ends:
        raise refusal(file, cut[0], "nothing stands before it")
    names = join_some([f'"{_base(file.tensors[i].name)}"' for i in ends])
    others = f" and {plural(len(cut) - 1, 'operator')} behind it" if len(cut) > 1 else ""
    first = f"{cut[0].kind}{others}"
    return _End(ends, (f"{first}, which makes answers of maps, is cut off: returned is {names}",))


def _cut_off(file: LiteRTFile) -> list[Operator]:
    """The operators that make answers, and those behind them; none if the file gives no answer."""
    answers: set[int] = set()
    cut: list[Operator] = []
    for operator in file.operators:
        is_answer = not answers.isdisjoint(operator.inputs)
        if is_answer and operator.kind in _KERNELS:
            raise refusal(file, operator, f"it reads what {cut[0].kind} computes")
        if operator.is_custom or operator.kind in _ENDINGS or is_answer:
            answers.update(operator.outputs)
            cut.append(operator)
    return [] if answers.isdisjoint(file.outputs) else cut


def _is_map(file: LiteRTFile, index: int) -> bool:
    return index >= 0 and file.tensors[index].content is None


def _needed(file: LiteRTFile, ends: Sequence[int]) -> list[Operator]:
    """The operators that the ends are computed by."""
    wanted, needed = set(ends), list[Operator]()
    for operator in reversed(file.operators):
        if not wanted.isdisjoint(operator.outputs):
            needed.append(operator)
            first_alone = operator.kind in READS_FIRST_ALONE
            wanted.update(operator.inputs[:1] if first_alone else operator.inputs)
    return needed[::-1]


# Names


def _base(name: str) -> str:
    """A tensor's name without those of what was folded into it."""
    return name.partition(";")[0]


def _clean(name: str) -> str:
    return _NO_NAME.sub("_", name).strip("_.-")[-_LONGEST_NAME:]


class _Names:
    """A layer's name for each operator, once, without the scope that all stand in."""

    def __init__(self, file: LiteRTFile) -> None:
        self._used: set[str] = {"image", "pixels"}
        self._scope = ""
        names = [_base(file.tensors[op.outputs[0]].name) for op in file.operators]
        while names:
            scopes = [name.partition("/")[0] + "/" for name in names if "/" in name]
            scope, count = Counter(scopes).most_common(1)[0] if scopes else ("", 0)
            if count < _SHARE_IN_SCOPE * len(names):
                break
            self._scope += scope
            names = [name.removeprefix(scope) for name in names if name.startswith(scope)]

    def of(self, tensor_name: str) -> str:
        base = _base(tensor_name).removeprefix(self._scope)
        wanted = _clean(_LAST_WORD.sub("", base)) or "layer"
        return free_name(wanted, self._used)
