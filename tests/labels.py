"""Tasks for tests that need no names."""

from __future__ import annotations

from inshape.tasks.classification import Classification


def classes(count: int) -> Classification:
    """So many classes, called by their numbers."""
    return Classification(tuple(map(str, range(count))))
