"""Programs in processes of their own, without the seconds that importing Keras takes.

A server imports Keras once and forks for each program. TensorFlow starts in the fork.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

RunProgram: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]

_SERVER = """
import json, os, sys
import keras

for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        break
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


@contextmanager
def serving(scratch: Path) -> Iterator[RunProgram]:
    """A function that runs a text of Python with words in ``sys.argv``, as ``python -c`` does."""
    said = [scratch / "out", scratch / "err"]
    command = [sys.executable, "-c", _SERVER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdin
        assert server.stdout

        def run(
            code: str, *words: object, folder: Path | None = None
        ) -> subprocess.CompletedProcess[str]:
            for path in said:
                path.write_text("")
            job = {
                "code": code,
                "words": [str(word) for word in words],
                "folder": str(folder or Path.cwd()),
                "environment": dict(os.environ),
                "streams": [os.devnull, *map(str, said)],
            }
            server.stdin.write(json.dumps(job) + "\n")
            server.stdin.flush()
            exit_code = int(server.stdout.readline())
            out, err = (path.read_text(encoding="utf-8") for path in said)
            return subprocess.CompletedProcess(words, exit_code, out, err)

        yield run
        server.stdin.close()
