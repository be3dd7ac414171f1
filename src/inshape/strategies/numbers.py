"""Numbers that a network took from its old size: each follows the map that it was taken from.

``Reshape((49, 16))``, ``Resizing(56, 56)``, a pooling window of the whole map: such a number was
computed from the size of some map when the network was built, and has to be computed again at
another size. Which map it was is read off the native shapes. A number that can mean two things,
which differ at the new size, is refused by the layer's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain, starmap
from math import prod
from typing import Any

from ..errors import FixedShape, GraphError, ShapeError
from ..geometry.rules import Map, output_shape
from ..geometry.sizes import explained, network_shape
from ..geometry.spec import GraphSpec, LayerSpec
from ..shapes import InputShape
from ..text import format_shape
from .regroup import Lengths, Place, Run, constant_places, runs, split

_USUAL_WINDOW_PX = 3
_SIZE_KEEPING = ("activation", "norm", "identity", "rescale")


def renumbered(spec: GraphSpec, target: InputShape) -> GraphSpec:
    """The graph in which every number of the old size is that of the new one.

    Example:
        >>> picture = LayerSpec(0, "image", "input", (), 0, native_shape=(64, 64, 3))
        >>> pool = LayerSpec(1, "pool", "avg_pool", (0,), 1, kernel_hw=(64, 64),
        ...                  stride_hw=(64, 64), native_shape=(1, 1, 3))
        >>> spec = GraphSpec("tiny", (picture, pool), (1,), InputShape(64, 64, 3))
        >>> renumbered(spec, InputShape(96, 80, 3))[1].kernel_hw
        (96, 80)
    """
    if any(None in layer.native_shape for layer in spec):
        return spec  # built for any size, so it holds no numbers of one
    with explained(spec, target):
        return _Numbers(spec, network_shape(spec, target)).renumbered()


class _Numbers:
    """The maps as they will be, settled one after the other from the picture on."""

    def __init__(self, spec: GraphSpec, working: InputShape) -> None:
        self.spec = spec
        self.working = working
        self.needed = spec.needed()
        self.readers = spec.consumers()
        self.new: dict[int, Map] = {}
        self.facts: dict[int, dict[str, Any]] = {}
        self.under_way: set[int] = set()
        self.regrouped: dict[tuple[Lengths, Lengths], set[Lengths]] = {}
        self.reaching: list[frozenset[int]] = []
        self.behind_weights: set[int] = set()
        for layer in spec:
            self.reaching.append(
                frozenset(layer.inputs).union(*(self.reaching[i] for i in layer.inputs))
            )
            if layer.params or not self.behind_weights.isdisjoint(layer.inputs):
                self.behind_weights.add(layer.index)

    def renumbered(self) -> GraphSpec:
        spec = self.spec
        for layer in self.spec:
            self._settle(layer.index)
            if facts := self.facts.get(layer.index):
                spec = spec.with_call(layer.index, **facts)
        return spec

    def _settle(self, index: int) -> None:
        """Find out a layer's numbers and its map, and those of all that it reads."""
        if index in self.new:
            return
        self.under_way.add(index)
        layer = self.spec[index]
        for source in layer.inputs:
            self._settle(source)
        try:
            self.new[index] = self._map_of(layer)
        except (ShapeError, GraphError):
            if index in self.needed:
                raise
            self.new[index] = (*(None,) * (len(layer.native_shape) - 1), layer.native_shape[-1])
        finally:
            self.under_way.discard(index)

    def _map_of(self, layer: LayerSpec) -> Map:
        if layer.op == "input":
            return self.working.as_tuple()
        if layer.index in self.needed:
            self.facts[layer.index] = self._facts(layer)
            layer = layer.but(**self.facts[layer.index])
        read = [self.new[i] for i in layer.inputs]
        shape = output_shape(layer, read, [self.spec[i] for i in layer.inputs])
        self._check_kept(layer, shape)
        return shape

    def _facts(self, layer: LayerSpec) -> dict[str, Any]:
        """The numbers of a layer at the new size, where they are not what they were."""
        read = layer.inputs[0]
        if self.new[read] == self.spec[read].native_shape and not self._follows_others(layer):
            return {}
        match layer.op:
            case "resize":
                return self._resized(layer)
            case "upsample":
                return self._upsampled(layer)
            case "avg_pool" | "max_pool":
                return self._window(layer)
            case "slice":
                return self._sliced(layer)
            case "reshape":
                return self._reshaped(layer)
            case _:
                return {}

    def _follows_others(self, layer: LayerSpec) -> bool:
        """Whether it may hold numbers of another map than the one that it reads."""
        return layer.op in ("resize", "upsample")

    # Sizes of maps

    def _map_sizes(self, layer: LayerSpec, native_hw: Sequence[int | None]) -> set[Map]:
        """The new sizes of the maps that a layer may have followed, which had this size.

        They are those that it is joined with, whose size it must have, or those that reach it.
        """
        joined = self._sizes_of(self._joined(layer), native_hw)
        return joined if len(joined) == 1 else self._sizes_of(self.reaching[layer.index], native_hw)

    def _sizes_of(self, indices: Iterable[int], native_hw: Sequence[int | None]) -> set[Map]:
        alike = [
            i
            for i in indices
            if len(self.spec[i].native_shape) == 3
            and self.spec[i].native_shape[:2] == tuple(native_hw)
        ]
        for index in alike:
            if index not in self.under_way:
                self._settle(index)
        return {self.new[i][:2] for i in alike if i in self.new}

    def _joined(self, layer: LayerSpec) -> set[int]:
        """The maps that a layer's own is joined with, behind layers that keep its size."""
        joined: set[int] = set()
        todo = [layer.index]
        for index in todo:
            for reader in self.readers[index]:
                others = {
                    i for i in self.spec[reader].inputs if layer.index not in self.reaching[i]
                }
                if self.spec[reader].op in ("elementwise", "concat"):
                    joined |= others - {layer.index}
                if self.spec[reader].op in _SIZE_KEEPING:
                    todo.append(reader)
        return joined

    def _followed(self, layer: LayerSpec, native_hw: Sequence[int | None]) -> Map | None:
        sizes = self._map_sizes(layer, native_hw)
        if len(sizes) > 1:
            raise FixedShape(
                f'"{layer.name}" is fixed to {format_shape(tuple(native_hw))}, the old size of '
                f"maps that are now {_either(sizes)}"
            )
        return next(iter(sizes), None)

    def _resized(self, layer: LayerSpec) -> dict[str, Any]:
        assert layer.target_hw is not None
        read = layer.inputs[0]
        if read not in self.behind_weights:
            return {}  # what brings pictures to the network's own size stays at it
        followed = self._followed(layer, layer.target_hw)
        if followed is None:
            followed = self._multiple(layer)
        return {} if followed == layer.target_hw else {"target_hw": followed}

    def _multiple(self, layer: LayerSpec) -> Map:
        """The size as so many times the map that is read."""
        assert layer.target_hw is not None
        old = self.spec[layer.inputs[0]].native_shape[:2]
        new = self.new[layer.inputs[0]][:2]
        if new == old:
            return layer.target_hw
        lengths = [
            _in_proportion(n, t, o) for n, t, o in zip(new, layer.target_hw, old, strict=True)
        ]
        if None in lengths:
            raise FixedShape(
                f'"{layer.name}" is fixed to {format_shape(layer.target_hw)}, which is the size of '
                "none of its maps"
            )
        return tuple(lengths)

    def _upsampled(self, layer: LayerSpec) -> dict[str, Any]:
        old, new = self.spec[layer.inputs[0]].native_shape, self.new[layer.inputs[0]]
        if old[:2] != (1, 1) or new[:2] != (1, 1):
            return {}
        followed = self._followed(layer, layer.stride_hw)
        return {} if followed in (None, layer.stride_hw) else {"stride_hw": followed}

    def _window(self, layer: LayerSpec) -> dict[str, Any]:
        """A window of the whole map pools it whole at every size."""
        old, new = self.spec[layer.inputs[0]].native_shape[:2], self.new[layer.inputs[0]][:2]
        is_whole = layer.kernel_hw == old and layer.native_shape[:2] == (1, 1)
        if not is_whole or self._is_usual(layer):
            return {}
        strides = tuple(
            n if s == o else s for n, s, o in zip(new, layer.stride_hw, old, strict=True)
        )
        return {"kernel_hw": new, "stride_hw": strides}

    def _is_usual(self, layer: LayerSpec) -> bool:
        """Whether the window is one that the network, or everyone, uses on larger maps too."""
        others = (
            other
            for other in self.spec
            if other.op == layer.op and other.index != layer.index and other.inputs
        )
        return any(
            other.kernel_hw == layer.kernel_hw
            and self.spec[other.inputs[0]].native_shape[:2] != layer.kernel_hw
            for other in others
        ) or (layer.op == "max_pool" and max(layer.kernel_hw) <= _USUAL_WINDOW_PX)

    def _sliced(self, layer: LayerSpec) -> dict[str, Any]:
        """A stop at the end of a map, or at the size of another one, follows it."""
        old, new = self.spec[layer.inputs[0]].native_shape, self.new[layer.inputs[0]]
        parts = tuple(
            self._slice_along(layer, axis, part)
            if len(part) == 3 and old[axis] != new[axis] and (part[1] or -1) >= 0
            else part
            for axis, part in enumerate(layer.slices)
        )
        return {} if parts == layer.slices else {"slices": parts}

    def _slice_along(
        self, layer: LayerSpec, axis: int, part: tuple[Any, ...]
    ) -> tuple[int | None, ...]:
        start, stop, step = part
        old = self.spec[layer.inputs[0]].native_shape
        if stop >= (old[axis] or 0):
            return start, None, step
        if {len(old), len(layer.native_shape)} != {3} or axis == 2:
            return part
        sizes = self._map_sizes(layer, layer.native_shape[:2])
        if len(sizes) == 1 and step in (None, 1):
            (hw,) = sizes
            return start, (start or 0) + (hw[axis] or 0), step
        size = f"the size of maps that are now {_either(sizes)}" if sizes else "no map's size"
        raise FixedShape(
            f'slice "{layer.name}" stops at {stop} of {format_shape(old)}, which is {size}'
        )

    # Reshapes

    def _reshaped(self, layer: LayerSpec) -> dict[str, Any]:
        assert layer.target_shape is not None
        old, new = self.spec[layer.inputs[0]].native_shape, self.new[layer.inputs[0]]
        if None in new:
            return {}
        target: list[int] = []
        for run in runs(old, layer.native_shape):
            lengths = tuple(new[i] or 0 for i in run.axes)
            target += self._made_of(layer, run, lengths)
            self.regrouped.setdefault((run.old, run.made), set()).add(lengths)
        written = tuple(
            n if asked != -1 else -1 for n, asked in zip(target, layer.target_shape, strict=True)
        )
        return {} if written == layer.target_shape else {"target_shape": written}

    def _made_of(self, layer: LayerSpec, run: Run, new: Lengths) -> Lengths:
        """The lengths that a run of axes becomes, where those that are read are now others."""
        total = prod(new)
        if len(run.made) == 1:
            return (total,)
        if new == run.old:
            return run.made
        if run.old == run.made:
            return new
        undone = self.regrouped.get((run.made, run.old), set())
        meanings = {lengths for lengths in undone if prod(lengths) == total}
        meanings = meanings or self._split_as_maps(layer, total, run.made)
        meanings = meanings or split(total, run.old, run.made, self._constant_places)
        if len(meanings) != 1:
            raise FixedShape(
                f'reshape "{layer.name}" makes {format_shape(run.made)} of {prod(run.old)}, and of '
                f"{total} it could make {_either(meanings) or 'nothing alike'}"
            )
        return meanings.pop()

    @cached_property
    def _constant_places(self) -> frozenset[Place]:
        return constant_places(self.spec)

    def _split_as_maps(self, layer: LayerSpec, total: int, put_out: Lengths) -> set[Lengths]:
        """What tokens become if they go back to the map that they were made of."""
        if len(put_out) != 2:
            return set()
        sizes = self._map_sizes(layer, put_out)
        return {(hw[0] or 0, hw[1] or 0) for hw in sizes if prod(n or 0 for n in hw) == total}

    def _check_kept(self, layer: LayerSpec, shape: Map) -> None:
        """Refuse an unknown layer whose map keeps the old size although what it reads does not."""
        native = layer.native_shape
        if layer.op != "opaque" or len(native) != 3 or native[:2] == (1, 1):
            return
        read = [(self.new[i], self.spec[i].native_shape) for i in layer.inputs]
        unchanged = {1, *chain.from_iterable(starmap(_unchanged, read))}
        is_kept = shape[:2] == native[:2] and not unchanged.issuperset(native[:2])
        if is_kept and any(now != before for now, before in read):
            raise FixedShape(
                f'"{layer.name}" still puts out {format_shape(native[:2])}; whether that is to '
                "stay cannot be seen"
            )


def _unchanged(now: Map, before: Map) -> list[int | None]:
    return [n for n, old in zip(now, before, strict=False) if n == old]


def _in_proportion(new: int | None, target: int, old: int | None) -> int | None:
    """The length that stands to a new one as a target stood to the old one, by a whole factor."""
    if not new or not old:
        return None
    if target % old == 0 and target > old:
        return new * (target // old)
    if old % target == 0 and new % (old // target) == 0:
        return new // (old // target)
    return None


def _either(shapes: Iterable[Map]) -> str:
    return " or ".join(sorted(map(format_shape, shapes)))
