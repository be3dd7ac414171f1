"""From the words of a command line to a request, by tyro."""

from __future__ import annotations

import difflib
import inspect
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Annotated, Any, Optional, TypeVar

import tyro
from tyro import conf, constructors

from ..errors import RequestError
from ..requests import (
    REQUIRED,
    Option,
    Positional,
    Request,
    field_texts,
    groups,
    options_of,
    own_options,
)

_Request = TypeVar("_Request", bound=Request)
_BOX = re.compile(r"[─╭╮╰╯│]+")
_MISSING = object()
"""Stands for what was not written; tyro's own word for it would end in tyro's own message."""


@dataclass(frozen=True, slots=True)
class OutputOptions(Request):
    """What is printed."""

    json: bool = False
    """Print one JSON object, text on standard error."""
    wide: bool = False
    """Print every column of a table, however wide the terminal is."""
    debug: bool = False
    """Show the traceback of an error, and what libraries say."""


def parse(
    kind: type[_Request], words: Sequence[str], *, program: str, description: str
) -> _Request:
    """Read a command's words; ``--help`` prints the options and exits.

    Raises:
        RequestError: if they are not understood.
    """
    try:
        _check_words(kind, words)
        return _parse(kind, words, program, description)
    except Misunderstood as error:
        raise RequestError(f"{error}; see {program} --help") from None


class Misunderstood(RequestError):
    """The words are no command; its help says more."""


def _options_by_word(kind: type[Request]) -> dict[str, Option]:
    """What can be written, such as ``--latency`` and ``--no-latency``, and what it means."""
    options = {f"--{o.flag}": o for o in (*options_of(kind), *options_of(OutputOptions)) if o.flag}
    options |= {f"--{o.short_flag}": o for o in options.values() if o.short_flag}
    both = [name for name, o in options.items() if o.is_switch and o.default is not False]
    return options | {f"--no-{name[2:]}": options[name] for name in both}


def _check_words(kind: type[Request], words: Sequence[str]) -> None:
    """Refuse options that there are not, that a value is missing from, and that stand there twice.

    tyro does so too, in a box that is as wide as the terminal, but takes the last of two.
    """
    options = _options_by_word(kind)
    given: set[str] = set()
    for word, following in zip(words, (*words[1:], None), strict=False):
        if word in ("--", "--help"):
            return
        if word.startswith("--"):
            option = _check_option(word, following, options)
            if option.flag in given:
                advice = "put commas between its values" if option.is_list else "leave one out"
                raise Misunderstood(f"--{option.flag} is given twice; expected it once; {advice}")
            given.add(option.flag)


