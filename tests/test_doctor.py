"""What `inshape doctor` finds, against what is really there."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys

import keras
import pytest
from packaging.requirements import Requirement

from inshape import doctor


@pytest.fixture(name="here", scope="module")
def _here() -> doctor.Diagnosis:
    return doctor.diagnose()


def installed(monkeypatch, **versions):
    """Let these packages be missing (None) or of another version."""
    real = importlib.metadata.version

    def version(name):
        wanted = versions.get(name.replace("-", "_"), real)
        if wanted is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return wanted if isinstance(wanted, str) else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_versions_and_backend_are_those_that_are_loaded(here):
    assert here.versions["keras"] == keras.__version__
    assert here.backend == keras.backend.backend()
    assert here.backends[here.backend] is not None
    assert str(here).startswith("versions\n  inshape ")
    assert f"{here.backends[here.backend]}, in use" in str(here)
    assert here.problems == ()
    assert str(here).endswith("no problems found")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity there")
def test_cores_that_this_process_may_not_use_do_not_count():
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from inshape.processor import count_cores, describe_processor\n"
        "assert (count_cores(), describe_processor().rsplit(', ')[-1]) == (1, '1 cores')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sizes_are_those_of_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "keras" / "models" / "deep").mkdir(parents=True)
    (tmp_path / "keras" / "models" / "a.h5").write_bytes(b"1234567")
    (tmp_path / "keras" / "models" / "deep" / "b.h5").write_bytes(b"123")
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    (tmp_path / "kaggle").mkdir()
    downloads, hub, presets, pictures = doctor._places()
    assert (downloads.folder, downloads.bytes) == (str(tmp_path / "keras" / "models"), 10)
    assert (pictures.folder, pictures.bytes) == (str(tmp_path / "cache/inshape/pictures"), None)
    assert (hub.folder, hub.bytes) == (str(tmp_path / "cache/huggingface/hub"), None)
    assert (presets.folder, presets.bytes) == (str(tmp_path / "kaggle"), 0)
    assert doctor._place_lines(downloads)[0].endswith(": 10 B")
    assert doctor._place_lines(pictures)[0].endswith(": nothing yet")


def test_the_hubs_folder_is_the_one_that_its_library_uses(monkeypatch, tmp_path):
    code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    for changes in ({}, {"HF_HOME": "~/h"}, {"HF_HUB_CACHE": "~/c"}, {"XDG_CACHE_HOME": "/x"}):
        names = ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "HUGGINGFACE_HUB_CACHE")
        with monkeypatch.context() as patch:
            for name in names:
                patch.delenv(name, raising=False)
            for name, value in {"HOME": str(tmp_path), **changes}.items():
                patch.setenv(name, value)
            answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            assert str(doctor._hub_cache()) == answer.stdout.strip()


def test_a_missing_extra_comes_with_the_line_that_installs_it(monkeypatch):
    installed(monkeypatch, onnx=None, tf2onnx="0.1")
    extras = {extra.name: extra for extra in doctor._extras()}
    onnx = {Requirement(text).name: Requirement(text) for text in extras["onnx"].missing}
    assert set(onnx) == {"onnx", "tf2onnx"}
    listed = {
        (r.name, str(r.specifier))
        for r in map(Requirement, importlib.metadata.requires("inshape"))
        if r.marker and r.marker.evaluate({"extra": "onnx"})
    }
    assert {(r.name, str(r.specifier)) for r in onnx.values()} <= listed
    assert extras["onnx"].command == "pip install " + " ".join(
        f"'{text}'" for text in extras["onnx"].missing
    )
    assert extras["pandas"].command is None


def test_cpu_is_not_missing_where_gpu_is_complete(monkeypatch):
    installed(monkeypatch, tensorflow="9.0", tensorflow_cpu=None)
    names = [extra.name for extra in doctor._extras()]
    assert "gpu" in names
    assert "cpu" not in names


def test_an_old_requirement_is_a_problem(monkeypatch):
    installed(monkeypatch, numpy="1.26.4", tyro=None)
    problems = doctor.diagnose().problems
    assert problems == (
        "inshape needs numpy>=2.0, and found 1.26.4; pip install 'numpy>=2.0'",
        "inshape needs tyro>=1.0, and it is not installed; pip install 'tyro>=1.0'",
    )


def test_a_gpu_that_the_backend_does_not_see_is_a_problem(monkeypatch):
    def run(words, **options):
        assert words[0] == "nvidia-smi"
        return subprocess.CompletedProcess(words, 0, "NVIDIA H100, 81559 MiB\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["cpu:0"])
    diagnosis = doctor.diagnose()
    backend = keras.backend.backend()
    assert diagnosis.problems == (
        f"the driver knows NVIDIA H100, 81559 MiB, and {backend} does not see it; install the "
        f"build of {backend} with CUDA (for TensorFlow, the extra gpu)",
    )
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0"])
    diagnosis = doctor.diagnose()
    assert diagnosis.problems == ()
    assert "gpu:0" in str(diagnosis)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["cpu:0"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose
    assert doctor.diagnose().problems == ()


def test_a_backend_that_cannot_be_loaded_is_a_problem(monkeypatch):
    import builtins

    real = builtins.__import__

    def without_keras(name, *rest):
        if name == "keras":
            raise ModuleNotFoundError("No module named\n'tensorflow'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_keras)
    assert doctor._load_backend() == (
        None,
        (),
        [
            "Keras cannot be loaded (No module named 'tensorflow'); install a backend, such as the "
            "extra cpu"
        ],
    )
