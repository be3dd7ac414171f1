"""The public names: there, lazy, and nothing hidden by another."""

import importlib
import inspect
import pickle
import re
import sys
from types import FunctionType, ModuleType

import pytest

import inshape

FUNCTIONS = [
    "plan", "adapt", "load", "train", "resume", "evaluate", "predict", "compare", "report", "export"
]  # fmt: skip


def test_every_listed_name_exists():
    for name in inshape.__all__:
        assert getattr(inshape, name) is not None


def test_the_static_names_are_the_listed_ones():
    assert set(inshape.__all__) <= set(dir(inshape))
    assert set(inshape._HOMES) | {"errors", "__version__"} == set(inshape.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_a_function_and_no_room_is_called_like_it(name):
    assert isinstance(getattr(inshape, name), FunctionType)
    home = importlib.import_module(f"inshape.{inshape._HOMES[name]}")
    assert getattr(home, name) is getattr(inshape, name)
    assert getattr(inshape, name).__module__ == home.__name__
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"inshape.{name}")


def test_every_module_can_be_imported_under_another_name():
    """``import inshape.training.student as S`` gives the module; none is anything but a module."""
    import inshape.comparison.api as api
    import inshape.planning as planning
    import inshape.training.student as student

    for module in (inshape, api, student, planning):
        assert type(module) is ModuleType
    assert inshape.compare is api.compare
    assert inshape.adapt is planning.adapt
    modules = [m for name, m in sys.modules.items() if name.startswith("inshape")]
    assert {type(module) for module in modules} == {ModuleType}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_can_be_pickled(name):
    function = getattr(inshape, name)
    assert pickle.loads(pickle.dumps(function)) is function


def test_other_files_are_attributes():
    importlib.import_module("inshape.geometry.spec")
    assert isinstance(inshape.geometry, ModuleType)
    assert inshape.errors is importlib.import_module("inshape.errors")


def test_a_name_that_is_not_there():
    with pytest.raises(
        AttributeError, match=re.escape("module 'inshape' has no attribute 'adpat'")
    ):
        inshape.adpat  # noqa: B018


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert inshape.__version__ == version("inshape")


def exists(word, owner):
    """Whether a name of a docstring is one of its class, its module, or the package."""
    module = importlib.import_module(owner.__module__)
    parts = word.removeprefix("inshape.").split(".")
    for start in (owner, module, inshape):
        found = start
        for part in parts:
            found = getattr(found, part, None)
        if found is not None:
            return True
    *home, last = parts
    try:
        return hasattr(importlib.import_module(".".join(["inshape", *home])), last) or bool(
            importlib.import_module(f"inshape.{'.'.join(parts)}")
        )
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("name", [n for n in inshape.__all__ if n not in ("errors", "__version__")])
def test_help_names_only_what_exists(name):
    value = getattr(inshape, name)
    documented = [value]
    if inspect.isclass(value):
        documented += [v for k, v in vars(value).items() if not k.startswith("_")]
    for one in documented:
        words = re.findall(r"(?<!`)`([A-Za-z_][\w.]*)`(?!`)", inspect.getdoc(one) or "")
        assert [word for word in words if not exists(word, value)] == []


def test_a_name_that_does_not_exist_is_seen():
    assert exists("errors.DataError", inshape.plan)
    assert exists("build", inshape.Plan)
    assert not exists("buidl", inshape.Plan)
