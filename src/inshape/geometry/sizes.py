"""The shape of every map of a network at an input shape, and the least shape that it takes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from ..errors import FixedShape, GraphError, MapMismatch, ShapeError, VanishingMap
from ..shapes import InputShape, Size
from .rules import Map, check_weights, output_shape
from .spec import GraphSpec

_LARGEST_SEARCHED_PX = 4096
_MISMATCH_SEARCHED_PX = 64
_RESIZE_AT_A = "strategy='resize' with a"


def network_shape(spec: GraphSpec, shape: InputShape) -> InputShape:
    """The shape that the network's own first layer reads, after ``spec.input_layers``.

    Example:
        >>> from inshape.geometry.spec import InputLayers
        >>> spec = GraphSpec("none", (), (), InputShape.of("224x224x3"),
        ...                  InputLayers(resize_hw=(192, 256), channels="repeat"))
        >>> print(network_shape(spec, InputShape.of("97x64x1")))
        192x256x3
    """
    added = spec.input_layers
    height, width = shape.hw if added.resize_hw is None else added.resize_hw
    channels = shape.channels if added.channels is None else added.network_channels
    return InputShape(height, width, channels)


def map_shapes(spec: GraphSpec, shape: InputShape) -> tuple[Map, ...]:
    """The output shape of every call at an input shape.

    Example:
        >>> from inshape.geometry.spec import LayerSpec
        >>> picture = LayerSpec(index=0, name="image", op="input", inputs=(), layer=0)
        >>> stem = LayerSpec(index=1, name="stem", op="conv", inputs=(0,), layer=1,
        ...                  kernel_hw=(3, 3), stride_hw=(2, 2), padding="same", out_channels=16)
        >>> spec = GraphSpec("tiny", (picture, stem), (1,), InputShape.of("224x224x3"))
        >>> map_shapes(spec, InputShape.of("97x64x1")), map_shapes(spec, InputShape.of("?x64x1"))
        (((97, 64, 1), (49, 32, 16)), ((None, 64, 1), (None, 32, 16)))
    """
    pictures = [layer.name for layer in spec if layer.op == "input"]
    if len(pictures) != 1:
        raise GraphError(
            f"model {spec.name!r} has {len(pictures)} inputs ({', '.join(pictures) or 'none'}), "
            "expected exactly one, the picture"
        )
    working = network_shape(spec, shape)
    with explained(spec, shape):
        return _trace(spec, working)


@contextmanager
def explained(spec: GraphSpec, shape: InputShape) -> Generator[None]:
    """Say, where a map goes wrong, at which input, and which sizes do."""
    working = network_shape(spec, shape)
    try:
        yield
    except VanishingMap as problem:
        raise VanishingMap(f"{_who(spec, shape)}: {problem}; {_least(spec)}") from None
    except MapMismatch as problem:
        fix = _by_channels(spec, working) or _fitting(spec, working)
        raise MapMismatch(f"{_who(spec, shape)}: {problem}; {fix}") from None
    except FixedShape as problem:
        fix = _by_channels(spec, working) or _as_read(spec, working)
        raise FixedShape(f"{_who(spec, shape)}: {problem}; {fix}") from None


def fixed_size_advice(spec: GraphSpec) -> str:
    """What to do where a height and width that are unknown until run time cannot be taken."""
    such = f", such as {spec.input_shape.size}" if spec.input_shape.is_static else ""
    return f"use strategy='rebuild' at a fixed height and width{such}, or strategy='resize'"


def least_size(spec: GraphSpec) -> Size:
    """The smallest height and the smallest width at which no map vanishes.

    Example:
        >>> from inshape.geometry.spec import LayerSpec
        >>> picture = LayerSpec(index=0, name="image", op="input", inputs=(), layer=0)
        >>> pool = LayerSpec(index=1, name="pool", op="max_pool", inputs=(0,), layer=1,
        ...                  kernel_hw=(2, 5), stride_hw=(2, 2))
        >>> print(least_size(GraphSpec("tiny", (picture, pool), (1,), InputShape.of("8x8x1"))))
        2x5
    """
    lengths: list[int | None] = []
    for axis in (0, 1):
        survives = _axis_test(spec, axis, VanishingMap)
        if not survives(_LARGEST_SEARCHED_PX):
            lengths.append(None)
            continue
        low, high = 1, _LARGEST_SEARCHED_PX
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if survives(middle) else (middle + 1, high)
        lengths.append(low)
    return Size(*lengths)


def _trace(
    spec: GraphSpec, working: InputShape, ignored: tuple[type[ShapeError], ...] = ()
) -> tuple[Map, ...]:
    """`map_shapes` on the network itself; where an ignored problem is met, the map is unknown."""
    shapes: list[Map] = []
    needed = spec.needed()
    of_picture = _calls_with_picture_channels(spec)
    for layer in spec:
        if layer.op == "input":
            shapes.append(working.as_tuple())
            continue
        sources = [spec[i] for i in layer.inputs]
        try:
            read = [shapes[i] for i in layer.inputs]
            if of_picture.isdisjoint(layer.inputs):
                check_weights(layer, read, sources)
            shapes.append(output_shape(layer, read, sources))
        except (ShapeError, GraphError) as problem:
            if layer.index in needed and not isinstance(problem, ignored):
                raise
            native = layer.native_shape or shapes[layer.inputs[0]]
            shapes.append((*(None,) * (len(native) - 1), native[-1]))
    return tuple(shapes)


def _calls_with_picture_channels(spec: GraphSpec) -> set[int]:
    """The calls whose channels are made of the picture's, which may change."""
    of_picture: set[int] = set()
    for layer in spec:
        is_moved_on = not layer.is_conv and not of_picture.isdisjoint(layer.inputs)
        if layer.op == "input" or is_moved_on:
            of_picture.add(layer.index)
    return of_picture


