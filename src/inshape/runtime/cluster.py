"""The Ray cluster that a command hands its work to: joined, asked for, left."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any, TypeAlias

from ..errors import RequestError, RunError
from ..extras import install
from ..requests import Written
from ..text import first_line

RayField: TypeAlias = Annotated[str, Written(str, str, "ADDRESS")] | None
"""The address of a cluster as an option of a request."""
LOCAL = "local"
ASK_S = 10.0
"""How long nothing may happen before the head is asked for; Ray, which waits a minute for it, then
ends this process."""


class Cluster:
    """A cluster that is joined."""

    def __init__(self, ray: Any, address: str) -> None:
        self.ray = ray
        self._name = address
        self._head = str(ray.get_runtime_context().gcs_address)

    def ask_head(self) -> None:
        """Notice that the head has gone before Ray does, which then ends this process."""
        host, _, port = self._head.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=ASK_S).close()
        except OSError as error:
            raise self.gone(error.strerror or str(error)) from error

    def gone(self, reason: str) -> RunError:
        """What is said when it has gone."""
        return RunError(
            f"ray={self._name}: the cluster has gone while it was working ({reason}); expected it "
            "to stay until the end; see that one runs and repeat the command, which goes on from "
            "what it has kept in --out; or leave ray out"
        )


@contextmanager
def joined(address: str | None) -> Generator[Cluster | None]:
    """A Ray cluster, if one is named.

    ``"local"`` is started on this machine and ends with the work, ``"auto"`` runs here already.

    Raises:
        RequestError: if Ray is not installed or does not answer.
    """
    if address is None:
        yield None
        return
    ray, is_ours = _connect(address)
    try:
        yield Cluster(ray, address)
    finally:
        if is_ours:
            ray.shutdown()


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
            f"ray needs Ray; expected it to be installed; {install('ray')}"
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
