"""A LiteRT file as tensors and operators, each checked before anything is made of it.

The tables are looked up where they stand, so that a count in a damaged file costs nothing: whatever
it says must lie inside of the file.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

METADATA = "TFLITE_METADATA"
"""Under which a file says which values its pictures have."""
_IDENTIFIER = b"TFL3"
_MOST_RANKS = 8
_MOST_VALUES = 2**31
_MOST_OPERATORS = 5_000
_TYPES = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "FLOAT64": np.float64,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
DAMAGE = (struct.error, ValueError, TypeError, IndexError, OverflowError, AttributeError)
"""What looking up a damaged table raises."""


class NotLiteRT(Exception):
    """What is wrong with a file, in a few words."""

    def __init__(self, reason: str = "it is damaged or cut short") -> None:
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A map, or a constant."""

    name: str
    shape: tuple[int, ...]
    type: str
    scale: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """One, or one for each place along `axis`; none where the values stand for themselves."""
    zero_point: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    axis: int = 0
    content: NDArray[np.uint8] | None = None
    """The bytes of a constant."""
    odd: str = ""
    """Why its values cannot be read, if so."""
    signature: tuple[int, ...] = ()
    """The shape again, with -1 for what is not known before run time; or nothing if all is."""

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """The shape, with ``None`` for what is not known."""
        if len(self.signature) != len(self.shape):
            return self.shape
        return tuple(None if n < 0 else n for n in self.signature)

    @property
    def limits(self) -> tuple[float, float] | None:
        """The least and the greatest value that bytes of one scale stand for."""
        if len(self.scale) != 1 or self.type not in ("INT8", "UINT8", "INT16"):
            return None
        stored: Any = _TYPES[self.type]
        whole = np.iinfo(stored)
        scale, zero = float(self.scale[0]), int(self.zero_point[0])
        return scale * (int(whole.min) - zero), scale * (int(whole.max) - zero)

    def values(self) -> NDArray[Any]:
        """The values of a constant: floats where they are scaled, otherwise as they are stored."""
        if self.odd or self.content is None:
            raise NotLiteRT(self.odd or "its values are not in the file")
        stored = self.content.view(_TYPES[self.type]).reshape(self.shape)
        if not len(self.scale):
            return stored.astype(np.float32) if stored.dtype.kind == "f" else stored
        along = [1] * len(self.shape)
        if len(self.scale) > 1:
            along[self.axis] = len(self.scale)
        zero = self.zero_point.reshape(along if len(self.zero_point) > 1 else [1] * len(along))
        scale = self.scale.reshape(along)
        return ((stored.astype(np.float64) - zero) * scale).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of a file."""

    number: int
    """Its place."""
    kind: str
    """Such as ``CONV_2D``; of a custom one, its own name."""
    inputs: tuple[int, ...]
    """Tensors; -1 is one that is left out."""
    outputs: tuple[int, ...]
    options: Any
    """The fields of the schema's table for its kind."""
    is_custom: bool = False


@dataclass(frozen=True, slots=True)
class LiteRTFile:
    """The one network of a file."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    metadata: bytes
    """See `METADATA`; empty if there is none."""
    size_bytes: int


def litert_schema() -> Any:
    """The tables of LiteRT's schema."""
    return importlib.import_module("ai_edge_litert.schema_py_generated")


@cache
def _names_of(enumeration: str) -> dict[int, str]:
    members = vars(getattr(litert_schema(), enumeration)).items()
    return {number: name for name, number in members if isinstance(number, int)}


def parse(content: bytes) -> LiteRTFile:
    """Take a file apart.

    Raises:
        NotLiteRT: with what is wrong.
    """
    if content[4:8] != _IDENTIFIER:
        raise NotLiteRT("it does not begin as a LiteRT file does")
    try:
        return _Parser(content).file()
    except DAMAGE as error:
        raise NotLiteRT from error


