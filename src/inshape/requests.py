"""A command's request: one frozen value.

The function's keywords, the command line, the record in a run folder and the command that repeats
it all follow from the fields of a dataclass that derives from `Request`. A field is one option::

    @dataclass(frozen=True, slots=True)
    class Recipe(Request):
        \"\"\"How to train.\"\"\"

        epochs: Annotated[int, Range(0)] = 8
        \"\"\"At most, with the backbone unfrozen.\"\"\"

A field whose type is a `Request` itself is a group: its fields are options of the whole.
"""

from __future__ import annotations

import ast
import inspect
import math
import shlex
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache, wraps
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from .errors import RequestError, ShapeError, UnknownName
from .shapes import InputShape
from .text import read_bytes, read_count, read_ms

Reader: TypeAlias = Callable[[Any], Any]
"""From what a user wrote, in Python or on the command line, to the value; the value to itself."""
Writer: TypeAlias = Callable[[Any], str | None]
"""From a value to what stands for it on the command line; ``None`` where nothing does."""
REQUIRED = MISSING
"""The default of a field that must be given."""
_CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class Written:
    """How a value is written where its type alone does not say it."""

    read: Reader
    write: Writer = str
    metavar: str = "VALUE"


@dataclass(frozen=True, slots=True)
class Range:
    """Which numbers are taken."""

    low: float
    high: float = math.inf

    def __str__(self) -> str:
        return f"{self.low} or more" if math.isinf(self.high) else f"{self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Flag:
    """Another name on the command line; the empty one leaves it out there."""

    name: str


@dataclass(frozen=True, slots=True)
class Without:
    """Fields of a group that are no options of the whole."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Positional:
    """The value stands on the command line by itself; ``many`` of them if it says so."""

    many: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a request."""

    name: str
    group: str | None
    """The field of the request that it stands in; ``None`` if it is one of the request's own."""
    type: Any
    default: Any
    text: str
    marks: tuple[Any, ...]

    def mark(self, kind: type[_Mark]) -> _Mark | None:
        """Its mark of a kind."""
        return next((mark for mark in self.marks if isinstance(mark, kind)), None)

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        mark = self.mark(Flag)
        return self.name.replace("_", "-") if mark is None else mark.name

    @property
    def written(self) -> Written:
        """How its values are read and written."""
        return self.mark(Written) or _written_by_type(self.type)

    def take(self, value: Any) -> Any:
        """Read what a user wrote, and refuse what it cannot be."""
        if value is None and _is_optional(self.type):
            return None
        try:
            taken = self.written.read(value)
        except _Refused as refused:
            raise RequestError(f"{self.name}={value!r}; expected {refused.expected}") from None
        except UnknownName as unknown:
            kind = self.name if unknown.kind == _CHOICE else unknown.kind
            raise UnknownName(kind, value, unknown.choices) from None
        limits = self.mark(Range)
        is_number = isinstance(taken, int | float) and not isinstance(taken, bool)
        if limits is not None and is_number and not limits.low <= taken <= limits.high:
            raise RequestError(f"{self.name}={taken}; expected {limits}")
        return taken


_Mark = TypeVar("_Mark")


class Request:
    """The base of requests and of their groups."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __post_init__(self) -> None:
        """Read every field as a user may write it, and refuse what it cannot be."""
        for option in own_options(type(self)):
            object.__setattr__(self, option.name, option.take(getattr(self, option.name)))

    def but(self, **changes: Any) -> Self:
        """The same request with other values, named as for `make`."""
        return make(type(self), **{**flat(self), **changes})

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `restore` reads them back.

        What can only be said in Python, such as a model that is no file, is ``None``.
        """
        record: dict[str, Any] = {}
        for option in own_options(type(self)):
            value = getattr(self, option.name)
            record[option.name] = _plain(value, option.written.write)
        for name in groups(type(self)):
            record[name] = getattr(self, name).as_dict()
        return record


_Request = TypeVar("_Request", bound=Request)


@cache
def own_options(kind: type[Request]) -> tuple[Option, ...]:
    """The options that are a request's own, without those of its groups."""
    hints = get_type_hints(kind, include_extras=True)
    texts = field_texts(kind)
    return tuple(
        Option(field.name, None, bare, _default(field), texts.get(field.name, ""), marks)
        for field in fields(kind)
        for bare, marks in [_unwrapped(hints[field.name])]
        if not _is_group(bare)
    )


