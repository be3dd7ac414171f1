"""Imports go one way: each file imports only from its own room and from rooms above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "inshape"

# From top to bottom. A room is a file or a folder of the package.
ROOMS = [
    "_version",
    "errors",
    "shapes",
    "text",
    "writing",
    "extras",
    "processor",
    "caching",
    "progress",
    "quiet",
    "requests",
    "limits",
    "geometry",
    "graph",
    "backbones",
    "keras_words",
    "weights",
    "importing",
    "strategies",
    "heads",
    "tasks",
    "adaptation",
    "planning",
    "data",
    "loading",
    "runtime",
    "runs",
    "features",
    "reporting",
    "evaluation",
    "training",
    "exporting",
    "prediction",
    "comparison",
    "choosing",
    "demo",
    "doctor",
    "studio",
    "cli",
    "__main__",
]

# What a light room may not import, however indirectly.
FRAMEWORKS = ("keras", "tensorflow", "jax", "torch", "sklearn", "ai_edge_litert")


def files() -> dict[str, Path]:
    """Every module of the package by its dotted name inside it; the package itself is ''."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


FILES = files()


def imported(module: str, tree: ast.AST) -> set[str]:
    """The modules of the package that a module imports, inside functions too."""
    is_package = FILES[module].name == "__init__.py"
    here = module.split(".") if module else []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "inshape":
                    found.add(_longest(alias.name.split(".")[1:]))
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = here[: len(here) - (node.level - is_package)]
                start = base + (node.module.split(".") if node.module else [])
            elif node.module and node.module.split(".")[0] == "inshape":
                start = node.module.split(".")[1:]
            else:
                continue
            found |= {_longest([*start, alias.name]) for alias in node.names}
    return found


def _longest(parts: list[str]) -> str:
    """The module that a dotted path leads to: `geometry.spec.LayerSpec` -> `geometry.spec`."""
    while parts and ".".join(parts) not in FILES:
        parts = parts[:-1]
    return ".".join(parts)


def without_typing(tree: ast.Module) -> ast.Module:
    """The tree without what stands under `if TYPE_CHECKING:`."""

    class Drop(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            is_typing = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return None if is_typing else self.generic_visit(node)

    return Drop().visit(tree)


def tree_of(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def room(module: str) -> str:
    return module.split(".")[0]


MODULES = [module for module in FILES if module]


def test_every_file_stands_in_a_known_room():
    assert not [module for module in MODULES if room(module) not in ROOMS]


def test_imports_go_only_to_rooms_above():
    upward = {
        f"{module} -> {target}"
        for module in MODULES
        for target in imported(module, tree_of(module))
        if target and ROOMS.index(room(target)) > ROOMS.index(room(module))
    }
    assert not upward


def test_no_file_imports_from_the_front_page():
    assert not [module for module in MODULES if "" in imported(module, tree_of(module))]


def test_no_public_name_hides_a_file():
    import inshape

    tops = {module.split(".")[0] for module in MODULES} - {"errors"}
    assert not tops & set(inshape.__all__)


def test_no_import_cycles():
    graph = {m: imported(m, without_typing(tree_of(m))) - {m} for m in FILES if m}
    # Raises CycleError, which names the cycle.
    tuple(TopologicalSorter(graph).static_order())


def test_the_front_page_loads_nothing_but_the_version():
    assert imported("", without_typing(tree_of(""))) == {
        "_version",
        "extras",  # where something is missing
    }


def test_light_rooms_name_no_framework():
    light = ("geometry", "shapes", "errors", "text", "requests", "heads")
    named = set()
    for module in [m for m in MODULES if room(m) in light]:
        for node in ast.walk(tree_of(module)):
            names = [alias.name for alias in getattr(node, "names", ())]
            if isinstance(node, ast.ImportFrom):
                names = [] if node.level else [node.module or ""]
            elif not isinstance(node, ast.Import):
                continue
            named |= {f"{module}: {n}" for n in names if n.split(".")[0] in FRAMEWORKS}
    assert not named


@pytest.mark.parametrize(
    "code",
    [
        "import inshape",
        "import inshape; inshape.InputShape.of('96x128x1'); inshape.errors",
        "import pkgutil, importlib, inshape.geometry as g\n"
        "for m in pkgutil.iter_modules(g.__path__):\n"
        "    importlib.import_module(f'{g.__name__}.{m.name}')",
        "import sys; sys.argv = ['inshape', '--help']\n"
        "from inshape.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code",
        "import sys\n"
        "from inshape.cli.app import run\n"
        "from inshape.cli.commands import COMMANDS\n"
        "for words in [*([name] for name in COMMANDS), ['train', '--resume', 'a']]:\n"
        "    assert run([*words, '--help']) == 0, words\n"
        "slow = {'scipy', 'pandas', 'plotly', 'jinja2', 'rich.table', 'typeguard'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)",
        "from inshape.cli.app import run\n"
        "for line in ['train no --input 8x8x1 --out a', 'compare no', 'evaluate no no',\n"
        "             'train --resume no', 'export no']:\n"
        "    assert run(line.split()) == 2, line",
    ],
    ids=[
        "import",
        "shapes",
        "geometry",
        "help",
        "help of every command",
        "inputs that are missing",
    ],
)
def test_light_paths_load_no_framework(code):
    code += (
        "\nimport sys"
        f"\nheavy = [name for name in {FRAMEWORKS!r} if name in sys.modules]"
        "\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_walk_sees_imports_of_every_form():
    code = (
        "import inshape.geometry.spec\n"
        "from inshape.errors import InshapeError\n"
        "def f():\n"
        "    from ..shapes import Size\n"
        "    from . import padding\n"
        "    from .. import errors\n"
        "    from ..geometry.spec import LayerSpec\n"
        "    from numpy import array\n"
    )
    assert imported("graph.read", ast.parse(code)) == {
        "geometry.spec",
        "errors",
        "shapes",
        "graph.padding",
    }
