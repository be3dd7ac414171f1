"""Let Griffe, which reads the source without running it, see what the project's docstrings mean.

- ``Example:`` is renamed to ``Examples:``, a section of code. Griffe takes the former for a box of
  running text, in which ``>>>`` would become quotations.
- A function under ``@takes(SomeRequest)`` has the request's options as its keywords. Its source has
  one parameter ``request`` and ``{options}`` in the docstring; both are filled in here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import griffe

from inshape.requests import REQUIRED, Option, Request, options_of, own_options

PLACE = "{options}"


class Examples(griffe.Extension):
    """Renames the section in every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the section of one object."""
        if obj.docstring is not None:
            obj.docstring.value = rename_examples(obj.docstring.value)


class Options(griffe.Extension):
    """Writes the options of requests into functions that take them."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Go through a package once all of its files are read, so that names lead somewhere."""
        for function in functions_in(pkg):
            for decorator in function.decorators:
                call = decorator.value
                if isinstance(call, griffe.ExprCall) and decorator.callable_path.endswith(".takes"):
                    fill_options(function, load_request(call.arguments[0]))


def functions_in(module: griffe.Module) -> Iterator[griffe.Function]:
    """The functions of a package and of everything in it, aliases left out."""
    for member in module.members.values():
        if isinstance(member, griffe.Function):
            yield member
        elif isinstance(member, griffe.Module):
            yield from functions_in(member)


def load_request(name: Any) -> type[Request]:
    """The class that an expression in the source names."""
    module, _, request = name.canonical_path.rpartition(".")
    return getattr(import_module(module), request)


def fill_options(function: griffe.Function, kind: type[Request]) -> None:
    """Put a request's options in the place of the parameter ``request``."""
    options = options_of(kind)
    _, *others = function.parameters
    by_place = [option.name for option in own_options(kind)][:2]
    parameters = [parameter_of(option, by_place=option.name in by_place) for option in options]
    function.parameters = griffe.Parameters(*parameters, *others)
    if function.docstring is not None:
        lines = [f"{option.name}: {option.text}" for option in options]
        text = function.docstring.value
        indent = re.search(rf"^( *){re.escape(PLACE)}$", text, re.MULTILINE)
        assert indent is not None, f"{function.path} takes a request and has no {PLACE}"
        function.docstring.value = text.replace(PLACE, f"\n{indent[1]}".join(lines))


def parameter_of(option: Option, *, by_place: bool) -> griffe.Parameter:
    """An option as a parameter of a function."""
    kinds = griffe.ParameterKind
    return griffe.Parameter(
        option.name,
        annotation=type_text(option.type),
        kind=kinds.positional_or_keyword if by_place else kinds.keyword_only,
        default=None if option.default is REQUIRED else repr(option.default),
    )


def type_text(kind: Any) -> str:
    """A type as it would be written in the source; how its values are read is left out.

    Example:
        >>> type_text(Annotated[int, "5"] | None), type_text(tuple[str, ...])
        ('int | None', 'tuple[str, ...]')
        >>> type_text(Literal["a", "b"])
        "Literal['a', 'b']"
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return type_text(parts[0])
    if origin in (Union, UnionType):
        return " | ".join(map(type_text, parts))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, parts))}]"
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(type_text, parts))}]"
    return {NoneType: "None", Ellipsis: "..."}.get(kind) or kind.__name__


def rename_examples(text: str) -> str:
    r"""A docstring with the section's other name.

    Example:
        >>> rename_examples("Add.\n\nExample:\n    >>> 1 + 1\n    2")
        'Add.\n\nExamples:\n    >>> 1 + 1\n    2'
    """
    return re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