class _Parser:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._model = litert_schema().Model.GetRootAs(content, 0)

    def file(self) -> LiteRTFile:
        model = self._model
        if model.SubgraphsLength() != 1:
            count = model.SubgraphsLength()
            raise NotLiteRT(f"it holds {count} networks, of which control flow is made; expected 1")
        graph = model.Subgraphs(0)
        self._buffers = self._many(model.BuffersLength(), model.Buffers)
        codes = self._many(model.OperatorCodesLength(), model.OperatorCodes)
        self._kinds = [self._kind(code) for code in codes]
        tensors = [self._tensor(t) for t in self._many(graph.TensorsLength(), graph.Tensors)]
        if graph.OperatorsLength() > _MOST_OPERATORS:
            raise NotLiteRT(
                f"it has {graph.OperatorsLength()} operators; expected {_MOST_OPERATORS} at most"
            )
        operators = self._many(graph.OperatorsLength(), graph.Operators)
        file = LiteRTFile(
            tensors=tuple(tensors),
            operators=tuple(self._operator(i, x) for i, x in enumerate(operators)),
            inputs=_numbers(graph.InputsAsNumpy()),
            outputs=_numbers(graph.OutputsAsNumpy()),
            metadata=self._metadata(),
            size_bytes=len(self._content),
        )
        _check_order(file)
        return file

    def _many(self, count: int, get: Callable[[int], Any]) -> list[Any]:
        # Each takes an offset of four bytes at least.
        if count * 4 > len(self._content):
            raise NotLiteRT
        return [get(i) for i in range(count)]

    def _kind(self, code: Any) -> tuple[str, bool]:
        # The first field is of one byte, as it was before there were more than 127 kinds.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _names_of("BuiltinOperator").get(number, f"operator kind {number}")
        if name == "CUSTOM":
            return _text(code.CustomCode()) or name, True
        return name, False

    def _operator(self, number: int, operator: Any) -> Operator:
        kind, is_custom = self._kinds[operator.OpcodeIndex()]
        return Operator(
            number=number,
            kind=kind,
            inputs=_numbers(operator.InputsAsNumpy()),
            outputs=_numbers(operator.OutputsAsNumpy()),
            options=None if is_custom else _options(operator),
            is_custom=is_custom,
        )

    def _tensor(self, tensor: Any) -> Tensor:
        type_name = _names_of("TensorType").get(tensor.Type(), f"type {tensor.Type()}")
        shape = _numbers(tensor.ShapeAsNumpy())
        if min(shape, default=0) < 0 or len(shape) > _MOST_RANKS or prod(shape) > _MOST_VALUES:
            raise NotLiteRT(f"a tensor has the shape {shape[:_MOST_RANKS]}")
        content = self._data(tensor.Buffer())
        quantisation = _quantisation(tensor.Quantization(), shape)
        if content is not None and "odd" not in quantisation:
            quantisation["odd"] = _oddity(tensor, type_name, shape, len(content))
        return Tensor(
            name=_text(tensor.Name()),
            shape=shape,
            type=type_name,
            content=content,
            signature=_numbers(tensor.ShapeSignatureAsNumpy()) or shape,
            **quantisation,
        )

    def _data(self, number: int) -> NDArray[np.uint8] | None:
        data = _vector(self._buffers[number].DataAsNumpy())
        return data if len(data) else None

    def _metadata(self) -> bytes:
        for entry in self._many(self._model.MetadataLength(), self._model.Metadata):
            if _text(entry.Name()) == METADATA:
                data = self._data(entry.Buffer())
                return b"" if data is None else data.tobytes()
        return b""


def _oddity(tensor: Any, type_name: str, shape: Sequence[int], size_bytes: int) -> str:
    """Why a constant's values cannot be read; empty if they can."""
    if type_name not in _TYPES:
        return f"its values are {type_name}"
    if tensor.Sparsity() is not None:
        return "its values are stored as a sparse array"
    needed = prod(shape) * np.dtype(_TYPES[type_name]).itemsize
    return "" if needed == size_bytes else f"it has {size_bytes} bytes and needs {needed}"


