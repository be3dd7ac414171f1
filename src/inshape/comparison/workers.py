"""Who measures the candidates: this process, or the workers of a Ray cluster."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ..runtime import cluster
from ..text import reason_of
from .result import Candidate

Work: TypeAlias = Callable[..., tuple[Candidate, Any]]
"""Takes a candidate first and hands back the candidate, measured, and what to go on with."""
Results: TypeAlias = Iterable[tuple[int, Candidate, Any]]
"""The number of the call, and what its work handed back, in the order in which they finish."""
Files: TypeAlias = Mapping[str, bytes]
"""Contents by path; empty where the paths themselves can be read."""

_RETRIES = 3


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


class ClusterWorkers:
    """Ray's workers, a core for each candidate; what a killed worker was at is done again."""

    threads: int | None = 1

    def __init__(self, joined: cluster.Cluster) -> None:
        self._cluster = joined
        self._ray = joined.ray

    def share(self, value: Any) -> Any:
        """A reference into the object store, in which the value is kept once per machine."""
        return self._ray.put(value)

    def fetch(self, state: Any) -> Any:
        """The state out of the object store."""
        try:
            return self._ray.get(state)
        except self._ray.exceptions.RayError as error:
            raise self._cluster.gone(reason_of(error)) from error

    def run(self, work: Work, calls: Iterable[tuple[Any, ...]]) -> Results:
        """All at once, as many as there are cores; a failure ends its candidate only."""
        ray = self._ray
        task = ray.remote(work).options(num_cpus=1, num_returns=2, max_retries=_RETRIES)
        candidates: list[Candidate] = []
        running: dict[Any, tuple[int, Any]] = {}
        for arguments in calls:
            self._cluster.ask_head()
            candidate, state = task.remote(*arguments)
            running[candidate] = len(candidates), state
            candidates.append(arguments[0])
        while running:
            self._cluster.ask_head()
            ready, _ = ray.wait(list(running), num_returns=1, timeout=cluster.ASK_S)
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
                    raise self._cluster.gone(reason) from error
                if cause is None:
                    self._cluster.ask_head()
                    reason = f"its worker failed {_RETRIES + 1} times ({reason})"
                yield number, candidates[number].but(error=reason), None


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
    with cluster.joined(address) as joined:
        if joined is None:
            yield ThisProcess(), {}
            return
        workers = ClusterWorkers(joined)
        # The cluster's machines may not have them.
        yield workers, workers.share(read_files(paths))


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
