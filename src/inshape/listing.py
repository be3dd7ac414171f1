"""The backbones that go by a name, as a table: what ``inshape models`` shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .backbones import Backbone, backbones
from .errors import UnknownName
from .figures import SOURCES, Figures, figures
from .geometry.render import aligned, count_word

WEIGHTS = {
    "imagenet": "downloaded by Keras from storage.googleapis.com, kept in ~/.keras/models",
}
"""The names that ``weights=`` takes, and where each comes from. A file of one's own fits any
backbone."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Backbones with their figures.

    Attributes:
        rows: each backbone with its figures.
    """

    rows: tuple[tuple[Backbone, Figures], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "models": [
                {
                    "name": backbone.name,
                    "family": backbone.family,
                    "native_hw": list(backbone.native_hw),
                    "params": known.params,
                    "macs": known.macs,
                    "imagenet_top1": known.top1,
                    "top1_source": None if known.source is None else SOURCES[known.source],
                    "weights": list(weights_of(backbone)),
                }
                for backbone, known in self.rows
            ],
            "weights": WEIGHTS,
        }

    def __str__(self) -> str:
        heads = ("backbone", "weights", "native", "params", "MACs", "top-1", "source")
        rows = [_row(backbone, known) for backbone, known in self.rows]
        used = dict.fromkeys(known.source for _, known in self.rows if known.source)
        lines = aligned([heads, *rows], left=2)
        lines += ["", "params, MACs: counted at the native shape, classifier included"]
        lines += ["top-1: percent on ImageNet's validation pictures, as published in"]
        lines += [f"  {name}: {SOURCES[name]}" for name in used]
        lines += ["weights: by name as below, or a file of your own, or none (random)"]
        return "\n".join([*lines, *(f"  {name}: {place}" for name, place in WEIGHTS.items())])


def weights_of(backbone: Backbone) -> tuple[str, ...]:
    """The named weights that there are for a backbone.

    Args:
        backbone: which.

    Returns:
        Names, keys of `WEIGHTS`.

    Example:
        >>> [weights_of(b) for b in backbones()[:4]]
        [('imagenet',), ('imagenet',), ('imagenet',), ()]
    """
    return ("imagenet",) if backbone.has_imagenet else ()


def listed(part: str = "") -> Listing:
    """The backbones whose name holds a part; nothing is built.

    Args:
        part: of the name, in any case; nothing lists all.

    Returns:
        The table.

    Raises:
        UnknownName: if no name holds it.

    Example:
        >>> [backbone.name for backbone, _ in listed("nasnet").rows]
        ['NASNetMobile', 'NASNetLarge']
    """
    found = [b for b in backbones() if part.lower() in b.name.lower()]
    if not found:
        raise UnknownName("backbone", part, (b.name for b in backbones()))
    return Listing(tuple((b, figures()[b.name]) for b in found))


def _row(backbone: Backbone, known: Figures) -> tuple[str, ...]:
    return (
        backbone.name,
        ", ".join(weights_of(backbone)) or "none",
        "x".join(map(str, backbone.native_hw)),
        count_word(known.params),
        count_word(known.macs),
        "-" if known.top1 is None else f"{known.top1:.1f}",
        known.source or "-",
    )