def _quantisation(quantisation: Any, shape: Sequence[int]) -> dict[str, Any]:
    """What a tensor's quantisation says, by the names of `Tensor`'s fields."""
    if quantisation is None:
        return {}
    if quantisation.DetailsType():
        return {"odd": "its values are quantised in blocks"}
    scale, zero = map(_vector, (quantisation.ScaleAsNumpy(), quantisation.ZeroPointAsNumpy()))
    if not len(scale):
        return {}
    zero = zero if len(zero) else np.zeros(1)
    axis = int(quantisation.QuantizedDimension())
    places = dict(enumerate(shape)).get(axis, 1)
    fits = {len(scale), len(zero)} <= {1, places}
    if not fits or not ((scale > 0) & (scale < np.inf)).all():
        return {"odd": f"it has {len(scale)} scales for {places} channels, or one that is not > 0"}
    return {"scale": scale.astype(float), "zero_point": zero.astype(np.int64), "axis": axis}


def _options(operator: Any) -> Any:
    """The fields of an operator's options by the schema's names; ``None`` if it has none."""
    name = _names_of("BuiltinOptions").get(operator.BuiltinOptionsType(), "NONE")
    table = operator.BuiltinOptions()
    if name == "NONE" or table is None:
        return None
    options = getattr(litert_schema(), name)()
    options.Init(table.Bytes, table.Pos)
    return getattr(litert_schema(), f"{name}T").InitFromObj(options)


def _check_order(file: LiteRTFile) -> None:
    """Each operator reads what is there before it, and writes what nobody wrote."""
    places = set(range(len(file.tensors)))
    written = {i for i, tensor in enumerate(file.tensors) if tensor.content is not None}
    written |= places.intersection(file.inputs)
    for operator in file.operators:
        here = f"operator {operator.number}, {operator.kind},"
        if not operator.outputs or not places.issuperset(operator.outputs):
            raise NotLiteRT(f"{here} has no outputs")
        if not written.issuperset({*operator.inputs} - {-1}):
            raise NotLiteRT(f"{here} reads what no operator before it writes")
        if not written.isdisjoint(operator.outputs):
            raise NotLiteRT(f"{here} writes what is there already")
        written |= set(operator.outputs)
    if not file.outputs or not written.issuperset((*file.inputs, *file.outputs)):
        raise NotLiteRT("its outputs are written by no operator")


def _vector(values: Any) -> NDArray[Any]:
    """A vector, which may be empty; without one, the schema gives 0."""
    return np.zeros(0) if isinstance(values, int) else values


def _numbers(values: Any) -> tuple[int, ...]:
    return tuple(map(int, _vector(values)))


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")


def picture_statistics(metadata: bytes) -> tuple[list[float], list[float]] | None:
    """Mean and deviation, of one or all channels, by which a file's metadata standardises.

    The numbers are those of the fields in ``metadata_schema.fbs``: subgraphs 3, their inputs 2,
    an input's process units 4, of which kind 1 is a normalisation, its mean 0 and deviation 1.
    """
    try:
        (graph,) = _tables(_root(metadata), 3)
        (picture,) = _tables(graph, 2)
        for unit in _tables(picture, 4):
            kind = unit.Offset(4)
            if kind and unit.Bytes[unit.Pos + kind] == 1:
                normalisation = _table(unit, 1)
                mean, deviation = (_floats(normalisation, field) for field in (0, 1))
                return (mean, deviation) if mean and deviation else None
    except (*DAMAGE, NotLiteRT):
        return None
    return None


def _root(content: bytes) -> Any:
    import flatbuffers.table

    return flatbuffers.table.Table(content, int.from_bytes(content[:4], "little"))


def _place(table: Any, field: int) -> int:
    """Where a field stands; one that is left out has no place."""
    offset = table.Offset(4 + 2 * field)
    if not offset:
        raise NotLiteRT
    return int(offset)


def _table(table: Any, field: int) -> Any:
    return type(table)(table.Bytes, table.Indirect(table.Pos + _place(table, field)))


def _tables(table: Any, field: int) -> list[Any]:
    place = _place(table, field)
    count = table.VectorLen(place)
    if count * 4 > len(table.Bytes):
        raise NotLiteRT
    starts: Iterable[int] = (table.Vector(place) + 4 * i for i in range(count))
    return [type(table)(table.Bytes, table.Indirect(start)) for start in starts]


def _floats(table: Any, field: int) -> list[float]:
    import flatbuffers.number_types

    place = _place(table, field)
    values = table.GetVectorAsNumpy(flatbuffers.number_types.Float32Flags, place)
    return [float(value) for value in values]
