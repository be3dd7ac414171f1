"""Finished candidates, each in a file named after everything that determined it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from .._version import __version__
from ..charts import make_folder
from ..data.catalogue import Catalogue
from ..writing import write_json
from .comparison import Candidate

_FORMAT = 2


class CandidateStore:
    """What earlier calls with the same pictures, weights and seed found out."""

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
        file = Path(weights) if isinstance(weights, str | Path) else None
        stamp = None
        if file is not None and file.is_file():
            stamp = hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
        self._facts = [
            _FORMAT, __version__, catalogue.fingerprint, str(weights), stamp, pictures, seed,
        ]  # fmt: skip
        if self._folder is not None:
            make_folder(self._folder)

    def key(self, c: Candidate) -> str:
        """A hash of what a candidate is and what it is measured on."""
        own = [c.backbone, c.input_shape, c.strategy, c.channels]
        if Path(c.backbone).is_file():
            own.append(hashlib.blake2b(Path(c.backbone).read_bytes()).hexdigest())
        return _hash([*self._facts, own])

    def known(self, c: Candidate) -> Candidate | None:
        """What an earlier call found out about a candidate."""
        if self._folder is None:
            return None
        try:
            text = (self._folder / f"{self.key(c)}.json").read_text(encoding="utf-8")
            return Candidate.from_dict(json.loads(text))
        except (OSError, ValueError, KeyError, TypeError):
            return None

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


def _hash(values: object) -> str:
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=16).hexdigest()
