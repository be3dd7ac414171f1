"""What each installation can do, and what the wheel holds."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import Distribution

import pytest
from packaging.requirements import Requirement

from inshape import extras
from inshape.backbones import backbones
from inshape.geometry.tables import is_storable, packed, stored_spec
from inshape.planning import _nameless, look_up, open_network

# Stands for an installation without extras: whatever those bring cannot be imported.
BARE = """
import contextlib, importlib.abc, io, json, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from inshape.cli.app import run
for words in json.loads(sys.argv[2]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(words)
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def test_without_extras_named_networks_are_listed_and_inspected(tmp_path):
    (tmp_path / "cat").mkdir()
    words = [
        ["inspect", "MobileNetV3Small", "97x64x1", "--classes", "5", "--json"],
        ["models", "nasnet"],
        ["train", str(tmp_path), "--input", "auto", "--out", str(tmp_path / "run")],
        ["export", str(tmp_path)],
        ["doctor"],
    ]
    modules = ",".join((*extras._OF_CPU, "jax", "torch"))
    done = subprocess.run(
        [sys.executable, "-c", BARE, modules, json.dumps(words)], capture_output=True, text=True
    )
    inspected, models, train, export, doctor = map(json.loads, done.stdout.splitlines())
    assert inspected[0] == 0, inspected
    # As Keras counts them: 939,120 of the network, less two of three channels, and the new head's.
    assert json.loads(inspected[1])["geometry"]["params"] == 939_120 - 2 * 9 * 16 + 577 * 5
    assert models[0] == 0
    assert (doctor[0], doctor[2]) == (1, "")
    assert "problem: Keras cannot be loaded" in doctor[1]
    for code, out, err in (train, export):
        assert (code, out) == (2, "")
        assert err.startswith("inshape: error: this takes ")
        assert "; expected the extra cpu of inshape, or gpu; pip install " in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize("name", ["MobileNetV3Small-minimalistic", "MobileNet-0.25"])
def test_stored_tables_are_what_keras_builds(name, top):
    """Where this fails, Keras or `graph.read` has changed: run ``python -m tools.layer_tables``."""
    read, stored = open_network(name, None, top=top).spec, look_up(name, top=top).spec
    assert _nameless(read) == _nameless(stored)
    assert is_storable(read)
    assert packed([(name, top, read)])  # every fact can be written down


def test_every_backbone_is_stored():
    asked = "InceptionResNetV2"  # has a layer that only Keras can be asked about
    assert stored_spec(asked, top=False) is None
    for backbone in (b for b in backbones() if b.name != asked):
        for top in (False, True):
            spec = stored_spec(backbone.name, top=top)
            assert spec is not None, "run python -m tools.layer_tables"
            assert spec.input_shape.hw == backbone.native_hw


def test_a_build_on_a_looked_up_network_is_the_network(monkeypatch):
    network = look_up("MobileNetV3Small-minimalistic", top=False)
    assert network.opened is None
    assert network.model.count_params() == 441_000


@pytest.fixture(scope="module")
def wheel(repo_dir, tmp_path_factory):
    """The wheel as ``python -m build`` makes it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=repo_dir, check=True, capture_output=True,
    )  # fmt: skip
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_every_file_of_the_package(wheel, repo_dir):
    listed = subprocess.run(
        ["git", "ls-files", "src/inshape"], cwd=repo_dir, check=True, capture_output=True, text=True
    )
    expected = {name.removeprefix("src/") for name in listed.stdout.splitlines()}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected
    assert {"inshape/layers.jsonl.xz", "inshape/weights/demo.safetensors"} <= names


def test_extras_have_a_purpose_and_the_demo_s_lock_is_part_of_the_whole(wheel, repo_dir):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode()
    provided = {x.split(": ")[1] for x in text.splitlines() if x.startswith("Provides-Extra: ")}
    assert set(extras.PURPOSES) == provided - {"dev", "docs", "zoo"}
    whole, demo = (
        {x.split(" ")[0] for x in (repo_dir / lock).read_text().splitlines() if "==" in x[:60]}
        for lock in ("requirements.lock", "requirements-demo.lock")
    )
    assert demo < whole
    cpu = tomllib.loads((repo_dir / "pyproject.toml").read_text())["project"]
    needed = cpu["optional-dependencies"]["cpu"] + cpu["optional-dependencies"]["keras"]
    locked = {x.split("==")[0] for x in demo}
    assert {Requirement(x).name for x in needed} - {"inshape"} <= locked


class Stated(Distribution):
    """An installation whose metadata says what is written here."""

    def read_text(self, filename):
        return (
            "Metadata-Version: 2.4\nName: inshape\nVersion: 1\n"
            "Requires-Dist: numpy>=2.0\nRequires-Dist: inshape[keras]; extra == 'cpu'\n"
            "Requires-Dist: no-such-package[a]>=3; extra == 'cpu'\n"
            "Requires-Dist: keras>=3; extra == 'keras'\n"
        )

    def locate_file(self, path):
        return path


def test_what_to_install_is_what_is_missing(monkeypatch):
    found = Distribution.from_name
    monkeypatch.setattr(
        Distribution, "from_name", lambda name: Stated() if name == "inshape" else found(name)
    )
    # The extra's name alone is of no use beside a clone, which no index knows.
    assert extras.install("cpu") == "pip install 'no-such-package[a]>=3'"
    assert extras.install("keras") == "pip install 'keras>=3'"  # all of it where nothing lacks
    assert [r.name for r in extras.of_extra(None)] == ["numpy"]
    advice = extras.advice_for(ModuleNotFoundError(name="keras.layers"))
    assert advice.startswith("this takes keras, which is not installed; expected the extra cpu")
