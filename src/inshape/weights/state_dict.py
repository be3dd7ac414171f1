"""PyTorch state dicts of MobileNetV3, mapped name by name into Keras's network.

The layers are the same ones in all three libraries. What differs is rewritten in Keras's graph by
the changes that strategies make, so that what follows sees an ordinary model whose padding is the
source's: an explicit one that no strategy computes anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..geometry.spec import NO_PADS, GraphSpec, LayerSpec
from .origin import STAGES, Origin, origin_of
from .stored import Slot, StoredWeights
from .tensors import Shape, Tensors

if TYPE_CHECKING:
    import keras

    from ..backbones import Backbone

_NORM = ("weight", "bias", "running_mean", "running_var")
_PLAIN = ("weight", "bias")
_COUNTERS = ("num_batches_tracked", "n_averaged")
_KERAS_MEAN = _KERAS_DEVIATION = (0.5, 0.5, 0.5)


class StateDict(StoredWeights):
    """The arrays of a state dict, in the shapes that Keras gives them."""

    def __init__(
        self,
        path: Path | str,
        tensors: Tensors,
        origin: Origin | None = None,
        *,
        repository: str = "",
    ) -> None:
        super().__init__(path)
        self._tensors = tensors
        self.origin = origin or origin_of(path, tensors, repository)
        classifier = f"{place_of('logits', (), self.origin)}.weight"
        self.classes = (tensors.shapes.get(classifier) or (0,))[0]

    def slots_of(self, model: keras.Model) -> tuple[Slot, ...]:
        """The layers of a model that have weights, in order, with their places in this file."""
        names = {layer.name for layer in model.layers if layer.weights}
        slots: list[Slot] = []
        for layer in model.layers:
            if layer.weights:
                key = place_of(layer.name, names, self.origin)
                slots.append(Slot(f"{layer.name} ({key})", key, tuple(layer.weights)))
        return tuple(slots)

    def shapes(self, slot: Slot) -> tuple[Shape, ...] | None:
        """The shapes that the file holds in a slot's place; ``None`` if it has no such layer."""
        shapes = [self._tensors.shapes[name] for name in self._names(slot)]
        return tuple(_turned_shape(shape, slot) for shape in shapes) or None

    def arrays(self, slot: Slot) -> list[NDArray[Any]]:
        """The values of a slot."""
        return [_turned(self._tensors.read(name), slot) for name in self._names(slot)]

    def beyond(self, slots: Sequence[Slot]) -> tuple[str, ...]:
        """Names of the file's layers that have none of these slots."""
        known = {str(slot.key) for slot in slots}
        layers = (_layer_of(name) for name in self._tensors.shapes if not _is_counter(name))
        headless = place_of("logits", (), self.origin) not in known
        cut_off = {place_of("conv_2", (), self.origin)} if headless else set[str]()
        return tuple(dict.fromkeys(key for key in layers if key not in known | cut_off))

    def misfit(self, backbone: Backbone) -> WeightsError | None:
        """Why these cannot be a network's weights, before any layer is looked at."""
        origin = self.origin
        if backbone.family != "mobilenet_v3":
            return WeightsError(
                f"{self.path} holds {origin.library}'s {origin.architecture}, expected weights of "
                f"{backbone.name}; use {origin.backbone}"
            )
        if origin.classes not in (None, self.classes):
            return WeightsError(
                f"{self.path} holds a classifier of {self.classes} classes, expected "
                f"{origin.classes} as in the config.json beside it; download both files again"
            )
        return None

    def as_trained(self, model: keras.Model) -> keras.Model:
        """The network as the library computes it: padding, epsilon and normalisation."""
        from ..graph.read import read
        from ..graph.rewrite import rebuild

        spec = read(model)
        changed = computed_as_in(self.origin, spec)
        if changed == spec:
            return model
        return rebuild(model, spec, model.input_shape[1:], changed=changed)[0]

    def hint(self, backbone: Backbone) -> str:
        """What to do where the weights do not fit a network."""
        origin = self.origin
        if origin.backbone == backbone.name:
            return f"give a whole state dict of {origin.library}'s {origin.architecture}"
        return f"these are {origin.library}'s {origin.architecture}; use {origin.backbone}"

    def _names(self, slot: Slot) -> Iterator[str]:
        """The names of a slot's arrays, those that the file has."""
        for part in _NORM if len(slot.variables) == len(_NORM) else _PLAIN:
            if f"{slot.key}.{part}" in self._tensors.shapes:
                yield f"{slot.key}.{part}"


