"""How large and how branched the source is, room by room.

    python -m tools.code_table            # every room and the total
    python -m tools.code_table data       # the functions of a room that stand out

Lines of code, of docstrings and of comments; functions above complexity 10 (McCabe's with
conditions and comprehensions, by Radon); functions with more than seven parameters, ``self`` and
``cls`` not counted, request values left out.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from radon.complexity import cc_visit
from radon.visitors import Class

from inshape.text import align

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "inshape"
MOST_BRANCHES = 10
MOST_PARAMETERS = 7


@dataclass(frozen=True, slots=True)
class Function:
    """A function that stands out."""

    place: str
    name: str
    amount: int


@dataclass(frozen=True, slots=True)
class Room:
    """The size of some files."""

    name: str
    modules: int
    code: int
    docstring: int
    comment: int
    branched: tuple[Function, ...]
    wide: tuple[Function, ...]

    def row(self) -> tuple[str, ...]:
        """The room as a line of the table."""
        most = max((f.amount for f in self.branched), default=0)
        return (
            self.name,
            *(str(n) for n in (self.modules, self.code, self.docstring, self.comment)),
            str(len(self.branched)),
            str(most or ""),
            str(len(self.wide)),
        )


def measure(name: str, paths: list[Path]) -> Room:
    """Count the lines of files and list the functions that stand out."""
    code = docstring = comment = 0
    wide: list[Function] = []
    branched: dict[str, Function] = {}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        documented = {line for lines in _docstrings(tree) for line in lines}
        commented = {
            token.start[0]
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type == tokenize.COMMENT and token.line.strip().startswith("#")
        }
        written = {n for n, line in enumerate(text.splitlines(), 1) if line.strip()}
        docstring += len(documented & written)
        comment += len(commented)
        code += len(written - documented - commented)
        wide += _wide(path, tree)
        branched |= {found.place: found for found in _branched(path, text)}
    return Room(name, len(paths), code, docstring, comment, tuple(branched.values()), tuple(wide))


def _docstrings(tree: ast.Module) -> Iterator[range]:
    """The lines of docstrings and of the texts below fields."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for child in body if isinstance(body, list) else ():
            is_text = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if is_text and isinstance(child.value.value, str):
                yield range(child.lineno, (child.end_lineno or child.lineno) + 1)


def _wide(path: Path, tree: ast.Module) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len([a for a in given if a.arg not in ("self", "cls")])
            if count > MOST_PARAMETERS:
                yield Function(f"{path.relative_to(PACKAGE)}:{node.lineno}", node.name, count)


def _branched(path: Path, text: str) -> Iterator[Function]:
    for block in cc_visit(text):
        for one in (block, *getattr(block, "methods", ())):
            if not isinstance(one, Class) and one.complexity > MOST_BRANCHES:
                yield Function(
                    f"{path.relative_to(PACKAGE)}:{one.lineno}", one.name, one.complexity
                )


def main() -> None:
    """Print the table."""
    rooms: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        rooms.setdefault(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), []).append(path)
    asked = sys.argv[1:]
    for name in asked:
        room = measure(name, rooms[name])
        for kind, functions in (("complexity", room.branched), ("parameters", room.wide)):
            for f in sorted(functions, key=lambda f: -f.amount):
                print(f"{f.place}: {f.name}, {kind} {f.amount}")
    if not asked:
        table = [measure(name, paths) for name, paths in rooms.items()]
        every = [path for paths in rooms.values() for path in paths]
        heads = ("room", "modules", "code", "docstring", "comment", ">10", "worst", ">7 params")
        rows = [room.row() for room in (*table, measure("all", every))]
        print("\n".join(align([heads, *rows], left=1)))


if __name__ == "__main__":
    main()
