"""Finished candidates, kept under everything that determined them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..caching import Cache, checksum_of, key_of
from ..data.catalogue import Catalogue
from ..processor import describe_processor
from ..runs import versions
from ..writing import make_folder
from .request import CompareRequest
from .result import Candidate

_FORMAT = 6
_PROBED_BY = ("inshape", "keras")
_TIMED_BY = (*_PROBED_BY, "tensorflow", "tensorflow-cpu", "ai-edge-litert")


class CandidateStore:
    """What earlier calls with the same pictures, weights, versions and seed measured."""

    machine: str
    """What a latency depends on: the processor, its cores, and the versions that time."""

    def __init__(self, request: CompareRequest, catalogue: Catalogue) -> None:
        """Open the store in the comparison's folder, which is made; without one nothing is kept."""
        self.machine = _machine()
        self._facts: dict[str, Any] = {
            "format": _FORMAT,
            "versions": _versions(_PROBED_BY),
            "catalogue": _ordered(catalogue),
            "weights": str(request.weights),
            "content": _content(str(request.weights or "")),
            "pictures": request.pictures,
            "seed": request.seed,
            "head": request.head.as_dict(),
            "file": request.file.as_dict(),
            "picture_options": request.picture_options.as_dict(),
            "masks": request.masks.as_dict(),
            "max_ram": request.limits.max_ram,  # which patches are chosen by
        }
        self._contents: dict[str, str | None] = {}
        self._cache = None if request.out is None else Cache(request.out / "candidates")
        if self._cache is not None:
            make_folder(self._cache.folder)

    def facts_of(self, candidate: Candidate) -> dict[str, Any]:
        """All that determines a candidate's measurements."""
        names = ("backbone", "input_shape", "strategy", "channels")
        chosen = {name: getattr(candidate, name) for name in names}
        if candidate.backbone not in self._contents:
            self._contents[candidate.backbone] = _content(candidate.backbone)  # read once
        return self._facts | {"candidate": chosen, "backbone": self._contents[candidate.backbone]}

    def key_of(self, candidate: Candidate) -> str:
        """A hash of that."""
        return key_of(self.facts_of(candidate))

    def load(self, candidate: Candidate) -> Candidate:
        """A candidate with what earlier calls measured; not how long another machine took."""
        entry = None if self._cache is None else self._cache.load(self.facts_of(candidate))
        if entry is None:
            return candidate
        known = Candidate.from_dict(entry.notes)
        if known.timed_on == self.machine:
            return known
        return known.but(latency_ms=None, latencies=(), timed_on="")

    def save(self, candidate: Candidate) -> None:
        """Write down what is known; a failure is tried again the next time."""
        if self._cache is not None and candidate.error is None:
            self._cache.note(self.facts_of(candidate), candidate.but(dropped=None).as_dict())

    def load_unreadable(self) -> frozenset[str] | None:
        """Names of pictures that an earlier call could not read; ``None`` if none has tried."""
        entry = None if self._cache is None else self._cache.load(self._unreadable_facts)
        return None if entry is None else frozenset(entry.notes["names"])

    def save_unreadable(self, names: frozenset[str]) -> None:
        """Write down which pictures cannot be read."""
        if self._cache is not None:
            self._cache.note(self._unreadable_facts, {"names": sorted(names)})

    @property
    def _unreadable_facts(self) -> dict[str, Any]:
        return self._facts | {"of": "unreadable pictures"}


def _ordered(catalogue: Catalogue) -> str:
    """A hash of the pictures in their order, which a candidate's answers follow."""
    rows = [
        [name, content.tobytes().hex(), catalogue.task.key(label)]
        for name, content, label in zip(
            catalogue.names, catalogue.contents, catalogue.labels, strict=True
        )
    ]
    return hashlib.blake2b(json.dumps(rows).encode(), digest_size=16).hexdigest()


def _content(path: str) -> str | None:
    """A hash of a file; ``None`` for words that are no path of one."""
    file = Path(path).expanduser()
    return checksum_of(file) if file.is_file() else None


def _machine() -> str:
    return f"{describe_processor()}, {_versions(_TIMED_BY)}"


def _versions(packages: Sequence[str]) -> str:
    known = versions()
    return ", ".join(f"{name} {known[name]}" for name in packages if name in known)
