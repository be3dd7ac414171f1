"""The public names: there, lazy, and nothing hidden by another."""

import importlib
import pickle
import re
import sys
from types import FunctionType, ModuleType

import pytest

import inshape

FUNCTIONS = [
    "plan", "adapt", "train", "resume", "evaluate", "predict", "compare", "report", "export"
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
