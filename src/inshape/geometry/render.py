"""Words and aligned columns for plain-text tables."""

from __future__ import annotations

from collections.abc import Sequence

_NAME_WIDTH = 24


def aligned(rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    r"""Rows as lines of aligned columns.

    Args:
        rows: cells, the same number in each row.
        left: how many of the first columns are flush left; the others are flush right.

    Returns:
        Lines without trailing blanks.

    Example:
        >>> print("\n".join(aligned([("a", "1"), ("bcd", "100")], left=1)))
        a      1
        bcd  100
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def count_word(amount: int | None) -> str:
    """A number of operations or parameters, three or four digits and a decimal unit.

    Example:
        >>> count_word(216_589_760), count_word(999), count_word(None)
        ('216.6M', '999', '?')
    """
    if amount is None:
        return "?"
    for unit, scale in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if amount >= scale:
            return f"{amount / scale:.1f}{unit}"
    return str(amount)


def byte_word(amount: int | None) -> str:
    """An amount of memory with a binary unit.

    Example:
        >>> byte_word(125_184), byte_word(12), byte_word(None)
        ('122.2 KiB', '12 B', '?')
    """
    if amount is None:
        return "?"
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if amount >= scale:
            return f"{amount / scale:.1f} {unit}"
    return f"{amount} B"


def pair_word(pair: Sequence[float | None]) -> str:
    """Height and width as one number where they agree.

    Example:
        >>> pair_word((32, 32)), pair_word((32, 16)), pair_word((13.714, None))
        ('32', '32x16', '13.7x?')
    """
    words = ["?" if n is None else f"{n:.1f}".removesuffix(".0") for n in pair]
    return words[0] if words[0] == words[1] else "x".join(words)


def clipped(name: str) -> str:
    """The end of a long name, which tells siblings apart.

    Example:
        >>> clipped("backbone/expanded_conv_10_project")
        '~xpanded_conv_10_project'
    """
    return name if len(name) <= _NAME_WIDTH else "~" + name[1 - _NAME_WIDTH :]
