"""ONNX files as functional Keras models, channels last and without transposes between layers.

No converter gives that: onnx2tf pins TensorFlow 2.19, Keras 2 and NumPy 1 beside it and writes a
SavedModel; onnx2keras knows few operators, no HardSigmoid among them. So each operator is made of
the layers that a person would have written.

A tensor of the file has its axes in the order that the file says (``N C H W``); the one of Keras
that holds it has them in another (``N H W C``), which is written down beside it. A transpose only
changes that note. What asks for another order than there is, and that no channels-last layer can
give, is transposed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import keras
import numpy as np
from keras import layers, ops

from ..errors import GraphError, InshapeError, WeightsError, check_choice, shown
from ..extras import install
from ..geometry.amounts import product
from ..graph.deferred import deferred_weights
from ..graph.finite import assign
from ..graph.walk import sole
from ..text import first_line, format_shape, free_name
from .imported import CARD_KEY, Imported, range_notes

_MOST_NODES = 20_000
_MOST_FOLDED = 2**20
"""Numbers in an array that is computed here; what is computed are shapes."""
_BATCH = 2**40 + 15
"""Stands for the batch in shapes that are computed; no axis is so long."""
_FLOATS = ("float32", "float16", "float64", "bfloat16")
_RESIZE_BY_REGION = 11
"""Since this version, Resize reads a region before its scales, and counts from the centres."""


def read(path: Path, outputs: Sequence[str]) -> Imported:
    """Read a file up to its outputs, or up to the named tensors or nodes.

    Raises:
        WeightsError: if it is damaged, or the package onnx is not installed.
        GraphError: if it holds what no Keras layer computes.
        UnknownName: if it has no such output.
    """
    file = _parsed(path)
    names = _ends(file.graph, outputs)
    # The picture is channels first or last; what it is shows by where nothing has to be transposed.
    orders = (0, 2, 3, 1), (0, 1, 2, 3)
    attempts = [_Reading(path, file, names, order) for order in orders]
    attempts = [attempt for attempt in attempts if attempt.may_be_picture()] or attempts
    readings: list[_Reading] = []
    failures: list[InshapeError] = []
    for attempt in attempts:
        try:
            attempt.try_out()
            readings.append(attempt)
            if not attempt.transposes:
                break
        except InshapeError as error:
            failures.append(error)
    if not readings:
        raise failures[0]
    return min(readings, key=lambda reading: reading.transposes).finished()


def _parsed(path: Path) -> Any:
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise WeightsError(
            f"{path} takes the package onnx, which is not installed; expected the extra onnx; "
            f"{install('onnx')}"
        ) from error
    try:
        model: Any = onnx.load_model(str(path), load_external_data=False)
        _check_all_inside(path, model.graph)
        onnx.checker.check_model(model)
    except InshapeError:
        raise
    except Exception as error:  # the parser and the checker raise what they like
        raise WeightsError(
            f"{path} is truncated or damaged ({first_line(error)}); expected a .onnx file; "
            "download or export it again"
        ) from error
    return model


def _check_all_inside(path: Path, graph: Any) -> None:
    """Refuse a graph whose weights stand in another file, or that is too large to look through."""
    import onnx

    tensors = [*graph.initializer, *(a.t for node in graph.node for a in node.attribute)]
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise WeightsError(
                f"{path} has the weights of {shown(tensor.name)} in another file; expected all in "
                "one; save it with onnx.save(model, path, save_as_external_data=False)"
            )
    count = len(graph.node)
    if count > _MOST_NODES:
        raise GraphError(f"{path} has {count} nodes, expected at most {_MOST_NODES}; simplify it")


def _ends(graph: Any, outputs: Sequence[str]) -> tuple[str, ...]:
    """The tensors to stop at, by their own names or by those of their nodes."""
    by_name = {node.name: node.output[0] for node in graph.node if node.output}
    by_name |= {name: name for node in graph.node for name in node.output}
    by_name.pop("", None)  # a node without a name, and an output that is left out
    for name in outputs:
        check_choice("output", name, by_name)
    return tuple(by_name[name] for name in outputs) or tuple(o.name for o in graph.output)


@dataclass(frozen=True, slots=True)
class _Map:
    """A tensor of the file that depends on the picture."""

    tensor: Any
    """Of Keras."""
    order: tuple[int, ...]
    """Which axis of the file each axis of it is."""
    rows: Any = None
    """Where a map was flattened as it lies: the place that each number has in the file."""
    is_positive: bool = False
    """Whether no number in it is below zero."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """As the file has it; the batch is ``None``."""
        sizes = dict(zip(self.order, self.tensor.shape, strict=True))
        return tuple(sizes[axis] for axis in range(len(self.order)))

    def place_of(self, axis: int) -> int:
        """Where an axis of the file is."""
        return self.order.index(axis % len(self.order))


def _channels_last(rank: int) -> tuple[int, ...]:
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


class _Reading:
    """What has been made of a file so far."""

    def __init__(self, path: Path, file: Any, ends: Sequence[str], order: tuple[int, ...]) -> None:
        self.path, self.file, self.ends, self.order = path, file, ends, order
        self.graph: Any = file.graph
        self.opset = max((x.version for x in file.opset_import if not x.domain), default=0)
        self.values: dict[str, Any] = {}
        """Maps, and arrays that are the same for every picture."""
        self.weights: list[tuple[Any, list[Any]]] = []
        self.notes: list[str] = []
        self.transposes = 0
        self.stored = {x.name: x for x in self.graph.initializer}
        self.readers: dict[str, list[int]] = {}
        for index, node in enumerate(self.graph.node):
            for name in node.input:
                self.readers.setdefault(name, []).append(index)
        self.aliases: dict[str, str] = {}
        """Other names of tensors, where a node was taken in by the one before it."""
        self.taken: set[str] = set()
        self.done: set[int] = set()
        self.node: Any = None
        self.attributes: Mapping[str, Any] = {}
        self.model: Any = None
        self.picture, self.sizes = self._picture()

    def _picture(self) -> tuple[Any, list[int | None]]:
        """What the graph reads, and its sizes where they are known."""
        inputs = [x for x in self.graph.input if x.name not in self.stored]
        if len(inputs) != 1:
            names = ", ".join(shown(x.name) for x in inputs[:5]) or "none"
            raise GraphError(f"{self.path} has the inputs {names}, expected one picture")
        dims = inputs[0].type.tensor_type.shape.dim
        sizes = [d.dim_value if d.dim_value > 0 else None for d in dims]
        if len(sizes) != 4:
            raise GraphError(
                f"{self.path} takes an input of {len(sizes)} axes, expected a picture of four"
            )
        return inputs[0], sizes

    def may_be_picture(self) -> bool:
        """Whether the channels are known where they stand in this order."""
        return self.sizes[self.order[-1]] is not None

    def try_out(self) -> None:
        """Read the graph; weights are not loaded yet."""
        try:
            with deferred_weights():
                self._run_graph()
        except InshapeError:
            raise
        except Exception as error:  # an output that nothing makes, say
            reason = f"{self.path} cannot be read ({first_line(error)}); expected a whole network"
            raise GraphError(f"{reason}; export it again") from error

    def _run_graph(self) -> None:
        self.values[self.picture.name] = _Map(image := self._image(), self.order)
        used = self._used()
        for index, node in enumerate(self.graph.node):
            if index in used and index not in self.done:
                self._run(node)
        results = [self._result(name) for name in self.ends]
        name = re.sub(r"[^\w.-]+", "_", self.path.stem).strip("_") or "net"
        self.model = keras.Model(image, sole(results), name=name)

    def _image(self) -> Any:
        import onnx

        kind = onnx.TensorProto.DataType.Name(self.picture.type.tensor_type.elem_type).lower()
        _, height, width, channels = (self.sizes[axis] for axis in self.order)
        if kind not in ("float", "float16", "double", "uint8"):
            raise GraphError(f"{self.path} takes {kind}, expected a picture of floats or bytes")
        if channels is None:
            raise GraphError(f"{self.path} does not fix its channels, expected a number")
        return keras.Input((height, width, channels), name="picture")

    def finished(self) -> Imported:
        """The model with its weights."""
        is_own = any(entry.key == CARD_KEY for entry in self.file.metadata_props)
        notes = () if is_own else range_notes(self.model)
        for layer, arrays in self.weights:
            values = [np.asarray(array, np.float32) for array in arrays]
            assign(
                layer.weights, values, f"{self.path}: node {shown(layer.name)}", "export it again"
            )
        return Imported(self.model, tuple(dict.fromkeys((*self.notes, *notes))))

    def _used(self) -> set[int]:
        """The nodes that the ends depend on."""
        maker = {name: i for i, node in enumerate(self.graph.node) for name in node.output}
        used: set[int] = set()
        names = list(self.ends)
        while names:
            index = maker.get(names.pop())
            if index is not None and index not in used:
                used.add(index)
                names += self.graph.node[index].input
        return used

    def _result(self, name: str) -> Any:
        value = self.values.get(name)
        if not isinstance(value, _Map):
            raise GraphError(f"{self.path}: output {shown(name)} is the same for every picture")
        value = self.plain(value)
        rank = len(value.order)
        ordered = value.order in (_channels_last(rank), tuple(range(rank)))
        return value.tensor if ordered else self.ordered(value, _channels_last(rank)).tensor

    def _run(self, node: Any) -> None:
        import onnx

        self.node = node
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        try:
            results = self._computed(str(node.op_type), [self.value(name) for name in node.input])
        except InshapeError:
            raise
        except Exception as error:  # damaged numbers; Keras raises what it likes
            raise GraphError(
                f"{self.place()} cannot be read ({first_line(error)}); expected a network of "
                "layers that Keras has; export it again"
            ) from error
        results = results if isinstance(results, list) else [results]
        self.values.update(zip(node.output, results, strict=False))
        if node.output[0] in self.aliases:
            self.values[self.aliases[node.output[0]]] = results[0]

    def _computed(self, operation: str, inputs: list[Any]) -> Any:
        if not any(isinstance(value, _Map) for value in inputs) and operation != "Shape":
            if operation not in _FOLDED:
                self.refuse("computes with constants what is not computed here", "a picture")
            return _folded(self, operation, inputs)
        if operation not in _OPERATORS or self.node.domain not in ("", "ai.onnx"):
            known = ", ".join(sorted(_OPERATORS))
            self.refuse("is no operator that Keras has a layer for", f"one of {known}")
        return _OPERATORS[operation](self, *inputs)

    def value(self, name: str) -> Any:
        if not name:
            return None
        if name not in self.values:
            import onnx

            self.values[name] = self.numbers(onnx.numpy_helper.to_array(self.stored[name]))
        return self.values[name]

    def numbers(self, array: Any) -> Any:
        """An array of numbers; others have no place in a network."""
        values = np.asarray(array)
        if str(values.dtype) in _FLOATS:
            return values.astype(np.float32)
        if values.dtype.kind not in "biu":
            self.refuse(f"holds {values.dtype}", "numbers")
        return values

    def place(self) -> str:
        name = shown(self.node.name or self.node.output[0])
        return f"{self.path}: node {name} ({self.node.op_type})"

    def refuse(self, received: str, expected: str) -> NoReturn:
        raise GraphError(
            f"{self.place()} {received}; expected {expected}; export it without, or stop before it "
            "with outputs="
        )

    def name(self) -> str:
        """A name for a layer of the node that is read."""
        word = self.node.name or f"{self.node.op_type}_{self.node.output[0]}"
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(word)).strip("_.-")[:120] or "node"
        return free_name(plain, self.taken)

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def word(self, name: str, default: str) -> str:
        value = self.attribute(name)
        return value.decode() if value else default

    def option(self, value: Any, name: str, default: Any = None) -> Any:
        """An input, or the attribute that it was in earlier versions; it is no map."""
        if isinstance(value, _Map):
            self.refuse(f"takes its {name} from the picture", "numbers")
        if value is None:
            return self.attribute(name, default)
        return np.asarray(value).tolist()

    def constant(self, value: Any, what: str) -> Any:
        if value is None or isinstance(value, _Map):
            self.refuse(f"has no fixed {what}", "one in the file")
        return value

    def weighted(self, layer: Any, value: _Map, arrays: Sequence[Any]) -> Any:
        """What a layer makes of a map, with the weights that it will have."""
        result, values = layer(value.tensor), [np.asarray(array) for array in arrays]
        expected, actual = [tuple(v.shape) for v in layer.weights], [a.shape for a in values]
        if expected != actual:
            raise GraphError(
                f"{self.path}: node {shown(layer.name)} has weights of {actual}, expected "
                f"{expected}; export it again"
            )
        self.weights.append((layer, values))
        return result

    def ordered(self, value: _Map, order: tuple[int, ...]) -> _Map:
        """A map with its axes in an order."""
        value = self.plain(value)
        if value.order == order:
            return value
        # The batch is first in every order.
        shape, moved = value.tensor.shape, [value.order.index(axis) for axis in order[1:]]
        still = [axis for axis in moved if shape[axis] != 1]
        if still == sorted(still) and None not in shape[1:]:
            # Only axes of one place change theirs.
            layer: Any = layers.Reshape([shape[axis] for axis in moved], name=self.name())
        else:
            self.transposes += 1
            layer = layers.Permute(moved, name=self.name())
        return replace(value, tensor=layer(value.tensor), order=order)

    def channels_last(self, value: Any) -> _Map:
        if not isinstance(value, _Map):
            self.refuse("reads what is the same for every picture", "a map")
        return self.ordered(value, _channels_last(len(value.order)))

    def plain(self, value: _Map) -> _Map:
        """A map whose numbers stand in the file's order where they were flattened in another."""
        if value.rows is None:
            return value
        self.transposes += 1
        return replace(value, tensor=ops.take(value.tensor, np.argsort(value.rows), 1), rows=None)

    def like(self, array: Any, value: _Map) -> Any:
        """An array as it meets a map: its axes in the map's order."""
        array = np.asarray(array)
        rank = len(value.order)
        if array.ndim > rank:
            self.refuse("meets an array of more axes than the map has", "as many")
        full = array.reshape((1,) * (rank - array.ndim) + array.shape).transpose(value.order)
        return full.reshape(-1)[0].item() if full.size == 1 else full