@cache
def groups(kind: type[Request]) -> dict[str, tuple[type[Request], frozenset[str]]]:
    """The groups of a request by field, each with the fields that are no options of the whole."""
    hints = get_type_hints(kind, include_extras=True)
    found: dict[str, tuple[type[Request], frozenset[str]]] = {}
    for field in fields(kind):
        bare, marks = _unwrapped(hints[field.name])
        if _is_group(bare):
            left_out = (mark.names for mark in marks if isinstance(mark, Without))
            found[field.name] = bare, frozenset(name for names in left_out for name in names)
    return found


@cache
def options_of(kind: type[Request]) -> tuple[Option, ...]:
    """All options of a request: its own first, then those of each group."""
    found = list(own_options(kind))
    for name, (group, left_out) in groups(kind).items():
        found += [
            replace(option, group=name)
            for option in own_options(group)
            if option.name not in left_out
        ]
    return tuple(found)


def make(kind: type[_Request], /, **values: Any) -> _Request:
    """A request from keywords: options of groups by their own names, or a group as a whole.

    Raises:
        RequestError: if a value cannot be what it is given for, or one is missing.
        UnknownName: if there is no such option.
    """
    by_group: dict[str, dict[str, Any]] = {name: {} for name in groups(kind)}
    own: dict[str, Any] = {}
    known = {option.name: option for option in options_of(kind)}
    for name, value in values.items():
        if name in by_group:
            own[name] = value
        elif name not in known:
            raise UnknownName("option", name, (*known, *by_group))
        elif known[name].group is None:
            own[name] = value
        else:
            by_group[str(known[name].group)][name] = value
    for name, (group, _) in groups(kind).items():
        whole = own.get(name)
        if whole is not None and not isinstance(whole, group):
            raise RequestError(f"{name}={whole!r}; expected inshape.{group.__name__}(...)")
        if by_group[name]:
            own[name] = replace(group() if whole is None else whole, **by_group[name])
        elif whole is None:
            own.pop(name, None)
    missing = [o.name for o in own_options(kind) if o.default is REQUIRED and o.name not in own]
    if missing:
        raise RequestError(f"{missing[0]} is missing; expected {known[missing[0]].text}")
    return kind(**own)


def flat(request: Request) -> dict[str, Any]:
    """Every value by its option's name, and the groups as wholes."""
    own = {option.name: getattr(request, option.name) for option in own_options(type(request))}
    return own | {name: getattr(request, name) for name in groups(type(request))}


def restore(kind: type[_Request], record: Mapping[str, Any], /, **values: Any) -> _Request:
    """Read back what `Request.as_dict` wrote down, with some values given anew."""
    known = {option.name for option in own_options(kind)}
    own = {name: record[name] for name in known if name in record}
    made = {name: restore(group, record.get(name, {})) for name, (group, _) in groups(kind).items()}
    return kind(**{**own, **made, **values})


def command_of(name: str, request: Request) -> str | None:
    """The command that makes the same request; ``None`` for what can only be said in Python."""
    positional: list[str] = []
    words: list[str] = []
    for option in options_of(type(request)):
        holder = request if option.group is None else getattr(request, option.group)
        value = getattr(holder, option.name)
        if _is_default(value, option.default):
            continue
        is_flag = isinstance(value, bool)
        written = "" if is_flag else _written(value, option.written.write)
        if written is None or not option.flag:
            return None
        if option.mark(Positional) is not None:
            positional.append(written)
        elif is_flag:
            words.append(f"--{option.flag}" if value else f"--no-{option.flag}")
        else:
            words += [f"--{option.flag}", written]
    return shlex.join(["inshape", name, *positional, *words])


