"""Plain records of a network's graph: what the arithmetic and the strategies work on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias

from ..shapes import InputShape
from .lengths import window_padding

OpKind: TypeAlias = Literal[
    "input",
    "conv",  # any Conv2D, grouped or not
    "conv_transpose",
    "depthwise",
    "separable",  # depthwise, then 1x1
    "dense",  # on the last axis, whatever stands before it
    "max_pool",
    "avg_pool",
    "global_pool",
    "adaptive_pool",  # to a fixed grid, `target_hw`
    "pad",
    "crop",
    "slice",  # by `slices`
    "resize",  # to `target_hw`
    "upsample",  # by `stride_hw`
    "norm",
    "rescale",
    "activation",
    "elementwise",  # several maps (or a map and a constant) into one of the same size
    "concat",  # along `axis`
    "flatten",
    "reshape",  # to `target_shape`
    "identity",  # nothing at inference: dropout, random augmentation, a removed layer
    "opaque",  # something the arithmetic does not know
]

Pads: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""Pixels added (or cut off) ``((top, bottom), (left, right))``."""

NO_PADS: Pads = ((0, 0), (0, 0))


class Answering(Protocol):
    """A layer that the arithmetic does not know, and that can be asked."""

    @property
    def output(self) -> int:
        """Which of the outputs of its call; the others stand beside it in the graph."""
        ...

    def output_shape(self, read: Sequence[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """The shape that it puts out; a `FixedShape` if it cannot read these."""
        ...

    def macs(
        self, read: Sequence[tuple[int | None, ...]], out: tuple[int | None, ...]
    ) -> int | None:
        """Its multiply-accumulates; ``None`` is unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Resampling:
    """How a convolution's kernel is made of a pretrained one: composed with a resampling.

    The convolution answers as the pretrained one does on a resampled input.

    Attributes:
        factor: how many times the input is enlarged (``up``) or reduced (``down``), per axis.
        direction: ``"up"`` or ``"down"``.
        method: ``"nearest"``, ``"bilinear"`` or ``"bicubic"`` for ``up``; ``"area"`` for ``down``.
        stride_hw: the pretrained convolution's stride.
        pads: the zeros around the resampled input.
    """

    factor: int
    direction: Literal["up", "down"]
    method: str
    stride_hw: tuple[int, int]
    pads: Pads

    def __str__(self) -> str:
        return f"kernel composed with {self.method} resampling {self.direction} x{self.factor}"


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One call of one layer.

    Attributes:
        index: its position in ``GraphSpec.layers``, by which it is named.
        name: the path for display, such as ``"backbone/conv_1"``.
        op: what it computes.
        inputs: indices of the calls whose outputs it reads.
        layer: index of the first call of the same layer (differs from ``index`` where a layer is
            shared).
        kernel_hw: window in pixels.
        stride_hw: step in pixels (for ``upsample``, the factor).
        dilation_hw: distance between taps in pixels.
        padding: ``"same"`` as TensorFlow computes it from the size, or ``"valid"``.
        pads: explicit zeros in front of the layer, ``((top, bottom), (left, right))``; for ``pad``
            and ``crop``, the layer's own amounts.
        groups: channel groups of a convolution.
        multiplier: output channels per input channel of a depthwise convolution.
        out_channels: channels that it puts out, where the layer itself fixes them.
        use_bias: whether a convolution or dense layer adds a bias.
        params: parameters of the layer as read; 0 for the later calls of a shared layer.
        params_per_channel: how many of them there are for each channel that it reads.
        target_hw: the grid of ``adaptive_pool`` and ``resize``.
        target_shape: the shape of ``reshape``, without the batch axis.
        axis: of ``concat``: 0 for rows, 1 for columns, -1 for channels.
        slices: start, stop and step of ``slice`` for each axis but the batch's; an axis of which a
            single place is taken, and which goes with that, has that place alone.
        keepdims: whether ``global_pool`` keeps a 1x1 map.
        grid_first: a grid to which the map is pooled adaptively before the layer reads it.
        parity_pads: whether the pads were computed from the parity of the input size
            (``keras.applications``' ``correct_pad``), and so hold at that parity only.
        constants: per-channel constants in the layer's configuration, name and values.
        epsilon: what a norm adds to the variance.
        resampling: how its kernel is made of the pretrained one, where that is not a copy.
        function: what it computes where ``op`` does not say it: an activation (also a
            convolution's or a dense layer's own), ``"batch"`` of a norm, ``"add"`` of what is
            elementwise, ``"mean"`` of a pooling, an interpolation, ``"scale"``, ``"scale and
            offset"`` or ``"standardise"`` of what rescales; empty where that is not known.
        is_plain: whether a layer computes what its kind says and nothing else; a convolution that
            standardises its kernel does not, nor does a resizing that crops.
        is_local: whether it computes a place of its map from places near it alone; a norm over the
            whole map does not.
        holds_rows: whether its batch axis is longer than the pictures', as where the rows of a map
            are made pictures of their own. Its shapes then begin with the rows for each picture.
        answering: for ``opaque``, the layer itself.
        native_shape: its output's shape as read, without the batch axis.
    """

    index: int
    name: str
    op: OpKind
    inputs: tuple[int, ...]
    layer: int
    kernel_hw: tuple[int, int] = (1, 1)
    stride_hw: tuple[int, int] = (1, 1)
    dilation_hw: tuple[int, int] = (1, 1)
    padding: Literal["same", "valid"] = "valid"
    pads: Pads = NO_PADS
    groups: int = 1
    multiplier: int = 1
    out_channels: int | None = None
    use_bias: bool = False
    params: int = 0
    params_per_channel: int = 0
    target_hw: tuple[int, int] | None = None
    target_shape: tuple[int, ...] | None = None
    axis: int = -1
    slices: tuple[tuple[int | None, ...], ...] = ()
    keepdims: bool = False
    grid_first: tuple[int, int] | None = None
    parity_pads: bool = False
    constants: tuple[tuple[str, tuple[float, ...]], ...] = ()
    epsilon: float | None = None
    resampling: Resampling | None = None
    function: str = ""
    is_plain: bool = True
    is_local: bool = True
    holds_rows: bool = False
    answering: Answering | None = field(default=None, compare=False, repr=False)
    native_shape: tuple[int | None, ...] = ()

    def but(self, **changes: Any) -> LayerSpec:
        """The same record with some fields changed."""
        return replace(self, **changes)

    @property
    def is_window(self) -> bool:
        """Whether it slides a window over a map."""
        return self.op in ("conv", "depthwise", "separable", "max_pool", "avg_pool")

    @property
    def is_conv(self) -> bool:
        """Whether it is a convolution."""
        return self.op in ("conv", "depthwise", "separable")

    def zeros_along(self, axis: int, length_px: int | None) -> tuple[int, int] | None:
        """All zeros around an axis of a map that its window reads, its own and those of ``"same"``.

        ``None`` where they depend on a length that is not known.
        """
        return window_padding(
            length_px,
            self.kernel_hw[axis],
            self.stride_hw[axis],
            dilation_px=self.dilation_hw[axis],
            padding=self.padding,
            pads_px=self.pads[axis],
        )

    def pads_at(self, read_shape: Sequence[int | None]) -> Pads | None:
        """The zeros along both axes."""
        rows, columns = (self.zeros_along(axis, read_shape[axis]) for axis in (0, 1))
        return None if rows is None or columns is None else (rows, columns)


@dataclass(frozen=True, slots=True)
class InputLayers:
    """What stands between the input and the network's own first layer; by default nothing.

    Attributes:
        resize_hw: the working size that pictures are resized to, or ``None``.
        fit: how a picture fills the working size.
        interpolation: how it is resampled.
        channels: ``"repeat"`` copies one channel, ``"project"`` is a learned 1x1 convolution, to
            the network's own channel count; ``None`` hands the channels on.
        network_channels: the channels that the network's own first layer reads.
        projection_from: the call of an older projection whose weights this one has, if any.
    """

    resize_hw: tuple[int, int] | None = None
    fit: Literal["stretch", "letterbox", "crop"] = "stretch"
    interpolation: str = "bilinear"
    channels: Literal["repeat", "project"] | None = None
    network_channels: int = 3
    projection_from: int | None = None


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """A network as plain data: layers in an order in which inputs come first.

    Attributes:
        name: the model's name, for display.
        layers: every call, so that ``layers[i].index == i``. Exactly one is the picture's input.
        outputs: indices of the calls that the model returns.
        input_shape: the shape the network was read at (its native shape).
        input_layers: what was put before the network's first layer.
        whole_numbers: whether the network computes with the whole numbers of its picture, so that
            what is put before it has to hand on such.
    """

    name: str
    layers: tuple[LayerSpec, ...]
    outputs: tuple[int, ...]
    input_shape: InputShape
    input_layers: InputLayers = InputLayers()
    whole_numbers: bool = False

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[LayerSpec]:
        return iter(self.layers)

    def __getitem__(self, index: int) -> LayerSpec:
        return self.layers[index]

    def but(self, **changes: Any) -> GraphSpec:
        """The same graph with some fields changed."""
        return replace(self, **changes)

    def with_call(self, index: int, **facts: Any) -> GraphSpec:
        """The same graph with other facts about one call."""
        changed = self.layers[index].but(**facts)
        return self.but(layers=(*self.layers[:index], changed, *self.layers[index + 1 :]))

    def with_layer(self, index: int, **facts: Any) -> GraphSpec:
        """The same graph with other facts about every call of one layer."""
        owner = self.layers[index].layer
        return self.but(
            layers=tuple(x.but(**facts) if x.layer == owner else x for x in self.layers)
        )

    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """For each call, the indices of the calls that read its output."""
        readers: list[list[int]] = [[] for _ in self.layers]
        for layer in self.layers:
            for source in layer.inputs:
                readers[source].append(layer.index)
        return tuple(tuple(r) for r in readers)

    def needed(self) -> frozenset[int]:
        """The calls that the outputs depend on, themselves among them."""
        positions = set(self.outputs)
        for layer in reversed(self.layers):
            if layer.index in positions:
                positions.update(layer.inputs)
        return frozenset(positions)
