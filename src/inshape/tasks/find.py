"""Which task labels ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from .classification import Classification
from .detection import Detection
from .multilabel import SEPARATOR, MultiLabel
from .regression import Regression, read_number
from .segmentation import Segmentation
from .task import Task, Value

TaskName: TypeAlias = Literal[
    "auto", "classification", "multi-label", "regression", "segmentation", "detection"
]

_TASKS: dict[str, type[Task]] = {
    kind.name: kind for kind in (Classification, MultiLabel, Regression, Segmentation, Detection)
}


def guess_task(words: Sequence[str]) -> TaskName:
    """The task of a column of labels.

    ``|`` stands between tags; numbers with a fraction are no classes, whole ones may be.

    Example:
        >>> guess_task(["cat", "cat|dog"]), guess_task(["0.5", "2"]), guess_task(["1", "2"])
        ('multi-label', 'regression', 'classification')
    """
    if any(SEPARATOR in word for word in words):
        return "multi-label"
    numbers = [read_number(word) for word in words if word]
    is_fraction = any(number is not None and number % 1 for number in numbers)
    if is_fraction and all(number is not None for number in numbers):
        return "regression"
    return "classification"


def task_of(values: Sequence[Value], names: Sequence[str] | None, asked: TaskName = "auto") -> Task:
    """The task of labels; what they are says which, unless one is asked for.

    Raises:
        DataError: if the labels are none for it.

    Example:
        >>> task_of(["b", "a"], None), task_of([("b", "a"), ()], None).name
        (Classification(names=('a', 'b')), 'multi-label')
    """
    if asked == "auto":
        kinds = {type(value) for value in values}
        asked = "multi-label" if tuple in kinds else "classification"
        asked = "regression" if float in kinds else asked
    return _TASKS[asked].of(values, names)


def restore_task(record: Mapping[str, Any] | None, names: Sequence[str]) -> Task:
    """A task from a record, and the names of its outputs.

    Raises:
        KeyError, TypeError: if the record is of none.
    """
    facts = dict(record or {"name": Classification.name})
    return _TASKS[str(facts.pop("name"))](tuple(names), **facts)
