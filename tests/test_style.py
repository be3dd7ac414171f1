"""House rules that no linter knows."""

from __future__ import annotations

import ast
import re
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


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_no_comparison_is_thrown_away():
    assert not {name(p): lines for p in TESTS if (lines := bare_answers(tree_of(p)))}


@pytest.mark.parametrize(
    "code",
    ["np.allclose(a, b)", "np.array_equal(a, b)", "allclose(a, b)", "a == b", "isinstance(a, int)"],
)
def test_a_thrown_away_comparison_is_seen(code):
    assert bare_answers(ast.parse(f"def test():\n    {code}\n")) == [2]
    assert bare_answers(ast.parse(f"def test():\n    assert {code}\n")) == []


def test_errors_come_from_the_tree():
    # A ValueError would reach the user of the command line as a traceback.
    plain = {"Exception", "ValueError", "RuntimeError", "TypeError", "KeyError"}
    raised = [
        f"{name(path)}:{node.lineno}: {node.exc.func.id}"
        for path in SOURCES
        if name(path) not in KERAS_LAYERS
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id in plain
    ]
    assert not raised


def test_cores_are_counted_in_one_place():
    # os.cpu_count() knows nothing of the cores that a process was given.
    counting = [p for p in SOURCES if re.search(r"cpu_count|sched_getaff", p.read_text("utf-8"))]
    assert [name(path) for path in counting] == ["src/inshape/processor.py"]


def test_every_file_says_what_it_is_for():
    silent = [p for p in SOURCES if p.read_text(encoding="utf-8").strip()]
    assert not [name(p) for p in silent if not ast.get_docstring(tree_of(p))]


def test_no_word_stands_alone_between_quotes():
    # A message that is too long for a line is built from parts that are whole phrases.
    lone = re.compile(r'^\s+f?"[^" {}%]{1,14} ?"$')
    found = [
        f"{name(path)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if lone.match(line)
    ]
    assert not found
