"""Ctrl-C that is not lost."""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

_PAUSE_S = 0.05


@contextmanager
def interrupts_delivered() -> Generator[None]:
    """Let Ctrl-C through also where it comes at a moment at which Python drops what is raised.

    Such moments are ``__del__`` and callbacks of the garbage collector, of which JAX has one: a
    training that is interrupted there would go on.
    """
    before = sys.unraisablehook

    def again(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # From another thread and later: at once it would come into this function.
            threading.Timer(_PAUSE_S, _thread.interrupt_main).start()
        else:
            before(unraisable)

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before
