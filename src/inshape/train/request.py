"""A training as it was asked for, in values that a run folder can keep."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..adapt import BackboneLike, Weights
from ..data.sources import Source
from ..heads import Head
from ..shapes import InputShape
from .command import command_of
from .recipe import Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A training as it was asked for; the fields are those of `inshape.train`."""

    source: Source
    shape: InputShape
    backbone: BackboneLike
    weights: Weights
    strategy: Any = "auto"
    channels: Any = "auto"
    seed: int = 0
    head: Head = field(default_factory=Head)
    recipe: Recipe = field(default_factory=Recipe)
    plan_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    preparation: Mapping[str, Any] = field(default_factory=dict[str, Any])
    mlflow: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """What ``run.json`` keeps of it; objects that are neither names nor files are left out."""
        return {
            "source": (
                str(Path(self.source).resolve()) if isinstance(self.source, str | Path) else None
            ),
            "shape": str(self.shape),
            "backbone": str(self.backbone) if isinstance(self.backbone, str | Path) else None,
            "weights": str(self.weights) if self.weights is not None else None,
            "strategy": self.strategy,
            "channels": self.channels,
            "head": asdict(self.head),
            "plan_options": dict(self.plan_options),
            "preparation": dict(self.preparation),
            "recipe": self.recipe.as_dict(),
            "mlflow": self.mlflow,
        }

    def of_teacher(self, native: InputShape) -> Request:
        """The training of the same network at its own height and width.

        A grey student of an RGB network has an RGB teacher, which sees what the student cannot;
        any other has a teacher of its own channels, which the pictures are known to have.
        """
        is_grey = (self.shape.channels, native.channels) == (1, 3)
        in_colour = is_grey and "colour" not in self.preparation
        return replace(
            self,
            shape=native if in_colour else InputShape(*native.hw, self.shape.channels),
            strategy="rebuild",
            channels="auto" if in_colour else self.channels,
            plan_options={},
            recipe=self.recipe.of({"distil": False, "recalibrate": False, "fixres": False}),
            mlflow=None,
        )

    def command(self, out: Path) -> str | None:
        """What repeats the training, into a folder beside the run's own.

        Args:
            out: the run's folder.

        Returns:
            A command line; ``None`` for what can only be said in Python.
        """
        again = str(out.with_name(f"{out.name}-again"))
        words = command_of(self.as_dict(), self.recipe, self.head, seed=self.seed, out=again)
        return None if words is None else shlex.join(words)
