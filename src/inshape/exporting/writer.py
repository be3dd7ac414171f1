"""One exported file with what goes with it: written beside its final place, then moved there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputExists, RunError
from ..evaluation.probabilities import gives_probabilities
from ..progress import Advance
from ..runs import Run
from ..runtime.arena import Arena, arena_of
from ..runtime.conversion import convert
from ..runtime.formats import Format, Io
from .example import compose_example
from .sidecar import add_quantisation, c_array, embed, make_card

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True, eq=False)
class Writer:
    """Writes a run's model in any format."""

    run: Run
    """Where labels and preparation come from."""
    model: keras.Model
    sample: Sequence[NDArray[np.float32]]
    """Prepared pictures to calibrate int8 on, each ``(1, height, width, channels)``."""
    io: Io
    batch: int | None

    def write(self, form: Format, path: Path, progress: Advance | None = None) -> Arena | None:
        """Write the file, its card, its example and its C array in the place of earlier ones.

        Returns:
            The memory that a full-integer file needs; ``None`` for the others.

        Raises:
            GraphError: if the format has no operator for a layer.
            RunError: if it cannot be written; what was there is then unchanged.
        """
        try:
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as scratch:
                new, old = Path(scratch) / "new", Path(scratch) / "old"
                new.mkdir()
                old.mkdir()
                arena = self._fill(form, new / path.name, progress)
                _exchange(_with_companions(form, path), new, old)
        except OSError as error:
            raise RunError(
                f"cannot write {path}: {error.strerror or error}; what was there is unchanged; "
                "free some space or choose a folder that can be written"
            ) from error
        return arena

    def _fill(self, form: Format, part: Path, progress: Advance | None) -> Arena | None:
        sample = self.sample if form.is_quantised else ()
        convert(
            self.model, form, part, pictures=sample, io=self.io, batch=self.batch, progress=progress
        )
        kind = gives_probabilities(self.model)
        card = make_card(self.run, form, io=self.io, batch=self.batch, is_probability=kind)
        card = add_quantisation(card, part)
        embed(part, form, card)
        text = json.dumps(card, indent=2, ensure_ascii=False)
        _beside(part, ".json").write_text(text + "\n", encoding="utf-8")
        program = self._example(form, part)
        if program is not None:
            _beside(part, ".py").write_text(program, encoding="utf-8")
        if not form.is_quantised:
            return None
        arena = arena_of(part)
        header = c_array(part.read_bytes(), part.stem.replace("-", "_"), arena)
        part.with_suffix(".h").write_text(header, encoding="ascii")
        return arena

    def _example(self, form: Format, part: Path) -> str | None:
        if form.takes_batch and self.batch not in (None, 1):
            return None
        return compose_example(
            part,
            self.run.preparation,
            self.run.labels,
            io=self.io if form.is_quantised else "float32",
            is_fixed=None not in self.model.input_shape[1:],
        )


def file_name(form: Format) -> str:
    """What a file of a format is called.

    Example:
        >>> from inshape.runtime.formats import FORMATS
        >>> file_name(FORMATS["litert-int8"]), file_name(FORMATS["onnx"])
        ('model-int8.tflite', 'model.onnx')
    """
    if form.name == "savedmodel":
        return "savedmodel"
    kind = form.name.removeprefix("litert").lstrip("-") if form.suffix == ".tflite" else ""
    return f"model-{kind}{form.suffix}" if kind else f"model{form.suffix}"


def check_new_file(form: Format, path: Path) -> None:
    """Refuse to write over a file, or over one that goes with it."""
    for existing in _with_companions(form, path):
        if existing.exists():
            raise OutputExists(f"{existing} exists already; expected a new file; add --replace")


def _with_companions(form: Format, path: Path) -> list[Path]:
    """The file and whatever may go with it."""
    others = [_beside(path, ".json"), _beside(path, ".py")]
    if form.name == "openvino":
        others.append(path.with_suffix(".bin"))
    if form.is_quantised:
        others.append(path.with_suffix(".h"))
    return [path, *others]


def _exchange(goals: Sequence[Path], new: Path, old: Path) -> None:
    """Put the new files in the place of the old ones: all, or none where one cannot be moved."""
    moved: list[tuple[Path, Path]] = []
    # The old ones first, companions of no new file too: an example that fits no more must not stay.
    old_first = [(goal, old / goal.name) for goal in goals] + [
        (new / goal.name, goal) for goal in goals
    ]
    try:
        for source, goal in old_first:
            if source.exists():
                os.replace(source, goal)
                moved.append((source, goal))
    except OSError:
        for source, goal in reversed(moved):
            os.replace(goal, source)
        raise


def file_bytes(path: Path) -> int:
    """Bytes of a file with its weights, or of everything in a folder."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    weights = path.with_suffix(".bin")
    extra = weights.stat().st_size if path.suffix == ".xml" and weights.exists() else 0
    return path.stat().st_size + extra


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}{suffix}")
