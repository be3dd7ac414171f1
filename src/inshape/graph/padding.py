"""Tells zero padding that was computed from a size's parity from padding that is fixed.

``keras.applications`` computes the pads in front of some strided convolutions from the parity of
the input (``imagenet_utils.correct_pad``) and bakes them in. They hold at that parity only: at
another size the same layers must be padded otherwise. MobileNetV1 pads ((0, 1), (0, 1)) at every
size, and ResNet pads both sides alike; these are part of the trained function and must stay.
"""

from __future__ import annotations

import re

from ..geometry.spec import GraphSpec, LayerSpec, Pads

_COMPUTED = re.compile(
    r"(^|/|_)(block_\d+_pad"  # MobileNetV2
    r"|expanded_conv(_\d+)?(_|/)depthwise(_|/)pad"  # MobileNetV3
    r"|stem_conv_pad|block\d+[a-z]_dwconv_pad"  # EfficientNetV1
    r"|separable_conv_1_pad_\w+|reduction_pad_1_\w+)$"  # NASNet
)
FIXED_PAD = "_fixed_pad"
"""What the name of a padding layer of a chosen amount ends in."""

_FIXED = re.compile(
    rf"(^|/|_)(conv_pad_\d+|conv\d+_pad|pool\d+_pad|\w+_block\d+_2_pad|\w+{FIXED_PAD}(_\d+)?)$"
)


def computed_pads(length_px: int | None, kernel_px: int) -> tuple[int, int]:
    """The pads of ``correct_pad`` along one axis.

    Example:
        >>> computed_pads(112, 5), computed_pads(25, 5), computed_pads(None, 3)
        ((1, 2), (2, 2), (0, 1))
    """
    return kernel_px // 2 - (_parity(length_px) == "even"), kernel_px // 2


def mark_parity_pads(spec: GraphSpec) -> GraphSpec:
    """Set ``parity_pads`` on the padding layers whose amounts were computed from parity.

    Known names of ``keras.applications`` decide. For other names the model itself does: pads that
    differ between its odd and its even maps, each as ``correct_pad`` has it, were computed; where
    only even maps occur the two kinds cannot be told apart, and pads stay as they are.
    """
    forms = _looking_computed(spec)
    named = {index for index in forms if _COMPUTED.search(spec[index].name)}
    others = set[str]().union(*(seen for index, seen in forms.items() if index not in named))
    if others >= {"odd", "even"}:
        named |= {index for index in forms if not _FIXED.search(spec[index].name)}
    for index in sorted(named):
        spec = spec.with_call(index, parity_pads=True)
    return spec


def unclear_pads(spec: GraphSpec) -> tuple[str, ...]:
    """Names of padding layers that could be of either kind, and were left as they are."""
    pads = [spec[index] for index, forms in _looking_computed(spec).items() if "even" in forms]
    return tuple(x.name for x in pads if not x.parity_pads and not _FIXED.search(x.name))


def _looking_computed(spec: GraphSpec) -> dict[int, frozenset[str]]:
    """The pads that look computed, and at which parities of their axes they do."""
    readers = spec.consumers()
    forms = {x.index: _forms(spec, x, readers[x.index]) for x in spec if x.op == "pad"}
    return {index: parities for index, parities in forms.items() if parities}


def _forms(spec: GraphSpec, pad: LayerSpec, readers: tuple[int, ...]) -> frozenset[str]:
    windows = [spec[i] for i in readers]
    kernels = {w.kernel_hw for w in windows if w.is_window}
    if len(kernels) != 1 or not all(_is_unpadded_and_strided(w) for w in windows):
        return frozenset()
    (kernel_hw,) = kernels
    size_hw = spec[pad.inputs[0]].native_shape[:2]
    pads: Pads = pad.pads
    if tuple(computed_pads(n, k) for n, k in zip(size_hw, kernel_hw, strict=True)) != pads:
        return frozenset()
    return frozenset(map(_parity, size_hw))


def _parity(length_px: int | None) -> str:
    return "odd" if length_px is not None and length_px % 2 else "even"


def _is_unpadded_and_strided(layer: LayerSpec) -> bool:
    return layer.is_window and layer.padding == "valid" and layer.stride_hw != (1, 1)
