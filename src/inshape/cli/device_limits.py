"""Options for what a device allows."""

from __future__ import annotations

from typing import Annotated, Any

import typer

MaxLatency = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="For one picture on this machine, one thread: 5ms."),
]
MaxMacs = Annotated[
    str | None, typer.Option(metavar="N", help="Multiply-accumulates for a picture: 30M.")
]
MaxSize = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Of an int8 file, estimated: 1MB.")
]
MaxRam = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Of int8 activations, estimated, without an interpreter's records: 256KB.",
    ),
]
MinAccuracy = Annotated[float | None, typer.Option(metavar="SHARE", help="Of the probe: 0.8.")]


def limits_of(
    latency: str | None, macs: str | None, size: str | None, ram: str | None, least: float | None
) -> Any:
    """Read what a device allows.

    Args:
        latency: ``--max-latency``.
        macs: ``--max-macs``.
        size: ``--max-size``.
        ram: ``--max-ram``.
        least: ``--min-accuracy``.

    Returns:
        ``inshape.compare.Limits``.
    """
    from ..compare.limits import Limits

    return Limits.of(latency_ms=latency, macs=macs, size_bytes=size, ram_bytes=ram, accuracy=least)
