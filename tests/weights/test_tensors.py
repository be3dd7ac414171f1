"""Files of PyTorch's world: what is read, and what is refused."""

from __future__ import annotations

import os
import pickle
import re
import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from inshape import extras
from inshape.errors import WeightsError
from inshape.weights.files import open_weights
from inshape.weights.tensors import open_pickle, open_safetensors


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def needs_torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def values() -> dict[str, np.ndarray]:
    return {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.count": np.array(3)}


def test_safetensors(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({**values(), "half": np.ones(3, np.float16)}, path, {"arch": "net"})
    with open_safetensors(path) as found:
        assert dict(found.shapes) == {"a.weight": (2, 3), "a.count": (), "half": (3,)}
        np.testing.assert_array_equal(found.read("a.weight"), values()["a.weight"])
        assert found.read("half").dtype == np.float32
        assert found.facts == {"arch": "net"}


def test_bfloat16_which_numpy_does_not_have(tmp_path):
    torch = needs_torch()
    save = pytest.importorskip("safetensors.torch").save_file
    tensor = torch.tensor([[1.5, -3.140625], [0.0, 1e-20]], dtype=torch.bfloat16)
    save({"a": tensor, "b": torch.ones(1)}, tmp_path / "a.safetensors")
    with open_safetensors(tmp_path / "a.safetensors") as found:
        np.testing.assert_array_equal(found.read("a"), tensor.float().numpy())


@pytest.mark.parametrize("kept", [9, 40, 0.9])
def test_a_truncated_safetensors_file(kept, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(values(), path)
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept > 1 else int(kept * len(content))])
    message = f"{path} is truncated or damaged (Error while deserializing header: "
    with pytest.raises(WeightsError, match=re.escape(message)) as error, open_weights(path):
        pass
    assert str(error.value).endswith("expected a whole file; download or save it again")
    assert "\n" not in str(error.value)


def test_offsets_beyond_the_file_are_not_followed(tmp_path):
    header = b'{"a":{"dtype":"F32","shape":[999999],"data_offsets":[0,3999996]}}'
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 16)
    message = f"{path} is truncated or damaged ("
    with pytest.raises(WeightsError, match=re.escape(message)), open_weights(path):
        pass


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", ["", "state_dict", "model"])
def test_a_pickle_of_tensors(zipped, wrapped, tmp_path):
    torch = needs_torch()
    state = OrderedDict((f"module.{k}", torch.from_numpy(v)) for k, v in values().items())
    content = {wrapped: state, "arch": "net", "epoch": 3} if wrapped else state
    path = tmp_path / "a.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with open_pickle(path) as found:
        assert dict(found.shapes) == {"a.weight": (2, 3), "a.count": ()}
        np.testing.assert_array_equal(found.read("a.weight"), values()["a.weight"])
        assert found.facts == ({"arch": "net"} if wrapped else {})


def test_averaged_weights_come_first(tmp_path):
    torch = needs_torch()
    both = {"state_dict": {"a": torch.zeros(1)}, "state_dict_ema": {"a": torch.ones(1)}}
    torch.save(both, tmp_path / "a.pth")
    with open_pickle(tmp_path / "a.pth") as found:
        assert found.read("a") == 1


@pytest.mark.parametrize("form", ["torch", "plain", "protocol 4"])
def test_a_pickle_that_would_run_code_is_refused(form, tmp_path):
    torch = needs_torch()
    trace, path = tmp_path / "it_ran", tmp_path / "a.pth"
    content = {"a": torch.ones(1), "b": Harmful(trace)}
    if form == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(Harmful(trace), protocol=2 if form == "plain" else 4))
    with pytest.raises(WeightsError) as error, open_weights(path):
        pass
    assert not trace.exists()
    what = (
        "is a pickle of something else than tensors, or damaged (Unsupported operand 149)"
        if form == "protocol 4"
        else "is a pickle that calls posix.system, not tensors alone"
    )
    assert str(error.value) == (
        f"{path} {what}; nothing of it was run; expected tensors alone; save them with "
        "safetensors.torch.save_file(model.state_dict(), 'model.safetensors'), if you trust it"
    )
    pickle.loads(pickle.dumps(Harmful(trace)))  # what Python's own unpickler makes of it
    assert trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_pickle(zipped, tmp_path):
    torch = needs_torch()
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(999)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:-300])
    message = f"{path} is truncated or damaged ("
    with pytest.raises(WeightsError, match=re.escape(message)) as error, open_weights(path):
        pass
    assert "\n" not in str(error.value)


def test_a_pickle_of_something_else(tmp_path):
    torch = needs_torch()
    path = tmp_path / "a.pth"
    torch.save({"epoch": 3, "best": 0.5}, path)
    message = f"{path} holds a dict of epoch, best and no tensors; expected tensors alone; save "
    with pytest.raises(WeightsError, match=re.escape(message)), open_weights(path):
        pass
    torch.save([1, 2], path)
    message = f"{path} holds a list and no tensors; "
    with pytest.raises(WeightsError, match=re.escape(message)), open_weights(path):
        pass


def test_a_pickle_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(extras, "is_met", lambda requirement: requirement.name != "torch")
    path = tmp_path / "a.pth"
    path.write_bytes(pickle.dumps({"a": 1}, protocol=2))
    message = (
        f"{path} is a file of PyTorch's, which only torch can read, and torch is not installed; "
        "pip install 'torch>=2.6', or give the same weights as .safetensors"
    )
    with pytest.raises(WeightsError, match=re.escape(message)), open_weights(path):
        pass


def test_a_pytorch_that_can_be_made_to_run_code(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__="2.5.1+cpu"))
    path = tmp_path / "a.pth"
    path.write_bytes(pickle.dumps({"a": 1}, protocol=2))
    message = (
        f"{path} is a pickle, and torch 2.5.1+cpu can be made to run code by one; expected torch "
        "2.6 or newer; pip install -U torch, or give the same weights as .safetensors"
    )
    with pytest.raises(WeightsError, match=re.escape(message)), open_weights(path):
        pass
