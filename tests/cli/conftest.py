"""Two ways to call the command line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import pytest

from inshape.cli.app import run


@dataclass(frozen=True)
class Answer:
    """What a call printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON object on one line."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


@pytest.fixture(scope="session")
def shell() -> Callable[..., Answer]:
    """Calls the program in a new process."""

    def call(*words: object) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "inshape", *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "COLUMNS": "100"},
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def call() -> Callable[..., Answer]:
    """Calls the program in this process."""

    def call(*words: object) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run([str(word) for word in words])
        return Answer(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> tuple[str, ...]:
    """The options that name a network which trains in a second or two: a file of the user's."""
    import keras

    keras.utils.set_random_seed(3)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    for number, filters in enumerate((8, 16, 16)):
        name = f"conv_{number}"
        x = keras.layers.Conv2D(
            filters, 3, strides=2, padding="same", activation="relu", name=name
        )(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    path = tmp_path_factory.mktemp("network") / "small.keras"
    keras.Model(image, keras.layers.Dense(5)(x), name="small").save(path)
    return "--backbone", str(path), "--weights", "none"