def place_of(layer: str, layers: Any, origin: Origin) -> str:
    """Where a library keeps the weights of one of Keras's layers.

    Example:
        >>> from pathlib import Path
        >>> small = Origin("torchvision", "mobilenet_v3_small", "MobileNetV3Small")
        >>> place_of("expanded_conv_4_depthwise", (), small)
        'features.5.block.1.0'
    """
    block = re.fullmatch(r"expanded_conv_(?:(\d+)_)?(.+)", layer)
    if block is None:
        table = _TORCHVISION_ENDS if origin.library == "torchvision" else _TIMM_ENDS
        return table[layer].format(after=origin.blocks + 1, stage=len(STAGES[origin.blocks]))
    number, part = int(block[1] or 0), block[2]
    if origin.library == "torchvision":
        has_gate = f"{layer.removesuffix(part)}squeeze_excite_conv" in layers
        return f"features.{number + 1}.block.{_in_torchvision(number, part, has_gate)}"
    starts = [0, *accumulate(STAGES[origin.blocks])]
    stage = max(i for i, start in enumerate(starts) if start <= number)
    table = _TIMM_FIRST if number == 0 else _TIMM_BLOCK
    return f"blocks.{stage}.{number - starts[stage]}.{table[part]}"


_TORCHVISION_ENDS = {
    "conv": "features.0.0",
    "conv_bn": "features.0.1",
    "conv_1": "features.{after}.0",
    "conv_1_bn": "features.{after}.1",
    "conv_2": "classifier.0",
    "logits": "classifier.3",
}
_TIMM_ENDS = {
    "conv": "conv_stem",
    "conv_bn": "bn1",
    "conv_1": "blocks.{stage}.0.conv",
    "conv_1_bn": "blocks.{stage}.0.bn1",
    "conv_2": "conv_head",
    "logits": "classifier",
}
_TIMM_GATE = {"squeeze_excite_conv": "se.conv_reduce", "squeeze_excite_conv_1": "se.conv_expand"}
_TIMM_FIRST = {
    "depthwise": "conv_dw",
    "depthwise_bn": "bn1",
    **_TIMM_GATE,
    "project": "conv_pw",
    "project_bn": "bn2",
}
_TIMM_BLOCK = {
    "expand": "conv_pw",
    "expand_bn": "bn1",
    "depthwise": "conv_dw",
    "depthwise_bn": "bn2",
    **_TIMM_GATE,
    "project": "conv_pwl",
    "project_bn": "bn3",
}


def _in_torchvision(number: int, part: str, has_gate: bool) -> str:
    """A block is a list there: expansion (but in the first), depthwise, gate, projection."""
    first = 0 if number == 0 else 1
    steps = {"expand": 0, "depthwise": first, "project": first + (2 if has_gate else 1)}
    if part.startswith("squeeze_excite"):
        return f"{first + 1}.{'fc2' if part.endswith('_1') else 'fc1'}"
    return f"{steps[part.removesuffix('_bn')]}.{'1' if part.endswith('_bn') else '0'}"


def computed_as_in(origin: Origin, spec: GraphSpec) -> GraphSpec:
    """Keras's network as the one that the weights were trained in."""
    for layer in spec:
        if layer.op == "norm":
            spec = spec.with_layer(layer.index, epsilon=origin.epsilon)
        elif layer.op == "rescale":
            spec = spec.with_layer(layer.index, constants=_normalisation(layer, origin))
        elif layer.is_conv and layer.stride_hw != (1, 1) and origin.symmetric:
            spec = _padded_on_both_sides(spec, layer)
    return spec


def _padded_on_both_sides(spec: GraphSpec, layer: LayerSpec) -> GraphSpec:
    """PyTorch's padding of a strided convolution, in place of Keras's by the parity of the size."""
    before = spec[layer.inputs[0]]
    if before.parity_pads:
        spec = spec.with_call(before.index, op="identity", pads=NO_PADS)
    height, width = (kernel // 2 for kernel in layer.kernel_hw)
    pads = ((height, height), (width, width))
    return spec.with_call(layer.index, padding="valid", pads=pads)


def _normalisation(layer: LayerSpec, origin: Origin) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """(x / 255 - mean) / deviation as Keras's ``x * scale + offset``."""
    if origin.mean == _KERAS_MEAN and origin.deviation == _KERAS_DEVIATION:
        return layer.constants
    scale = tuple(1 / (255 * std) for std in origin.deviation)
    offset = tuple(-m / std for m, std in zip(origin.mean, origin.deviation, strict=True))
    return ("scale", scale), ("offset", offset)


def _is_counter(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in _COUNTERS


def _layer_of(name: str) -> str:
    return name.rsplit(".", 1)[0]


def _axes(rank: int, slot: Slot) -> tuple[int, ...] | None:
    """How PyTorch's axes are ordered in Keras: (out, in, height, width) to (h, w, in, out)."""
    kernel = slot.shapes[0]
    if rank == 4 and len(kernel) == 4:
        is_depthwise = kernel[-1] == 1 and kernel[:2] != (1, 1)
        return (2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0)
    return (1, 0) if rank == 2 else None


def _turned_shape(shape: Shape, slot: Slot) -> Shape:
    axes = _axes(len(shape), slot)
    turned = tuple(shape[i] for i in axes) if axes else shape
    return (1, 1, *turned) if len(shape) == 2 else turned  # a Linear is a 1x1 convolution


def _turned(values: NDArray[Any], slot: Slot) -> NDArray[Any]:
    axes = _axes(values.ndim, slot)
    turned = np.transpose(values, axes) if axes else values
    return turned.reshape(_turned_shape(values.shape, slot))
