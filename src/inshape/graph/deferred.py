"""Models that are made of a stranger's numbers: no memory for weights before these are checked."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import keras


@contextlib.contextmanager
def deferred_weights() -> Generator[None]:
    """Layers that are built inside have shapes alone; their values are made where it ends well.

    A number in a file of a kilobyte can ask for a kernel of a terabyte.
    """
    # Both are internal, but a layer that is built has no other way to leave its weights out.
    from keras.src.backend.common import global_state
    from keras.src.backend.common.variables import initialize_all_variables

    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
        initialize_all_variables()
    finally:
        global_state.set_global_attribute("uninitialized_variables", [])
