"""A training that is killed and gone on with."""

from __future__ import annotations

import keras
import pytest

from inshape.training.api import resume


class Killed(Exception):
    """What ends a training in the first epoch of its second phase."""


class _Kill(keras.callbacks.Callback):
    def __init__(self, score):
        super().__init__()
        self._score = score

    def on_epoch_end(self, epoch, logs=None):
        assert 0 <= logs[f"val_{self._score}"] <= 1
        if self.model.body is not None:
            raise Killed


def killed_and_resumed(train, folder, score):
    """The run of ``train(folder, callbacks=...)``, whose epochs are told with their score."""
    with pytest.raises(Killed):
        train(folder, callbacks=[_Kill(score)])
    return resume(folder)
