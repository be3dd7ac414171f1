"""Who measures the candidates: this process, or the workers of a Ray cluster."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

from ..errors import RequestError
from .result import Candidate, reason_of
from .shipping import packed

Work: TypeAlias = Callable[..., tuple[Candidate, Any]]
"""Takes a candidate first and hands back the candidate, measured, and what to go on with."""

LOCAL = "local"
_RETRIES = 3


class Workers(Protocol):
    """Carries out measurements.

    Attributes:
        threads: that each may use; ``None`` for one per core.
    """

    threads: int | None

    def share(self, value: Any) -> Any:
        """Keep a value where every measurement can have it; pass what is returned instead."""
        ...

    def fetch(self, state: Any) -> Any:
        """What a measurement handed back to go on with."""
        ...

    def run(
        self, work: Work, calls: Iterable[tuple[Any, ...]]
    ) -> Iterable[tuple[int, Candidate, Any]]:
        """Do the work for each call's arguments; in the order in which they are finished."""
        ...


class Here:
    """This process, one candidate after the other, each on all cores."""

    threads: int | None = None

    def share(self, value: Any) -> Any:
        """The value itself."""
        return value

    def fetch(self, state: Any) -> Any:
        """The state itself."""
        return state

    def run(
        self, work: Work, calls: Iterable[tuple[Any, ...]]
    ) -> Iterable[tuple[int, Candidate, Any]]:
        """One after the other."""
        for number, arguments in enumerate(calls):
            yield (number, *work(*arguments))


class Cluster:
    """Ray's workers, a core for each candidate; what a killed worker was at is done again."""

    threads: int | None = 1

    def __init__(self, ray: Any) -> None:
        """Use a cluster.

        Args:
            ray: the module, connected.
        """
        self._ray = ray

    def share(self, value: Any) -> Any:
        """A reference into the object store, in which the value is kept once per machine."""
        return self._ray.put(value)

    def fetch(self, state: Any) -> Any:
        """The state out of the object store."""
        return self._ray.get(state)

    def run(
        self, work: Work, calls: Iterable[tuple[Any, ...]]
    ) -> Iterable[tuple[int, Candidate, Any]]:
        """All at once, as many as there are cores; a failure ends its candidate only."""
        ray = self._ray
        task = ray.remote(work).options(num_cpus=1, num_returns=2, max_retries=_RETRIES)
        candidates: list[Candidate] = []
        going: dict[Any, tuple[int, Any]] = {}
        for arguments in calls:
            done, state = task.remote(*arguments)
            going[done] = len(candidates), state
            candidates.append(arguments[0])
        while going:
            (done,), _ = ray.wait(list(going), num_returns=1)
            number, state = going.pop(done)
            try:
                yield number, ray.get(done), state
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None)  # what the work raised; that is not repeated
                reason = reason_of(cause or error)
                if cause is None:
                    reason = f"its worker failed {_RETRIES + 1} times ({reason})"
                yield number, candidates[number].but(error=reason), None


@contextmanager
def workers(address: str | None, paths: Iterable[str | None]) -> Generator[tuple[Workers, Any]]:
    """Who measures, ready to begin.

    Args:
        address: of a Ray cluster; ``"local"`` for one on this machine that ends with the work,
            ``"auto"`` for the one that runs here, ``None`` for no Ray at all.
        paths: files that candidates need; a cluster's machines may not have them.

    Yields:
        The workers, and the files' contents as they are to be passed on, shared already.

    Raises:
        RequestError: if Ray is not installed or does not answer.
    """
    if address is None:
        yield Here(), {}
        return
    ray, own = _connected(address)
    try:
        cluster = Cluster(ray)
        yield cluster, cluster.share(packed(paths))
    finally:
        if own:
            ray.shutdown()


def _connected(address: str) -> tuple[Any, bool]:
    """Ray, and whether it was started or joined here."""
    # Ray reports its use over the network unless told not to. A worker is a core: several
    # TensorFlows that see one GPU would each take all of its memory.
    # What a candidate failed of is in its result.
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
        "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise RequestError(
            "--ray needs Ray; expected it to be installed; pip install 'inshape[ray]'"
        ) from None
    if ray.is_initialized():
        return ray, False
    options: Mapping[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        options = {**options, "include_dashboard": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Ray's own making
            ray.init(address=address, **options)
    except Exception as error:  # ConnectionError, ValueError, RuntimeError, by the kind of address
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        if address == LOCAL:
            raise RequestError(
                f"--ray: Ray cannot be started here ({first}); expected it to start within half a "
                "minute; try again when the machine has time, or leave --ray out"
            ) from error
        raise RequestError(
            f"--ray {address}: no cluster answers ({first}); expected one at that address; start "
            "one with ray start --head, or say --ray alone for this machine's cores"
        ) from error
    return ray, True
