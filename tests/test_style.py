"""House rules that no linter knows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
SOURCES = sorted((REPO / "src").rglob("*.py"))
TESTS = sorted((REPO / "tests").rglob("*.py"))

# Keras itself expects a ValueError from a layer that is given a bad argument.
KERAS_LAYERS = {"src/inshape/graph/layers.py"}

# Each of these returns a truth value; as a statement of its own it tests nothing.
ANSWERS = {
    "allclose",
    "array_equal",
    "array_equiv",
    "isclose",
    "isfinite",
    "issubset",
    "isinstance",
}


def bare_answers(tree: ast.AST) -> list[int]:
    """Lines on which a comparison is made and its result thrown away."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and (
            (isinstance(node.value, ast.Call) and _called(node.value) in ANSWERS)
            or isinstance(node.value, ast.Compare)
        )
    ]


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def name(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_no_comparison_is_thrown_away(path):
    lines = bare_answers(ast.parse(path.read_text(encoding="utf-8")))
    assert not lines, f"{name(path)}: comparison without assert on line {lines}"


@pytest.mark.parametrize(
    "code",
    ["np.allclose(a, b)", "np.array_equal(a, b)", "allclose(a, b)", "a == b", "isinstance(a, int)"],
)
def test_a_thrown_away_comparison_is_seen(code):
    assert bare_answers(ast.parse(f"def test():\n    {code}\n")) == [2]
    assert bare_answers(ast.parse(f"def test():\n    assert {code}\n")) == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_file_is_too_long(path):
    count = len(path.read_text(encoding="utf-8").splitlines())
    assert count <= 400, f"{name(path)} has {count} lines; one idea per file, at most 400"


@pytest.mark.parametrize("path", [p for p in SOURCES if name(p) not in KERAS_LAYERS], ids=name)
def test_public_errors_come_from_the_tree(path):
    # A ValueError would reach the user of the command line as a traceback.
    plain = {"Exception", "ValueError", "RuntimeError", "TypeError", "KeyError"}
    raised = [
        f"line {node.lineno}: {node.exc.func.id}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id in plain
    ]
    assert not raised, f"{name(path)} raises an error that is not an InshapeError: {raised}"


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name != "__init__.py"], ids=name)
def test_every_file_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
