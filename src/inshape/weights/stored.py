"""Weights files: which arrays they hold and where those belong in a model.

Of Keras's own, two layouts are read, whatever the file is called; see `state_dict` for PyTorch's.

    Keras 3   ``layers/conv2d_3/vars/0``: the path follows the model's own structure, and a layer is
              named by its class and its place among those of its class. ``.weights.h5``, and
              ``model.weights.h5`` inside a ``.keras`` archive. Keras 2.13 to 2.15 wrote the same
              under ``_layer_checkpoint_dependencies``.
    Keras 2   one group per layer of the outermost model, in order, listed in the attribute
              ``layer_names``. ``.h5``, where a whole model puts them under ``model_weights``.
"""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..graph.hdf5 import DAMAGE, is_archive, open_checked
from ..text import first_line
from .tensors import Shape

if TYPE_CHECKING:
    import keras

    from ..backbones import Backbone

FORMS = "a .weights.h5, .h5, .keras, .safetensors or .pth file"
"""What a weights file can be, for messages."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The variables of one layer and the place where a file keeps their values.

    Attributes:
        name: the layer's name for display, such as ``"stem/conv"``.
        key: its place in the file.
        variables: its variables in the file's order.
    """

    name: str
    key: str | int
    variables: tuple[Any, ...]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of its variables."""
        return tuple(tuple(variable.shape) for variable in self.variables)


class StoredWeights(ABC):
    """The arrays of an open weights file, layer by layer.

    Attributes:
        path: the file, or another source's name, for messages.
    """

    is_whole = False
    """Whether the file holds a model too, whose own head may stand behind the network."""
    classes: int | None = None
    """How many classes its classifier has, where that can be told before a network is built."""

    def __init__(self, path: Path | str) -> None:
        self.path = path

    @abstractmethod
    def slots_of(self, model: keras.Model) -> tuple[Slot, ...]:
        """The layers of a model that have weights, in order, with their places in this file."""

    @abstractmethod
    def shapes(self, slot: Slot) -> tuple[Shape, ...] | None:
        """The shapes that the file holds in a slot's place; ``None`` if it has no such layer."""

    @abstractmethod
    def arrays(self, slot: Slot) -> list[NDArray[Any]]:
        """The values of a slot."""

    @abstractmethod
    def beyond(self, slots: Sequence[Slot]) -> tuple[str, ...]:
        """Names of the file's layers that have none of these slots."""

    def misfit(self, backbone: Backbone) -> WeightsError | None:
        """Why these cannot be a network's weights, before any layer is looked at."""
        return None

    def as_trained(self, model: keras.Model) -> keras.Model:
        """The network as the file's weights were trained in it; by default Keras's own."""
        return model

    def hint(self, backbone: Backbone) -> str:
        """What to do where the weights do not fit a network."""
        if self.is_whole:
            return "it holds a whole model: give the file itself as backbone, without weights"
        return "name the backbone that the file was saved from"


class KerasWeights(StoredWeights):
    """The arrays of a file that Keras wrote."""

    root = ""
    """The group that the paths of its layers begin with; empty where layers go by their names."""

    def __init__(self, path: Path, groups: dict[str | int, list[h5py.Dataset]]) -> None:
        super().__init__(path)
        self._groups = groups

    @abstractmethod
    def count_layers(self, kind: str) -> int:
        """How many layers of the outermost model are of a kind, weightless ones included."""

    @abstractmethod
    def name_of(self, key: str | int) -> str:
        """The name of a layer of the file, for display."""

    def shapes(self, slot: Slot) -> tuple[Shape, ...] | None:
        """The shapes that the file holds in a slot's place; ``None`` if it has no such layer."""
        group = self._groups.get(slot.key)
        return None if group is None else tuple(tuple(dataset.shape) for dataset in group)

    def arrays(self, slot: Slot) -> list[NDArray[Any]]:
        """The values of a slot."""
        try:
            return [_values(dataset) for dataset in self._groups[slot.key]]
        except DAMAGE as error:
            raise damaged(Path(self.path), error) from error

    def beyond(self, slots: Sequence[Slot]) -> tuple[str, ...]:
        """Names of the file's layers that have none of these slots."""
        known = {slot.key for slot in slots}
        return tuple(self.name_of(key) for key in self._groups if key not in known)


