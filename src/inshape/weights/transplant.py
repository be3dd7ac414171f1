"""Carries a source model's weights over to the model that was rebuilt from it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ..errors import WeightsError
from ..geometry.spec import GraphSpec
from ..graph.finite import problem_in
from ..graph.rewrite import LayerMap, LayerPair
from .channels import convert_constants, convert_kernel, projection_kernel
from .resample import compose


@dataclass(frozen=True, slots=True)
class TransplantReport:
    """What happened to each layer's weights.

    Attributes:
        copied: layers whose weights are the source's, to the last bit.
        converted: layers whose weights were converted, each with what was done.
        fresh: layers that are new, and begin at values of their own.
    """

    copied: tuple[str, ...]
    converted: tuple[tuple[str, str], ...]
    fresh: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.copied)} layers copied"]
        lines += [f"converted {name}: {how}" for name, how in self.converted]
        lines += [f"new {name}" for name in self.fresh]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "copied": len(self.copied),
            "converted": [{"layer": name, "how": how} for name, how in self.converted],
            "fresh": list(self.fresh),
        }


def transplant(
    layer_map: LayerMap,
    changed: GraphSpec,
    *,
    by_channel: Container[int] = (),
    channels: np.ndarray | None = None,
) -> TransplantReport:
    """Copy every layer's weights from the source to the rebuilt model.

    Those of the layers at the positions ``by_channel`` are converted by the matrix ``channels``.

    Example:
        >>> import keras
        >>> from inshape.graph.read import read
        >>> from inshape.graph.rewrite import rebuild
        >>> image = keras.Input((224, 224, 3))
        >>> source = keras.Model(image, keras.layers.Conv2D(8, 3, name="stem")(image))
        >>> small, layer_map = rebuild(source, read(source), "97x64x3")
        >>> transplant(layer_map, read(source)).copied
        ('stem',)
    """
    copied: list[str] = []
    converted: list[tuple[str, str]] = []
    for pair in layer_map.pairs:
        problem = problem_in(pair.source.variables)
        if problem:
            raise WeightsError(
                f"{problem}; expected finite numbers; load the network's weights anew, or take an "
                "earlier state of it"
            )
        values = [np.asarray(keras.ops.convert_to_numpy(v)) for v in pair.source.variables]
        resampling = changed[pair.index].resampling
        how: list[str] = []
        if resampling is not None:
            values[0] = compose(values[0], resampling).kernel
            how.append(str(resampling))
        if channels is not None and pair.index in by_channel:
            values = _converted(pair, values, channels)
            old, new = channels.shape[1], channels.shape[0]
            how.append(f"{old} channels to {new}" if old != new else "channels reordered")
        _assign(pair, values)
        if how:
            converted.append((pair.name, ", ".join(how)))
        elif values:
            copied.append(pair.name)
    return TransplantReport(tuple(copied), tuple(converted), _projection(layer_map))


def _converted(pair: LayerPair, values: list[np.ndarray], channels: np.ndarray) -> list[np.ndarray]:
    if not isinstance(pair.source, keras.layers.Normalization):
        return [convert_kernel(values[0], channels), *values[1:]]
    mean, variance, *rest = values  # the order in which Normalization makes its weights
    converted = [
        convert_constants(mean, channels, "mean").astype(mean.dtype),
        convert_constants(variance, channels, "variance").astype(variance.dtype),
    ]
    return [*converted, *rest]


def _assign(pair: LayerPair, values: list[np.ndarray]) -> None:
    targets = pair.target.variables
    shapes = [tuple(t.shape) for t in targets]
    actual = [tuple(v.shape) for v in values]
    if shapes != actual:
        raise WeightsError(
            f"layer {pair.name!r} expects weights of {shapes}, the source holds {actual}; "
            "use strategy='resize', which keeps every layer as it was"
        )
    for target, value in zip(targets, values, strict=True):
        target.assign(value)
    if isinstance(pair.target, keras.layers.Normalization):
        pair.target.finalize_state()  # it computes with copies of its weights


def _projection(layer_map: LayerMap) -> tuple[str, ...]:
    layer = layer_map.projection
    if layer is None:
        return ()
    _, _, new_channels, old_channels = layer.kernel.shape
    layer.kernel.assign(projection_kernel(new_channels, old_channels))
    return (layer.name,)
