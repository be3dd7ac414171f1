"""How a person reads and writes numbers, amounts and tables; 1 KiB is 1024 bytes everywhere."""

from __future__ import annotations

import html
import math
import re
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from .errors import InshapeError, RequestError, shown

UNKNOWN = "?"
"""What stands for a number that is not known."""
NONE = "–"
"""What stands where there is nothing to say."""
WIDTH = 80
"""Characters in a line where no terminal says otherwise."""
_NAME_WIDTH = 24
_LEAST_NAME = 12
_COUNT_STEPS = ((1e9, "G"), (1e6, "M"), (1e3, "K"))
_BYTE_STEPS = ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"))
_BYTE_UNITS = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_COUNT_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_TIME_UNITS = {"": 1.0, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_AMOUNT = re.compile(r"\s*((?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)\s*([a-zµ]*)\s*")


class Unread(RequestError):
    """A value that a reader cannot read; whoever knows what it is for says so before it."""

    def __init__(self, value: object, expected: str) -> None:
        super().__init__(f"{shown(value)}; expected {expected}")


def read_ends(value: Any, expected: str) -> tuple[float, float]:
    """Read a range, low and high; one number is the high end of one from 0.

    Raises:
        Unread: with what was expected.

    Example:
        >>> read_ends("-1024:3071", "a range"), read_ends(4095, "a range")
        ((-1024.0, 3071.0), (0.0, 4095.0))
    """
    parts: Any = value.split(":") if isinstance(value, str) else value
    is_several = hasattr(parts, "__len__") and getattr(parts, "ndim", 1)
    try:
        ends = [float(part) for part in (parts if is_several else [parts])]
        low, high = [0.0, *ends] if len(ends) == 1 else ends
    except (TypeError, ValueError, OverflowError):
        low = high = math.nan
    # The difference too: a pair such as -1e308:1e308 divides by infinity.
    if not (low < high and math.isfinite(high - low)):
        raise Unread(value, expected)
    return low, high


def write_ends(ends: tuple[float, float]) -> str:
    """A range as `read_ends` reads it.

    Example:
        >>> write_ends((-1024.0, 3071.5))
        '-1024:3071.5'
    """
    return ":".join(repr(end).removesuffix(".0") for end in ends)


def align(rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    r"""Rows as lines of aligned columns, the first ``left`` of them flush left.

    Example:
        >>> print("\n".join(align([("a", "1"), ("bcd", "100")], left=1)))
        a      1
        bcd  100
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: int,
    width: int | None,
    spare: Sequence[str] = (),
) -> list[str]:
    r"""A table no wider than a terminal: columns that can be spared go first, then long names.

    Args:
        heads: the names of the columns.
        rows: their cells.
        left: how many columns are flush left; their cells may be clipped, the others are numbers.
        width: how many characters a line may have; ``None`` shows everything.
        spare: the columns that may be left out, in this order.

    Example:
        >>> rows = [("photos/cat/0001.jpg", "0.93", "12.0 ms"), ("photos/cat/0002.jpg", "0.9", "-")]
        >>> print("\n".join(table(("file", "score", "time"), rows, left=1, width=23,
        ...                        spare=["time"])))
        file              score
        ~os/cat/0001.jpg   0.93
        ~os/cat/0002.jpg    0.9
        not shown: time (--wide shows it, --json has it)
    """
    grid = [tuple(heads), *map(tuple, rows)]
    left_out: list[str] = []
    for name in (name for name in spare if name in heads):
        if width is None or _width(grid) <= width:
            break
        at = grid[0].index(name)
        grid = [(*row[:at], *row[at + 1 :]) for row in grid]
        left -= at < left
        left_out.append(name)
    if width is not None:
        grid = _clipped(grid, left, width)
    lines = align(grid, left=left)
    if left_out:
        it = "it" if len(left_out) == 1 else "them"
        lines.append(f"not shown: {', '.join(left_out)} (--wide shows {it}, --json has {it})")
    return lines


def _width(grid: Sequence[Sequence[str]]) -> int:
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return sum(widths) + 2 * (len(widths) - 1)


def _clipped(grid: Sequence[tuple[str, ...]], left: int, width: int) -> list[tuple[str, ...]]:
    """Cut the beginnings of names, which siblings share, until a table fits."""
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    over = _width(grid) - width
    while over > 0 and max(widths[:left], default=0) > _LEAST_NAME:
        widths[widths.index(max(widths[:left]))] -= 1
        over -= 1
    return [tuple(clip_name(cell, n) for cell, n in zip(row, widths, strict=True)) for row in grid]


def fold(text: str, width: int) -> str:
    r"""Break long sentences between words, what follows set in; commands stay in one line.

    Example:
        >>> print(fold("  warning: the last map is small\n  inshape train photos --out a", 22))
          warning: the last
            map is small
          inshape train photos --out a
    """
    lines: list[str] = []
    for line in text.split("\n"):
        inset = " " * (len(line) - len(line.lstrip()))
        if len(line) <= width or line.lstrip().startswith("inshape "):
            lines.append(line)
            continue
        lines += textwrap.wrap(
            line,
            width,
            subsequent_indent=f"{inset}  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


class Printable(ABC):
    """A value that people read: in a terminal of any width, in a notebook, at a prompt."""

    __slots__ = ()

    @abstractmethod
    def describe(self, width: int | None = None) -> str:
        """The value as text, its tables at most so many characters wide; ``None`` shows all."""

    def __str__(self) -> str:
        return self.describe(WIDTH)

    def __repr__(self) -> str:
        first = next(iter(str(self).splitlines()), "")
        return f"<{type(self).__name__} {first}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return f"<pre>{html.escape(str(self))}</pre>"


def plural(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    Example:
        >>> plural(1, "picture"), plural(2, "picture"), plural(2, "class", "classes")
        ('1 picture', '2 pictures', '2 classes')
    """
    return f"{count} {one if count == 1 else many or one + 's'}"


def upper_first(text: str) -> str:
    """A text as a heading, its other letters as they are.

    Example:
        >>> upper_first("macro F1")
        'Macro F1'
    """
    return text[:1].upper() + text[1:]


def join_some(words: Sequence[str], most: int = 5) -> str:
    """The first few of many words.

    Example:
        >>> join_some(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def first_line(error: BaseException | str, most: int = 200) -> str:
    r"""The first line of a message that others wrote, in one line and not too long.

    Example:
        >>> first_line(ValueError("no  such op\n  at graph.py"))
        'no such op'
    """
    plain = _COLOUR.sub("", str(error))
    lines = [" ".join(line.split()) for line in plain.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Exception encountered when calling"):
        lines = lines[1:]  # Keras says where, and then what
    line = lines[0] if lines else type(error).__name__
    return line.rstrip(".") if len(line) <= most else f"{line[:most].rstrip()}..."


def reason_of(error: BaseException) -> str:
    """What went wrong, in one line: the type too where the message is not one of inshape's.

    Example:
        >>> reason_of(MemoryError("no more"))
        'MemoryError: no more'
    """
    if isinstance(error, InshapeError):
        return str(error)
    text = first_line(error)
    return text if text == type(error).__name__ else f"{type(error).__name__}: {text}"


def free_name(wanted: str, taken: set[str]) -> str:
    """A name, with a number behind it where it is taken; it is taken from now on.

    Example:
        >>> taken = {"conv"}
        >>> free_name("conv", taken), free_name("conv", taken)
        ('conv_2', 'conv_3')
    """
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken.add(name)
    return name


def format_count(amount: float | None, digits: int = 1) -> str:
    """A number of operations or parameters with a decimal unit.

    Example:
        >>> format_count(216_589_760), format_count(999), format_count(None)
        ('216.6M', '999', '?')
    """
    return _stepped(amount, _COUNT_STEPS, "", digits)


def format_macs(amount: float, digits: int = 1) -> str:
    """A number of multiply-accumulate operations.

    Example:
        >>> format_macs(209e6), format_macs(93e3), format_macs(12)
        ('209.0 MMACs', '93.0 kMACs', '12 MACs')
    """
    word = format_count(amount, digits)
    prefix = word[-1].replace("K", "k") if word[-1].isalpha() else ""
    return f"{word.rstrip('KMG')} {prefix}MACs"


def format_bytes(amount: float | None, digits: int = 1) -> str:
    """An amount of memory with a binary unit.

    Example:
        >>> format_bytes(125_184), format_bytes(12), format_bytes(None)
        ('122.2 KiB', '12 B', '?')
    """
    return _stepped(amount, _BYTE_STEPS, " B", digits)


def format_pair(pair: Sequence[float | None]) -> str:
    """Height and width as one number where they agree.

    Example:
        >>> format_pair((32, 32)), format_pair((32, 16)), format_pair((13.714, None))
        ('32', '32x16', '13.7x?')
    """
    words = [UNKNOWN if n is None else f"{n:.1f}".removesuffix(".0") for n in pair]
    return words[0] if words[0] == words[1] else "x".join(words)


def format_shape(shape: Sequence[int | None]) -> str:
    """A shape.

    Example:
        >>> format_shape((7, None, 576))
        '7x?x576'
    """
    return "x".join(UNKNOWN if n is None else str(n) for n in shape)


def format_number(value: float | None, digits: int = 3) -> str:
    """A number with a fixed count of digits behind the point.

    Example:
        >>> format_number(0.12345), format_number(float("nan")), format_number(1.0, 1)
        ('0.123', '–', '1.0')
    """
    return NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def format_percent(value: float | None, digits: int = 1) -> str:
    r"""A share in percent.

    Example:
        >>> format_percent(0.8767)
        '87.7\xa0%'
    """
    number = format_number(None if value is None else 100 * value, digits)
    return number if number == NONE else f"{number}\N{NO-BREAK SPACE}%"


def format_interval(score: Mapping[str, float | None] | None, digits: int = 1) -> str:
    r"""The interval of a score.

    Example:
        >>> format_interval({"value": 0.5, "low": 0.4, "high": 0.6})
        '40.0 to 60.0\xa0%'
    """
    if score is None or score.get("low") is None or score.get("high") is None:
        return NONE
    low = format_number(100 * (score["low"] or 0.0), digits)
    return f"{low} to {format_percent(score['high'], digits)}"


def format_points(value: float | None) -> str:
    """A difference of two shares in points of percent, with its sign.

    Example:
        >>> format_points(-0.0123), format_points(0.0)
        ('-1.2', '+0.0')
    """
    return NONE if value is None else f"{100 * value:+.1f}"


def format_ms(value: float | None, digits: int = 3) -> str:
    """Milliseconds with so many digits that count.

    Example:
        >>> format_ms(0.1234), format_ms(12.34), format_ms(1234.5)
        ('0.12 ms', '12.3 ms', '1234 ms')
    """
    if value is None:
        return NONE
    return f"{value:.{max(0, digits - 1 - int(math.log10(max(value, 1.0))))}f} ms"


def format_seconds(value: float) -> str:
    """A time as people say it.

    Example:
        >>> format_seconds(3.21), format_seconds(42.0), format_seconds(125), format_seconds(7260)
        ('3.2 s', '42 s', '2 min 5 s', '2 h 1 min')
    """
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_value(value: Any) -> str:
    """Any value of a record, as it would be written by hand.

    Example:
        >>> format_value({"fit": "crop", "margin": 0.875}), format_value(True), format_value(None)
        ('fit crop, margin 0.875', 'yes', 'none')
    """
    if value is None or value == {} or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {format_value(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(format_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def label_files(names: Iterable[str]) -> dict[str, str]:
    """A short label for each name or path: as much of a path's end as tells it from the others.

    The model in a run folder goes by the folder's name.

    Example:
        >>> label_files(["runs/a/model.keras", "runs/b/model.keras", "nets/c.keras", "VGG16"])
        {'runs/a/model.keras': 'a', 'runs/b/model.keras': 'b', 'nets/c.keras': 'c.keras', 'VGG16': 'VGG16'}
        >>> list(label_files(["x/a/model.keras", "y/a/model.keras"]).values())
        ['x/a', 'y/a']
    """  # noqa: E501
    parts = {name: _parts_of(name) for name in names}
    labels: dict[str, str] = {}
    for name, own in parts.items():
        others = [other for other in parts.values() if other is not own]
        count = 1
        while count < len(own) and any(other[-count:] == own[-count:] for other in others):
            count += 1
        labels[name] = "/".join(own[-count:])
    return labels


def _parts_of(name: str) -> list[str]:
    *folders, last = name.replace("\\", "/").split("/")
    return folders if last == "model.keras" and folders else [*folders, last]


def clip_name(name: str, width: int = _NAME_WIDTH) -> str:
    """The end of a long name, which tells siblings apart.

    Example:
        >>> clip_name("backbone/expanded_conv_10_project")
        '~xpanded_conv_10_project'
    """
    return name if len(name) <= width else "~" + name[1 - width :]


def read_bytes(value: Any) -> int:
    """An amount of memory as people write it.

    Example:
        >>> read_bytes("256KiB"), read_bytes("1.5 MB"), read_bytes(512)
        (262144, 1500000, 512)
    """
    return math.ceil(_amount(value, _BYTE_UNITS, "256KiB"))


def read_count(value: Any) -> int:
    """A number of operations as people write it.

    Example:
        >>> read_count("30M"), read_count("1.5G")
        (30000000, 1500000000)
    """
    return math.ceil(_amount(value, _COUNT_UNITS, "30M"))


def read_ms(value: Any) -> float:
    """A time in milliseconds as people write it.

    Example:
        >>> read_ms("5ms"), read_ms("0.5 s"), read_ms("250us")
        (5.0, 500.0, 0.25)
    """
    return float(_amount(value, _TIME_UNITS, "5ms"))


def _stepped(
    amount: float | None, steps: Sequence[tuple[float, str]], unit: str, digits: int = 1
) -> str:
    if amount is None:
        return UNKNOWN
    lower = (*(scale for scale, _ in steps[1:]), 1)
    for (scale, word), below in zip(steps, lower, strict=True):
        # What would be rounded up to 1024 KiB is 1 MiB.
        if round(amount / below, digits if below > 1 else 0) >= scale / below:
            return f"{amount / scale:.{digits}f}{word}"
    return f"{amount:.0f}{unit}"


def to_float(value: Any) -> float:
    """What `float` makes of a value; NaN of what it makes nothing of, as of 400 digits.

    Example:
        >>> to_float("1.5"), to_float(10**400), to_float([1])
        (1.5, nan, nan)
    """
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _amount(value: Any, units: Mapping[str, float], example: str) -> float:
    is_number = not isinstance(value, bool) and isinstance(value, Real)
    match = _AMOUNT.fullmatch(value.lower()) if isinstance(value, str) else None
    amount = to_float(value) if is_number else math.nan
    if match is not None and match[2] in units:
        amount = float(match[1]) * units[match[2]]
    if not 0 <= amount < math.inf:  # which is not true of NaN either
        names = ", ".join(unit for unit in units if unit)
        raise Unread(value, f"a number with one of {names}, such as {example}")
    return amount
