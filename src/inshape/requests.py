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
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache, wraps
from itertools import pairwise
from numbers import Real
from operator import index
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from .errors import RequestError, UnknownName, shown
from .shapes import InputShape
from .text import Unread, read_bytes, read_count, read_ms, to_float

Reader: TypeAlias = Callable[[Any], Any]
"""From what a user wrote, in Python or on the command line, to the value; the value to itself."""
Writer: TypeAlias = Callable[[Any], str | None]
"""From a value to what stands for it on the command line; ``None`` where nothing does."""
REQUIRED = MISSING
"""The default of a field that has none."""
_CHOICE = "choice"
_DOC_WIDTH = 92


@dataclass(frozen=True, slots=True)
class Written:
    """How a value is written where its type alone does not say it."""

    read: Reader
    write: Writer = str
    metavar: str = "VALUE"
    names: tuple[str, ...] = ()
    """Those that it takes, where they are few; the option's text ends with them."""
    check: Callable[[Any], object] | None = None
    """Refuses a value that is not there; see `check_inputs`."""


@dataclass(frozen=True, slots=True)
class Range:
    """Which numbers are taken."""

    low: float
    high: float = math.inf

    def holds(self, value: Any) -> bool:
        """Whether a number is in it; what is no number is not its business."""
        return not isinstance(value, int | float) or self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low} or more" if math.isinf(self.high) else f"{self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Flag:
    """Another name on the command line; the empty one leaves it out there."""

    name: str
    short: str = ""
    """One more, that people type for it."""


@dataclass(frozen=True, slots=True)
class Without:
    """Fields of a group that are no options of the whole."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OptionsOnly:
    """A group that no keyword stands for as a whole, since another option of the whole does."""


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
    def short_flag(self) -> str:
        """Another name on the command line; empty if it has none."""
        mark = self.mark(Flag)
        return "" if mark is None else mark.short

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off, and takes no value on the command line."""
        return self.mark(Written) is None and _without_none(self.type) is bool

    @property
    def is_many(self) -> bool:
        """Whether several words stand for it on the command line."""
        mark = self.mark(Positional)
        return mark is not None and mark.many

    @property
    def is_list(self) -> bool:
        """Whether it takes several values."""
        kind = _without_none(self.type)
        return get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis

    @property
    def written(self) -> Written:
        """How its values are read and written."""
        return self.mark(Written) or _written_by_type(self.type)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it takes, if it takes a few only."""
        kind = _without_none(self.type)
        is_choice = self.mark(Written) is None and get_origin(kind) is Literal
        return tuple(map(str, get_args(kind))) if is_choice else ()

    def take(self, value: Any, label: str | None = None) -> Any:
        """Read what a user wrote, and refuse what it cannot be.

        ``label`` stands before the value in the message, by default as in Python: ``epochs=``.
        """
        if value is None and NoneType in (self.type, *get_args(self.type)):
            return None
        label = f"{self.name}=" if label is None else label
        try:
            result = self.written.read(value)
        except Unread as unread:
            raise RequestError(f"{label}{unread}") from None
        except UnknownName as unknown:
            if unknown.kind != _CHOICE:
                raise
            raise UnknownName(self.name, value, unknown.choices) from None
        limits = self.mark(Range)
        if limits is not None and not limits.holds(result):
            raise RequestError(f"{label}{shown(result)}; expected {limits}")
        return result


_Mark = TypeVar("_Mark")


class Request:
    """The base of requests and of their groups."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @classmethod
    def answer_to(cls, name: str, values: Mapping[str, Any]) -> str:
        """What to write instead of an option that has another name elsewhere; empty if unknown."""
        return ""

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
        record = {
            option.name: _plain(getattr(self, option.name), option.written.write)
            for option in own_options(type(self))
        }
        return record | {name: getattr(self, name).as_dict() for name in groups(type(self))}


_Request = TypeVar("_Request", bound=Request)


@cache
def own_options(kind: type[Request]) -> tuple[Option, ...]:
    """The options that are a request's own, without those of its groups."""
    hints = get_type_hints(kind, include_extras=True)
    texts = field_texts(kind)
    return tuple(
        Option(
            field.name, None, bare, _default(field), _text(texts.get(field.name, ""), marks), marks
        )
        for field in fields(kind)
        for bare, marks in [_unwrapped(hints[field.name])]
        if not _is_group(bare)
    )


def _text(text: str, marks: tuple[Any, ...]) -> str:
    """An option's text, with the names that it takes."""
    names = [name for mark in marks if isinstance(mark, Written) for name in mark.names]
    return f"{text.removesuffix('.')}: {', '.join(names)}." if names else text


@cache
def groups(kind: type[Request]) -> dict[str, tuple[type[Request], frozenset[str]]]:
    """The groups of a request by field, each with the fields that are no options of the whole."""
    hints = get_type_hints(kind, include_extras=True)
    by_field: dict[str, tuple[type[Request], frozenset[str]]] = {}
    for field in fields(kind):
        bare, marks = _unwrapped(hints[field.name])
        if _is_group(bare):
            left_out = (mark.names for mark in marks if isinstance(mark, Without))
            by_field[field.name] = bare, frozenset(name for names in left_out for name in names)
    return by_field


@cache
def wholes(kind: type[Request]) -> dict[str, type[Request]]:
    """The groups that a keyword stands for as a whole."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        name: group
        for name, (group, _) in groups(kind).items()
        if not any(isinstance(mark, OptionsOnly) for mark in _unwrapped(hints[name])[1])
    }


@cache
def options_of(kind: type[Request]) -> tuple[Option, ...]:
    """All options of a request: its own first, then those of each group."""
    options = list(own_options(kind))
    for name, (group, left_out) in groups(kind).items():
        options += [
            replace(option, group=name)
            for option in own_options(group)
            if option.name not in left_out
        ]
    return tuple(options)


def make(kind: type[_Request], /, **values: Any) -> _Request:
    """A request from keywords: options of groups by their own names, or a group as a whole.

    Raises:
        RequestError: if a value cannot be what it is for, or one is missing.
        UnknownName: if there is no such option.
    """
    direct, by_group = _sorted_by_group(kind, values)
    for name, (group, _) in groups(kind).items():
        whole = direct.pop(name, None)
        if whole is not None and not isinstance(whole, group):
            raise RequestError(
                f"{name}={shown(whole)}; expected a {group.__name__}, or its options by their "
                "own names"
            )
        if by_group[name]:
            whole = replace(group() if whole is None else whole, **by_group[name])
        if whole is not None:
            direct[name] = whole
    for option in own_options(kind):
        if option.default is REQUIRED and option.name not in direct:
            raise RequestError(f"{option.name} is missing; expected: {option.text}")
    return kind(**direct)


def _sorted_by_group(
    kind: type[Request], values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A request's own values and whole groups, and the values of each group's options."""
    by_group: dict[str, dict[str, Any]] = {name: {} for name in groups(kind)}
    known = {option.name: option.group for option in options_of(kind)}
    direct: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known and name not in by_group:
            answer = kind.answer_to(name, values)
            raise UnknownName("option", name, (*known, *wholes(kind)), answer=answer)
        group = known.get(name)
        (direct if group is None else by_group[group])[name] = value
    return direct, by_group


def flat(request: Request) -> dict[str, Any]:
    """Every value by its option's name, and the groups as wholes."""
    values = {option.name: getattr(request, option.name) for option in own_options(type(request))}
    return values | {name: getattr(request, name) for name in groups(type(request))}


def restore(kind: type[_Request], record: Mapping[str, Any], /, **values: Any) -> _Request:
    """Read back what `Request.as_dict` wrote down; ``values`` take the place of some of it."""
    known = {option.name for option in own_options(kind)}
    direct = {name: record[name] for name in known if name in record}
    wholes = {
        name: restore(group, record.get(name, {})) for name, (group, _) in groups(kind).items()
    }
    return make(kind, **{**direct, **wholes, **values})


def check_inputs(request: Request) -> None:
    """Refuse files and folders that are not there; nothing slow is loaded for it."""
    for option in options_of(type(request)):
        holder = request if option.group is None else getattr(request, option.group)
        value, check = getattr(holder, option.name), option.written.check
        if check is not None and value is not None:
            check(value)


def command_of(name: str, request: Request) -> str | None:
    """The command that makes the same request; ``None`` for what can only be said in Python."""
    if _says_more(request):
        return None
    positional: list[str] = []
    words: list[str] = []
    for option in options_of(type(request)):
        holder = request if option.group is None else getattr(request, option.group)
        value = getattr(holder, option.name)
        if _is_default(value, option.default):
            continue
        written = _words(option, value)
        if written is None:
            return None
        (words if option.mark(Positional) is None else positional).extend(written)
    if any(word.startswith("-") for word in positional):
        # Behind -- nothing is taken for an option.
        positional, words = [*words, "--", *positional], []
    return shlex.join(["inshape", name, *positional, *words])


def _says_more(request: Request) -> bool:
    """Whether a group was passed whole and says what is no option of the whole."""
    return any(
        not _is_default(getattr(getattr(request, field), option.name), option.default)
        for field, (group, left_out) in groups(type(request)).items()
        for option in own_options(group)
        if option.name in left_out
    )


def _words(option: Option, value: Any) -> list[str] | None:
    """A value with its option on the command line."""
    if not option.flag:
        return None
    if option.is_switch:
        return [f"--{option.flag}" if value else f"--no-{option.flag}"]
    values = value if option.is_many and isinstance(value, list | tuple) else [value]
    words: list[Any] = [_written(each, option.written.write) for each in values]
    if None in words:
        return None
    if option.mark(Positional):
        return words
    (word,) = words
    return [f"--{option.flag}={word}"] if word.startswith("-") else [f"--{option.flag}", word]


_Result = TypeVar("_Result")
_Result_co = TypeVar("_Result_co", covariant=True)


class Taking(Protocol[_Result_co]):
    """A function with the keywords of a request."""

    @property
    def as_asked(self) -> Callable[..., _Result_co]:
        """The function that takes the request itself."""
        ...

    def __call__(self, *args: Any, **options: Any) -> _Result_co:
        """Make the request of these values, and meet it."""
        ...


def takes(kind: type[Request]) -> Callable[[Callable[..., _Result]], Taking[_Result]]:
    """Give a function the keywords of a request in its signature and its documentation.

    The function takes the request itself as its first parameter and may take others by keyword;
    what comes out takes the request's options instead, the first two of them also by place. As
    ``as_asked`` it keeps the function itself.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        _, *others = inspect.signature(function).parameters.values()

        @wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            if len(args) > len(leading):
                raise RequestError(
                    f"{function.__name__} was given {len(args)} values without a name; expected at "
                    f"most {len(leading)} ({', '.join(leading)}); name the others"
                )
            by_place = dict(zip(leading, args, strict=False))
            twice = next((name for name in by_place if name in keywords), None)
            if twice is not None:
                raise RequestError(f"{function.__name__} was given {twice} twice; leave one out")
            rest = {o.name: keywords.pop(o.name) for o in others if o.name in keywords}
            return function(make(kind, **by_place, **keywords), **rest)

        leading = [o.name for o in own_options(kind)][:2]
        call.__signature__ = inspect.Signature(  # pyright: ignore[reportAttributeAccessIssue]
            [*_parameters(kind, leading), *others],
            return_annotation=inspect.signature(function).return_annotation,
        )
        call.__doc__ = _documented(function.__doc__ or "", kind)
        call.__dict__["as_asked"] = function
        return call

    return decorate


def _parameters(kind: type[Request], leading: Sequence[str]) -> list[inspect.Parameter]:
    by_place, by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    options = [
        inspect.Parameter(
            option.name,
            by_place if option.name in leading else by_name,
            default=inspect.Parameter.empty if option.default is REQUIRED else option.default,
        )
        for option in options_of(kind)
    ]
    return [*options, *(inspect.Parameter(name, by_name, default=None) for name in wholes(kind))]


def _documented(text: str, kind: type[Request]) -> str:
    """A docstring with the options where it says ``{options}``."""
    lines: list[str] = []
    for option in options_of(kind):
        silent = [choice for choice in option.choices if choice not in option.text]
        choices = f" One of {', '.join(option.choices)}." if silent else ""
        words = f"{option.name}: {option.text}{choices}"
        lines += _wrapped(words)
    texts = field_texts(kind)
    for name, group in wholes(kind).items():
        lines += _wrapped(f"{name}: {texts[name]} A whole {group.__name__} in one value.")
    return text.replace("{options}", "\n        ".join(lines))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _DOC_WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def field_texts(kind: type) -> dict[str, str]:
    """The text below each field of a class and of those that it derives from."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__[: kind.__mro__.index(Request)]):
        for statements in pairwise(_class_bodies(base.__module__).get(base.__name__, ())):
            match statements:
                case (
                    ast.AnnAssign(target=ast.Name(name)),
                    ast.Expr(value=ast.Constant(str(text))),
                ):
                    texts[name] = " ".join(text.split())
                case _:
                    pass
    return texts


@cache
def _class_bodies(module: str) -> dict[str, list[ast.stmt]]:
    """The statements of each class in a module; none where its source is not there."""
    # Read once: inspect.getsource would parse the module anew for every class, a tenth of a second.
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):
        return {}
    return {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}


