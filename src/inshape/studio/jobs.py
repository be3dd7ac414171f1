"""What the page starts: commands of inshape as processes, which go on without the page.

Each has a record and a log below the page's folder, so that another tab, or the page started anew,
finds it again. Whether a run is complete stands in the run's own folder.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from ..backbones import find as known
from ..comparison.request import CompareRequest
from ..errors import InshapeError, RequestError, check_choice, shown
from ..exporting.request import ExportRequest
from ..reporting.comparison_page import pareto_of
from ..reporting.plots import plot_learning
from ..requests import command_of, make
from ..runs import Run
from ..tasks.find import restore_task
from ..training.request import ResumeRequest, TrainRequest
from ..writing import make_folder, read_json, write_json
from .files import OWN, Files

Kind: TypeAlias = Literal["train", "compare", "export"]
State: TypeAlias = Literal["running", "complete", "stopped", "failed"]

# A shell that starts the page in the background leaves Ctrl-C ignored, in children too.
_PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from inshape.cli import main; main()"
)
WEIGHTS = ("imagenet", "none", "demo")
"""Those that a page may name; any file of the machine is for the command line."""
_EXPORTED = ("litert", "litert-int8")
_TAIL_BYTES = 4000
_children: dict[int, subprocess.Popen[bytes]] = {}
"""Those of this process, which stay as zombies until they are asked for."""


@dataclass(frozen=True, slots=True)
class Job:
    """A command that the page started."""

    kind: Kind
    folder: Path
    """The run, or the comparison, that it writes or adds to."""
    command: str
    """What a user would type."""
    pid: int
    begun: float
    """Seconds since 1970."""
    log: Path

    @property
    def is_running(self) -> bool:
        """Whether its process is there, and still this one."""
        child = _children.get(self.pid)
        if child is not None:
            return child.poll() is None
        return _command_of(self.pid).endswith(" ".join(_words(self.command)))

    @property
    def state(self) -> State:
        """How far it is."""
        if self.is_running:
            return "running"
        last = self.last_line
        if "interrupted" in last or last == "KeyboardInterrupt":  # while it was being loaded
            return "stopped"
        if "error:" in last or not self._has_result():
            return "failed"
        return "complete"

    def _has_result(self) -> bool:
        if self.kind == "compare":
            return (self.folder / "comparison.json").is_file()
        with suppress(InshapeError):
            return Run.open(self.folder).status == "complete"
        return False

    @property
    def last_line(self) -> str:
        """The last thing that it said, without what it wrote over."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.replace("\r", "\n").split("\n")]
        return next((line for line in reversed(lines) if line), "")

    def stop(self) -> None:
        """Interrupt it, as Ctrl-C does: what is finished is kept, and it can go on from there."""
        if self.is_running:
            os.kill(self.pid, signal.SIGINT)


def start(files: Files, kind: Kind, folder: Path, command: str) -> Job:
    """Start a command of inshape.

    Args:
        files: the page's folder.
        kind: which command it is.
        folder: what it writes.
        command: as a user would type it, ``inshape`` first.

    Raises:
        RequestError: if one that writes the same folder is running.
    """
    running = (find(files, one, folder) for one in get_args(Kind))
    if any(job is not None and job.is_running for job in running):
        raise RequestError(
            f"{files.name_of(folder)} is being written by another command; expected one at a time; "
            "wait for it, or stop it"
        )
    base = _base(files, kind, folder)
    make_folder(base.parent)
    log = base.with_suffix(".log")
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *_words(command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=files.root,
            start_new_session=True,  # Ctrl-C in the page's terminal shall not end it
        )
    _children[child.pid] = child
    job = Job(kind, folder, command, child.pid, time.time(), log)
    write_json(base.with_suffix(".json"), {"command": command, "pid": job.pid, "begun": job.begun})
    return job


def find(files: Files, kind: Kind, folder: Path) -> Job | None:
    """The last command of a kind that the page started for a folder."""
    base = _base(files, kind, folder)
    with suppress(OSError, ValueError, KeyError, TypeError):
        record = read_json(base.with_suffix(".json"))
        pid, begun = int(record["pid"]), float(record["begun"])
        return Job(kind, folder, str(record["command"]), pid, begun, base.with_suffix(".log"))
    return None


def start_training(
    files: Files,
    source: str,
    backbone: str,
    weights: str,
    size: str,
    strategy: str,
    epochs: float | None,
    out: str,
) -> Job:
    """Start an ordinary training on a folder below.

    Raises:
        RequestError: if it cannot be; nothing is written then.
    """
    folder = files.new(out or "")
    request = make(
        TrainRequest, source=_pictures(files, source), shape=size, out=folder,
        backbone=known(backbone).name, weights=_named(weights), strategy=strategy,
        epochs=None if epochs is None else int(epochs),
    )  # fmt: skip
    return start(files, "train", folder, command_of("train", request) or "")


def resume_training(files: Files, name: str) -> Job:
    """Go on with a run that was stopped or killed.

    Raises:
        RequestError: if there is none, or it is running.
    """
    folder = files.below(name)
    request = make(ResumeRequest, run=Run.open(folder).folder)
    return start(files, "train", folder, command_of("train", request) or "")


