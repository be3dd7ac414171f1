"""The run folder: everything that one training leaves behind, complete in itself.

    runs/a/
      run.json       request, plan, data fingerprint, preparation, versions, seed, metrics, status
      model.keras    the model with the weights of the best epoch
      labels.json    the classes, in the order of the model's outputs
      labels.txt     the same for people, one per line
      history.csv    one row per epoch
      logs/          the same as TensorBoard's event files
      held_out.json  scores on the pictures that were held out of the training
      baseline.json  what plain Keras has without a training, and what was gained
      metrics.json   the last evaluation
      teacher/       the run of the teacher, if there was one
      checkpoints/   what a resumed training needs; emptied when the training is complete
      exports/       files that other runtimes read
      report.html    all of it as a page

Every file is written beside its final place and then renamed, so that a reader, a kill or a full
disk meets either the old file or the new one, never half of one.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import platform
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from .data.prepare import Preparation
from .errors import OutputExists, RequestError, RunError, shown
from .geometry.drawing import drawing_html
from .graph.saving import load_model, save_model
from .requests import write_file
from .runtime.formats import FORMATS
from .tasks.find import restore_task
from .tasks.task import Task
from .text import Printable, to_float
from .writing import (
    DIGITS,
    format_json,
    lock,
    new_part,
    parse_json,
    read_json,
    reading,
    remove_abandoned,
    sync_folder,
    write_json,
    write_text,
)

if TYPE_CHECKING:
    import keras

Status: TypeAlias = Literal["running", "interrupted", "complete"]

_FORMAT = 1
_RECORD = "run.json"
_MODEL = "model.keras"
_LABELS = "labels.json"
_LABELS_TEXT = "labels.txt"
_HISTORY = "history.csv"
_HELD_OUT = "held_out.json"
_FIRST = "checkpoints"
_PART = ".part-"
"""How the name of a run folder begins that is not whole yet; a kill may leave one behind."""
_PACKAGES = ("inshape", "keras", "tensorflow", "tensorflow-cpu", "ai-edge-litert", "numpy")


def versions() -> dict[str, str]:
    """The versions that a result depends on: Python and the packages that are installed.

    Example:
        >>> sorted(set(versions()) & {"python", "numpy"})
        ['numpy', 'python']
    """
    by_package = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            by_package[package] = importlib.metadata.version(package)
    return by_package


@dataclass(frozen=True, repr=False)
class Run(Printable):
    """A run folder: print it, or take its ``model``, ``metrics`` and ``history``.

    Attributes:
        folder: where it is.
        record: what ``run.json`` says.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home:
        ...     run = Run.create(Path(home, "a"), {"seed": 3})
        ...     run.status, Run.open(run.folder).record["seed"]
        ('running', 3)
    """

    folder: Path
    record: Mapping[str, Any]

    @classmethod
    def create(
        cls,
        folder: str | Path,
        record: Mapping[str, Any],
        *,
        fill: Callable[[Run], object] | None = None,
    ) -> Run:
        """Make a new run folder, whole or not at all.

        Args:
            folder: a path at which nothing is yet, or an empty folder.
            record: what ``run.json`` shall say beside the status and the versions.
            fill: writes what else belongs into it from the start; it receives the run while that
                still has another name.

        Returns:
            The run, with status ``"running"``.

        Raises:
            OutputExists: if something is there already.
            RunError: if the folder cannot be made or filled.
        """
        path = Path(folder)
        check_new_run(path)
        # An empty folder may be a mount, which cannot be replaced; the parts then go inside.
        inside = path.is_dir()
        try:
            home, make = path if inside else path.parent, partial(Path.mkdir, parents=True)
            with new_part(home, f"{_PART}{path.name}-", make=make) as part:
                (part / _FIRST).mkdir()
                (part / "exports").mkdir()
                run = cls(part, {}).updated(
                    format=_FORMAT, status="running", versions=versions(), **record
                )
                if fill is not None:
                    fill(run)
                if inside:
                    _move_entries(part, path)
                else:
                    part.rename(path)
            sync_folder(path.parent)
        except RunError as error:
            raise RunError(re.sub(rf"{_PART}(.*)-{DIGITS}", r"\1", str(error))) from error
        except OSError as error:
            check_new_run(path)  # another process may have been faster
            raise RunError(
                f"cannot make {path}: {error.strerror or error}; expected a folder that can be "
                "written; choose another"
            ) from error
        return replace(run, folder=path)

    @classmethod
    def open(cls, folder: str | Path | Run) -> Run:
        """Read a run folder.

        Args:
            folder: its path. A run is handed back as it is.

        Returns:
            The run, complete or not.

        Raises:
            RequestError: if there is no run in it, or one of another format.
        """
        if isinstance(folder, Run):
            return folder
        if not isinstance(folder, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise RequestError(f"{folder!r} is no run; expected a run folder; write its path")
        path = Path(folder)
        try:
            record = read_json(path / _RECORD)
        except (FileNotFoundError, NotADirectoryError):
            raise _no_run(path) from None
        except (OSError, ValueError) as error:
            raise RequestError(
                f"{path / _RECORD} cannot be read ({error}); expected the record of a run; "
                "train anew"
            ) from error
        if record.get("format") != _FORMAT:
            raise RequestError(
                f"{path} has run format {shown(record.get('format'))}; expected {_FORMAT}; "
                "read it with the version of inshape that wrote it"
            )
        if record.get("status") not in get_args(Status):
            raise RequestError(
                f"{path / _RECORD} has the status {shown(record.get('status'))}; expected one of "
                f"{', '.join(get_args(Status))}; train anew"
            )
        return cls(path, record)

    def reading(self) -> AbstractContextManager[None]:
        """Say in one line that what is looked up in the record is not as a training left it."""
        return reading(self.folder / _RECORD, "the record of a run; train anew")

    @property
    def status(self) -> Status:
        """Whether the training is running (or was killed), interrupted or complete."""
        return self.record["status"]

    @cached_property
    def model(self) -> keras.Model:
        """The trained model, loaded once; it takes float32 pictures in [0, 255].

        Raises:
            RequestError: if the run has none yet.
        """
        return self.load_model()

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What was measured: of the best epoch under ``validation``, and by each step."""
        return self.record.get("metrics", {})

    @property
    def history(self) -> list[dict[str, str | float | None]]:
        """A row per epoch, as ``pandas.DataFrame(run.history)`` takes them."""
        return [
            {
                name: value if name == "phase" else to_float(value) if value else None
                for name, value in row.items()
            }
            for row in self.history_rows()
        ]

    def describe(self, width: int | None = None) -> str:
        """How good it is on the pictures that were held out, and where to find what it left."""
        if self.status != "complete":
            return f"{self.folder}: its training is {self.status}"
        name = self.task.score_name
        lines = [f"{self.folder}: validation {name} {self._validation(name)}"]
        folds = self.metrics.get("folds")
        if folds is not None:
            mean, deviation = (f"{folds[part]:.4f}" for part in ("mean", "deviation"))
            lines[0] += (
                f"; over {len(folds['scores'])} folds {mean}, standard deviation {deviation}"
            )
        places = {"model": self.model_path, "report": self.folder / "report.html"}
        lines += [f"  {what}: {path}" for what, path in places.items() if path.exists()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The text and the drawing in a notebook."""
        plan = self.record.get("plan")
        drawing = drawing_html(plan["native_geometry"], plan["geometry"]) if plan else ""
        return f"{Printable._repr_html_(self)}{drawing}"

    def _validation(self, name: str) -> str:
        """The score by which the best epoch was chosen; with its interval if that was measured."""
        value = f"{self.metrics['validation'][name]:.4f}"
        try:
            held_out = read_json(self.folder / _HELD_OUT)
            scores = {score["name"]: score for score in held_out["scores"]}
            low, high, pictures = scores[name]["low"], scores[name]["high"], held_out["pictures"]
            return f"{value} [{low:.3f}, {high:.3f}] on {pictures} pictures"
        except (OSError, ValueError, KeyError, TypeError):
            return value

    @property
    def checkpoints(self) -> Path:
        """The folder of what a resumed training needs."""
        return self.folder / _FIRST

    @property
    def exports(self) -> Path:
        """The folder of files for other runtimes."""
        return self.folder / "exports"

    @property
    def model_path(self) -> Path:
        """Where the model is, or will be."""
        return self.folder / _MODEL

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the model's outputs.

        Raises:
            RequestError: if the run has none yet, or they cannot be read.
        """
        path = self.folder / _LABELS
        try:
            if not path.exists():  # a run of before there was one
                lines = (self.folder / _LABELS_TEXT).read_text(encoding="utf-8")
                return tuple(lines.removesuffix("\n").split("\n"))
            labels: Any = parse_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise self._unfinished(_LABELS) from None
        except (OSError, ValueError) as error:
            raise _no_labels(path, str(error)) from error
        if not isinstance(labels, list):
            raise _no_labels(path, "no list")
        names = [name for name in cast("list[Any]", labels) if isinstance(name, str)]
        if len(names) != len(cast("list[Any]", labels)) or len(set(names)) != len(names):
            raise _no_labels(path, "not every entry is a name of its own")
        return tuple(names)

    @property
    def task(self) -> Task:
        """What its labels are.

        Raises:
            RequestError: if that cannot be read.
        """
        with self.reading():
            return restore_task(self.record.get("task"), self.labels)

    @property
    def preparation(self) -> Preparation:
        """How pictures are brought to the model's input.

        Raises:
            RequestError: if the run has none yet.
        """
        values = self.record.get("preparation")
        if values is None:
            raise self._unfinished("preparation")
        with self.reading():
            return Preparation.from_dict(values)

    def load_model(self) -> keras.Model:
        """Load the model.

        Returns:
            A Keras model that takes float32 pictures in [0, 255].

        Raises:
            RequestError: if the run has none yet.
        """
        self.check_model()
        return load_model(self.model_path)

    def check_model(self) -> None:
        """Make sure that there is a model, without loading it.

        Raises:
            RequestError: if the run has none yet.
        """
        if not self.model_path.exists():
            raise self._unfinished(_MODEL)

    def updated(self, **fields: Any) -> Run:
        """Write some fields of ``run.json`` and return the run as it is then."""
        run = replace(self, record={**self.record, **fields})
        write_json(self.folder / _RECORD, run.record)
        return run

    def save_model(self, model: keras.Model) -> None:
        """Write ``model.keras``."""
        save_model(model, self.model_path)

    def save_labels(self, labels: Sequence[str]) -> None:
        """Write the classes in the order of the model's outputs: as JSON, and one per line."""
        write_text(self.folder / _LABELS, format_json(list(labels)) + "\n")
        write_text(self.folder / _LABELS_TEXT, "".join(f"{label}\n" for label in labels))

    def save_history(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write ``history.csv``: a row per epoch, with every column that any of them has."""
        epochs = list(rows)
        columns = list(dict.fromkeys(name for row in epochs for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(epochs)
        write_text(self.folder / _HISTORY, text.getvalue())

    def history_rows(self) -> list[dict[str, str]]:
        """The rows of ``history.csv`` as they are written; none before the first epoch."""
        path = self.folder / _HISTORY
        if not path.exists():
            return []
        with reading(path, "a phase and numbers in every row; restore it, or train anew"):
            rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
            for row in rows:
                _check_epoch(**row)
        return rows

    def _unfinished(self, what: str) -> RequestError:
        return RequestError(
            f"{self.folder} holds no {what} yet (its training is {self.status}); expected a "
            f"complete run; finish it with inshape train --resume {self.folder}"
        )


def _check_epoch(phase: str, epoch: str, **scores: str) -> None:
    """Raise what Python raises where a row's values are not those of an epoch."""
    int(epoch)
    for score in filter(None, scores.values()):
        float(score)


def _no_labels(path: Path, reason: str) -> RequestError:
    return RequestError(
        f"{path} cannot be read ({reason}); expected a JSON list with the name of every class; "
        "restore it, or train anew"
    )


def _no_run(path: Path) -> RequestError:
    """What is wrong with a path at which there is no run."""
    is_exported = any(form.is_of(path) for form in FORMATS.values())
    if not path.exists() or not (path.is_file() or is_exported):
        return RequestError(
            f"{path} holds no {_RECORD}; expected a run folder; train one with inshape train"
        )
    kind = "an exported file" if is_exported else "a file"
    home = home_of(path) or "the one it came from"
    return RequestError(f"{path} is {kind}; expected a run folder; name {home}")


def home_of(path: Path) -> Path | None:
    """The run folder that a file lies in, if it does."""
    return next((p for p in path.parents if (p / _RECORD).exists()), None)


def write_run(value: Any) -> str | None:
    """Write a run as its folder."""
    return str(value.folder) if isinstance(value, Run) else write_file(value)


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Keep other processes from training into a run folder.

    Raises:
        RequestError: if another process does so already.
    """
    with lock(folder) as is_locked:
        if is_locked is False:
            raise RequestError(
                f"{folder} is being trained by another process; expected one at a time; wait for "
                "it, or stop it first"
            )
        yield


def check_new_run(folder: Path) -> None:
    """Refuse a folder in which something is already; what is left of a killed `Run.create` goes.

    Raises:
        OutputExists: if it is neither absent nor empty.
        RequestError: if another process is training into it.
    """
    parts = f"{_PART}*-{DIGITS}"
    remove_abandoned(folder.parent.glob(parts))
    if folder.is_dir():
        remove_abandoned(folder.glob(parts), lambda part: _finish_move(part, folder))
    if folder.exists() and (not folder.is_dir() or any(map(_is_whole, folder.iterdir()))):
        with locked(folder):
            is_run = (folder / _RECORD).exists()
        fix = f"resume it (--resume {folder})" if is_run else "move it away"
        raise OutputExists(f"{folder} exists already; expected a new folder; {fix} or name another")


def _is_whole(entry: Path) -> bool:
    return not entry.name.startswith(_PART)


def _finish_move(part: Path, target: Path) -> None:
    """Move what a kill left behind, if it came while a whole run was being moved."""
    if (part / _RECORD).exists() and not (part / _FIRST).exists():
        _move_entries(part, target)


def _move_entries(source: Path, target: Path) -> None:
    # The record comes last: without it there is no run. The first cannot be moved where another
    # process has put its own, so that there are never the entries of two.
    first_and_last = {_FIRST: 0, _RECORD: 2}
    for entry in sorted(source.iterdir(), key=lambda e: first_and_last.get(e.name, 1)):
        entry.rename(target / entry.name)