def many(read: Reader, *, single: tuple[type, ...] = ()) -> Reader:
    """Read several values: a list, words with commas between, or one value.

    ``single`` are the types of which a row of nothing but numbers is one value: three numbers are
    one input shape, while strides are a value each.

    Example:
        >>> read_shapes = many(InputShape.of, single=(list, tuple))
        >>> read_shapes("96x96x1,?x?x3") == read_shapes(["96x96x1", "?x?x3"])
        True
        >>> len(read_shapes((96, 96, 1))), len(read_shapes("96,96,1")), many(read_whole)((4, 8, 16))
        (1, 1, (4, 8, 16))
    """

    def read_all(value: Any) -> tuple[Any, ...]:
        if hasattr(value, "tolist"):  # NumPy's arrays and numbers
            value = value.tolist()
        if isinstance(value, str):
            parts = [word.strip() for word in value.split(",") if word.strip()]
        elif isinstance(value, Iterable):
            parts: list[Any] = [*value]
        else:
            return (read(value),)
        kind = tuple if isinstance(value, tuple) else list
        if parts and kind in single and all(map(_is_length, parts)):
            return (read(value if isinstance(value, str) else kind(parts)),)
        return tuple(map(read, parts))

    return read_all


def _is_length(part: Any) -> bool:
    """Whether a part of a shape or a size is one of its numbers."""
    if isinstance(part, str):
        return part.isdecimal() or part == "?"
    return part is None or isinstance(part, Real)


