"""Finished candidates, each in a file named after everything that determined it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from ..data.catalogue import Catalogue
from ..runs import versions
from ..writing import make_folder, write_json
from .result import Candidate

_FORMAT = 4
_PROBED_BY = ("inshape", "keras")
_TIMED_BY = (*_PROBED_BY, "tensorflow", "tensorflow-cpu", "ai-edge-litert")


class CandidateStore:
    """What earlier calls with the same pictures, weights, versions and seed found out.

    Attributes:
        machine: what a latency depends on: the processor, its cores, and the versions that time.
    """

    def __init__(
        self,
        out: Path | None,
        catalogue: Catalogue,
        weights: str | Path | None,
        pictures: int,
        seed: int,
    ) -> None:
        """Open a store; its folder is made.

        Args:
            out: the comparison's folder; ``None`` keeps nothing.
            catalogue: the pictures.
            weights: of every backbone.
            pictures: the most that were to be used.
            seed: of pictures and folds.
        """
        self._folder = None if out is None else out / "candidates"
        self.machine = _machine()
        self._facts = [
            _FORMAT, _versions(_PROBED_BY), _ordered(catalogue), str(weights),
            _content("" if weights is None else weights), pictures, seed,
        ]  # fmt: skip
        if self._folder is not None:
            make_folder(self._folder)

    def key(self, c: Candidate) -> str:
        """A hash of what a candidate is and what it is measured on."""
        own = [c.backbone, c.input_shape, c.strategy, c.channels, _content(c.backbone)]
        return _hash([*self._facts, own])

    def known(self, c: Candidate) -> Candidate | None:
        """What an earlier call found out about a candidate; not how long another machine took."""
        if self._folder is None:
            return None
        try:
            text = (self._folder / f"{self.key(c)}.json").read_text(encoding="utf-8")
            found = Candidate.from_dict(json.loads(text))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if found.timed_on == self.machine:
            return found
        return found.but(latency_ms=None, latencies=(), timed_on="")

    def keep(self, c: Candidate) -> None:
        """Write down what is known; a failure is tried again the next time."""
        if self._folder is not None and c.error is None:
            write_json(self._folder / f"{self.key(c)}.json", c.but(dropped=None).as_dict())

    def unreadable(self) -> frozenset[str] | None:
        """Names of pictures that an earlier call could not read; ``None`` if none has tried."""
        if self._folder is None:
            return None
        try:
            return frozenset(json.loads(self._tried.read_text(encoding="utf-8"))["names"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep_unreadable(self, names: Sequence[str]) -> None:
        """Write down which pictures cannot be read."""
        if self._folder is not None:
            write_json(self._tried, {"names": sorted(names)})

    @property
    def _tried(self) -> Path:
        assert self._folder is not None
        return self._folder / f"unreadable-{_hash(self._facts)}.json"


def without(catalogue: Catalogue, names: frozenset[str]) -> Catalogue:
    """The catalogue without some of its pictures.

    Args:
        catalogue: any.
        names: of the pictures to leave out.
    """
    if not names:
        return catalogue
    return catalogue.take([i for i in range(len(catalogue)) if catalogue.names[i] not in names])


def _ordered(catalogue: Catalogue) -> str:
    """A hash of the pictures in their order, which a candidate's answers follow."""
    rows = [
        [name, content.tobytes().hex(), catalogue.class_name(label)]
        for name, content, label in zip(
            catalogue.names, catalogue.contents, catalogue.labels, strict=True
        )
    ]
    return _hash(rows)


def _content(path: str | Path) -> str | None:
    """A hash of a file; ``None`` for words that are no path of one."""
    file = Path(path).expanduser()
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").hexdigest()


def _machine() -> str:
    processor = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(w.partition(":")[2] for w in lines if w.startswith("model name")).strip()
    except (OSError, StopIteration):
        pass  # not Linux, or a processor that does not say
    words = [platform.system(), platform.machine(), processor, f"{os.cpu_count()} cores"]
    return ", ".join([*words, _versions(_TIMED_BY)])


def _versions(packages: Sequence[str]) -> str:
    known = versions()
    return ", ".join(f"{name} {known[name]}" for name in packages if name in known)


def _hash(values: object) -> str:
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=16).hexdigest()