# Convolutions, pools and what else looks at a neighbourhood.


def _window(r: _Reading, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    strides = list(r.attribute("strides") or [1] * len(kernel))
    dilations = list(r.attribute("dilations") or [1] * len(kernel))
    if len(kernel) != 2 or len(strides) != 2 or len(dilations) != 2:
        r.refuse(f"looks at {len(kernel)} axes", "height and width")
    return strides, dilations


def _reach(kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    return [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]


def _same_pads(
    x: _Map, reach: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int] | None]:
    """What Keras's ``same`` puts before and behind; ``None`` where it depends on the size."""

    def along(size: int | None, k: int, stride: int) -> tuple[int, int] | None:
        if size is None and stride > 1:
            return None
        total = k - 1 if size is None else max((-(-size // stride) - 1) * stride + k - size, 0)
        return total // 2, total - total // 2

    return [along(*each) for each in zip(x.tensor.shape[1:3], reach, strides, strict=True)]


def _pads(
    r: _Reading, x: _Map, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[str, list[tuple[int, int]]]:
    """Keras's padding, or what has to be put around the map before it."""
    same = _same_pads(x, _reach(kernel, dilations), strides)
    auto = r.word("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "VALID"):
        return auto.partition("_")[0].lower(), []
    if auto == "SAME_LOWER":
        if None in same:
            r.refuse("pads by a size that is not known", "a fixed height and width")
        pads = [(after, before) for before, after in filter(None, same)]
    else:
        pads = _stated_pads(r)
    if not any(map(any, pads)):
        return "valid", []
    # Unlike ones are those of a network of TensorFlow's, whose padding depends on the size.
    is_of_keras = any(before != after for before, after in pads) or list(strides) == [1, 1]
    return ("same", []) if is_of_keras and pads == same else ("valid", pads)


def _stated_pads(r: _Reading) -> list[tuple[int, int]]:
    top, left, bottom, right = flat = list(r.attribute("pads") or [0, 0, 0, 0])
    if min(flat) < 0:
        r.refuse(f"has pads {flat}", "four that are not negative")
    return [(top, bottom), (left, right)]


def _padded(r: _Reading, x: _Map, pads: Sequence[tuple[int, int]]) -> _Map:
    if not any(map(any, pads)):
        return x
    layer = layers.ZeroPadding2D(tuple(pads), name=free_name(f"{r.name()}_pad", r.taken))
    return replace(x, tensor=layer(x.tensor))


def _conv(r: _Reading, x: Any, kernel: Any, bias: Any = None) -> _Map:
    x, kernel = r.channels_last(x), np.asarray(r.constant(kernel, "kernel"))
    strides, dilations = _window(r, kernel.shape[2:])
    padding, pads = _pads(r, x, kernel.shape[2:], strides, dilations)
    x = _padded(r, x, pads)
    groups, (filters, per_group, *size) = r.attribute("group", 1), kernel.shape
    channels = groups * per_group
    options: dict[str, Any] = {
        "kernel_size": size, "strides": strides, "dilation_rate": dilations, "padding": padding,
        "use_bias": bias is not None, "name": r.name(),
    }  # fmt: skip
    if 1 < groups == channels and filters % channels == 0 and len(set(strides)) == 1:
        multiplier = filters // channels
        layer: Any = layers.DepthwiseConv2D(depth_multiplier=multiplier, **options)
        kernel = kernel.reshape(channels, multiplier, *size).transpose(2, 3, 0, 1)
    else:
        layer = layers.Conv2D(filters, groups=groups, **options)
        kernel = kernel.transpose(2, 3, 1, 0)
    arrays = [kernel] if bias is None else [kernel, r.constant(bias, "bias")]
    return _Map(r.weighted(layer, x, arrays), x.order)


def _crops(
    r: _Reading, size: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[tuple[int, int]], bool]:
    """What is cut off a transposed convolution, and whether Keras's ``same`` does it."""
    auto = r.word("auto_pad", "NOTSET")
    if r.attribute("output_shape") or auto != "NOTSET":
        r.refuse("has a fixed output or pads of its own", "none of them")
    reach = _reach(size, dilations)
    extra = list(r.attribute("output_padding") or [0, 0])
    # Keras's own is never smaller than a step.
    behind = [max(s - n, 0) - e for s, n, e in zip(strides, reach, extra, strict=True)]
    crops = [(a, b + c) for (a, b), c in zip(_stated_pads(r), behind, strict=True)]
    same = [((k - s) // 2, k - s - (k - s) // 2) for k, s in zip(reach, strides, strict=True)]
    is_same = crops == same and list(dilations) == [1, 1]
    if not is_same and min(map(min, crops)) < 0:
        r.refuse("adds rows behind those that its kernel reaches", "none")
    return crops, is_same


def _conv_transpose(r: _Reading, x: Any, kernel: Any, bias: Any = None) -> _Map:
    x, kernel = r.channels_last(x), np.asarray(r.constant(kernel, "kernel"))
    strides, dilations = _window(r, kernel.shape[2:])
    if r.attribute("group", 1) != 1:
        r.refuse("has groups", "none of them")
    _, filters, *size = kernel.shape
    crops, is_same = _crops(r, size, strides, dilations)
    layer = layers.Conv2DTranspose(
        filters, size, strides, padding="same" if is_same else "valid", dilation_rate=dilations,
        use_bias=bias is not None, name=r.name(),
    )  # fmt: skip
    arrays = [kernel.transpose(2, 3, 1, 0)]
    arrays += [] if bias is None else [r.constant(bias, "bias")]
    tensor = r.weighted(layer, x, arrays)
    if not is_same and any(map(any, crops)):
        tensor = layers.Cropping2D(tuple(crops), name=r.name())(tensor)
    return _Map(tensor, x.order)


def _behind(
    r: _Reading, x: _Map, kernel: Sequence[int], strides: Sequence[int], pads: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The pads with what a window that begins inside of the map needs behind it."""
    if not r.attribute("ceil_mode", 0):
        return pads
    result: list[tuple[int, int]] = []
    for size, k, s, (before, after) in zip(
        x.tensor.shape[1:3], kernel, strides, pads or [(0, 0)] * 2, strict=True
    ):
        if size is None:
            r.refuse("rounds up a size that is not known", "a fixed height and width")
        rest = (size + before + after - k) % s
        starts_inside = rest and size + before + after - rest - k + s < size + before
        result.append((before, after + (s - rest if starts_inside else 0)))
    return result


def _max_pool(r: _Reading, x: Any) -> _Map:
    x, kernel = r.channels_last(x), list(r.attribute("kernel_shape"))
    strides, dilations = _window(r, kernel)
    if dilations != [1, 1] or len(r.node.output) > 1:
        r.refuse("has dilations or says where its largest numbers are", "neither")
    padding, pads = _pads(r, x, kernel, strides, dilations)
    if padding == "valid":
        pads = _behind(r, x, kernel, strides, pads)
    if any(map(any, pads)) and not x.is_positive:
        # Zeros would be the largest numbers in a window.
        least = float(np.finfo(np.float32).min)
        x = replace(x, tensor=ops.pad(x.tensor, [(0, 0), *pads, (0, 0)], constant_values=least))
        pads = []
    x = _padded(r, x, pads)
    layer = layers.MaxPooling2D(kernel, strides, padding, name=r.name())
    return replace(x, tensor=layer(x.tensor))


def _average_pool(r: _Reading, x: Any) -> _Map:
    x, kernel = r.channels_last(x), list(r.attribute("kernel_shape"))
    strides, dilations = _window(r, kernel)
    padding, pads = _pads(r, x, kernel, strides, dilations)
    counts = bool(r.attribute("count_include_pad", 0))
    behind = _behind(r, x, kernel, strides, pads) if padding == "valid" else pads
    if behind != pads and behind != [(0, 0)] * 2:
        r.refuse("rounds its size up", "one that it divides")
    if padding == "same" and counts:
        padding, pads = "valid", _stated_pads(r)
    elif pads and not counts:
        if pads != _same_pads(x, kernel, strides):
            r.refuse("leaves out of its means what it pads", "pads that count, or none")
        padding, pads = "same", []
    x = _padded(r, x, pads)
    layer = layers.AveragePooling2D(kernel, strides, padding, name=r.name())
    return replace(x, tensor=layer(x.tensor))


def _global_pool(kind: str) -> Callable[..., _Map]:
    def pool(r: _Reading, x: Any) -> _Map:
        x = r.channels_last(x)
        layer: Any = getattr(layers, kind)(keepdims=True, name=r.name())
        return replace(x, tensor=layer(x.tensor))

    return pool


def _resize(r: _Reading, x: Any, region: Any = None, scales: Any = None, sizes: Any = None) -> _Map:
    x = r.channels_last(x)
    if r.opset < _RESIZE_BY_REGION:
        scales = region
    factors, new = _enlarged(r, x, r.option(scales, "scales"), r.option(sizes, "sizes"))
    is_whole = all(f >= 1 and f == round(f) for f in factors)
    mode = _interpolation(r, is_whole=is_whole)
    if is_whole:
        whole = [round(f) for f in factors]
        layer: Any = layers.UpSampling2D(whole, interpolation=mode, name=r.name())
    elif new:
        layer = layers.Resizing(*new, interpolation=mode, name=r.name())
    else:
        r.refuse("scales a size that is not known by a fraction", "a fixed height and width")
    return replace(x, tensor=layer(x.tensor))


def _enlarged(r: _Reading, x: _Map, scales: Any, sizes: Any) -> tuple[list[float], list[int]]:
    """By how much height and width grow, and to what; nothing where that is not known."""
    size = x.tensor.shape[1:3]
    if sizes:
        new = sizes[2:]
        if None in size or sizes[1] != x.shape[1]:
            r.refuse("asks for a size where none is known, or for other channels", "a size")
        return [n / s for n, s in zip(new, size, strict=True)], new
    if not scales or scales[:2] != [1, 1]:
        r.refuse(f"scales by {scales}", "fixed scales, or sizes, of height and width alone")
    factors = scales[2:]
    exact = [] if None in size else np.multiply(size, factors)
    new = [round(n) for n in exact]
    if not np.allclose(new, exact, rtol=0, atol=1e-4):
        r.refuse(f"scales {format_shape(size)} by {factors}", "whole pixels")
    return factors, new


def _interpolation(r: _Reading, *, is_whole: bool) -> str:
    """Keras's word for how a map is resized; refused where it has none."""
    is_old = r.opset < _RESIZE_BY_REGION
    usual = ("asymmetric", "floor") if is_old else ("half_pixel", "round_prefer_floor")
    mode = r.word("mode", "nearest")
    places = r.word("coordinate_transformation_mode", usual[0])
    rounding = r.word("nearest_mode", usual[1])
    of_centres = places in ("half_pixel", "pytorch_half_pixel")
    if mode == "linear" and of_centres and not r.attribute("antialias", 0):
        return "bilinear"
    if mode != "nearest" or not is_whole:
        r.refuse(
            f"resizes by mode {mode!r} and places {places!r}",
            "'linear' with 'half_pixel', or 'nearest' by whole factors",
        )
    # By whole factors every rule for the places comes to the same, but for rounding from corners.
    if not of_centres and rounding != "floor":
        r.refuse(f"takes the nearest by {rounding!r} of {places!r}", "'floor'")
    if places == "align_corners":
        r.refuse("aligns corners", "'half_pixel' or 'asymmetric'")
    return mode


def _pad(r: _Reading, x: _Map, pads: Any = None, value: Any = None, axes: Any = None) -> _Map:
    flat, mode = r.option(pads, "pads"), r.word("mode", "constant")
    if mode not in ("constant", "reflect") or min(flat) < 0:
        r.refuse(f"pads by mode {mode!r} and {flat}", "'constant' or 'reflect', none negative")
    filling = float(np.ravel(r.option(value, "value", 0.0) or 0.0)[0])
    rank, count = len(x.order), len(flat) // 2
    which = r.option(axes, "axes") or list(range(count))
    around = np.zeros((rank, 2), int)
    around[which] = np.reshape(flat, (2, count)).T
    is_of_zeros = mode == "constant" and not filling
    if rank == 4 and is_of_zeros and not around[:2].any():
        return _padded(r, r.channels_last(x), around[2:].tolist())
    x = r.plain(x)
    number = filling if mode == "constant" else None
    return _Map(ops.pad(x.tensor, around[list(x.order)].tolist(), mode, number), x.order)


# Numbers by numbers.


def _layer_by_number(make: Callable[[_Reading], Any], positive: bool = False) -> Any:
    def apply(r: _Reading, x: _Map, *_: Any) -> _Map:
        return replace(x, tensor=make(r)(x.tensor), is_positive=positive)

    return apply


def _activation(word: str, positive: bool = False) -> Any:
    return _layer_by_number(lambda r: layers.Activation(word, name=r.name()), positive)


def _function(function: Callable[[Any], Any], positive: bool = False) -> Any:
    def apply(_: _Reading, x: _Map) -> _Map:
        return replace(x, tensor=function(x.tensor), is_positive=positive)

    return apply


def _same(_: _Reading, x: _Map, *__: Any) -> _Map:
    return x


def _cast(r: _Reading, x: _Map) -> _Map:
    if r.attribute("to") not in (1, 10, 11, 16):  # the floats
        r.refuse("makes whole numbers of floats", "a cast to floats")
    return x


def _dequantize(r: _Reading, x: _Map, scale: Any = None, zero: Any = None) -> _Map:
    """Bytes that come in are scaled; what was rounded in the network stays as it was."""
    if r.node.input[0] != r.picture.name:
        return x
    scale, offset = float(scale), -float(scale) * float(0 if zero is None else zero)
    return replace(x, tensor=layers.Rescaling(scale, offset, name=r.name())(x.tensor))


def _quantize(r: _Reading, x: _Map, scale: Any = None, zero: Any = None) -> _Map:
    """Nothing, but where the numbers begin at zero, which took an activation's place."""
    r.notes.append("the file computes in 8 bits; the model that was read computes in floats")
    zero = np.uint8(0) if zero is None else np.asarray(zero)
    if zero.size != 1 or zero.dtype.kind not in "iu":
        return x
    kind = np.iinfo(zero.dtype)
    if int(zero.reshape(())) != kind.min:
        return x
    largest = float(np.max(scale)) * (kind.max - kind.min)
    limit = 6.0 if abs(largest - 6) < 0.05 else None  # two steps of 8 bits
    if x.is_positive and limit is None:
        return x
    return replace(x, tensor=layers.ReLU(limit, name=r.name())(x.tensor), is_positive=True)


def _clip(r: _Reading, x: _Map, low: Any = None, high: Any = None) -> _Map:
    low, high = r.option(low, "min"), r.option(high, "max")
    if low == 0 or (low is None and x.is_positive):
        limit = None if high is None or high > 1e30 else float(high)
        return replace(x, tensor=layers.ReLU(limit, name=r.name())(x.tensor), is_positive=True)
    low, high = (-3e38 if low is None else low), (3e38 if high is None else high)
    return replace(x, tensor=ops.clip(x.tensor, low, high), is_positive=low >= 0)


def _hard_sigmoid(r: _Reading, x: _Map) -> _Map:
    alpha, beta = r.attribute("alpha", 0.2), r.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        tensor = layers.Activation("hard_sigmoid", name=r.name())(x.tensor)
    else:
        tensor = layers.Rescaling(alpha, beta, name=r.name())(x.tensor)
        tensor = layers.ReLU(1.0, name=r.name())(tensor)
    return replace(x, tensor=tensor, is_positive=True)


def _gelu(r: _Reading, x: _Map) -> _Map:
    if r.word("approximate", "none") == "tanh":
        return replace(x, tensor=ops.gelu(x.tensor, True), is_positive=False)
    return replace(x, tensor=layers.Activation("gelu", name=r.name())(x.tensor), is_positive=False)


def _prelu(r: _Reading, x: Any, slope: Any) -> _Map:
    x, slope = r.channels_last(x), np.asarray(r.constant(slope, "slope"))
    channels = x.tensor.shape[-1]
    shared = list(range(1, len(x.order) - 1))
    if slope.size not in (1, channels):
        r.refuse(f"has {slope.size} slopes", f"one for each of {channels} channels")
    values = np.broadcast_to(slope.reshape(-1), (channels,)).reshape((1,) * len(shared) + (-1,))
    layer = layers.PReLU(shared_axes=shared, name=r.name())
    return replace(x, tensor=r.weighted(layer, x, [values]), is_positive=False)


def _softmax(r: _Reading, x: _Map) -> _Map:
    axis, rank = r.attribute("axis", -1 if r.opset >= 13 else 1), len(x.order)
    x = r.plain(x)
    if r.opset < 13 and axis % rank != rank - 1:
        r.refuse("sums over several axes", "one, as since version 13")
    place = x.place_of(axis)
    layer: Any = layers.Softmax(place, name=r.name())
    if place == rank - 1:
        layer = layers.Activation("softmax", name=layer.name)
    return replace(x, tensor=layer(x.tensor), is_positive=True)


def _batch_norm(r: _Reading, x: Any, *statistics: Any) -> _Map:
    x = r.channels_last(x)
    layer = layers.BatchNormalization(epsilon=r.attribute("epsilon", 1e-5), name=r.name())
    arrays = [r.constant(values, "statistics") for values in statistics[:4]]
    return _Map(r.weighted(layer, x, arrays), x.order)


def _elementwise(function: Callable[[Any, Any], Any], layer: Any = None) -> Any:
    def apply(r: _Reading, *read: Any) -> Any:
        result = read[0]
        for other in read[1:]:
            result = _pair(r, function, layer, result, other)
        return result

    return apply


_AFFINE: dict[str, Callable[[Any, bool], tuple[Any, Any]]] = {
    "Add": lambda n, _: (1.0, n),
    "Mul": lambda n, _: (n, 0.0),
    "Sub": lambda n, first: (-1.0, n) if first else (1.0, -np.asarray(n)),
    "Div": lambda n, _: (1.0 / np.asarray(n), 0.0),
}
"""What an operator with an array, before or behind the map, is as ``x * scale + offset``."""


def _pair(r: _Reading, function: Any, layer: Any, first: Any, second: Any) -> Any:
    is_second = isinstance(second, _Map)
    if isinstance(first, _Map) and is_second:
        return _pair_of_maps(r, function, layer, first, second)
    x, array = (second, first) if is_second else (first, second)
    x = r.plain(x)
    number = r.like(r.constant(array, "operand"), x)
    kind = str(r.node.op_type)
    per_channel = np.size(number) in (1, *np.shape(number)[-1:])
    if kind in _AFFINE and per_channel and not (kind == "Div" and is_second):
        flat = np.squeeze(number).astype(float)
        scale, offset = (np.asarray(n).tolist() for n in _AFFINE[kind](flat, is_second))
        return _Map(layers.Rescaling(scale, offset, name=r.name())(x.tensor), x.order)
    return _Map(function(number, x.tensor) if is_second else function(x.tensor, number), x.order)


def _pair_of_maps(r: _Reading, function: Any, layer: Any, first: _Map, second: _Map) -> _Map:
    if len(first.order) != len(second.order):
        axes = f"{len(first.order)} and {len(second.order)}"
        r.refuse(f"meets maps of {axes} axes", "as many of both")
    first = r.plain(first)
    second = r.ordered(second, first.order)
    if layer is None:
        tensor = function(first.tensor, second.tensor)
    else:
        tensor = layer(name=r.name())([first.tensor, second.tensor])
    positive = first.is_positive and second.is_positive and function is not ops.subtract
    return _Map(tensor, first.order, is_positive=positive)


# Matrices.


def _matrix(r: _Reading, x: _Map, kernel: Any, bias: Any) -> _Map:
    kernel = np.asarray(kernel, np.float32)
    if x.rows is not None:
        if kernel.shape[0] != len(x.rows):
            r.refuse(f"has a matrix of {kernel.shape}", f"{len(x.rows)} rows")
        kernel, x = kernel[x.rows], replace(x, rows=None)
    rank = len(x.order)
    if x.order[-1] != rank - 1:
        x = r.ordered(x, tuple(range(rank)))
    layer = layers.Dense(kernel.shape[1], use_bias=bias is not None, name=r.name())
    arrays = [kernel] if bias is None else [kernel, np.broadcast_to(bias, (kernel.shape[1],))]
    return _Map(r.weighted(layer, x, arrays), x.order)


def _gemm(r: _Reading, x: Any, kernel: Any, bias: Any = None) -> _Map:
    if not isinstance(x, _Map) or r.attribute("transA", 0):
        r.refuse("multiplies a matrix by the picture", "the picture by a matrix")
    kernel = np.asarray(r.constant(kernel, "matrix"))
    kernel = kernel.T if r.attribute("transB", 0) else kernel
    if bias is not None:
        bias = np.ravel(np.asarray(r.constant(bias, "bias")) * r.attribute("beta", 1.0))
    return _matrix(r, x, kernel * r.attribute("alpha", 1.0), bias)


def _matmul(r: _Reading, x: Any, kernel: Any) -> _Map:
    if isinstance(x, _Map) and isinstance(kernel, _Map):
        first, second = (r.ordered(m, tuple(range(len(m.order)))) for m in (x, kernel))
        return _Map(ops.matmul(first.tensor, second.tensor), tuple(range(len(first.order))))
    if not isinstance(x, _Map) or np.ndim(kernel) != 2:
        r.refuse("multiplies a matrix by the picture", "the picture by a matrix")
    return _matrix(r, x, kernel, _bias_behind(r, kernel.shape[1]))


def _bias_behind(r: _Reading, units: int) -> Any:
    """The vector that the next node alone adds to what this one gives."""
    name = r.node.output[0]
    if len(r.readers.get(name, ())) != 1 or name in r.ends:
        return None
    (index,) = r.readers[name]
    node = r.graph.node[index]
    other = next((n for n in node.input if n != name), "")
    if node.op_type != "Add" or other not in r.stored or list(r.stored[other].dims) != [units]:
        return None
    r.done.add(index)
    r.aliases[name] = node.output[0]
    return r.value(other)


# Axes.


def _flatten(r: _Reading, x: _Map) -> Any:
    if r.attribute("axis", 1) != 1:
        r.refuse(f"flattens from axis {r.attribute('axis')}", "all axes but the batch")
    return _reshaped(r, x, [_BATCH, -1])


def _reshape(r: _Reading, x: _Map, shape: Any = None) -> Any:
    target = [int(n) for n in r.option(shape, "shape")]
    if r.attribute("allowzero", 0) and 0 in target:
        r.refuse("asks for nothing", "a shape")
    return _reshaped(r, x, [x.shape[i] if n == 0 and i else n for i, n in enumerate(target)])


def _reshaped(r: _Reading, x: _Map, target: Sequence[Any]) -> _Map:
    """A map of another shape, without moving its numbers where that can be."""
    new = _sizes_of(r, x, target)
    old: Any = list(x.shape[1:])
    if old == new:
        return x
    x = r.plain(x)
    lying = _but_units(x.order[1:], old)
    groups = sorted(_groups(old, new), key=lambda group: lying.index(group[0][0]))
    order, others = ([axis for group in groups for axis in group[i]] for i in (0, 1))
    if order == lying:
        new_order = _with_units(others, new)
        return _laid_out(r, x, [new[axis - 1] for axis in new_order[1:]], new_order)
    if len(new) == 1:
        places = np.arange(prod(new)).reshape(old).transpose(np.subtract(x.order[1:], 1))
        return replace(_laid_out(r, x, new, (0, 1)), rows=places.reshape(-1))
    # Each group side by side, and the groups where they lie: one transpose and no more.
    units = [axis for axis in x.order[1:] if axis not in order]
    return _reshaped(r, r.ordered(x, (0, *order, *units)), target)


def _laid_out(r: _Reading, x: _Map, sizes: Sequence[int], order: tuple[int, ...]) -> _Map:
    """The numbers of a map as they lie, along other axes."""
    name = r.name()
    layer = layers.Flatten(name=name) if len(sizes) == 1 else layers.Reshape(sizes, name=name)
    return _Map(layer(x.tensor), order, is_positive=x.is_positive)


def _sizes_of(r: _Reading, x: _Map, target: Sequence[Any]) -> list[int]:
    """The sizes that a map is reshaped to, without the batch's."""
    total = product(x.shape[1:])
    if target[0] not in (_BATCH, -1, 0, 1) and target[0] != r.sizes[0]:
        r.refuse(f"mixes the pictures of a batch in {_words(target)}", "the batch to stay as it is")
    new = [int(n) for n in target[1:]]
    if min(new, default=0) < -1 or max(new, default=0) >= _BATCH or new.count(-1) > 1:
        r.refuse(f"reshapes to {_words(target)}", "sizes that are known")
    if total is None:
        r.refuse("reshapes a map whose size is not known", "a fixed height and width")
    if -1 in new:
        new[new.index(-1)] = total // max(-prod(new), 1)
    if prod(new) != total:
        r.refuse(f"reshapes {format_shape(x.shape[1:])} to {format_shape(new)}", f"{total} numbers")
    return new


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Which axes become which, in the smallest groups of as many numbers; those of one left out."""
    groups: list[tuple[list[int], list[int]]] = []
    left, right = (_but_units(range(1, len(sizes) + 1), sizes) for sizes in (old, new))
    while left or right:
        axes, others = [left.pop(0)], [right.pop(0)]
        have, want = old[axes[0] - 1], new[others[0] - 1]
        while have != want:
            if have < want:
                axes.append(left.pop(0))
                have *= old[axes[-1] - 1]
            else:
                others.append(right.pop(0))
                want *= new[others[-1] - 1]
        groups.append((axes, others))
    return groups


def _but_units(axes: Iterable[int], sizes: Sequence[int]) -> list[int]:
    """Axes without those of one place."""
    return [axis for axis in axes if sizes[axis - 1] != 1]


def _with_units(axes: Sequence[int], sizes: Sequence[int]) -> tuple[int, ...]:
    """An order of all axes: channels last if only axes of one place are missing for it."""
    last = _channels_last(len(sizes) + 1)
    if _but_units(last[1:], sizes) == list(axes):
        return last
    order = list(axes)
    for axis in range(1, len(sizes) + 1):
        if sizes[axis - 1] == 1:
            order.insert(axis - 1, axis)
    return (0, *order)


def _words(shape: Sequence[Any]) -> str:
    return "x".join("?" if n is None or abs(n) >= _BATCH else str(n) for n in shape)


def _squeeze(r: _Reading, x: _Map, axes: Any = None) -> Any:
    rank = len(x.order)
    which = r.option(axes, "axes") or [i for i in range(1, rank) if x.shape[i] == 1]
    gone = {axis % rank for axis in which}
    if 0 in gone or any(x.shape[axis] != 1 for axis in gone):
        r.refuse(f"drops axes {sorted(gone)}", "axes of one place that are not the batch")
    return _dropped(r, x, gone)


def _dropped(r: _Reading, x: _Map, gone: set[int]) -> _Map:
    """A map without axes of one place."""
    kept = [axis for axis in range(len(x.order)) if axis not in gone]
    order = tuple(kept.index(axis) for axis in x.order if axis in kept)
    x = r.plain(x)
    sizes = [n for axis, n in zip(x.order, x.tensor.shape, strict=True) if axis in kept][1:]
    if sizes.count(None) > 1:
        r.refuse("drops axes of a map whose size is not known", "a fixed height and width")
    layer = layers.Reshape([-1 if n is None else n for n in sizes], name=r.name())
    return _Map(layer(x.tensor), order, is_positive=x.is_positive)


def _unsqueeze(r: _Reading, x: _Map, axes: Any = None) -> Any:
    which = r.option(axes, "axes")
    rank = len(x.order) + len(which)
    new = {axis % rank for axis in which}
    if 0 in new:
        r.refuse("puts an axis before the batch", "the batch first")
    sizes = iter(x.shape)
    return _reshaped(r, x, [_BATCH, *[1 if i in new else next(sizes) for i in range(rank)][1:]])


def _transpose(r: _Reading, x: _Map) -> _Map:
    rank = len(x.order)
    order = list(r.attribute("perm") or range(rank)[::-1])
    if sorted(order) != list(range(rank)) or order[0] != 0:
        r.refuse(f"moves axes to {order}", "the batch first, and each of the others once")
    x = r.plain(x)
    return replace(x, order=tuple(order.index(axis) for axis in x.order))


def _concat(r: _Reading, *read: Any) -> _Map:
    maps = [r.plain(x) for x in read if isinstance(x, _Map)]
    if len(maps) != len(read):
        r.refuse("puts constants beside maps", "maps alone")
    maps = [r.ordered(x, maps[0].order) for x in maps]
    layer = layers.Concatenate(maps[0].place_of(r.attribute("axis", 1)), name=r.name())
    positive = all(x.is_positive for x in maps)
    return _Map(layer([x.tensor for x in maps]), maps[0].order, is_positive=positive)


def _split(r: _Reading, x: _Map, sizes: Any = None) -> list[_Map]:
    x, axis, count = r.plain(x), r.attribute("axis", 0), len(r.node.output)
    total = x.shape[axis % len(x.order)]
    lengths = r.option(sizes, "split")
    if total is None or axis % len(x.order) == 0:
        r.refuse("cuts an axis whose length is not known", "another")
    step = -(-total // count)
    lengths = lengths or [min(step, total - step * i) for i in range(count)]
    ends = np.cumsum(lengths).tolist()
    return [_cut(x, {axis: slice(end - n, end)}) for n, end in zip(lengths, ends, strict=True)]


def _cut(x: _Map, parts: Mapping[int, slice]) -> _Map:
    rank = len(x.order)
    cuts = {axis % rank: part for axis, part in parts.items()}
    index = tuple(cuts.get(axis, slice(None)) for axis in x.order)
    return replace(x, tensor=x.tensor[index])


_NO_END = 2**30
_WHOLE = slice(0, None, None)


def _stated_slices(
    r: _Reading, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> list[tuple[int, slice]]:
    first, last = r.option(starts, "starts"), r.option(ends, "ends")
    which = r.option(axes, "axes") or range(len(first))
    strides = r.option(steps, "steps") or [1] * len(first)
    return [(axis, slice(*part)) for axis, *part in zip(which, first, last, strides, strict=True)]


def _slice(r: _Reading, x: _Map, *stated: Any) -> _Map:
    x, rank = r.plain(x), len(x.order)
    parts: dict[int, slice] = {}
    for axis, part in _stated_slices(r, *stated):
        size, step = x.shape[axis % rank], part.step
        stop = None if part.stop >= min(_NO_END, size or _NO_END) else part.stop
        part = slice(part.start, stop, None if step == 1 else step)
        if step < 1 or (axis % rank == 0 and part != _WHOLE):
            r.refuse("turns an axis round or cuts the batch", "steps of 1 or more")
        if part != _WHOLE:
            parts[axis] = part
    return _cut(x, parts) if parts else x


def _gather(r: _Reading, x: _Map, indices: Any) -> _Map:
    x, axis = r.plain(x), r.attribute("axis", 0) % len(x.order)
    places = np.asarray(r.constant(indices, "indices"))
    if axis == 0 or places.ndim > 1:
        r.refuse("takes pictures out of a batch, or a table of indices", "one row of them")
    size = x.shape[axis]
    wanted = np.ravel(places)
    if size is None or (wanted < -size).any() or (wanted >= size).any():
        r.refuse("takes what is outside of its map", "indices in it")
    tensor = ops.take(x.tensor, wanted % size, x.place_of(axis))
    taken = replace(x, tensor=tensor)
    return taken if places.ndim else _dropped(r, taken, {axis})


def _reduced(function: Any) -> Callable[..., _Map]:
    def reduce(r: _Reading, x: _Map, axes: Any = None) -> _Map:
        rank, keeps = len(x.order), bool(r.attribute("keepdims", 1))
        which = {axis % rank for axis in (r.option(axes, "axes") or range(1, rank))}
        x = r.plain(x)
        if 0 in which:
            r.refuse("mixes the pictures of a batch", "other axes")
        places = sorted(x.place_of(axis) for axis in which)
        kept = [axis for axis in range(rank) if keeps or axis not in which]
        order = tuple(kept.index(axis) for axis in x.order if axis in kept)
        if function is ops.mean and places == [1, 2] and rank == 4:
            tensor = layers.GlobalAveragePooling2D(keepdims=keeps, name=r.name())(x.tensor)
        else:
            tensor = function(x.tensor, axis=tuple(places), keepdims=keeps)
        return _Map(tensor, order, is_positive=x.is_positive)

    return reduce


def _shape(r: _Reading, x: Any) -> Any:
    shape = x.shape if isinstance(x, _Map) else np.shape(x)
    if isinstance(x, _Map) and None in shape[1:]:
        r.refuse("asks for a size that is not known", "a fixed height and width")
    sizes = [_BATCH if n is None else n for n in shape]
    return np.array(sizes[slice(r.attribute("start", 0), r.attribute("end", None))], np.int64)


def _power(r: _Reading, x: Any, exponent: Any) -> _Map:
    number = float(np.ravel(r.constant(exponent, "exponent"))[0])
    return replace(x, tensor=ops.power(x.tensor, number), is_positive=False)


_OPERATORS: dict[str, Callable[..., Any]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_pool("GlobalAveragePooling2D"),
    "GlobalMaxPool": _global_pool("GlobalMaxPooling2D"),
    "Resize": _resize,
    "Upsample": _resize,
    "Pad": _pad,
    "Relu": _layer_by_number(lambda r: layers.ReLU(name=r.name()), positive=True),
    "LeakyRelu": _layer_by_number(
        lambda r: layers.LeakyReLU(r.attribute("alpha", 0.01), name=r.name())
    ),
    "Elu": _layer_by_number(lambda r: layers.ELU(r.attribute("alpha", 1.0), name=r.name())),
    "PRelu": _prelu,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _activation("hard_silu"),
    "Sigmoid": _activation("sigmoid", positive=True),
    "Swish": _activation("silu"),
    "Mish": _activation("mish"),
    "Tanh": _activation("tanh"),
    "Gelu": _gelu,
    "Softplus": _activation("softplus", positive=True),
    "Softmax": _softmax,
    "Abs": _function(ops.absolute, positive=True),
    "Exp": _function(ops.exp, positive=True),
    "Sqrt": _function(ops.sqrt, positive=True),
    "Erf": _function(ops.erf),
    "Neg": _function(ops.negative),
    "Pow": _power,
    "BatchNormalization": _batch_norm,
    "Add": _elementwise(ops.add, layers.Add),
    "Sum": _elementwise(ops.add, layers.Add),
    "Mul": _elementwise(ops.multiply, layers.Multiply),
    "Sub": _elementwise(ops.subtract, layers.Subtract),
    "Div": _elementwise(ops.true_divide),
    "Max": _elementwise(ops.maximum, layers.Maximum),
    "Min": _elementwise(ops.minimum, layers.Minimum),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "ReduceMean": _reduced(ops.mean),
    "ReduceMax": _reduced(ops.max),
    "ReduceSum": _reduced(ops.sum),
    "Shape": _shape,
    "Cast": _cast,
    **dict.fromkeys(("Identity", "Dropout"), _same),
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
}


# What is the same for every picture: shapes that were computed, and weights of 8 bits.


def _constant(r: _Reading) -> Any:
    import onnx

    for name in ("value_float", "value_int", "value_floats", "value_ints"):
        if name in r.attributes:
            return r.numbers(r.attributes[name])
    return r.numbers(onnx.numpy_helper.to_array(r.attributes["value"]))


def _filled(r: _Reading, shape: Any) -> Any:
    import onnx

    if prod(int(n) for n in shape) > _MOST_FOLDED:
        r.refuse(f"makes an array of {format_shape(tuple(shape))}", "a small one")
    value = r.attribute("value")
    number = np.float32(0) if value is None else onnx.numpy_helper.to_array(value).reshape(())
    return np.full([int(n) for n in shape], number)


def _dequantized(r: _Reading, x: Any, scale: Any, zero: Any = None) -> Any:
    scale, zero = np.asarray(scale), np.asarray(0 if zero is None else zero)
    axis = r.attribute("axis", 1) % max(np.ndim(x), 1)
    shape = [-1 if i == axis else 1 for i in range(np.ndim(x))] if scale.size > 1 else []
    numbers = x.astype(np.float32) - zero.reshape(shape if zero.size > 1 else []).astype(np.float32)
    return numbers * scale.reshape(shape)


def _cast_array(r: _Reading, x: Any) -> Any:
    import onnx

    kind = onnx.helper.tensor_dtype_to_np_dtype(r.attribute("to"))
    return r.numbers(np.asarray(x).astype(kind))


def _slice_array(r: _Reading, x: Any, *stated: Any) -> Any:
    index = [slice(None)] * np.ndim(x)
    for axis, part in _stated_slices(r, *stated):
        index[axis] = part
    return x[tuple(index)]


def _divided(_: _Reading, x: Any, y: Any) -> Any:
    whole = np.asarray(x).dtype.kind in "iu"
    return np.asarray(x) // np.asarray(y) if whole else np.asarray(x) / np.asarray(y)


def _by_numpy(function: Callable[..., Any]) -> Callable[..., Any]:
    def compute(_: _Reading, *read: Any) -> Any:
        return function(*read)

    return compute


def _gather_array(r: _Reading, x: Any, indices: Any) -> Any:
    return np.take(x, indices, axis=r.attribute("axis", 0))


def _concat_arrays(r: _Reading, *read: Any) -> Any:
    return np.concatenate([np.atleast_1d(x) for x in read], r.attribute("axis", 0))


def _reshape_array(_: _Reading, x: Any, shape: Any) -> Any:
    return np.reshape(x, [np.shape(x)[i] if n == 0 else int(n) for i, n in enumerate(shape)])


def _transpose_array(r: _Reading, x: Any) -> Any:
    return np.transpose(x, r.attribute("perm"))


def _squeeze_array(r: _Reading, x: Any, axes: Any = None) -> Any:
    which = r.option(axes, "axes")
    return np.squeeze(x, None if which is None else tuple(which))


def _unsqueeze_array(r: _Reading, x: Any, axes: Any = None) -> Any:
    return np.expand_dims(x, tuple(r.option(axes, "axes")))


_FOLDED: dict[str, Callable[..., Any]] = {
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "DequantizeLinear": _dequantized,
    "Cast": _cast_array,
    "Slice": _slice_array,
    "Div": _divided,
    "Identity": _by_numpy(np.asarray),
    "Shape": _shape,
    "Add": _by_numpy(np.add),
    "Sub": _by_numpy(np.subtract),
    "Mul": _by_numpy(np.multiply),
    "Sqrt": _by_numpy(np.sqrt),
    "Floor": _by_numpy(np.floor),
    "Gather": _gather_array,
    "Concat": _concat_arrays,
    "Reshape": _reshape_array,
    "Transpose": _transpose_array,
    "Squeeze": _squeeze_array,
    "Unsqueeze": _unsqueeze_array,
}


def _folded(r: _Reading, operation: str, read: Sequence[Any]) -> Any:
    if operation in ("Add", "Sub", "Mul", "Div"):
        size = prod(np.broadcast_shapes(*map(np.shape, read)))
        if size > max(*map(np.size, read), _MOST_FOLDED):
            r.refuse("makes a large array of smaller ones", "arrays that are in the file")
    return _FOLDED[operation](r, *read)
