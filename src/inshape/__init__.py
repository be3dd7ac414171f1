"""Give a pretrained CNN a new input shape, keep what the weights know, and measure the difference.

The public names are loaded on first use, so that ``import inshape`` imports no framework.

``adapt``, ``train`` and ``evaluate`` are functions and also files of the package. ``inshape.adapt``
is always the function, also after the file has been imported; ``from inshape.adapt import plan``
and ``importlib.import_module("inshape.adapt")`` reach into the file.

Example:
    >>> import inshape
    >>> print(inshape.InputShape.of((96, 128, 1)))
    96x128x1
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import errors
    from .adapt import adapt, plan
    from .compare import compare
    from .evaluate import evaluate
    from .export.front import export
    from .heads import Head
    from .predict import predict
    from .report import report
    from .runs import Run
    from .shapes import InputShape, Size
    from .train import Recipe, resume, train

__all__ = [
    "plan",
    "adapt",
    "train",
    "resume",
    "evaluate",
    "predict",
    "compare",
    "report",
    "export",
    "InputShape",
    "Size",
    "Head",
    "Recipe",
    "Run",
    "errors",
    "__version__",
]

_HOMES = {
    "plan": "adapt",
    "adapt": "adapt",
    "train": "train",
    "resume": "train",
    "evaluate": "evaluate",
    "predict": "predict",
    "compare": "compare",
    "report": "report",
    "export": "export.front",
    "InputShape": "shapes",
    "Size": "shapes",
    "Head": "heads",
    "Recipe": "train",
    "Run": "runs",
}


class _Package(ModuleType):
    """A package in which a public function is not hidden by the file of the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        # The import system sets each file as an attribute of its package once it is loaded.
        if name in _HOMES and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module(".errors", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Package