@contextlib.contextmanager
def open_hdf5(path: Path, weights_bytes: int | None = None) -> Generator[KerasWeights]:
    """Open weights that Keras wrote; see `open_checked`."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_checked(path, weights_bytes))
            stored = _layout(path, file)
            stored.is_whole = is_archive(path) or "model_config" in file.attrs
        except DAMAGE as error:
            raise damaged(path, error) from error
        yield stored


def damaged(path: Path, error: Exception) -> WeightsError:
    """The error of a file that cannot be read to its end."""
    reason = first_line(error)
    return WeightsError(
        f"{path} is truncated or damaged ({reason}); expected {FORMS}; download or save it again"
    )


def _layout(path: Path, file: h5py.File) -> KerasWeights:
    for root in ("layers", "_layer_checkpoint_dependencies"):
        if root in file:
            return _KerasThree(path, file, root)
    group = file["model_weights"] if "model_weights" in file else file
    if isinstance(group, h5py.Group) and _attribute(group, "layer_names"):
        return _KerasTwo(path, group)
    raise WeightsError(
        f"{path} holds no layers of a Keras model (but {', '.join(file) or 'nothing'}); expected "
        f"{FORMS}; save it with model.save_weights('model.weights.h5')"
    )


class _KerasThree(KerasWeights):
    def __init__(self, path: Path, file: h5py.File, root: str) -> None:
        self._file = file
        self._top = _group(file, root)
        self.root = root
        of_a_layer = re.compile(rf"(?:{root}/[^/]+/)+vars")
        groups: dict[str | int, list[h5py.Dataset]] = {}

        def collect(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group) and of_a_layer.fullmatch(name) and len(item):
                arrays = [_dataset(item, str(i)) for i in range(len(item)) if str(i) in item]
                groups[name.removesuffix("/vars")] = arrays

        file.visititems(collect)
        super().__init__(path, groups)

    def slots_of(self, model: keras.Model) -> tuple[Slot, ...]:
        return tuple(_nested_slots(model, self.root, ""))

    def count_layers(self, kind: str) -> int:
        return sum(bool(re.fullmatch(rf"{kind}(_\d+)?", name)) for name in map(str, self._top))

    def name_of(self, key: str | int) -> str:
        try:
            name = _group(self._file, f"{key}/vars").attrs.get("name")
        except DAMAGE as error:
            raise damaged(Path(self.path), error) from error
        return str(key) if name is None else str(name)


class _KerasTwo(KerasWeights):
    def __init__(self, path: Path, group: h5py.Group) -> None:
        self._layers = _attribute(group, "layer_names")
        self._names: list[str] = []
        groups: dict[str | int, list[h5py.Dataset]] = {}
        for name in self._layers:
            layer = _group(group, name)
            keys = _attribute(layer, "weight_names")
            if keys:
                groups[len(self._names)] = [_dataset(layer, key) for key in keys]
                self._names.append(name)
        super().__init__(path, groups)

    def slots_of(self, model: keras.Model) -> tuple[Slot, ...]:
        weighted = [layer for layer in model.layers if layer.weights]
        return tuple(
            Slot(
                layer.name,
                index,
                (*layer.trainable_weights, *layer.non_trainable_weights),
            )
            for index, layer in enumerate(weighted)
        )

    def count_layers(self, kind: str) -> int:
        return sum(bool(re.fullmatch(rf"{kind}(_\d+)?", name)) for name in self._layers)

    def name_of(self, key: str | int) -> str:
        return self._names[int(key)]


def _nested_slots(model: Any, root: str, prefix: str) -> Generator[Slot]:
    from keras.src.utils.naming import to_snake_case

    used: dict[str, int] = {}
    base = f"{prefix}{root}"
    for layer in model.layers:
        kind = to_snake_case(type(layer).__name__)
        used[kind] = used.get(kind, -1) + 1
        key = f"{base}/{kind}_{used[kind]}" if used[kind] else f"{base}/{kind}"
        if hasattr(layer, "layers"):
            for slot in _nested_slots(layer, root, f"{key}/"):
                yield Slot(f"{layer.name}/{slot.name}", slot.key, slot.variables)
        elif layer.weights:
            yield Slot(layer.name, key, tuple(layer.weights))


def _group(parent: h5py.Group, name: str) -> h5py.Group:
    item = parent[name]
    if not isinstance(item, h5py.Group):
        raise OSError(f"{name} is no group")
    return item


def _dataset(parent: h5py.Group, name: str) -> h5py.Dataset:
    item = parent[name]
    if not isinstance(item, h5py.Dataset):
        raise OSError(f"{name} is no array")
    return item


def _attribute(group: h5py.Group, name: str) -> list[str]:
    """A list of names, which HDF5 makes Keras split into several attributes where it is long."""
    if name in group.attrs:
        parts = [group.attrs[name]]
    else:
        parts: list[Any] = []
        while (chunk := f"{name}{len(parts)}") in group.attrs:
            parts.append(group.attrs[chunk])
    return [
        value.decode("utf8") if isinstance(value, bytes) else str(value)
        for part in parts
        for value in part
    ]


def _values(dataset: h5py.Dataset) -> NDArray[Any]:
    if dataset.attrs.get("dtype") != "bfloat16" or dataset.dtype.itemsize != 2:
        return np.asarray(dataset[()])
    # HDF5 knows no bfloat16 and keeps the two bytes of each value as they are.
    upper_half = np.frombuffer(dataset[()].tobytes(), np.uint16).astype(np.uint32)
    return (upper_half << 16).view(np.float32).reshape(dataset.shape)
