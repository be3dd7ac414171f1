"""The names of classes and tags: one form, one order, one line each."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from ..errors import DataError
from ..text import join_some

_NAMED = 5
_UNWRITABLE = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's control characters, halves of surrogates, and separators of lines and paragraphs."""


def same_name(name: str) -> str:
    r"""A class's name in the one form for all that look alike (Unicode's NFC).

    Some systems store an accent apart from its letter.

    Example:
        >>> same_name("e\N{COMBINING ACUTE ACCENT}") == "\N{LATIN SMALL LETTER E WITH ACUTE}"
        True
    """
    return unicodedata.normalize("NFC", name)


def names_among(occurring: set[str], known: Sequence[str] | None) -> tuple[str, ...]:
    """The names to number by: the known ones, or those that occur, in order.

    Raises:
        DataError: if one that occurs is not known, or is no single line.
    """
    check_class_names(occurring)
    if known is None:
        return tuple(in_order(occurring))
    unknown = in_order(occurring.difference(map(same_name, known)))
    if unknown:
        raise DataError(
            f"unknown {'class' if len(unknown) == 1 else 'classes'} "
            f"{join_some([repr(name) for name in unknown], _NAMED)}; expected some of: "
            f"{', '.join(known)}; rename the folders or labels, or train again with "
            "these classes"
        )
    return tuple(known)


def check_class_names(class_names: Iterable[str]) -> None:
    """Refuse names that no list of one class per line can hold.

    Raises:
        DataError: if one is empty, breaks a line, or holds a control character or what is no text.
    """
    wrong = [name for name in class_names if not name or _UNWRITABLE & _categories(name)]
    if wrong:
        raise DataError(
            f"{'class' if len(wrong) == 1 else 'classes'} "
            f"{join_some([ascii(name) for name in sorted(wrong)], _NAMED)}: an empty name, a line "
            "break, a control character or bytes that are no text; expected names that fit on a "
            "line of labels.txt; rename the folders or labels"
        )


def _categories(name: str) -> set[str]:
    return set(map(unicodedata.category, name))


def in_order(class_names: Iterable[str]) -> list[str]:
    """Class names sorted: numbers by value, anything else by letter.

    Example:
        >>> in_order({"10", "9", "2"}), in_order({"b", "10", "9"})
        (['2', '9', '10'], ['10', '9', 'b'])
    """
    names = sorted(class_names)
    return sorted(names, key=int) if all(n.isascii() and n.isdecimal() for n in names) else names
