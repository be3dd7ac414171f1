"""Ctrl-C at moments at which Python drops what is raised."""

from __future__ import annotations

import gc
import signal
import sys
import time

import pytest

from inshape.cli.interrupts import interrupts_delivered


class Finalised:
    def __del__(self):
        raise KeyboardInterrupt


def collect():
    """Collect garbage with a callback that is interrupted."""

    def interrupted(phase, info):
        gc.callbacks.remove(interrupted)
        raise KeyboardInterrupt

    gc.callbacks.append(interrupted)
    gc.collect()


def dropped_and_waited(drop):
    drop()
    for _ in range(1000):
        time.sleep(0.01)


@pytest.mark.parametrize("drop", [Finalised, collect])
def test_an_interrupt_that_python_drops_comes_again(drop):
    before, handler = sys.unraisablehook, signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt), interrupts_delivered():
            dropped_and_waited(drop)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert sys.unraisablehook is before


def test_other_errors_are_reported_as_before(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))

    class Broken:
        def __del__(self):
            raise ValueError

    with interrupts_delivered():
        Broken()
    assert seen == [ValueError]