@dataclass(frozen=True, slots=True)
class Joined:
    """Writes several values with commas between."""

    write_one: Writer

    def __call__(self, values: Any) -> str | None:
        """The values as `many` reads them; ``None`` if it would not read the same."""
        words = [_written(value, self.write_one) for value in values]
        sayable = [w for w in words if w is not None and w == w.strip() and w and "," not in w]
        return ",".join(sayable) if len(sayable) == len(words) else None


def joined(write: Writer) -> Writer:
    """Write several values with commas between."""
    return Joined(write)


def read_hw(value: Any) -> tuple[int, int]:
    """Read a height and a width: ``160x224`` or a pair.

    Example:
        >>> read_hw("160x224"), read_hw([96, 96])
        ((160, 224), (96, 96))
    """
    parts = value.lower().replace("×", "x").split("x") if isinstance(value, str) else value
    try:
        height, width = (read_whole(part) for part in parts)
    except (TypeError, ValueError, Unread):
        height = width = 0
    if height < 1 or width < 1:
        raise Unread(value, "a size as HxW, height first, such as 160x224")
    return height, width


def write_hw(value: Sequence[int]) -> str:
    """Write a height and a width."""
    return "x".join(map(str, value))


def read_path(value: Any) -> Path:
    """Read a path."""
    if not isinstance(value, str | Path):
        raise Unread(value, "a path")
    try:
        path = Path(value).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # 260 letters, ~nobody, a NUL byte
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise Unread(value, f"a path that can be looked up ({reason})") from None
    return path


