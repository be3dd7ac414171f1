"""The public names: there, lazy, and never hidden by the files of the same name."""

import importlib
import pickle
import re
import subprocess
import sys
from types import FunctionType, ModuleType

import pytest

import inshape

FUNCTIONS_AND_FILES = ["adapt", "train", "evaluate", "predict", "report"]


def test_every_listed_name_exists():
    for name in inshape.__all__:
        assert getattr(inshape, name) is not None


def test_the_static_names_are_the_listed_ones():
    assert set(inshape.__all__) <= set(dir(inshape))
    assert set(inshape._HOMES) | {"errors", "__version__"} == set(inshape.__all__)


@pytest.mark.parametrize("name", FUNCTIONS_AND_FILES)
def test_a_function_is_not_hidden_by_its_file(name):
    module = importlib.import_module(f"inshape.{name}")
    assert isinstance(module, ModuleType)
    assert isinstance(getattr(inshape, name), FunctionType)
    assert getattr(inshape, name) is getattr(module, name)


@pytest.mark.parametrize(
    "first",
    [
        "import inshape.adapt",
        "from inshape import adapt",
        "from inshape.train import Recipe",
    ],
)
def test_the_function_stays_whatever_was_imported_first(first):
    code = (
        f"{first}\n"
        "import inshape, sys, types\n"
        "from inshape import adapt, train\n"
        "import inshape.adapt, inshape.train\n"
        "for name in ('adapt', 'train'):\n"
        "    function = getattr(inshape, name)\n"
        "    assert isinstance(function, types.FunctionType), (name, function)\n"
        "    assert function.__module__.startswith('inshape.' + name)\n"
        "    assert isinstance(sys.modules['inshape.' + name], types.ModuleType)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_import_under_another_name_gives_the_function():
    import inshape.planning as another

    assert another is inshape.adapt


def test_functions_can_be_pickled():
    assert pickle.loads(pickle.dumps(inshape.adapt)) is inshape.adapt


def test_other_files_are_still_attributes():
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
