"""Weights from the Hugging Face Hub: ``hf://timm/mobilenetv3_small_100.lamb_in1k``.

``huggingface_hub`` downloads (with a progress bar, resumed where a connection broke off) and keeps
the files in its own cache. Only ``.safetensors`` files are taken, which hold nothing that could be
run, and timm's ``config.json``.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from ..extras import install

PREFIX = "hf://"

_FORM = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+?))?(/(?P<file>[\w./-]+\.safetensors))?"
)


def from_hub(name: str) -> Path:
    """Download weights, or find them in the cache."""
    match = _FORM.fullmatch(name)
    if match is None:
        raise WeightsError(
            f"{name!r} is no name of weights on the hub; expected hf://OWNER/NAME, @REVISION or "
            "/FILE.safetensors behind it, such as hf://timm/mobilenetv3_small_100.lamb_in1k"
        )
    try:
        hub = importlib.import_module("huggingface_hub")
        errors = importlib.import_module("huggingface_hub.errors")
    except ImportError as error:
        raise WeightsError(
            f"{name} needs huggingface-hub, which is not installed; {install('hub')}, or "
            "download the file and give its path as weights"
        ) from error
    repo, revision = match["repo"], match["revision"]
    endpoint = os.environ.get("HF_ENDPOINT")
    file = match["file"] or "model.safetensors"
    url = hub.hf_hub_url(repo, file, revision=revision, endpoint=endpoint)

    def fetched(wanted: str) -> Path:
        try:
            return _fetched(hub, repo, wanted, revision, endpoint)
        except WeightsError:
            raise
        except Exception as error:  # its own errors, and those of the HTTP library underneath
            reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")
            raise WeightsError(
                f"cannot download {wanted} of {name} ({type(error).__name__}: {reason}); expected "
                f"a connection, or {url} and its config.json in one folder; put them there, and "
                f"give weights='FOLDER/{Path(file).name}'"
            ) from error

    # The configuration first, so that weights in the cache never lack one that there is.
    try:
        fetched("config.json")
    except WeightsError as error:
        is_absent = isinstance(error.__cause__, errors.EntryNotFoundError)
        # Without a connection nobody said that there is none, unless the cache remembers it.
        if isinstance(error.__cause__, errors.LocalEntryNotFoundError):
            kept = hub.try_to_load_from_cache(repo, "config.json", revision=revision)
            is_absent = kept is hub._CACHED_NO_EXIST
        if not is_absent:
            raise
    return fetched(file)


def _fetched(hub: Any, repo: str, file: str, revision: str | None, endpoint: str | None) -> Path:
    url = hub.hf_hub_url(repo, file, revision=revision, endpoint=endpoint)
    path = Path(
        hub.hf_hub_download(
            repo, file, revision=revision, endpoint=endpoint, library_name="inshape"
        )
    )
    expected = _published_hash(hub, path, url)
    digest = _hash_of(path, len(expected))
    if digest != expected:
        raise WeightsError(
            f"{path} is damaged (hash {digest[:12]}, expected {expected[:12]} as published for "
            f"{url}); delete {path.resolve()} and try again"
        )
    return path


def _published_hash(hub: Any, path: Path, url: str) -> str:
    """SHA-256 of a large file, or git's hash of a small one, as the hub publishes it.

    The cache names a file after it, so that no connection is needed to verify it again.
    """
    name = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name):
        return name
    return str(hub.get_hf_file_metadata(url).etag)  # a cache without symbolic links


def _hash_of(path: Path, digits: int) -> str:
    content = path.read_bytes()
    if digits == 64:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
