"""One exported file with what goes with it: written beside its final place, then moved there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputExists
from ..evaluation.answers import gives_answers
from ..geometry.sizes import map_shapes
from ..planning import Plan
from ..progress import Advance
from ..runs import Run
from ..runtime.arena import Arena, arena_of
from ..runtime.conversion import convert
from ..runtime.formats import Format
from ..runtime.patches import in_patches
from ..writing import DIGITS, format_json, new_part, remove_abandoned, writing
from .example import compose_example
from .micro import MicroFile, c_file, c_name, operators_of
from .request import ExportRequest
from .sidecar import add_quantisation, embed, make_card

if TYPE_CHECKING:
    import keras

_SCRATCH = ".export-"
_NEW, _MOVING, _OLD, _NAMES, _DONE = "new", "moving", "old", "names.json", "done"


@dataclass(frozen=True, slots=True, eq=False)
class Writer:
    """Writes a run's model in any format."""

    run: Run
    """Where labels and preparation come from."""
    model: keras.Model
    sample: Sequence[NDArray[np.float32]]
    """Prepared pictures to calibrate int8 on, each ``(1, height, width, channels)``."""
    request: ExportRequest
    scratch: Path
    """See `put_together`."""
    planned: Plan | None = None
    """The model with the patches of its full-integer file, where its memory has a limit."""

    def write(self, form: Format, path: Path, progress: Advance | None = None) -> Arena | None:
        """Write the file, its card, its example and its C files in the place of earlier ones.

        Returns:
            The memory that a full-integer file needs; ``None`` for the others.

        Raises:
            GraphError: if the format has no operator for a layer.
            RunError: if it cannot be written; what was there is then unchanged.
        """
        with writing(path):
            place = self.scratch / path.name
            (place / _NEW).mkdir(parents=True)
            part = place / _NEW / path.name
            asked = self.request
            convert(
                self.model,
                form,
                part,
                pictures=self.sample if form.is_quantised else (),
                io=form.io_of(asked.io),
                granularity=asked.granularity,
                is_as_planned=self._is_limited,
                batch=asked.batch,
                progress=progress,
            )
            if form.is_quantised and self.planned is not None:
                self._cut(part, self.planned)
            arena = self._complete(form, part)
            _exchange(_with_companions(form, path), place)
        return arena

    @property
    def _is_limited(self) -> bool:
        """Whether the file must not take more than was planned."""
        limits = self.run.record.get("request", {}).get("limits", {})
        return self.planned is not None or limits.get("max_flash") is not None

    def _cut(self, part: Path, planned: Plan) -> None:
        """Have a file compute its early maps in patches."""
        if planned.patches:
            shapes = map_shapes(planned.spec, planned.static_shape)
            content = in_patches(part.read_bytes(), planned.spec, shapes, planned.patches)
            part.write_bytes(content)

    def _complete(self, form: Format, part: Path) -> Arena | None:
        """Put the card into a file, and what goes with it beside."""
        is_final = gives_answers(self.model)
        card = make_card(self.run, form, self.request, is_final=is_final)
        card = add_quantisation(card, part)
        plain = part.read_bytes() if form.is_quantised else b""
        embed(part, form, card)
        text = format_json(card, indent=2)
        _beside(part, ".json").write_text(text + "\n", encoding="utf-8")
        program = self._example(form, part)
        if program is not None:
            _beside(part, ".py").write_text(program, encoding="utf-8")
        if not form.is_quantised:
            return None
        arena = arena_of(part)
        micro = MicroFile(plain, c_name(part), card, arena)
        files = {".h": micro.header(), ".c": micro.source()}
        if form.is_micro:
            files["_main.cc"] = micro.program(operators_of(part, arena))
        for ending, text in files.items():
            c_file(part, ending).write_text(text, encoding="ascii")
        return arena

    def _example(self, form: Format, part: Path) -> str | None:
        if form.takes_batch and self.request.batch not in (None, 1):
            return None
        return compose_example(
            part,
            self.run.preparation,
            self.run.task,
            io=form.io_of(self.request.io),
            is_fixed=None not in self.model.input_shape[1:],
            is_final=gives_answers(self.model),
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
        others += [c_file(path, ending) for ending in (".h", ".c", "_main.cc")]
    return [path, *others]


@contextmanager
def put_together(folder: Path) -> Generator[Path]:
    """Let what is written into a folder stay all together, or else what was there comes back.

    Yields the folder in which a `Writer` makes files. After a kill, `take_back` sees to it.
    """
    with new_part(folder, _SCRATCH, make=Path.mkdir) as scratch:
        try:
            yield scratch
        except BaseException:
            _undo_all(scratch)
            raise
        (scratch / _DONE).touch()
        for place in filter(Path.is_dir, scratch.iterdir()):
            shutil.rmtree(place, ignore_errors=True)


def take_back(folder: Path) -> None:
    """Take back what exports that were killed have begun to write into a folder."""
    remove_abandoned(folder.glob(f"{_SCRATCH}{DIGITS}"), _undo_all)


def _undo_all(scratch: Path) -> None:
    if not (scratch / _DONE).exists():
        for place in scratch.iterdir():
            _undo(place, scratch.parent)


def _exchange(goals: Sequence[Path], place: Path) -> None:
    """Put new files, ``place/new``, in the place of the old ones: all, or none where one fails."""
    old, new, moving = (place / name for name in (_OLD, _NEW, _MOVING))
    folder = goals[0].parent
    try:
        # The old ones first, companions of no new file too: an example that fits no more must not
        # stay.
        old.mkdir(exist_ok=True)
        for goal in filter(Path.exists, goals):
            os.replace(goal, old / goal.name)
        names = [path.name for path in new.iterdir()]
        (place / _NAMES).write_text(json.dumps(names), encoding="utf-8")
        os.replace(new, moving)  # from here on, `_undo` takes these names out of the folder
        for name in names:
            os.replace(moving / name, folder / name)
    except OSError:
        _undo(place, folder)
        raise


def _undo(place: Path, folder: Path) -> None:
    """Take back an exchange wherever it was cut; this may be cut as well."""
    old, new, moving = (place / name for name in (_OLD, _NEW, _MOVING))
    if moving.exists():
        for name in json.loads((place / _NAMES).read_text(encoding="utf-8")):
            if not (moving / name).exists() and (folder / name).exists():
                os.replace(folder / name, moving / name)
    for path in old.iterdir() if old.exists() else ():
        os.replace(path, folder / path.name)
    if moving.exists():
        os.replace(moving, new)


def file_bytes(path: Path) -> int:
    """Bytes of a file with its weights, or of everything in a folder."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    weights = path.with_suffix(".bin")
    extra = weights.stat().st_size if path.suffix == ".xml" and weights.exists() else 0
    return path.stat().st_size + extra


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}{suffix}")
