"""The Hugging Face Hub, played by a server on this machine."""

from __future__ import annotations

import hashlib
import json
import re
import sys

import numpy as np
import pytest
from huggingface_hub import constants, hf_hub_download
from safetensors.numpy import save_file
from tools.pytorch_goldens import GOLDENS, pictures, seeded_state

from inshape.backbones import find
from inshape.errors import WeightsError
from inshape.weights.files import open_weights
from inshape.weights.hub import from_hub
from inshape.weights.sources import load_source
from inshape.weights.state_dict import StateDict

NAME = "timm/mobilenetv3_small_050.lamb_in1k"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def published(server, tmp_path, monkeypatch):
    """Publishes a file in a repository; answers as the hub does."""
    monkeypatch.setenv("HF_ENDPOINT", server.url.rstrip("/"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def publish(file: str, content: bytes, revision: str = "main") -> None:
        path = f"/{NAME}/resolve/{revision}/{file}"
        target = server.folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        is_large = file.endswith(".safetensors")
        digest = (
            hashlib.sha256(content)
            if is_large
            else hashlib.sha1(b"blob %d\0" % len(content) + content)
        )
        server.headers[path] = {"ETag": f'"{digest.hexdigest()}"', "X-Repo-Commit": COMMIT}

    for missing in ("config.json", "model.safetensors"):
        server.headers[f"/{NAME}/resolve/main/{missing}"] = {
            "X-Error-Code": "EntryNotFound",
            "X-Repo-Commit": COMMIT,
        }
    return publish


def safetensors(tmp_path, **arrays: np.ndarray) -> bytes:
    save_file(arrays or {"a": np.arange(50_000, dtype=np.float32)}, tmp_path / "x.safetensors")
    return (tmp_path / "x.safetensors").read_bytes()


def test_weights_and_configuration_come_together_and_stay(published, server, tmp_path):
    content = safetensors(tmp_path)
    published("model.safetensors", content)
    published("config.json", b"{}")
    path = from_hub(f"hf://{NAME}")
    assert path.read_bytes() == content
    assert path.with_name("config.json").read_bytes() == b"{}"
    before = len(server.got)
    assert before == 2
    assert from_hub(f"hf://{NAME}").read_bytes() == content
    assert len(server.got) == before  # asked whether they are still the same, and not fetched
    server.folder.rename(tmp_path / "gone")
    assert from_hub(f"hf://{NAME}").read_bytes() == content
    assert {path.rsplit("/", 1)[1] for path in server.got[before:]} == set()


def test_a_repository_without_a_configuration(published, tmp_path):
    published("model.safetensors", safetensors(tmp_path))
    assert from_hub(f"hf://{NAME}").is_file()


def test_a_configuration_that_could_not_be_fetched_is_not_taken_for_none(
    published, server, tmp_path, monkeypatch
):
    """The weights alone would be read with the wrong padding, epsilon and normalisation."""
    published("model.safetensors", safetensors(tmp_path))
    published("config.json", b"{}")
    hf_hub_download(NAME, "model.safetensors", endpoint=server.url.rstrip("/"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = f"cannot download config.json of hf://{NAME} (LocalEntryNotFoundError: "
    with pytest.raises(WeightsError, match=re.escape(message)):
        from_hub(f"hf://{NAME}")


def test_that_there_is_no_configuration_is_remembered(published, tmp_path, monkeypatch):
    published("model.safetensors", safetensors(tmp_path))
    path = from_hub(f"hf://{NAME}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert from_hub(f"hf://{NAME}") == path


def test_another_revision_and_file(published, tmp_path):
    content = safetensors(tmp_path)
    published("sub/b.safetensors", content, revision="v2")
    published("config.json", b"{}", revision="v2")
    assert from_hub(f"hf://{NAME}@v2/sub/b.safetensors").read_bytes() == content


def test_a_broken_connection_is_tried_again(published, server, tmp_path):
    content = safetensors(tmp_path)
    published("model.safetensors", content)
    server.breaks_off_after = [120_000]
    assert from_hub(f"hf://{NAME}").read_bytes() == content
    gets = [path for path, _ in server.asked if path.endswith("model.safetensors")]
    assert len(gets) >= 3  # the question, the answer that broke off, and another one


def test_a_file_that_is_not_what_the_hub_published(published, server, tmp_path):
    content = safetensors(tmp_path)
    published("model.safetensors", content)
    file = server.folder / NAME / "resolve" / "main" / "model.safetensors"
    file.write_bytes(content[:-1] + b"!")
    with pytest.raises(WeightsError) as error:
        from_hub(f"hf://{NAME}")
    digest = hashlib.sha256(content).hexdigest()
    text = str(error.value)
    assert re.search(rf"is damaged \(hash \w{{12}}, expected {digest[:12]} as published for ", text)
    assert re.search(rf"; delete \S+{digest} and try again$", text)


def test_no_connection(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)  # huggingface_hub tries for twenty seconds
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as error:
        from_hub(f"hf://{NAME}")
    text = str(error.value)
    assert text.startswith(f"cannot download config.json of hf://{NAME} (Local")
    assert text.endswith(
        f"; expected a connection, or http://127.0.0.1:9/{NAME}/resolve/main/model.safetensors and "
        "its config.json in one folder; put them there, and give "
        "weights='FOLDER/model.safetensors'"
    )
    assert "\n" not in text


@pytest.mark.usefixtures("published")
def test_a_repository_without_weights():
    message = f"cannot download model.safetensors of hf://{NAME} ("
    with pytest.raises(WeightsError, match=re.escape(message)):
        from_hub(f"hf://{NAME}")


@pytest.mark.parametrize("name", ["hf://timm", "hf://timm/net/model.bin", "hf://a/b/../c", "hf://"])
def test_a_name_that_is_none(name):
    message = (
        f"{name!r} is no name of weights on the hub; expected hf://OWNER/NAME, @REVISION or "
        "/FILE.safetensors behind it, such as hf://timm/mobilenetv3_small_100.lamb_in1k"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        from_hub(name)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = (
        f"hf://{NAME} needs huggingface-hub, which is not installed; "
        "pip install 'huggingface-hub>=0.30', or download the file and give its path as weights"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        from_hub(f"hf://{NAME}")


def test_a_network_is_loaded_by_its_name_on_the_hub(published, tmp_path):
    stored = json.loads(GOLDENS.read_text(encoding="utf-8"))["timm mobilenetv3_small_050"]
    state = seeded_state({key: tuple(shape) for key, shape in stored["shapes"].items()})
    published("model.safetensors", safetensors(tmp_path, **state))
    config = {"architecture": "mobilenetv3_small_050", "num_classes": 10}
    published("config.json", json.dumps(config).encode())
    model = load_source(find("MobileNetV3Small-0.5"), f"hf://{NAME}", include_top=True)
    got = np.asarray(model(pictures((224, 224))))
    want = np.array(stored["logits"]["224x224"])
    assert np.abs(got - want).max() < 1e-4 * want.std()


def test_the_name_on_the_hub_tells_tensorflows_networks(published, tmp_path):
    """Where neither a configuration nor the file says it."""
    tf = "timm tf_mobilenetv3_small_075"
    stored = json.loads(GOLDENS.read_text(encoding="utf-8"))[tf]
    state = seeded_state({key: tuple(shape) for key, shape in stored["shapes"].items()})
    save_file(state, tmp_path / "model.safetensors")
    name = "hf://timm/tf_mobilenetv3_small_075.in1k"
    with open_weights(tmp_path / "model.safetensors", name) as found:
        assert isinstance(found, StateDict)
        assert found.origin.architecture == "tf_mobilenetv3_small_075"
        assert (found.origin.symmetric, found.origin.epsilon) == (False, 1e-3)
        assert found.origin.mean == (0.5, 0.5, 0.5)