def read_location(value: Any) -> Any:
    """Read the path of a file or folder; what is no path stays as it is."""
    return read_path(value) if isinstance(value, str) else value


def read_word_or_number(value: Any) -> str | int:
    """Read a word, or a number where it is one."""
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        return value
    try:
        return read_whole(value)
    except Unread:
        raise Unread(value, "a word or a whole number") from None


def write_file(value: Any) -> str | None:
    """Write a name, or a file in full, so that it holds from any folder.

    What is neither can only be said in Python.
    """
    if not isinstance(value, str | Path):
        return None
    # A file beside the command that only has a backbone's name is not meant.
    return _in_full(value) if Path(value).suffix else str(value)


def _in_full(value: str | Path) -> str:
    """The path of a file that is there; anything else as it is."""
    path = Path(value).expanduser()
    return str(path.resolve()) if path.is_file() else str(value)


def write_source(value: Any) -> str | None:
    """Write where pictures are, in full, so that it holds from any folder."""
    return str(Path(value).resolve()) if isinstance(value, str | Path) else None


def read_weights(value: Any) -> str | None:
    """Read where weights come from.

    Example:
        >>> read_weights("None"), read_weights(Path("a.h5"))
        (None, 'a.h5')
    """
    if value is not None and not isinstance(value, str | Path):
        raise Unread(value, "imagenet, none, demo, a file, hf://OWNER/NAME or kaggle://PRESET")
    return None if value is None or str(value).lower() == "none" else str(value)


