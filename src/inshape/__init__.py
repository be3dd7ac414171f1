"""Give a pretrained CNN a new input shape, keep what the weights know, and measure the difference.

The public names are loaded on first use, so that ``import inshape`` imports no framework.

Example:
    >>> import inshape
    >>> print(inshape.InputShape.of((96, 128, 1)))
    96x128x1
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import errors
    from .choosing import train
    from .comparison.api import compare
    from .comparison.result import Comparison
    from .evaluation.api import evaluate
    from .exporting.api import export
    from .heads import Head
    from .limits import Limits
    from .loading import load
    from .planning import Plan, adapt, plan
    from .prediction import predict
    from .reporting.api import report
    from .runs import Run
    from .shapes import InputShape, Size
    from .training.api import resume
    from .training.recipe import Recipe

__all__ = [
    "plan",
    "adapt",
    "load",
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
    "Limits",
    "Plan",
    "Run",
    "Comparison",
    "errors",
    "__version__",
]

_HOMES = {
    "plan": "planning",
    "adapt": "planning",
    "load": "loading",
    "train": "choosing",
    "resume": "training.api",
    "evaluate": "evaluation.api",
    "predict": "prediction",
    "compare": "comparison.api",
    "report": "reporting.api",
    "export": "exporting.api",
    "InputShape": "shapes",
    "Size": "shapes",
    "Head": "heads",
    "Recipe": "training.recipe",
    "Limits": "limits",
    "Plan": "planning",
    "Run": "runs",
    "Comparison": "comparison.result",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module(".errors", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        from .extras import advice_for

        raise ModuleNotFoundError(advice_for(error) or str(error), name=error.name) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
