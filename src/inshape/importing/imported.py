"""What reading a model file gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class Imported:
    """A network that was read from a file."""

    model: keras.Model
    """Functional, channels last, of ordinary named layers."""
    notes: tuple[str, ...] = ()
    """What the user has to know: what was cut off, which values it takes."""
