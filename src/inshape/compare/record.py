"""What a comparison's file says beside the candidates: all that repeats and explains it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..data.catalogue import Catalogue
from ..data.sources import Source
from ..report.pictures import examples_of
from ..runs import versions
from .choose import fronts_of
from .comparison import Candidate
from .limits import Limits
from .measure import plan_of


def recorded(
    source: Source,
    catalogue: Catalogue,
    candidates: Sequence[Candidate],
    chosen: Candidate | None,
    request: Mapping[str, Any],
) -> dict[str, Any]:
    """The record of a comparison.

    Args:
        source: the pictures as they were named.
        catalogue: those that were used.
        candidates: all of them, measured.
        chosen: the one to take, if there is one.
        request: what was asked for, by the names of `inshape.compare`; shapes are written out.

    Returns:
        Plain values.
    """
    command = command_of(source, request)
    plain = {**request, "limits": asdict(request["limits"])}
    return {
        "request": {**plain, "command": None if command is None else shlex.join(command)},
        "data": {
            "fingerprint": catalogue.fingerprint,
            "classes": catalogue.counts(),
            "examples": examples_of(catalogue),
        },
        "versions": versions(),
        "plan": None if chosen is None else plan_of(chosen).as_dict(),
        "fronts": fronts_of(candidates),
    }


def command_of(source: Source, request: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The command that repeats a comparison.

    Args:
        source: the pictures as they were named.
        request: what was asked for, by the names of `inshape.compare`.

    Returns:
        Its words; ``None`` if the pictures are no file or folder, or the candidates were named one
        by one, which can only be said in Python.

    Example:
        >>> asked = {"candidates": None, "shapes": ["64x64x1"], "strategies": ["rebuild"],
        ...          "backbones": ["a"], "channels": ["auto"], "weights": None, "seed": 0,
        ...          "limits": Limits(macs=3e7), "pictures": 4000, "latency": True, "finetune": 0,
        ...          "out": None}
        >>> " ".join(command_of("photos", asked)[2:])  # doctest: +ELLIPSIS
        'photos --shapes 64x64x1 ... --weights none --seed 0 --pictures 4000 --max-macs 30000000'
    """
    if not isinstance(source, str | Path) or request["candidates"] is not None:
        return None
    words = ["inshape", "compare", str(source)]
    for name in ("shapes", "strategies", "backbones", "channels"):
        if request[name] is not None:
            # A channel rule may hold commas itself.
            between = ";" if any("," in word for word in request[name]) else ","
            words += [f"--{name}", between.join(request[name])]
    words += ["--weights", "none" if request["weights"] is None else str(request["weights"])]
    words += ["--seed", str(request["seed"]), "--pictures", str(request["pictures"])]
    limits: Limits = request["limits"]
    for option, limit, unit in (
        ("--max-latency", limits.latency_ms, "ms"),
        ("--max-macs", limits.macs, ""),
        ("--max-size", limits.size_bytes, ""),
        ("--max-ram", limits.ram_bytes, ""),
        ("--min-accuracy", limits.accuracy, ""),
    ):
        if limit is not None:
            # Not as 3e+07, which no option reads.
            words += [option, f"{limit:.6f}".rstrip("0").rstrip(".") + unit]
    if not request["latency"]:
        words.append("--no-latency")
    if request["finetune"]:
        words += ["--finetune", str(request["finetune"])]
    if request["out"] is not None:
        words += ["--out", str(request["out"])]
    return tuple(words)