def takes(kind: type[Request]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a function the keywords of a request in its signature and its documentation.

    The function takes the request itself as its first parameter and may take others by keyword;
    what comes out takes the request's options instead, the first two of them also by place. As
    ``as_asked`` it keeps the function itself.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        _, *others = inspect.signature(function).parameters.values()

        @wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            if len(args) > len(leading):
                raise RequestError(
                    f"{function.__name__} was given {len(args)} values without a name; expected at "
                    f"most {len(leading)} ({', '.join(leading)}); name the others"
                )
            own = dict(zip(leading, args, strict=False))
            twice = next((name for name in own if name in keywords), None)
            if twice is not None:
                raise RequestError(f"{function.__name__} was given {twice} twice; leave one out")
            rest = {o.name: keywords.pop(o.name) for o in others if o.name in keywords}
            return function(make(kind, **own, **keywords), **rest)

        leading = [o.name for o in own_options(kind)][:2]
        call.__signature__ = inspect.Signature(  # pyright: ignore[reportAttributeAccessIssue]
            [*_parameters(kind, leading), *others],
            return_annotation=inspect.signature(function).return_annotation,
        )
        call.__doc__ = _documented(function.__doc__ or "", kind)
        call.__dict__["as_asked"] = function
        return call

    return decorate


def field_texts(kind: type) -> dict[str, str]:
    """The text below each field of a class and of those that it derives from."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__[: kind.__mro__.index(Request)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for above, below in pairwise(body.body):
            is_field = isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name)
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if is_field and is_text:
                texts[above.target.id] = " ".join(str(below.value.value).split())
    return texts


def many(read: Reader) -> Reader:
    """Read several values: a list, words with commas between, or one value.

    Example:
        >>> many(InputShape.of)("96x96x1,?x?x3") == many(InputShape.of)(["96x96x1", "?x?x3"])
        True
        >>> len(many(InputShape.of)((96, 96, 1)))
        1
    """

    def read_all(value: Any) -> tuple[Any, ...]:
        if isinstance(value, str):
            return tuple(read(word.strip()) for word in value.split(",") if word.strip())
        is_several = isinstance(value, list | tuple | set | frozenset | dict) or (
            hasattr(value, "__iter__") and not hasattr(value, "shape")
        )
        if not is_several or (isinstance(value, tuple) and _is_shape_like(value)):
            return (read(value),)
        return tuple(map(read, value))

    return read_all


def joined(write: Writer) -> Writer:
    """Write several values with commas between."""

    def write_all(values: Any) -> str | None:
        words = [write(value) for value in values]
        return None if None in words else ",".join(word for word in words if word is not None)

    return write_all


def read_hw(value: Any) -> tuple[int, int]:
    """Read a height and a width: ``160x224`` or a pair.

    Example:
        >>> read_hw("160x224"), read_hw([96, 96])
        ((160, 224), (96, 96))
    """
    parts = value.lower().replace("×", "x").split("x") if isinstance(value, str) else value
    try:
        height, width = (int(part) for part in parts)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise ShapeError(f"{value!r} is not a size; write HxW, height first, such as 160x224")
    return height, width


def write_hw(value: Sequence[int]) -> str:
    """Write a height and a width."""
    return "x".join(map(str, value))


def read_path(value: Any) -> Path:
    """Read a path."""
    if not isinstance(value, str | Path):
        raise _Refused("a path")
    return Path(value).expanduser()


def read_word_or_number(value: Any) -> str | int:
    """Read a word, or a number where it is one."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdecimal() else value
    return _read_whole(value)


def write_file(value: Any) -> str | None:
    """Write a name or a path; what is neither can only be said in Python."""
    return str(value) if isinstance(value, str | Path) else None


def write_source(value: Any) -> str | None:
    """Write where pictures are, in full, so that it holds from any folder."""
    return str(Path(value).resolve()) if isinstance(value, str | Path) else None


Bytes = Annotated[int, Written(read_bytes, lambda v: f"{v}B", "SIZE")]
"""An amount of memory."""
Operations = Annotated[int, Written(read_count, str, "N")]
"""A number of operations."""
Milliseconds = Annotated[float, Written(read_ms, lambda v: f"{v:g}ms", "TIME")]
"""A time."""
Shape = Annotated[InputShape, Written(InputShape.of, str, "HxWxC")]
"""An input shape."""
File = Annotated[Path, Written(read_path, str, "FILE")]
"""A file."""
Folder = Annotated[Path, Written(read_path, str, "FOLDER")]
"""A folder."""
SizeHW = Annotated[tuple[int, int], Written(read_hw, write_hw, "HxW")]
"""A height and a width."""
Weights: TypeAlias = Annotated[
    str | Path | None,
    Written(
        lambda value: None if str(value).lower() == "none" else value,
        lambda value: "none" if value is None else str(value),
        "WEIGHTS",
    ),
]
"""Where weights come from; see `inshape.weights.sources`."""


class _Refused(Exception):
    """A value is not what was expected."""

    def __init__(self, expected: str) -> None:
        self.expected = expected


def _read_whole(value: Any) -> int:
    is_word = isinstance(value, str) and value.strip().lstrip("+-").isdecimal()
    if isinstance(value, bool) or not (is_word or hasattr(value, "__index__")):
        raise _Refused("a whole number")
    return int(value)


def _read_number(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise _Refused("a number")
    return number


_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _read_truth(value: Any) -> bool:
    found = _TRUTH.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise _Refused("true or false")
    return found


def _read_word(value: Any) -> str:
    if not isinstance(value, str):
        raise _Refused("a word")
    return value


def _read_choice(choices: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        if value not in choices:
            raise UnknownName(_CHOICE, value, map(str, choices))
        return value

    return read


def _written_by_type(kind: Any) -> Written:
    if get_origin(kind) in (Union, UnionType):
        (kind,) = [part for part in get_args(kind) if part is not NoneType]
    if get_origin(kind) is Annotated:
        written = next((m for m in kind.__metadata__ if isinstance(m, Written)), None)
        return written or _written_by_type(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return Written(_read_choice(get_args(kind)), str, "NAME")
    readers: dict[Any, Written] = {
        bool: Written(_read_truth, lambda v: str(v).lower(), ""),
        int: Written(_read_whole, str, "N"),
        float: Written(_read_number, repr, "NUMBER"),
        str: Written(_read_word, str, "TEXT"),
    }
    return readers[kind]


def choices_of(option: Option) -> tuple[str, ...]:
    """The words that an option takes, if it takes a few only."""
    if option.mark(Written) is not None:
        return ()
    parts = get_args(option.type) if get_origin(option.type) in (Union, UnionType) else ()
    for kind in (option.type, *parts):
        if get_origin(kind) is Literal:
            return tuple(str(choice) for choice in get_args(kind))
    return ()


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type and its marks; those inside an optional one count too."""
    if get_origin(hint) is Annotated:
        bare, *_ = get_args(hint)
        inner, marks = _unwrapped(bare)
        return inner, (*hint.__metadata__, *marks)
    if get_origin(hint) in (Union, UnionType):
        marked = [part for part in get_args(hint) if get_origin(part) is Annotated]
        if len(marked) == 1:
            return hint, tuple(marked[0].__metadata__)
    return hint, ()


def _is_optional(kind: Any) -> bool:
    return kind is Any or NoneType in get_args(kind)


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Request)


def _is_default(value: Any, default: Any) -> bool:
    # Arrays and tables, which have no default but None, would compare element by element.
    return value is default or (default not in (REQUIRED, None) and bool(value == default))


def _default(field: Any) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _is_shape_like(value: tuple[Any, ...]) -> bool:
    """Whether a tuple is one shape or size rather than several values."""
    return all(part is None or isinstance(part, int) for part in value) and len(value) in (2, 3)


def _written(value: Any, write: Writer) -> str | None:
    try:
        return write(value)
    except (TypeError, ValueError, AttributeError):
        return None


def _plain(value: Any, write: Writer) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and all(
        part is None or isinstance(part, bool | int | float | str) for part in value
    ):
        return list(value)
    return _written(value, write)


def _parameters(kind: type[Request], leading: Sequence[str]) -> list[inspect.Parameter]:
    def of(option: Option) -> inspect.Parameter:
        place = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Parameter(
            option.name,
            place if option.name in leading else inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if option.default is REQUIRED else option.default,
        )

    options = options_of(kind)
    first = [o for o in options if o.name in leading and o.group is None]
    return [*map(of, first), *(of(o) for o in options if o not in first)]


def _documented(text: str, kind: type[Request]) -> str:
    """A docstring with the options where it says ``{options}``."""
    lines: list[str] = []
    for option in options_of(kind):
        lines.append(f"{option.name}: {option.text}")
    return text.replace("{options}", "\n        ".join(lines))
