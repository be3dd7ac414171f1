"""Programs in processes of their own, without the seconds that importing Keras takes.

A server imports Keras once and forks for each program. TensorFlow starts in the fork.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_SERVER = """
import json, os, sys
import keras

for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        break
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
for stream, path in enumerate(job["streams"]):
    os.dup2(os.open(path, os.O_RDWR), stream)
os.environ.clear()
os.environ.update(job["environment"])
os.chdir(job["folder"])
sys.argv = ["-c", *job["words"]]
exec(compile(job["code"], "<program>", "exec"), {"__name__": "__main__"})
"""


@dataclass
class Program:
    """A program that runs, one at a time."""

    pid: int
    answers: IO[str]
    streams: tuple[Path, Path]
    code: int | None = None

    def kill(self) -> None:
        """End it at once."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> subprocess.CompletedProcess[str]:
        """How it ended, and all that it said."""
        self.code = int(self.answers.readline())
        out, err = (path.read_text(encoding="utf-8") for path in self.streams)
        return subprocess.CompletedProcess((), self.code, out, err)


class Programs:
    """Starts programs, one at a time, in processes that have imported Keras and nothing else."""

    def __init__(self, server: subprocess.Popen[str], folder: Path) -> None:
        self._server = server
        self._streams = (folder / "out", folder / "err")

    def start(
        self,
        code: str,
        *words: object,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Program:
        """Start a text of Python with words in ``sys.argv``, as ``python -c`` does."""
        for path in self._streams:
            path.write_text("")
        job = {
            "code": code,
            "words": [str(word) for word in words],
            "folder": str(folder or Path.cwd()),
            "environment": {**os.environ, **(environment or {})},
            "streams": [os.devnull, *map(str, self._streams)],
        }
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return Program(int(self._server.stdout.readline()), self._server.stdout, self._streams)

    def run(self, code: str, *words: object, **options: object) -> subprocess.CompletedProcess[str]:
        """Start a program and wait for its end."""
        return self.start(code, *words, **options).wait()  # type: ignore[arg-type]


@contextmanager
def serving(folder: Path) -> Iterator[Programs]:
    """A server that keeps what the programs say in a folder."""
    command = [sys.executable, "-c", _SERVER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        yield Programs(server, folder)
        assert server.stdin
        server.stdin.close()
