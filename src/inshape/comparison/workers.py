"""Who measures the candidates: this process, or the workers of a Ray cluster."""

from __future__ import annotations

import os
import socket
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ..errors import RequestError, RunError
from ..text import first_line
from .result import Candidate, reason_of

Work: TypeAlias = Callable[..., tuple[Candidate, Any]]
"""Takes a candidate first and hands back the candidate, measured, and what to go on with."""
Results: TypeAlias = Iterable[tuple[int, Candidate, Any]]
"""The number of the call, and what its work handed back, in the order in which they finish."""
Files: TypeAlias = Mapping[str, bytes]
"""Contents by path; empty where the paths themselves can be read."""

LOCAL = "local"
_RETRIES = 3
_ASK_S = 10.0
"""How long nothing may happen before the head is asked for; Ray, which waits a minute for it, then
ends this process."""


class Workers(Protocol):
    """Carries out measurements."""

    threads: int | None
    """That each measurement may use; ``None`` for one per core."""

    def share(self, value: Any) -> Any:
        """Keep a value where every measurement can have it; pass what is returned instead."""
        ...

    def fetch(self, state: Any) -> Any:
        """What a measurement handed back to go on with."""
        ...

    def run(self, work: Work, calls: Iterable[tuple[Any, ...]]) -> Results:
        """Do the work for each call's arguments."""
        ...


class ThisProcess:
    """One candidate after the other, each on all cores."""

    threads: int | None = None

    def share(self, value: Any) -> Any:
        """The value itself."""
        return value

    def fetch(self, state: Any) -> Any:
        """The state itself."""
        return state

    def run(self, work: Work, calls: Iterable[tuple[Any, ...]]) -> Results:
        """One after the other."""
        for number, arguments in enumerate(calls):
            yield (number, *work(*arguments))


class Cluster:
    """Ray's workers, a core for each candidate; what a killed worker was at is done again."""

    threads: int | None = 1

    def __init__(self, ray: Any, address: str) -> None:
        """Take the module, connected, and what the cluster was called."""
        self._ray = ray
        self._name = address
        self._head = str(ray.get_runtime_context().gcs_address)

    def share(self, value: Any) -> Any:
        """A reference into the object store, in which the value is kept once per machine."""
        return self._ray.put(value)

    def fetch(self, state: Any) -> Any:
        """The state out of the object store."""
        try:
            return self._ray.get(state)
        except self._ray.exceptions.RayError as error:
            raise self._gone(reason_of(error)) from error

    def run(self, work: Work, calls: Iterable[tuple[Any, ...]]) -> Results:
        """All at once, as many as there are cores; a failure ends its candidate only."""
        ray = self._ray
        task = ray.remote(work).options(num_cpus=1, num_returns=2, max_retries=_RETRIES)
        candidates: list[Candidate] = []
        running: dict[Any, tuple[int, Any]] = {}
        for arguments in calls:
            self._ask_head()
            candidate, state = task.remote(*arguments)
            running[candidate] = len(candidates), state
            candidates.append(arguments[0])
        while running:
            self._ask_head()
            ready, _ = ray.wait(list(running), num_returns=1, timeout=_ASK_S)
            if not ready:
                continue
            (finished,) = ready
            number, state = running.pop(finished)
            try:
                yield number, ray.get(finished), state
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None)  # what the work raised; that is not repeated
                reason = reason_of(cause or error)
                if isinstance(error, ray.exceptions.LocalRayletDiedError):
                    raise self._gone(reason) from error
                if cause is None:
                    self._ask_head()
                    reason = f"its worker failed {_RETRIES + 1} times ({reason})"
                yield number, candidates[number].but(error=reason), None

    def _ask_head(self) -> None:
        """Notice that the head has gone before Ray does, which then ends this process."""
        host, _, port = self._head.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_ASK_S).close()
        except OSError as error:
            raise self._gone(error.strerror or str(error)) from error

    def _gone(self, reason: str) -> RunError:
        return RunError(
            f"ray={self._name}: the cluster has gone while it was working ({reason}); expected it "
            "to stay until the end; see that one runs and repeat the command, which goes on from "
            "what it has measured if it has --out; or leave ray out"
        )


@contextmanager
def open_workers(
    address: str | None, paths: Iterable[str | None]
) -> Generator[tuple[Workers, Files]]:
    """Who measures, and the files that candidates need, to be passed on to them.

    The address is that of a Ray cluster: ``"local"`` starts one on this machine that ends with the
    work, ``"auto"`` joins the one that runs here, ``None`` goes without.

    Raises:
        RequestError: if Ray is not installed or does not answer.
        RunError: if the cluster goes while it works.
    """
    if address is None:
        yield ThisProcess(), {}
        return
    ray, is_ours = _connect(address)
    try:
        cluster = Cluster(ray, address)
        # The cluster's machines may not have them.
        yield cluster, cluster.share(read_files(paths))
    finally:
        if is_ours:
            ray.shutdown()


def read_files(paths: Iterable[str | None]) -> Files:
    """The contents of those words that are paths of files."""
    named = {path: Path(path).expanduser() for path in paths if path}
    return {path: file.read_bytes() for path, file in named.items() if file.is_file()}


@contextmanager
def placed(files: Files) -> Generator[Callable[[str | None], str | None]]:
    """A function from a path to where it can be read here; other words stay as they are.

    Example:
        >>> with placed({"a/b.h5": b"12"}) as place:
        ...     Path(place("a/b.h5")).read_bytes(), place("imagenet"), place(None)
        (b'12', 'imagenet', None)
    """
    if not files:
        yield lambda path: path
        return
    with tempfile.TemporaryDirectory(prefix="inshape-") as folder:
        copies: dict[str | None, str] = {}
        for number, (path, content) in enumerate(files.items()):
            copy = Path(folder) / str(number) / Path(path).name
            copy.parent.mkdir()
            copy.write_bytes(content)
            copies[path] = str(copy)
        yield lambda path: copies.get(path, path)


def _connect(address: str) -> tuple[Any, bool]:
    """Ray, and whether it was started or joined here."""
    settings = {
        # Ray reports its use over the network unless it is switched off.
        "RAY_USAGE_STATS_ENABLED": "0",
        # A worker is a core: several TensorFlows on one GPU would each take all of its memory.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
        # What a candidate failed of is in its result.
        "RAY_IGNORE_UNHANDLED_ERRORS": "1",
        # The last lines of the logs of a machine that has gone; inshape says it in one.
        "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise RequestError(
            "ray needs Ray; expected it to be installed; pip install 'inshape[ray]'"
        ) from None
    if ray.is_initialized():
        return ray, False
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        options["include_dashboard"] = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Ray's own making
            ray.init(address=address, **options)
    except Exception as error:  # ConnectionError, ValueError, RuntimeError, by the kind of address
        reason = first_line(error)
        if address == LOCAL:
            raise RequestError(
                f"ray=local: Ray cannot be started here ({reason}); expected it to start within "
                "half a minute; try again when the machine has time, or leave ray out"
            ) from error
        raise RequestError(
            f"ray={address}: no cluster answers ({reason}); expected one at that address; start "
            "one with ray start --head, or use local for this machine's cores"
        ) from error
    return ray, True
