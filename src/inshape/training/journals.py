"""What follows a training's history: TensorBoard's event files, and a run in MLflow."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from ..errors import RequestError, RunError
from ..extras import install
from ..runs import Run
from ..text import first_line
from ..writing import writing

FOLDER = "logs"
"""Where event files are, in a run folder."""
_NOT_SCORES = ("phase", "epoch")
_EXPERIMENT = "inshape"
_FILES = ("run.json", "history.csv", "labels.json", "labels.txt", "model.keras")
_LONGEST = 500
"""Characters that MLflow takes as a parameter's value."""


class Journal(Protocol):
    """What is handed the history whenever it grows."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write what is new among all the rows of a history."""
        ...


class EventFiles:
    """A run's history for ``tensorboard --logdir RUN/logs``."""

    def __init__(self, run: Run) -> None:
        """Begin the event file of a run with its history so far."""
        # TensorBoard draws a value twice if it is logged twice, and cannot be asked what it has. A
        # training that goes on therefore writes its events anew from the history.
        self._folder = run.folder / FOLDER
        shutil.rmtree(self._folder, ignore_errors=True)
        self._written: set[tuple[str, int]] = set()
        with writing(self._folder):
            self._folder.mkdir()
            # TensorBoard knows its files by this beginning.
            self._path = self._folder / f"events.out.tfevents.{int(time.time())}.inshape"
        self._append(_event(file_version="brain.Event:2"))
        for name in ("request", "plan", "data", "versions"):
            text = json.dumps(run.record.get(name), indent=2, ensure_ascii=False)
            self._append(_event(summary=text_pb(name, f"```\n{text}\n```"), step=0))
        self.write(run.history_rows())

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write what is new among all the rows of a history."""
        for row in rows:
            key = (str(row["phase"]), int(row["epoch"]))
            if key in self._written:
                continue
            self._written.add(key)
            summaries = (scalar_pb(tag, value) for tag, value in scalars(row).items())
            self._append(*(_event(summary=summary, step=key[1]) for summary in summaries))

    def _append(self, *events: Any) -> None:
        with writing(self._folder), open(self._path, "ab") as file:
            writer = RecordWriter(file)
            for event in events:
                writer.write(event.SerializeToString())


def _event(**fields: Any) -> Any:
    messages: Any = event_pb2  # whose names are made at run time
    return messages.Event(wall_time=time.time(), **fields)


class MlflowRun:
    """A training in an MLflow server or store.

    ``run_id`` is kept in ``run.json``, so that a resumed training goes on in the same run.
    """

    def __init__(self, run: Run, uri: str) -> None:
        """Begin a run in MLflow, or go on with the one that ``run.json`` names.

        ``uri`` is MLflow's ``tracking_uri``: ``http://...``, ``sqlite:///mlflow.db`` or a folder.
        """
        check_mlflow()
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        self._uri = uri
        known = run.record.get("mlflow", {})
        try:
            if known.get("uri") == uri:
                self.run_id = str(known["run_id"])
                self._client.set_terminated(self.run_id, status="RUNNING")
            else:
                self.run_id = self._begin(run)
        except Exception as error:  # each kind of store raises its own
            raise self._refused(error) from error
        self._logged: dict[str, set[int]] = {}
        self.write(run.history_rows())

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write what is new among all the rows of a history."""
        try:
            for row in rows:
                step = int(row["epoch"])
                for tag, value in scalars(row).items():
                    if step not in self._logged_steps(tag):
                        self._client.log_metric(self.run_id, tag, value, step=step)
                        self._logged[tag].add(step)
        except Exception as error:
            raise self._refused(error) from error

    def finish(self, run: Run) -> None:
        """Store the files of a complete run and its scores."""
        try:
            for name, value in run.record["metrics"]["validation"].items():
                self._client.log_metric(self.run_id, f"validation/{name}", float(value))
            for name in _FILES:
                self._client.log_artifact(self.run_id, str(run.folder / name))
            self._client.set_terminated(self.run_id)
        except Exception as error:
            raise self._refused(error) from error

    def _begin(self, run: Run) -> str:
        experiment = self._client.get_experiment_by_name(_EXPERIMENT)
        experiment_id = (
            self._client.create_experiment(_EXPERIMENT)
            if experiment is None
            else experiment.experiment_id
        )
        name = run.folder.resolve().name
        run_id = str(self._client.create_run(experiment_id, run_name=name).info.run_id)
        for option, value in _flat(run.record["request"]).items():
            if option != "mlflow":  # an address may hold a password
                self._client.log_param(run_id, option, str(value)[:_LONGEST])
        return run_id

    def _logged_steps(self, tag: str) -> set[int]:
        if tag not in self._logged:
            history = self._client.get_metric_history(self.run_id, tag)
            self._logged[tag] = {int(metric.step) for metric in history}
        return self._logged[tag]

    def _refused(self, error: Exception) -> RunError:
        return RunError(
            f"MLflow at {self._uri} does not take the run: {first_line(error)}; "
            "expected a server or store that can be reached; resume the training once it can"
        )


def check_mlflow() -> None:
    """Refuse to begin without MLflow."""
    if importlib.util.find_spec("mlflow") is None:
        raise RequestError(
            f"mlflow=... needs the package mlflow, which is not installed; {install('mlflow')}"
        )


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row of the history by ``phase/name``; empty ones are left out.

    Example:
        >>> scalars({"phase": "body", "epoch": "2", "loss": "", "val_accuracy": "0.5"})
        {'body/val_accuracy': 0.5}
    """
    return {
        f"{row['phase']}/{name}": float(value)
        for name, value in row.items()
        if name not in _NOT_SCORES and value not in (None, "")
    }


def _flat(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request's record with the options of its groups by their own names."""
    flat: dict[str, Any] = {}
    for name, value in request.items():
        flat |= value if isinstance(value, Mapping) else {name: value}
    return flat
