"""Labels as tables and arrays hold them: words, numbers, or 0 and 1 for every class or tag."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import DataError
from ..tasks.find import TaskName, guess_task
from ..tasks.multilabel import read_tags
from ..tasks.regression import read_number
from ..tasks.task import Value
from ..text import join_some


def read_words(words: Sequence[str], task: TaskName, where: str) -> list[Value]:
    """A column of words as the labels that they are; ``None`` where there is none.

    Example:
        >>> read_words(["1.5", ""], "auto", "a.csv"), read_words(["a|b", ""], "auto", "a.csv")
        ([1.5, None], [('a', 'b'), ()])
    """
    task = guess_task(words) if task == "auto" else task
    if task == "multi-label":
        return [read_tags(word) for word in words]
    if task == "regression":
        return [_number(word, row, where) for row, word in enumerate(words, 1)]
    return [word or None for word in words]


def notes_of_guess(values: Sequence[Value], task: TaskName, where: str) -> list[str]:
    """What to say where labels that nobody named a task for are taken as other than classes.

    Example:
        >>> notes_of_guess([1.5], "auto", "y")[0][:47]
        'y: numbers with a fraction, taken as regression'
        >>> notes_of_guess([1.5], "regression", "y"), notes_of_guess(["a"], "auto", "y")
        ([], [])
    """
    found = {
        "any number of tags in each, taken as multi-label": tuple,
        "numbers with a fraction, taken as regression": float,
    }
    return [
        f"{where}: {what}; where it is another task, name it (task='classification')"
        for what, kind in found.items()
        if task == "auto" and any(isinstance(value, kind) for value in values)
    ]


def _number(word: str, row: int, where: str) -> float | None:
    number = read_number(word)
    if word and number is None:
        raise DataError(
            f"{where}: row {row} has {word!r} as its label; expected a finite number; correct it, "
            "or leave the task out"
        )
    return number


def read_flags(
    names: Sequence[str], rows: Iterable[Sequence[Any]], task: TaskName, where: str
) -> list[Value]:
    """Rows of 0 and 1 as classes, if each has one 1, or else as tags.

    Example:
        >>> read_flags(["a", "b"], [(1, 0), (0, 1)], "auto", "a.csv")
        ['a', 'b']
        >>> read_flags(["a", "b"], [(1, 1), (0, 0)], "auto", "a.csv")
        [('a', 'b'), ()]
    """
    tags = [_set_in(names, row) for row in rows]
    wrong = [(row, len(one)) for row, one in enumerate(tags, 1) if len(one) != 1]
    if task == "multi-label" or (task == "auto" and wrong):
        return list(tags)
    if wrong:
        row, count = wrong[0]
        raise DataError(
            f"{where}: row {row} has {count} of the columns {join_some(list(names))} set; expected "
            "exactly one; correct it, or leave the task out"
        )
    return [one[0] for one in tags]


def _set_in(names: Sequence[str], row: Sequence[Any]) -> tuple[str, ...]:
    return tuple(name for name, value in zip(names, row, strict=True) if float(value))
