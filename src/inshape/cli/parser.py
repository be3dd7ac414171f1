"""From the words of a command line to a request, by tyro."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import tyro
from tyro import conf, constructors

from ..errors import RequestError
from ..requests import (
    REQUIRED,
    Option,
    Positional,
    Request,
    choices_of,
    field_texts,
    groups,
    own_options,
)

_Request = TypeVar("_Request", bound=Request)
_BOX = re.compile(r"[─╭╮╰╯│]+")


@dataclass(frozen=True, slots=True)
class OutputOptions(Request):
    """What is printed."""

    json: bool = False
    """Print one JSON object; text goes to standard error."""
    debug: bool = False
    """Show the traceback of an error."""


def parse(
    kind: type[_Request], words: Sequence[str], *, program: str, description: str
) -> tuple[_Request, OutputOptions]:
    """Read a command's words; ``--help`` prints the options and exits.

    Raises:
        RequestError: if they are not understood.
    """
    registry = constructors.ConstructorRegistry()
    named = {word.split("=")[0].removeprefix("--") for word in words if word.startswith("--")}
    left_out = {name for _, names in groups(kind).values() for name in names}

    @registry.struct_rule
    def group(info: constructors.StructTypeInfo) -> constructors.StructConstructorSpec | None:
        if not (isinstance(info.type, type) and issubclass(info.type, Request)):
            return None
        is_whole = info.type is kind
        parts = [
            _field(option, named)
            for option in own_options(info.type)
            if option.flag and (is_whole or option.name not in left_out)
        ]
        if not is_whole:
            return constructors.StructConstructorSpec(info.type, tuple(parts))
        texts = field_texts(kind)
        parts += [
            constructors.StructFieldSpec(name, group_kind, group_kind(), helptext=texts[name])
            for name, (group_kind, _) in groups(kind).items()
        ]
        text = "What is printed."
        parts.append(
            constructors.StructFieldSpec("output", OutputOptions, OutputOptions(), helptext=text)
        )
        return constructors.StructConstructorSpec(
            lambda output, **values: (kind(**values), output), tuple(parts)
        )

    message = io.StringIO()
    try:
        with redirect_stderr(message):
            return tyro.cli(  # pyright: ignore[reportReturnType]
                kind,
                prog=program,
                description=description,
                args=list(words),
                registry=registry,
                config=(conf.OmitArgPrefixes,),
            )
    except SystemExit as end:
        if end.code == 0:  # help
            raise
        raise RequestError(f"{_in_one_line(message.getvalue())}; see {program} --help") from None


def _field(option: Option, named: set[str]) -> constructors.StructFieldSpec:
    """An option as tyro takes it; a positional one may be given by its name instead."""
    positional = option.mark(Positional)
    by_place = positional is not None and option.flag not in named
    is_many = positional is not None and positional.many
    marks: list[Any] = [conf.Positional] if by_place else []
    is_required = option.default is REQUIRED
    hint = "(required)" if is_required else _default_text(option)
    marks.append(conf.arg(name=None if by_place else option.flag, help_behavior_hint=hint))
    if isinstance(option.default, bool):
        type_: Any = bool
        if not option.default:
            marks.append(conf.FlagCreatePairsOff)
    else:
        type_ = object
        written = option.written
        metavar = "|".join(choices_of(option)) or written.metavar
        marks.append(
            constructors.PrimitiveConstructorSpec(
                nargs="*" if is_many else 1,
                metavar=metavar,
                instance_from_str=lambda words: option.take(words[0] if len(words) == 1 else words),
                is_instance=lambda value: True,
                str_from_instance=lambda value: [_shown(option, value)],
            )
        )
    default = tyro.MISSING if is_required else option.default
    return constructors.StructFieldSpec(
        option.name, Annotated[type_, *marks], default, helptext=option.text
    )


def _shown(option: Option, value: Any) -> str:
    return "none" if value is None else option.written.write(value) or ""


def _default_text(option: Option) -> str:
    if option.default is None:
        return ""
    if isinstance(option.default, bool):
        return "(default: on)" if option.default else ""
    return f"(default: {_shown(option, option.default)})" if option.default != () else ""


def _in_one_line(text: str) -> str:
    r"""What tyro says in a box, without the box and what the help says as well.

    Example:
        >>> _in_one_line("╭─ Unrecognized options ─╮\n│ Unrecognized options: --epoch, 3 │")
        'no such option: --epoch'
    """
    lines = [" ".join(_BOX.sub(" ", line).split()) for line in text.splitlines()]
    lines = [line for line in lines[1:] if line and not line.startswith("For full helptext")]
    first, *rest = lines or ["not understood"]
    names = [line.split()[0] for line in rest if line.startswith("--") or line.split()[0].isupper()]
    if first.startswith("Unrecognized options:"):
        received = first.removeprefix("Unrecognized options:").split(",")
        flags = [word.strip() for word in received if word.strip().startswith("-")]
        close = f"; did you mean {names[0]}?" if names else ""
        return f"no such option: {', '.join(flags) or received[0].strip()}{close}"
    if first.startswith("Missing from"):
        return f"missing: {', '.join(names)}"
    return " ".join(line for line in lines if line not in rest or "helptext" not in line)
