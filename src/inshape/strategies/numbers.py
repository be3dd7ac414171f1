"""Numbers that a network took from its old size: each follows the map that it was taken from.

``Reshape((49, 16))``, ``Resizing(56, 56)``, a pooling window of the whole map: such a number was
computed from the size of some map when the network was built, and has to be computed again at
another size. Which map it was is read off the native shapes. A number that can mean two things,
which differ at the new size, is refused by the layer's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

from ..errors import FixedShape, GraphError, ShapeError
from ..geometry.rules import Map, output_shape
from ..geometry.sizes import explained, network_shape
from ..geometry.spec import GraphSpec, LayerSpec
from ..shapes import InputShape
from ..text import format_shape

_USUAL_WINDOW_PX = 3
_CONSTANT = "constant"


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
    """One walk from the picture on, with the maps as they were and as they will be."""

    def __init__(self, spec: GraphSpec, working: InputShape) -> None:
        self.spec = spec
        self.new: list[Map] = []
        self.working = working
        self.reaching: list[frozenset[int]] = []
        self.behind_weights: set[int] = set()

    def renumbered(self) -> GraphSpec:
        spec = self.spec
        needed = spec.needed()
        for layer in self.spec:
            self.reaching.append(
                frozenset(layer.inputs).union(*(self.reaching[i] for i in layer.inputs))
            )
            if layer.op == "input":
                self.new.append(self.working.as_tuple())
                continue
            if layer.params or not self.behind_weights.isdisjoint(layer.inputs):
                self.behind_weights.add(layer.index)
            try:
                facts = self._facts(layer) if layer.index in needed else {}
                layer = layer.but(**facts)
                read = [self.new[i] for i in layer.inputs]
                self.new.append(output_shape(layer, read, [spec[i] for i in layer.inputs]))
                self._check_kept(layer)
            except (ShapeError, GraphError):
                if layer.index in needed:
                    raise
                self.new.append((*(None,) * (len(layer.native_shape) - 1), layer.native_shape[-1]))
                continue
            if facts:
                spec = spec.with_call(layer.index, **facts)
        return spec

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
        """The new sizes of the maps that reach a layer and had this size."""
        return {
            self.new[i][:2]
            for i in self.reaching[layer.index]
            if len(self.spec[i].native_shape) == 3
            and self.spec[i].native_shape[:2] == tuple(native_hw)
        }

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
        factors = [t // o for t, o in zip(layer.target_hw, old, strict=True) if o and t % o == 0]
        if len(factors) < 2 or None in new or min(factors) < 2:
            raise FixedShape(
                f'"{layer.name}" is fixed to {format_shape(layer.target_hw)}, which is the size of '
                "none of its maps"
            )
        return tuple((n or 0) * f for n, f in zip(new, factors, strict=True))

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
        parts = list(layer.slices)
        is_map = len(old) == 3 and len(layer.native_shape) == 3
        sizes = self._map_sizes(layer, layer.native_shape[:2]) if is_map else set()
        for axis, part in enumerate(parts):
            if len(part) != 3 or old[axis] == new[axis] or part[1] is None or part[1] < 0:
                continue
            start, stop, step = part
            if stop >= (old[axis] or 0):
                parts[axis] = (start, None, step)
            elif is_map and axis < 2:
                if len(sizes) != 1 or (step or 1) != 1:
                    raise FixedShape(
                        f'slice "{layer.name}" stops at {stop} of {format_shape(old)}, which is '
                        "the size of "
                        + (f"maps that are now {_either(sizes)}" if sizes else "none of its maps")
                    )
                (hw,) = sizes
                parts[axis] = (start, (start or 0) + (hw[axis] or 0), step)
        return {} if tuple(parts) == layer.slices else {"slices": tuple(parts)}

    # Reshapes

    def _reshaped(self, layer: LayerSpec) -> dict[str, Any]:
        assert layer.target_shape is not None
        old, new = self.spec[layer.inputs[0]].native_shape, self.new[layer.inputs[0]]
        if None in new:
            return {}
        target: list[int] = []
        for read, put_out in _groups(old, layer.native_shape):
            target += self._regrouped(
                layer, [new[i] or 0 for i in read], [old[i] or 0 for i in read], put_out
            )
        written = tuple(
            n if asked != -1 else -1 for n, asked in zip(target, layer.target_shape, strict=True)
        )
        return {} if written == layer.target_shape else {"target_shape": written}

    def _regrouped(
        self, layer: LayerSpec, new: list[int], old: list[int], put_out: list[int]
    ) -> list[int]:
        """The lengths that one run of axes becomes, where another run of axes has it now."""
        if new == old:
            return put_out
        if len(put_out) == 1:
            return [prod(new)]
        if len(put_out) == len(new) and old == put_out:
            return new
        meanings = self._split_as_maps(layer, prod(new), put_out)
        if not meanings:
            meanings = _split_by_constants(self._constants(), prod(new), put_out)
        if len(meanings) != 1:
            made = format_shape(tuple(put_out))
            raise FixedShape(
                f'reshape "{layer.name}" makes {made} of {prod(old)}, and of {prod(new)} it could '
                f"make {_either(meanings) or 'nothing alike'}"
            )
        return list(meanings.pop())

    def _split_as_maps(
        self, layer: LayerSpec, total: int, put_out: list[int]
    ) -> set[tuple[int, ...]]:
        """What tokens become if they go back to the map that they were made of."""
        if len(put_out) != 2:
            return set()
        sizes = self._map_sizes(layer, put_out)
        return {(hw[0] or 0, hw[1] or 0) for hw in sizes if prod(n or 0 for n in hw) == total}

    def _constants(self) -> frozenset[int]:
        """Lengths that stay, whatever the length is that they are split off.

        A window of 7 is taken out of 56, 28 and 14 places alike: that is how it is told from the
        number of windows.
        """
        seen: dict[int, set[int]] = {}
        for layer in self.spec:
            if layer.op != "reshape":
                continue
            shape = self.spec[layer.inputs[0]].native_shape
            for read, put_out in _groups(shape, layer.native_shape):
                total = prod(shape[i] or 0 for i in read)
                for length in put_out if len(put_out) > 1 else ():
                    seen.setdefault(length, set()).add(total)
        return frozenset(length for length, totals in seen.items() if len(totals) > 1)

    def _check_kept(self, layer: LayerSpec) -> None:
        """Refuse an unknown layer whose map keeps the old size although what it reads does not."""
        if layer.op != "opaque" or len(layer.native_shape) != 3:
            return
        native_hw = layer.native_shape[:2]
        read_old = [self.spec[i].native_shape for i in layer.inputs]
        read_new = [self.new[i] for i in layer.inputs]
        is_kept = self.new[layer.index][:2] == native_hw != (1, 1)
        if (
            is_kept
            and read_old != read_new
            and not self._map_sizes(layer, native_hw) <= {native_hw}
        ):
            raise FixedShape(
                f'"{layer.name}" puts out {format_shape(native_hw)}, the size of a map that is now '
                f"{_either(self._map_sizes(layer, native_hw))}"
            )


def _groups(
    old: Sequence[int | None], put_out: Sequence[int | None]
) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of axes that hold the same values: indices before, lengths behind.

    ``(32, 24, 8)`` to ``(768, 8)`` is ``[0, 1] -> [768]`` and ``[2] -> [8]``.
    """
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(put_out):
        read, made = [i] if i < len(old) else [], [put_out[j] or 0] if j < len(put_out) else []
        i, j = i + len(read), j + len(made)
        while (before := prod(old[k] or 0 for k in read)) != (behind := prod(made)):
            if before < behind and i < len(old):
                read.append(i)
                i += 1
            elif j < len(put_out):
                made.append(put_out[j] or 0)
                j += 1
            else:
                return [(list(range(len(old))), [n or 0 for n in put_out])]
        runs.append((read, made))
    return runs


def _split_by_constants(
    constants: frozenset[int], total: int, put_out: list[int]
) -> set[tuple[int, ...]]:
    """What a run becomes if one of its lengths grows and the others stay."""
    meanings: dict[int, tuple[int, ...]] = {}
    for axis, length in enumerate(put_out):
        rest = prod(put_out) // length if length else 0
        if rest and total % rest == 0:
            meanings[axis] = (*put_out[:axis], total // rest, *put_out[axis + 1 :])
    settled = {
        shape
        for axis, shape in meanings.items()
        if put_out[axis] not in constants
        and all(n in constants for k, n in enumerate(put_out) if k != axis)
    }
    return settled or set(meanings.values())


def _either(shapes: Iterable[Map]) -> str:
    return " or ".join(sorted(map(format_shape, shapes)))
