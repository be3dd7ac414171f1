"""Keeps back what native libraries write to standard error past Python."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType


@contextmanager
def quiet_stderr() -> Generator[None]:
    """Keep it back in a block; where the block ends in an error, it may say why and is shown.

    TensorFlow and LiteRT log there before any of their settings is read.
    """
    try:
        terminal = os.dup(2)
    except OSError:  # there is none
        yield
        return
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(terminal, 2)
            kept.seek(0)
            os.write(2, kept.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


class QuietImport:
    """A finder for ``sys.meta_path``: imports one package quietly, whenever that may be."""

    def __init__(self, package: str) -> None:
        """Take the package's name."""
        self.package = package

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the package as if this finder were not there, and hush its loader."""
        if name != self.package:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_quietly(module: ModuleType) -> None:
                with quiet_stderr():
                    load(module)

            spec.loader.exec_module = load_quietly  # pyright: ignore[reportAttributeAccessIssue]
        return spec

    @classmethod
    def install(cls, package: str) -> None:
        """Import it quietly from now on; what is loaded already or waited for stays as it is."""
        waiting = [f.package for f in sys.meta_path if isinstance(f, QuietImport)]
        if package not in (*sys.modules, *waiting):
            sys.meta_path.insert(0, cls(package))
