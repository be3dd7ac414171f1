"""Whole models of Keras 2, as ``.h5`` or ``.keras``: their graph is built anew of Keras 3's layers.

Keras 3 refuses many of them (``groups`` of a depthwise convolution, TensorFlow's functions between
layers, slashes in names) and computes others differently: its ``hard_sigmoid`` is another function.
So the configuration is read here, and nothing in it names what is imported or run: layers come from
one list, functions from another, and anything else is refused by its name.
"""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NoReturn

import keras
from keras import ops
from keras.src.utils.naming import to_snake_case

from ..errors import GraphError, InshapeError, WeightsError, shown
from ..graph.deferred import deferred_weights
from ..graph.finite import assign
from ..graph.hdf5 import DAMAGE, check_archive, is_archive, open_checked
from ..graph.walk import sole
from ..text import first_line, format_bytes, free_name
from ..weights.stored import KerasWeights, Slot, damaged, open_hdf5
from ..writing import parse_json

_LONGEST_CONFIG = 2**24
"""Bytes; that of the largest network in keras.applications has 2**20."""
_MOST_CALLS = 10_000
_DEEPEST = 8
"""Models in models; each level can call the next one many times."""


def keras_version(path: Path) -> str:
    """The version that wrote a whole model; empty where there is none, or it cannot be read."""
    try:
        if is_archive(path):
            with zipfile.ZipFile(path) as archive:
                check_archive(path, archive, None)
                return str(parse_json(archive.read("metadata.json"))["keras_version"])
        with open_checked(path) as file:
            version = file.attrs.get("keras_version", "") if "model_config" in file.attrs else ""
            return version.decode() if isinstance(version, bytes) else str(version)
    except DAMAGE:
        return ""


def read_model(path: Path) -> keras.Model:
    """Read a whole model of Keras 2.

    Raises:
        WeightsError: if it is damaged, or its weights do not fit its layers.
        GraphError: if it holds what Keras 3 does not have, or what would run code.
    """
    record = _config(path)
    with open_hdf5(path) as stored:
        with deferred_weights():
            whole = _Reader(path).network(record)
            slots = _slots(whole, stored)
            _check_fit(path, slots, stored)
        for slot in slots:
            holder = f"{path}: layer {shown(slot.name)}"
            advice = "take an earlier state of the model"
            assign(slot.variables, stored.arrays(slot), holder, advice)
    for leaf in _leaves(whole):
        if isinstance(leaf, keras.layers.Normalization):
            leaf.finalize_state()  # it computes with copies of its weights
    return whole.layer


