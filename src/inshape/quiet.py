"""Keeps back what native libraries write to standard error past Python."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import BinaryIO


class _Redirection:
    """Standard error turned into a file while any thread wants that: the process has but one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._terminal = -1
        self._kept: BinaryIO | None = None

    def begin(self) -> None:
        with self._lock:
            if self._wanted == 0:
                self._terminal = os.dup(2)
                self._kept = tempfile.TemporaryFile()
                os.dup2(self._kept.fileno(), 2)
            self._wanted += 1

    def end(self, *, show: bool) -> None:
        with self._lock:
            assert self._kept is not None
            if show:
                size = os.fstat(self._kept.fileno()).st_size
                os.write(self._terminal, os.pread(self._kept.fileno(), size, 0))
            self._wanted -= 1
            if self._wanted == 0:
                os.dup2(self._terminal, 2)
                os.close(self._terminal)
                self._kept.close()


_redirection = _Redirection()


@contextmanager
def quiet_stderr() -> Generator[None]:
    """Keep it back in a block; where the block ends in an error, it may say why and is shown.

    TensorFlow and LiteRT log there before any of their settings is read.
    """
    try:
        _redirection.begin()
    except OSError:  # there is none
        yield
        return
    is_over = False
    try:
        yield
        is_over = True
    finally:
        _redirection.end(show=not is_over)


class QuietImport:
    """A finder for ``sys.meta_path``: imports one package quietly, whenever that may be."""

    def __init__(self, package: str) -> None:
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
