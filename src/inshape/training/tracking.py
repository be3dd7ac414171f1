"""A run in MLflow: its parameters, the scores of every epoch and its files."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import RequestError, RunError
from ..runs import Run
from .logs import scalars

_EXPERIMENT = "inshape"
_FILES = ("run.json", "history.csv", "labels.txt", "model.keras")
_LONGEST = 500


class Tracking:
    """Writes a training to an MLflow server or store.

    Attributes:
        run_id: of the run there; kept in ``run.json``, so that a resumed training goes on in it.
    """

    def __init__(self, run: Run, uri: str) -> None:
        """Begin a run in MLflow, or go on with the one that ``run.json`` names.

        Args:
            run: the training.
            uri: as MLflow's ``tracking_uri``: ``http://...``, ``sqlite:///mlflow.db`` or a folder.

        Raises:
            RequestError: if MLflow is not installed.
            RunError: if the server or store cannot be reached.
        """
        check_installed()
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
                self.run_id = self._begun(run)
        except Exception as error:  # each kind of store raises its own
            raise self._failed(error) from error
        self._seen: dict[str, set[int]] = {}
        self.write(run.history())

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write what is new in a history.

        Args:
            rows: all of its rows.

        Raises:
            RunError: if the server or store cannot be reached.
        """
        try:
            for row in rows:
                step = int(row["epoch"])
                for tag, value in scalars(row).items():
                    if step not in self._steps(tag):
                        self._client.log_metric(self.run_id, tag, value, step=step)
                        self._seen[tag].add(step)
        except Exception as error:
            raise self._failed(error) from error

    def finish(self, run: Run) -> None:
        """Store the files of a complete run and its scores.

        Args:
            run: the training.

        Raises:
            RunError: if the server or store cannot be reached.
        """
        try:
            for name, value in run.record["metrics"]["validation"].items():
                self._client.log_metric(self.run_id, f"validation/{name}", float(value))
            for name in _FILES:
                self._client.log_artifact(self.run_id, str(run.folder / name))
            self._client.set_terminated(self.run_id)
        except Exception as error:
            raise self._failed(error) from error

    def _begun(self, run: Run) -> str:
        found = self._client.get_experiment_by_name(_EXPERIMENT)
        experiment = (
            self._client.create_experiment(_EXPERIMENT) if found is None else found.experiment_id
        )
        name = run.folder.resolve().name
        run_id = str(self._client.create_run(experiment, run_name=name).info.run_id)
        request = run.record["request"]
        recipe = request["recipe"]
        plain = {n: v for n, v in request.items() if n not in ("recipe", "mlflow")}
        for name, value in {**plain, **recipe}.items():
            self._client.log_param(run_id, name, str(value)[:_LONGEST])
        return run_id

    def _steps(self, tag: str) -> set[int]:
        if tag not in self._seen:
            history = self._client.get_metric_history(self.run_id, tag)
            self._seen[tag] = {int(metric.step) for metric in history}
        return self._seen[tag]

    def _failed(self, error: Exception) -> RunError:
        return RunError(
            f"MLflow at {self._uri} does not take the run: {str(error).splitlines()[0][:200]}; "
            "expected a server or store that can be reached; resume the training once it can"
        )


def check_installed() -> None:
    """Refuse to begin without MLflow.

    Raises:
        RequestError: if it is not installed.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise RequestError(
            "mlflow is asked for and not installed; expected it; pip install 'inshape[mlflow]'"
        )