def _config(path: Path) -> Any:
    try:
        if is_archive(path):
            with zipfile.ZipFile(path) as archive:
                check_archive(path, archive, None)
                length: int = archive.getinfo("config.json").file_size
                text = archive.read("config.json") if length <= _LONGEST_CONFIG else b""
        else:
            with open_checked(path) as file:
                text: Any = file.attrs["model_config"]
                length = len(text)
        if length <= _LONGEST_CONFIG:
            return parse_json(text)
    except DAMAGE as error:
        raise damaged(path, error) from error
    raise WeightsError(
        f"{path} describes its model in {format_bytes(length)}, expected at most "
        f"{format_bytes(_LONGEST_CONFIG)}; save it again"
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """A layer as it was made, or a function that stands in its place."""

    kind: str
    """The class that it had in Keras 2."""
    name: str
    """The one that it had, which its weights stand under."""
    layer: Any
    parts: tuple[_Part, ...] = ()
    """What it is made of, if it is a model."""
    after: Callable[[Any], Any] | None = None
    """What follows it, where its activation is no function of Keras 3."""
    calls: int = 1
    """How many calls of layers a call of it is."""


@dataclass(slots=True)
class _Reader:
    """Makes networks of their configurations."""

    path: Path
    calls: int = 0
    depth: int = 0
    _where: list[str] = field(default_factory=list)

    def network(self, record: Any) -> _Part:
        try:
            config = record["config"]
            name = str(config.get("name", "model")) if isinstance(config, dict) else "model"
            return self._model(record, _free_name(name, set()))
        except (InshapeError, MemoryError):
            raise
        except Exception as error:  # a damaged record, or numbers that no layer takes
            raise GraphError(
                f"{self._place()} cannot be made ({first_line(error)}); expected a whole model of "
                "Keras 2; save it again"
            ) from error

    def _model(self, record: Any, name: str) -> _Part:
        kind, config = str(record["class_name"]), record["config"]
        if kind not in ("Model", "Functional", "Sequential"):
            self._custom(f"the model is a {shown(kind)}")
        self.depth += 1
        if self.depth > _DEEPEST:
            self._refuse(f"models stand in models more than {_DEEPEST} deep", "less")
        before = self.calls
        if kind == "Sequential":
            config = _as_graph(config)
        model, parts = self._graph(config, name)
        self.depth -= 1
        return _Part(kind, name, model, parts, calls=max(1, self.calls - before))

    def _graph(
        self, config: Mapping[str, Any], model_name: str
    ) -> tuple[keras.Model, tuple[_Part, ...]]:
        taken: set[str] = set()
        parts = self._parts(config["layers"], taken)
        nodes = _nodes_of(config["layers"])
        outputs = _references(config["output_layers"])
        first = _first_calls(nodes, outputs, parts)
        reads = {key: [first(at) for at in _tensors_in(node, parts)] for key, node in nodes.items()}
        values: dict[tuple[str, int], list[Any]] = {
            (name, 0): [part.layer] for name, part in parts.items() if part.kind == "InputLayer"
        }

        def value_of(at: Sequence[Any]) -> Any:
            return values[first(at)][at[2]]

        for key in TopologicalSorter(reads).static_order():
            if key not in values:
                part = parts[key[0]]
                self._at(part.name, part.kind)
                values[key] = self._call(part, *_arguments(nodes[key], parts, value_of), taken)
        self._where = []
        inputs = [parts[str(at[0])].layer for at in _references(config["input_layers"])]
        results = [value_of(at) for at in outputs]
        model = keras.Model(sole(inputs), sole(results), name=model_name)
        return model, tuple(parts.values())

    def _parts(self, records: Any, taken: set[str]) -> dict[str, _Part]:
        """The layers of a graph, not called yet."""
        parts: dict[str, _Part] = {}
        for record in records:
            name = _layer_name(record)
            self._at(name, record["class_name"])
            if name in parts:
                self._refuse("its name stands twice", "one layer of each name")
            is_function = record["class_name"] in _FUNCTION_KINDS  # each call of which has a name
            parts[name] = self._part(record, name, name if is_function else _free_name(name, taken))
        return parts

    def _call(
        self, part: _Part, args: tuple[Any, ...], kwargs: dict[str, Any], taken: set[str]
    ) -> list[Any]:
        """What a layer gives for what it reads."""
        self.calls += part.calls
        if self.calls > _MOST_CALLS:
            self._refuse(f"more than {_MOST_CALLS} calls of layers", "at most so many")
        result = part.layer(*args, **kwargs)
        result = result if part.after is None else part.after(result)
        values = keras.tree.flatten(result)
        _name_operations(values, keras.tree.flatten((args, kwargs)), part, taken)
        return values

    def _part(self, record: Mapping[str, Any], name: str, new_name: str) -> _Part:
        kind, config = str(record["class_name"]), record["config"]
        if kind in ("Model", "Functional", "Sequential"):
            where = self._where
            part = replace(self._model(record, new_name), name=name)
            self._where = where
            return part
        config = dict(config)
        if kind == "InputLayer":
            shape = config.get("batch_input_shape") or config["batch_shape"]
            tensor = keras.Input(batch_shape=shape, dtype=self._dtype(config), name=new_name)
            return _Part(kind, name, tensor)
        if kind == "TFOpLambda":
            return _Part(kind, name, self._function(str(config["function"]).split(".")[-1]))
        if kind == "SlicingOpLambda":
            return _Part(kind, name, _sliced)
        if kind == "TensorFlowOpLayer":
            return _Part(kind, name, self._operator(config))
        if kind == "Lambda":
            self._refuse("it is a function of Python's, which would be run", _OWN_LAYERS)
        layer, after = self._layer(kind, config, new_name)
        return _Part(kind, name, layer, after=after)

    def _layer(
        self, kind: str, config: dict[str, Any], name: str
    ) -> tuple[Any, Callable[[Any], Any] | None]:
        kind = _RENAMED.get(kind, kind)
        if kind in _NOT_READ:
            raise GraphError(
                f"{self._place()}: it is not read from files of Keras 2; expected layers of "
                "networks of single pictures; make the model in Python, load its weights there, "
                "and pass the keras.Model"
            )
        if kind not in _LAYERS:
            self._custom("it is no layer of Keras's own")
        cls: Any = getattr(keras.layers, kind)
        after = None
        if str(_name_of(config.get("activation"))) == "hard_sigmoid":
            config["activation"], after = "linear", _hard_sigmoid
        _rename_options(kind, config)
        accepted = {*inspect.signature(cls).parameters, "trainable", "activity_regularizer"}
        options: dict[str, Any] = {"name": name, "dtype": self._dtype(config)}
        for key, value in config.items():
            # Every value that an initializer would give comes from the file.
            if key in _MEANINGLESS or key.endswith("_initializer"):
                continue
            if key in accepted:
                options[key] = self._option(key, value)
            elif value not in (None, False) and (key, value) != ("groups", 1):
                self._refuse(f"{key} is {shown(value)}", f"no {key}, which Keras 3 does not have")
        return cls(**options), after

    def _option(self, key: str, value: Any) -> Any:
        """What a layer is made with."""
        if key.endswith("regularizer"):
            return self._object(key, value, keras.regularizers, _REGULARIZERS)
        if key.endswith("constraint"):
            return self._object(key, value, keras.constraints, _CONSTRAINTS)
        if key == "activation":
            return self._activation(value)
        if isinstance(value, dict):
            self._custom(f"{key} is {shown(value)}")
        return value

    def _dtype(self, config: Mapping[str, Any]) -> str | None:
        dtype = config.get("dtype")
        if isinstance(dtype, dict):  # a policy
            dtype = dtype["config"]["name"]
        if dtype in (None, "infer", "_infer"):
            return None
        if dtype not in _DTYPES:
            self._refuse(f"dtype is {shown(dtype)}", ", ".join(_DTYPES))
        return str(dtype)

    def _activation(self, value: Any) -> Any:
        name = _name_of(value)
        if name is None:
            return None
        if isinstance(value, dict) and name in _RELUS:  # a layer in its place
            return self._layer(name, dict(value["config"]), str(value["config"]["name"]))[0]
        if name not in _ACTIVATIONS:
            self._custom(f"activation is {shown(value)}")
        return getattr(keras.activations, name)

    def _object(self, key: str, value: Any, module: Any, names: Sequence[str]) -> Any:
        if value is None:
            return None
        name = _name_of(value)
        if name not in names:
            self._custom(f"{key} is {shown(value)}")
        config = value["config"] if isinstance(value, dict) else {}
        return getattr(module, str(name))(**{k: v for k, v in config.items() if k != "name"})

    def _function(self, name: str) -> Callable[..., Any]:
        if name not in _FUNCTIONS:
            known = ", ".join(sorted(_FUNCTIONS))
            self._refuse(f"it computes tf.{shown(name)}", f"one of: {known}")
        function = _FUNCTIONS[name]

        def call(*args: Any, name: None = None, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return call

    def _operator(self, config: Mapping[str, Any]) -> Callable[..., Any]:
        """What TensorFlow 2.0 to 2.3 wrote for a function between layers."""
        node = config["node_def"]
        node = parse_json(node) if isinstance(node, str) else node
        name = _OPERATORS.get(str(node["op"]))
        if name is None:
            self._refuse(f"it computes {shown(node['op'])}", f"one of: {', '.join(_OPERATORS)}")
        constants = sorted((int(key), value) for key, value in config["constants"].items())

        def call(read: Any) -> Any:
            operands = list(read) if isinstance(read, list) else [read]
            for place, value in constants:
                operands.insert(place, value)
            return _FUNCTIONS[name](*operands)

        return call

    def _at(self, name: str, kind: Any) -> None:
        self._where = [f"layer {shown(name)} ({shown(kind)})"]

    def _place(self) -> str:
        return ": ".join([str(self.path), *self._where])

    def _refuse(self, received: str, expected: str) -> NoReturn:
        raise GraphError(
            f"{self._place()}: {received}; expected {expected}; replace it where the model was "
            "made, and save it again"
        )

    def _custom(self, received: str) -> NoReturn:
        raise GraphError(f"{self._place()}: {received}; {_IN_PYTHON}")


_FUNCTION_KINDS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")
_OWN_LAYERS = "Keras's own layers"
_IN_PYTHON = (
    f"expected {_OWN_LAYERS}; no code is run for a file: make the model in Python with your own "
    "classes, load its weights there, and pass the keras.Model"
)


def _rename_options(kind: str, config: dict[str, Any]) -> None:
    """Bring options to the words and forms that Keras 3 has for them."""
    for (owner, word), new_word in _RENAMED_OPTIONS.items():
        if owner == kind and word in config:
            config[new_word] = config.pop(word)
    if kind == "BatchNormalization" and isinstance(config.get("axis"), list):
        (config["axis"],) = config["axis"]


def _layer_name(record: Mapping[str, Any]) -> str:
    return str(record.get("name") or record["config"]["name"])


def _nodes_of(records: Any) -> dict[tuple[str, int], Any]:
    """What is read in each call of each layer."""
    return {
        (_layer_name(record), number): node
        for record in records
        for number, node in enumerate(record["inbound_nodes"])
    }


def _as_graph(config: Any) -> dict[str, Any]:
    """A sequential model as a functional one; early versions wrote its layers alone."""
    config = {"layers": config} if isinstance(config, list) else config
    records = [dict(record) for record in config["layers"]]
    first = records[0]
    if first["class_name"] != "InputLayer":
        inner = first["config"]
        while "layers" in inner or isinstance(inner, list):
            inner = (inner if isinstance(inner, list) else inner["layers"])[0]["config"]
        shape = inner.get("batch_input_shape") or config["build_input_shape"]
        record = {"batch_input_shape": shape, "name": "picture"}
        records.insert(0, {"class_name": "InputLayer", "config": record, "name": "picture"})
    before: list[Any] = []
    for record in records:
        record["name"] = _layer_name(record)
        record["inbound_nodes"] = [[before]] if before else []
        before = [record["name"], 0, 0, {}]
    return {**config, "layers": records, "input_layers": [[records[0]["name"], 0, 0]],
            "output_layers": [before[:3]]}  # fmt: skip


def _free_name(name: str, taken: set[str]) -> str:
    """A name without the slashes that Keras 3 does not take."""
    return free_name(name.replace("/", "_"), taken)


def _name_operations(
    results: Sequence[Any], read: Sequence[Any], part: _Part, taken: set[str]
) -> None:
    """Name what was made for a function after it; Keras's own names may be those of layers."""
    known = {id(tensor) for tensor in read}
    open_tensors = [tensor for tensor in results if id(tensor) not in known]
    while open_tensors:
        operation = open_tensors.pop()._keras_history.operation
        if operation is not part.layer:
            operation.name = _free_name(part.name, taken)
            inputs = keras.tree.flatten(operation._inbound_nodes[0].input_tensors)
            open_tensors += [tensor for tensor in inputs if id(tensor) not in known]


def _references(value: Any) -> list[Any]:
    """Names of tensors: one, several, or several with keys."""
    if isinstance(value, dict):
        return list(value.values())
    return [value] if isinstance(value[0], str) else list(value)


def _is_reference(value: Any, parts: Mapping[str, Any]) -> bool:
    return (
        isinstance(value, list)
        and 3 <= len(value) <= 4
        and isinstance(value[0], str)
        and value[0] in parts
        and all(isinstance(number, int) for number in value[1:3])
    )


def _tensors_in(value: Any, parts: Mapping[str, Any]) -> Generator[Any]:
    """The tensors that a call reads, wherever they stand in its arguments."""
    if _is_reference(value, parts):
        yield value
        value = value[3:]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _tensors_in(item, parts)


def _first_calls(
    nodes: Mapping[tuple[str, int], Any], outputs: Sequence[Any], parts: Mapping[str, Any]
) -> Callable[[Sequence[Any]], tuple[str, int]]:
    """Which call a tensor comes from.

    A model's calls are counted from 1 where its own graph was the first, and every call that stands
    in a file is read by another or is an output.
    """
    lowest: dict[str, int] = {}
    for at in (*_tensors_in(list(nodes.values()), parts), *outputs):
        lowest[at[0]] = min(at[1], lowest.get(at[0], at[1]))

    def call(at: Sequence[Any]) -> tuple[str, int]:
        return at[0], at[1] - lowest[at[0]]

    return call


_CONSTANT = "_CONSTANT_VALUE"


def _arguments(
    node: Any, parts: Mapping[str, Any], value_of: Callable[[Sequence[Any]], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a layer or a function is called with."""

    def resolved(value: Any) -> Any:
        if isinstance(value, list) and value and value[0] == _CONSTANT:
            return value[2]
        if _is_reference(value, parts):
            return value_of(value)
        if isinstance(value, list):
            return [resolved(item) for item in value]
        if isinstance(value, dict):
            return {key: resolved(item) for key, item in value.items()}
        return value

    calls = [node] if isinstance(node[0], str) else node  # a function's first argument, or a list
    kwargs = calls[0][3] if len(calls[0]) > 3 else {}
    read = [resolved(item) for item in calls]
    options = {key: resolved(item) for key, item in kwargs.items()}
    options = {key: item for key, item in options.items() if (key, item) != ("mask", None)}
    return (sole(read),), options


def _name_of(value: Any) -> Any:
    """The name of a function or class, in each of the forms that it was written in."""
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "function":
        return value["config"]
    return value["class_name"]


class _Unknown(Exception):
    """A function that is called as none is here."""


def _hard_sigmoid(x: Any) -> Any:
    return ops.clip(x * 0.2 + 0.5, 0.0, 1.0)


def _sliced(x: Any, slice_spec: Any) -> Any:
    spec = slice_spec if isinstance(slice_spec, list) else [slice_spec]
    parts = [
        slice(part["start"], part["stop"], part["step"]) if isinstance(part, dict) else int(part)
        for part in spec
    ]
    return x[tuple(parts)]


def _reshape(tensor: Any, shape: Sequence[int]) -> Any:
    first, *rest = shape
    if first not in (-1, tensor.shape[0]):
        raise _Unknown(f"shape {list(shape)} mixes the pictures of a batch")
    return keras.layers.Reshape(rest)(tensor)


def _pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: float = 0) -> Any:
    if len(paddings) == 4 and mode == "CONSTANT" and not constant_values:
        batch, rows, columns, channels = paddings
        if not any((*batch, *channels)):
            return keras.layers.ZeroPadding2D((tuple(rows), tuple(columns)))(tensor)
    value = constant_values if mode == "CONSTANT" else None
    return ops.pad(tensor, paddings, mode.lower(), value)


def _resize(images: Any, size: Sequence[int], method: str = "bilinear", **options: Any) -> Any:
    if any(options.values()):
        raise _Unknown(f"resizing with {', '.join(options)}")
    height, width = size
    return keras.layers.Resizing(height, width, method)(images)


def _softmax(logits: Any, axis: int | None = None) -> Any:
    return ops.softmax(logits, -1 if axis is None else axis)


def _reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(input_tensor: Any, axis: Any = None, keepdims: bool = False) -> Any:
        axes = tuple(axis) if isinstance(axis, list) else axis
        return function(input_tensor, axis=axes, keepdims=bool(keepdims))

    return reduce


def _transpose(a: Any, perm: Any = None, conjugate: bool = False) -> Any:
    return ops.transpose(a, perm)


def _same(x: Any) -> Any:
    return x


def _concat(values: Sequence[Any], axis: int) -> Any:
    return keras.layers.Concatenate(axis)(values)


def _gelu(features: Any, approximate: bool = False) -> Any:
    return ops.gelu(features, approximate)


def _named(function: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """A function whose arguments have the names that TensorFlow has for them."""

    def call(*args: Any, **kwargs: Any) -> Any:
        values = {**dict(zip(names, args, strict=False)), **kwargs}
        unknown = set(values) - set(names)
        if unknown:
            raise _Unknown(f"arguments {', '.join(sorted(unknown))} are not known")
        return function(*(values[name] for name in names if name in values))

    return call


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": _named(ops.add, "x", "y"),
    "subtract": _named(ops.subtract, "x", "y"),
    "multiply": _named(ops.multiply, "x", "y"),
    **dict.fromkeys(("truediv", "divide"), _named(ops.true_divide, "x", "y")),
    "maximum": _named(ops.maximum, "x", "y"),
    "minimum": _named(ops.minimum, "x", "y"),
    "pow": _named(ops.power, "x", "y"),
    **dict.fromkeys(("negative", "neg"), _named(ops.negative, "x")),
    "square": _named(ops.square, "x"),
    "sqrt": _named(ops.sqrt, "x"),
    "abs": _named(ops.absolute, "x"),
    "exp": _named(ops.exp, "x"),
    "sigmoid": _named(ops.sigmoid, "x"),
    "tanh": _named(ops.tanh, "x"),
    "identity": _named(_same, "input"),
    "relu": _named(ops.relu, "features"),
    "relu6": _named(ops.relu6, "features"),
    "elu": _named(ops.elu, "features"),
    **dict.fromkeys(("swish", "silu"), _named(ops.silu, "features")),
    "gelu": _gelu,
    "leaky_relu": _named(ops.leaky_relu, "features", "alpha"),
    "softmax": _softmax,
    "clip_by_value": _named(ops.clip, "t", "clip_value_min", "clip_value_max"),
    "reduce_mean": _reduced(ops.mean),
    "reduce_max": _reduced(ops.max),
    "reduce_sum": _reduced(ops.sum),
    "concat": _concat,
    "reshape": _reshape,
    "transpose": _transpose,
    "expand_dims": _named(ops.expand_dims, "input", "axis"),
    "squeeze": _named(ops.squeeze, "input", "axis"),
    "cast": _named(ops.cast, "x", "dtype"),
    "pad": _pad,
    "resize": _resize,
}
_OPERATORS = {
    **dict.fromkeys(("Add", "AddV2"), "add"),
    "Sub": "subtract",
    "Mul": "multiply",
    **dict.fromkeys(("RealDiv", "Div"), "truediv"),
    **{name: name.lower() for name in ("Relu", "Relu6", "Sigmoid", "Tanh", "Maximum", "Minimum")},
}
_DTYPES = (
    *("float32", "float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16"),
    *("uint8", "int8", "int16", "int32", "int64"),
)
_RENAMED = {
    **dict.fromkeys(("BatchNormalizationV1", "BatchNormalizationV2"), "BatchNormalization"),
    "SyncBatchNormalization": "BatchNormalization",
    "ThresholdedReLU": "ReLU",
    "FixedDropout": "Dropout",  # of the package efficientnet, whose files are many
}
_RENAMED_OPTIONS = {
    ("ReLU", "theta"): "threshold",
    ("LeakyReLU", "alpha"): "negative_slope",
}
_MEANINGLESS = frozenset(
    (
        *("name", "dtype", "batch_input_shape", "input_dtype", "autocast", "ragged", "optional"),
        *("implementation", "time_major", "fused", "synchronized", "renorm_clipping"),
        *("renorm_momentum", "virtual_batch_size", "adjustment", "build_input_shape"),
    )
)
"""What says nothing of the layer, or only how it was computed."""
_RELUS = ("ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax")
_LAYERS = frozenset(
    (
        *("Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
        *("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D", "Dense"),
        *("BatchNormalization", "LayerNormalization", "GroupNormalization", "UnitNormalization"),
        *("Normalization", "Rescaling", "Resizing", "CenterCrop", "Activation", *_RELUS),
        *(f"{kind}Pooling{n}D" for kind in ("Max", "Average", "GlobalMax", "GlobalAverage")
          for n in (1, 2, 3)),
        *(f"{kind}{n}D" for kind in ("UpSampling", "ZeroPadding", "Cropping") for n in (1, 2, 3)),
        *("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Dot"),
        *("Reshape", "Flatten", "Permute", "RepeatVector"),
        *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout"),
        *("GaussianNoise", "GaussianDropout", "ActivityRegularization", "Masking", "Attention"),
        *("AdditiveAttention", "MultiHeadAttention"),
        *("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast"),
        *("RandomBrightness", "RandomCrop"),
    )
)  # fmt: skip
_NOT_READ = ("TimeDistributed", "Bidirectional", "LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM2D")
_ACTIVATIONS = (
    *("linear", "relu", "relu6", "sigmoid", "tanh", "softmax", "elu", "selu", "softplus"),
    *("softsign", "swish", "silu", "gelu", "exponential", "mish", "log_softmax"),
)
"""Those that Keras 3 computes as Keras 2 did."""
_REGULARIZERS = ("L1", "L2", "L1L2", "l1", "l2")
_CONSTRAINTS = ("MaxNorm", "NonNeg", "UnitNorm", "MinMaxNorm")


def _slots(whole: _Part, stored: KerasWeights) -> list[Slot]:
    """The layers of a model that have weights, with their places in a file."""
    if stored.root:
        return list(_path_slots(whole.parts, stored.root))
    keys = {name: key for key, name in enumerate(stored.beyond(()))}
    weighted = [part for part in whole.parts if _variables(part)]
    return [Slot(p.name, keys.get(p.name, p.name), tuple(_variables(p))) for p in weighted]


def _variables(part: _Part) -> list[Any]:
    """Of a layer or a model, those that are trained first."""
    leaves = list(_leaves(part))
    trained = [v for leaf in leaves for v in leaf.trainable_weights]
    return trained + [v for leaf in leaves for v in leaf.non_trainable_weights]


def _leaves(part: _Part) -> Generator[keras.Layer]:
    for inner in part.parts:
        yield from _leaves(inner)
    if not part.parts and isinstance(part.layer, keras.layers.Layer):
        yield part.layer


def _path_slots(parts: Sequence[_Part], root: str, prefix: str = "") -> Generator[Slot]:
    """As `KerasWeights` names them, by the classes that they had."""
    used: dict[str, int] = {}
    for part in parts:
        kind = to_snake_case(part.kind)
        number = used[kind] = used.get(kind, -1) + 1
        key = f"{prefix}{root}/{kind}_{number}" if number else f"{prefix}{root}/{kind}"
        if part.parts:
            yield from _path_slots(part.parts, root, f"{key}/")
        elif isinstance(part.layer, keras.layers.Layer) and part.layer.weights:
            yield Slot(part.name, key, tuple(part.layer.weights))


def _check_fit(path: Path, slots: Sequence[Slot], stored: KerasWeights) -> None:
    for slot in slots:
        actual = stored.shapes(slot)
        if actual != slot.shapes:
            held = "nothing" if actual is None else ", ".join(map(str, actual))
            expected = ", ".join(map(str, slot.shapes))
            raise WeightsError(
                f"{path}: layer {shown(slot.name)} has weights of {held}, expected {expected}; "
                "save the model again"
            )
    beyond = stored.beyond(slots)
    if beyond:
        raise WeightsError(
            f"{path} holds weights for {shown(beyond[0])}, expected a layer of that name; save the "
            "model again"
        )