def stop(files: Files, kind: Kind, name: str) -> None:
    """Interrupt what the page started for a folder.

    Raises:
        RequestError: if nothing is running.
    """
    job = find(files, kind, files.below(name))
    if job is None or not job.is_running:
        raise RequestError(f"the studio runs no {kind} of {shown(name)}; nothing was stopped")
    job.stop()


def start_comparison(
    files: Files,
    source: str,
    backbones: Sequence[str],
    weights: str,
    shapes: str,
    out: str,
    **limits: str,
) -> Job:
    """Start an ordinary comparison on a folder below; a limit that is left empty is none.

    Raises:
        RequestError: if it cannot be; nothing is written then.
    """
    folder = files.new(out or "")
    request = make(
        CompareRequest, source=_pictures(files, source), out=folder, weights=_named(weights),
        backbones=[known(name).name for name in backbones], shapes=shapes.strip() or None,
        **{name: limit for name, limit in limits.items() if limit and limit.strip()},
    )  # fmt: skip
    return start(files, "compare", folder, command_of("compare", request) or "")


def resume_comparison(files: Files, name: str) -> Job:
    """Go on with a comparison that the page started: what is measured is kept.

    Raises:
        RequestError: if the page started none there, or it is running.
    """
    folder = files.below(name)
    job = find(files, "compare", folder)
    if job is None:
        raise RequestError(f"the studio began no comparison in {shown(name)}; begin a new one")
    return start(files, "compare", folder, job.command)


def comparisons(files: Files) -> list[str]:
    """Those below, with those that the page began and that have no result yet."""
    base = files.root / OWN / "jobs"
    begun = (path.parent.relative_to(base).as_posix() for path in base.rglob("compare.json"))
    return sorted({*files.comparisons(), *begun})


def pareto(folder: Path) -> dict[str, Any] | None:
    """The plot of a comparison by its ``comparison.json``; ``None`` before it is there."""
    with suppress(OSError, ValueError, KeyError):
        return pareto_of(read_json(folder / "comparison.json"))
    return None


def recommended(folder: Path) -> str | None:
    """What a comparison recommends, and why; ``None`` before it does."""
    with suppress(OSError, ValueError):
        best = read_json(folder / "comparison.json")["recommendation"]
        return None if best is None else str(best["reason"])
    return None


def _pictures(files: Files, source: str) -> Path:
    pictures = files.below(source or "")
    if not pictures.is_dir():
        raise RequestError(f"there is no folder {source}; expected one with a folder per class")
    return pictures


def _named(weights: str) -> str:
    check_choice("weights", weights, WEIGHTS)
    return weights


def start_export(files: Files, name: str) -> Job:
    """Write a run's model as LiteRT files, in float and in 8 bits.

    Raises:
        RequestError: if there is no complete run, or it is being written.
    """
    folder = files.below(name)
    run = Run.open(folder)
    run.check_model()
    request = make(ExportRequest, run=folder, to=_EXPORTED, replace=True)
    return start(files, "export", folder, command_of("export", request) or "")


def describe(files: Files, kind: Kind, name: str) -> dict[str, Any]:
    """How far a run is, or what writes its files, as plain values.

    A training that was started elsewhere is found by its record alone.
    """
    folder = files.below(name)
    job, status, epochs, score = find(files, kind, folder), None, 0, None
    with suppress(InshapeError):  # it may not be there yet
        run = Run.open(folder)
        status, epochs = run.status, len(run.history_rows())
        task = restore_task(run.record.get("task"), ())
        value = run.record.get("metrics", {}).get("validation", {}).get(task.score_name)
        score = None if value is None else f"validation {task.score_name} {value:.4f}"
    if kind == "compare":
        score, is_there = recommended(folder), (folder / "comparison.json").is_file()
        status = "complete" if is_there else None
    return {
        "kind": kind,
        "state": job.state if job is not None else None if kind == "export" else status,
        "epochs": epochs if kind == "train" else None,
        "score": None if kind == "export" else score,
        "command": "" if job is None else job.command,
        "line": "" if job is None else job.last_line,
    }


def learning_curve(run: Path) -> dict[str, Any] | None:
    """The curve of a run by its ``history.csv``; ``None`` before the second epoch."""
    with suppress(InshapeError):  # it may not be there yet
        opened = Run.open(run)
        task = restore_task(opened.record.get("task"), ())
        return plot_learning(opened.history_rows(), task.score_name)
    return None


def _base(files: Files, kind: Kind, folder: Path) -> Path:
    """Where the record and the log of a folder's commands lie, without their endings."""
    return files.root / OWN / "jobs" / folder.relative_to(files.root) / kind


def _words(command: str) -> list[str]:
    return shlex.split(command)[1:]


def _command_of(pid: int) -> str:
    """The words of a process; none if it is gone. Its number may be another one's by now."""
    proc = Path("/proc", str(pid), "cmdline")
    if proc.parent.parent.exists():
        try:
            text = proc.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return text.removesuffix("\0").replace("\0", " ")
    listed = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    done = subprocess.run(listed, capture_output=True, text=True, check=False)
    return done.stdout.strip()