def _axis_test(spec: GraphSpec, axis: int, *sought: type[ShapeError]) -> Callable[[int], bool]:
    """Whether the network takes a length along one axis, the other one being unknown."""
    problems: tuple[type[ShapeError], ...] = (VanishingMap, MapMismatch, FixedShape)
    ignored = tuple(p for p in problems if p not in sought)
    channels = network_shape(spec, spec.input_shape).channels

    def survives(length: int) -> bool:
        hw = (length, None) if axis == 0 else (None, length)
        try:
            _trace(spec, InputShape(*hw, channels), ignored)
        except sought:
            return False
        return True

    return survives


def _who(spec: GraphSpec, shape: InputShape) -> str:
    if spec.input_layers.resize_hw is None:
        return f"input {shape}"
    return f"input {shape} at working size {Size(*spec.input_layers.resize_hw)}"


def _least(spec: GraphSpec) -> str:
    least = least_size(spec)
    if not least.is_static:
        return "no input size avoids it; check the model"
    if spec.input_layers.resize_hw is not None:
        return f"use a working size of at least {least}"
    return f"use at least {least}, or strategy='resize'"


def _by_channels(spec: GraphSpec, working: InputShape) -> str:
    """The advice where the channels are what the network cannot take; empty where it can."""
    native = spec.input_shape
    if working.channels == native.channels:
        return ""
    if _fits(spec, InputShape(*working.hw, native.channels)):
        return "use channels='project'"
    if _fits(spec, native) and not _fits(spec, InputShape(*native.hw, working.channels)):
        fix = _fitting(spec, InputShape(*working.hw, native.channels))
        either = "either " if ", or " in fix else ""
        return f"use channels='project' and {either}{fix.removeprefix('use ')}"
    return ""


def _fits(spec: GraphSpec, working: InputShape) -> bool:
    try:
        _trace(spec, working)
    except ShapeError:
        return False
    return True


def _fitting(spec: GraphSpec, working: InputShape) -> str:
    """Name the nearest lengths at which the maps that meet have one size."""
    if any(layer.answering or layer.op in ("resize", "reshape") for layer in spec):
        return _as_read(spec, working)  # to ask so often would take minutes
    resized = spec.input_layers.resize_hw is not None
    kind, otherwise = ("working ", "") if resized else ("", ", or strategy='resize'")
    words: list[str] = []
    for axis, name in enumerate(("height", "width")):
        length = working.hw[axis]
        fits = _axis_test(spec, axis, VanishingMap, MapMismatch)
        if length is None or fits(length):
            continue
        near = _nearest(length, fits)
        if not near:
            return _as_read(spec, working)
        words.append(f"a {kind}{name} of {' or '.join(near)}")
    return f"use {' and '.join(words)}{otherwise}" if words else _as_read(spec, working)


def _nearest(length: int, fits: Callable[[int], bool]) -> list[str]:
    below = range(length - 1, max(length // 2, length - _MISMATCH_SEARCHED_PX), -1)
    above = range(length + 1, length + _MISMATCH_SEARCHED_PX)
    return [str(n) for side in (below, above) if (n := next(filter(fits, side), None))]


def _as_read(spec: GraphSpec, working: InputShape) -> str:
    """Name the size that the network was read at, where it is not the one that was asked for."""
    is_resized = spec.input_layers.resize_hw is not None
    size = f"{spec.input_shape.size} (as the network was read)"
    if not spec.input_shape.is_static:
        return f"use {'another' if is_resized else _RESIZE_AT_A} working size"
    if working.hw == spec.input_shape.hw:
        return _at_native_size(spec, working)
    if is_resized:
        return f"use a working size of {size}"
    if not working.is_static:
        return f"use strategy='rebuild' at a fixed {size}, or strategy='resize'"
    return f"use {size}, or strategy='resize'"


def _at_native_size(spec: GraphSpec, working: InputShape) -> str:
    """What to do where the size is right: take back what was changed, or mend the layer."""
    shapes = _trace(spec, working, (ShapeError,))
    pairs = ((shape, layer.native_shape) for shape, layer in zip(shapes, spec, strict=True))
    if any(old and None not in (*old, *new) and old != new for new, old in pairs):
        return "use strategy='rebuild', which keeps the layers as they are"
    return "this is the size that it was read at, so no other one avoids it; check the layer"