def write_weights(value: str | Path | None) -> str:
    """Write where weights come from, a file in full."""
    if value is None:
        return "none"
    return str(value) if value in ("imagenet", "demo") else _in_full(value)


def read_whole(value: Any) -> int:
    """Read a whole number."""
    # int() alone would read 3.7 as 3, and index() True as 1.
    try:
        if not isinstance(value, bool):
            return int(value) if isinstance(value, str) else index(value)
    except (TypeError, ValueError):
        pass
    raise Unread(value, "a whole number")


Bytes = Annotated[int, Written(read_bytes, lambda v: f"{v}B", "SIZE")]
"""An amount of memory."""
Operations = Annotated[int, Written(read_count, str, "N")]
"""A number of operations."""
Milliseconds = Annotated[
    float, Written(read_ms, lambda v: f"{v!r}ms".replace(".0ms", "ms"), "TIME")
]
"""A time."""
Shape = Annotated[InputShape, Written(InputShape.of, str, "HxWxC")]
"""An input shape."""
File = Annotated[Path, Written(read_path, str, "FILE")]
"""A file."""
Folder = Annotated[Path, Written(read_path, str, "FOLDER")]
"""A folder."""
SizeHW = Annotated[tuple[int, int], Written(read_hw, write_hw, "HxW")]
"""A height and a width."""
Weights: TypeAlias = Annotated[str | Path | None, Written(read_weights, write_weights, "WEIGHTS")]
"""Where weights come from; see `inshape.weights.sources`."""


def _read_number(value: Any) -> float:
    number = math.nan if isinstance(value, bool) else to_float(value)
    if not math.isfinite(number):
        raise Unread(value, "a number")
    return number


_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _read_truth(value: Any) -> bool:
    truth: Any = _TRUTH.get(value.lower()) if isinstance(value, str) else value
    if hasattr(truth, "item"):  # NumPy's own
        truth = truth.item()
    if not isinstance(truth, bool):
        raise Unread(value, "true or false")
    return truth


def _read_word(value: Any) -> str:
    if not isinstance(value, str):
        raise Unread(value, "a word")
    return value


def _read_choice(choices: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise UnknownName(_CHOICE, value, map(str, choices))
        return value

    return read


_BY_TYPE: dict[Any, Written] = {
    bool: Written(_read_truth, lambda v: str(v).lower(), ""),
    int: Written(read_whole, str, "N"),
    float: Written(_read_number, repr, "NUMBER"),
    str: Written(_read_word, str, "TEXT"),
}


def _written_by_type(kind: Any) -> Written:
    kind = _without_none(kind)
    if get_origin(kind) is Annotated:
        written = next((m for m in kind.__metadata__ if isinstance(m, Written)), None)
        return written or _written_by_type(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return Written(_read_choice(get_args(kind)), str, "NAME")
    return _BY_TYPE[kind]


def _without_none(kind: Any) -> Any:
    """What an optional type is when it is there."""
    if get_origin(kind) in (Union, UnionType):
        parts = [part for part in get_args(kind) if part is not NoneType]
        return parts[0] if len(parts) == 1 else kind
    return kind


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


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Request)


def _is_default(value: Any, default: Any) -> bool:
    # Arrays and tables, which have no default but None, would compare element by element.
    return value is default or (default not in (REQUIRED, None) and bool(value == default))


def _default(field: Any) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _written(value: Any, write: Writer) -> str | None:
    try:
        return write(value)
    except (TypeError, ValueError, AttributeError):
        return None


def _plain(value: Any, write: Writer) -> Any:
    """A value as JSON can hold it."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(write, Joined):
        parts = [_plain(part, write.write_one) for part in value]
        return None if None in parts else parts
    if isinstance(value, list | tuple) and all(
        part is None or isinstance(part, bool | int | float | str) for part in value
    ):
        return list(value)
    return _written(value, write)
