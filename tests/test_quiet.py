"""What native code writes to standard error is kept back, and shown where something goes wrong."""

from __future__ import annotations

import os
import sys

import pytest

from inshape.quiet import QuietImport, quiet_stderr


def test_native_noise_is_kept_back(capfd):
    os.write(2, b"before ")
    with quiet_stderr():
        os.write(2, b"noise")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_it_is_shown_where_an_error_ends_the_block(capfd):
    def fail():
        with quiet_stderr():
            os.write(2, b"why it failed")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert capfd.readouterr().err == "why it failed"


def test_a_package_is_imported_quietly_once(capfd, tmp_path, monkeypatch):
    (tmp_path / "noisy_package.py").write_text("import os; os.write(2, b'noise'); value = 3")
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)
    QuietImport.install("noisy_package")
    QuietImport.install("noisy_package")  # as every command does
    assert len(sys.meta_path) == len(before) + 1
    import noisy_package

    assert (noisy_package.value, capfd.readouterr().err) == (3, "")
    assert sys.meta_path == before
    QuietImport.install("noisy_package")
    assert sys.meta_path == before
    del sys.modules["noisy_package"]


def test_blocks_of_several_threads_end_in_any_order(capfd):
    """The one that ends last turns standard error back, whichever began first."""
    first, second = quiet_stderr(), quiet_stderr()
    first.__enter__()
    second.__enter__()
    os.write(2, b"kept back\n")
    first.__exit__(None, None, None)
    os.write(2, b"still kept back\n")
    second.__exit__(None, None, None)
    os.write(2, b"an error of the user's\n")
    assert capfd.readouterr().err == "an error of the user's\n"