def _check_option(word: str, following: str | None, options: Mapping[str, Option]) -> Option:
    name, equals, _ = word.partition("=")
    name = name.replace("_", "-")
    if name not in options:
        close = difflib.get_close_matches(name, options, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise Misunderstood(f"no such option: {name}{hint}")
    if options[name].is_switch:
        if equals:
            raise Misunderstood(f"{name} takes no value; expected {name} alone")
    elif not equals and (following is None or re.match("--|-[a-zA-Z]", following)):
        raise Misunderstood(f"{name} has no value; expected {name} {_metavar(options[name])}")
    return options[name]


def _parse(kind: type[_Request], words: Sequence[str], program: str, description: str) -> _Request:
    message = io.StringIO()
    try:
        with redirect_stderr(message):
            answer: Any = tyro.cli(
                kind,
                prog=program,
                description=description,
                args=list(words),
                registry=_registry(kind, words),
                config=(conf.OmitArgPrefixes,),
                return_unknown_args=True,
            )
    except SystemExit as end:
        if end.code == 0:  # help
            raise
        raise Misunderstood(" ".join(_BOX.sub(" ", message.getvalue()).split())) from None
    values, unknown = answer
    if unknown:
        raise Misunderstood(f"{unknown[0]!r} is one value too many")
    missing = [
        _metavar(option) if option.mark(Positional) else f"--{option.flag}"
        for option in own_options(kind)
        if option.flag and values[option.name] is _MISSING
    ]
    if missing:
        raise Misunderstood(f"missing: {', '.join(missing)}")
    return kind(**values)


def _registry(kind: type[Request], words: Sequence[str]) -> constructors.ConstructorRegistry:
    """How tyro takes a request: its own options, then a group each for those of its groups."""
    registry = constructors.ConstructorRegistry()
    named = {word.split("=")[0] for word in words}

    @registry.struct_rule
    def rule(info: constructors.StructTypeInfo) -> constructors.StructConstructorSpec | None:
        part: Any = info.type
        if not (inspect.isclass(part) and issubclass(part, Request)):
            return None
        if part is not kind:
            left_out = next((n for k, n in groups(kind).values() if k is part), frozenset[str]())
            return constructors.StructConstructorSpec(part, tuple(_fields(part, named, left_out)))
        texts = field_texts(kind)
        parts = _fields(kind, named, frozenset())
        for name, (group, _) in groups(kind).items():
            parts.append(_group_field(name, group, texts[name]))
        parts.append(_group_field("output", OutputOptions, "What is printed."))
        return constructors.StructConstructorSpec(_without_output, tuple(parts))

    return registry


def _without_output(output: OutputOptions, **values: Any) -> Mapping[str, Any]:
    # What is printed was decided before: an error in these words is printed that way too.
    return values


def _group_field(name: str, group: type[Request], text: str) -> constructors.StructFieldSpec:
    title = group.__name__.removesuffix("Options").lower()
    type_: Any = Annotated[group, conf.arg(name=title)]
    return constructors.StructFieldSpec(name, type_, group(), helptext=text)


def _fields(
    kind: type[Request], named: set[str], left_out: frozenset[str]
) -> list[constructors.StructFieldSpec]:
    return [
        _field(option, named)
        for option in own_options(kind)
        if option.flag and option.name not in left_out
    ]


def _field(option: Option, named: set[str]) -> constructors.StructFieldSpec:
    """An option as tyro takes it; a positional one may be given by its name instead."""
    positional = option.mark(Positional)
    if f"--{option.flag}" in named:
        positional = None
    is_required = option.default is REQUIRED
    hint = "(required)" if is_required else _default_text(option)
    name = option.flag if positional is None else None
    short = [f"--{option.short_flag}"] if option.short_flag else None
    marks: list[Any] = [conf.arg(name=name, aliases=short, help_behavior_hint=hint)]
    if positional is not None:
        metavar = _metavar(option) if is_required else f"[{_metavar(option)}]"
        marks = [conf.Positional, conf.arg(help_behavior_hint=hint, metavar=metavar)]
    take = _switch if option.is_switch else _primitive
    type_, mark = take(option, positional)
    default = _MISSING if is_required else option.default
    marked: Any = Annotated[type_, *marks, mark]
    return constructors.StructFieldSpec(option.name, marked, default, helptext=option.text)


def _switch(option: Option, _: Positional | None) -> tuple[Any, Any]:
    # One of three, with nothing decided, has both ways too. For "bool | None" tyro would load
    # typeguard, a tenth of a second.
    type_: Any = bool if isinstance(option.default, bool) else Optional[bool]  # noqa: UP045
    return type_, conf.FlagCreatePairsOff if option.default is False else conf.DisallowNone


def _primitive(option: Option, positional: Positional | None) -> tuple[Any, Any]:
    is_many = positional is not None and positional.many
    label = f"--{option.flag} " if positional is None else f"{_metavar(option)} "

    def read(words: list[str]) -> Any:
        return option.take(words[0] if len(words) == 1 else words, label)

    mark: Any = constructors.PrimitiveConstructorSpec(
        nargs="*" if is_many else 1,
        metavar=_metavar(option),
        instance_from_str=read,
        is_instance=lambda value: True,
        str_from_instance=lambda value: [_shown(option, value)],
    )
    return object, mark


def _metavar(option: Option) -> str:
    return "|".join(option.choices) or option.written.metavar


def _shown(option: Option, value: Any) -> str:
    return "none" if value is None else option.written.write(value) or ""


def _default_text(option: Option) -> str:
    default = option.default
    if default is None or default is False or default in ((), ""):
        return ""
    return f"(default: {'on' if default is True else _shown(option, default)})"
