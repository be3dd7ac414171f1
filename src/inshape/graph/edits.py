"""Changes to a network as data: what a strategy decides and `graph.rewrite` carries out.

An edit names a layer by its position in the ``GraphSpec`` that was read from the model. `applied`
carries the edits out on the spec, so that a plan's geometry is known before any model is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..geometry.spec import NO_PADS, Front, GraphSpec, LayerSpec, Pads


@dataclass(frozen=True, slots=True)
class SetStride:
    """Give a window layer another stride."""

    layer: int
    stride_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SetDilation:
    """Give a convolution another dilation."""

    layer: int
    dilation_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SetPadding:
    """Pad a window layer as TensorFlow's ``"same"``, not at all, or by an explicit amount."""

    layer: int
    padding: Literal["same", "valid"] | Pads


@dataclass(frozen=True, slots=True)
class SetPads:
    """Give a zero-padding layer other amounts."""

    layer: int
    pads: Pads


@dataclass(frozen=True, slots=True)
class Bypass:
    """Take a layer out: its input goes straight on."""

    layer: int


@dataclass(frozen=True, slots=True)
class PoolToGrid:
    """Average a layer's input adaptively to a fixed grid before it is read."""

    layer: int
    grid_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ResampleKernel:
    """Compose a convolution's kernel with a resampling of its input.

    Attributes:
        layer: the convolution.
        factor: how many times the input is enlarged (``up``) or reduced (``down``), per axis.
        direction: ``"up"`` or ``"down"``.
        method: ``"nearest"``, ``"bilinear"`` or ``"bicubic"`` for ``up``; ``"area"`` for ``down``.
        stride_hw: the stride of the composed convolution.
        kernel_hw: the size of the composed kernel in pixels.
        pads: the zeros around the input of the composed convolution.
        source_stride_hw: the stride of the convolution on the resampled input.
        source_pads: the zeros around the resampled input.
    """

    layer: int
    factor: int
    direction: Literal["up", "down"]
    method: str
    stride_hw: tuple[int, int]
    kernel_hw: tuple[int, int]
    pads: Pads
    source_stride_hw: tuple[int, int] = (1, 1)
    source_pads: Pads = NO_PADS


@dataclass(frozen=True, slots=True)
class SetConstants:
    """Give a layer other per-channel constants (a ``Normalization``'s mean, say).

    A value that is a weight in the model (``Normalization`` after ``adapt``) is not listed here:
    the transplant converts it by the same matrix as the stem's kernel.
    """

    layer: int
    constants: tuple[tuple[str, tuple[float, ...]], ...]


@dataclass(frozen=True, slots=True)
class SetEpsilon:
    """Give a batch norm another epsilon, such as that of the framework its weights come from."""

    layer: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class SetFront:
    """Put a resizing layer or a change of channels between the input and the network."""

    front: Front


Edit: TypeAlias = (
    SetStride
    | SetDilation
    | SetPadding
    | SetPads
    | Bypass
    | PoolToGrid
    | ResampleKernel
    | SetConstants
    | SetEpsilon
    | SetFront
)


def applied(spec: GraphSpec, edits: Sequence[Edit]) -> GraphSpec:
    """The graph as it will be after the edits.

    Args:
        spec: the graph as read.
        edits: carried out in order; an edit of a shared layer's stride, dilation or kernel changes
            all its calls.

    Returns:
        A graph with the same positions, so that every index still means the same layer.

    Example:
        >>> from inshape.geometry.spec import GraphSpec, LayerSpec
        >>> from inshape.shapes import InputShape
        >>> picture = LayerSpec(index=0, name="image", op="input", inputs=(), layer=0)
        >>> stem = LayerSpec(index=1, name="stem", op="conv", inputs=(0,), layer=1,
        ...                  kernel_hw=(3, 3), stride_hw=(2, 2), padding="same", out_channels=16)
        >>> spec = GraphSpec("tiny", (picture, stem), (1,), InputShape.of("224x224x3"))
        >>> applied(spec, [SetStride(1, (1, 1))])[1].stride_hw
        (1, 1)
    """
    layers = list(spec.layers)
    front = spec.front
    for edit in edits:
        match edit:
            case SetFront(front):
                pass
            case SetStride(target, stride_hw):
                _change_calls(layers, target, stride_hw=stride_hw)
            case SetDilation(target, dilation_hw):
                _change_calls(layers, target, dilation_hw=dilation_hw)
            case ResampleKernel():
                _change_calls(
                    layers,
                    edit.layer,
                    kernel_hw=edit.kernel_hw,
                    stride_hw=edit.stride_hw,
                    padding="valid",
                    pads=edit.pads,
                )
            case SetPadding(target, "same" | "valid" as padding):
                layers[target] = layers[target].but(padding=padding, pads=NO_PADS)
            case SetPadding(target, pads):
                layers[target] = layers[target].but(padding="valid", pads=pads)
            case SetPads(target, pads):
                layers[target] = layers[target].but(pads=pads)
            case Bypass(target):
                layers[target] = layers[target].but(op="identity", pads=NO_PADS, params=0)
            case PoolToGrid(target, grid_hw):
                layers[target] = layers[target].but(grid_first=grid_hw)
            case SetConstants(target, constants):
                _change_calls(layers, target, constants=constants)
            case SetEpsilon():
                pass  # nothing that the geometry knows of
    return spec.but(layers=tuple(layers), front=front)


def _change_calls(layers: list[LayerSpec], target: int, **changes: object) -> None:
    owner = layers[target].layer
    for i, layer in enumerate(layers):
        if layer.layer == owner:
            layers[i] = layer.but(**changes)
