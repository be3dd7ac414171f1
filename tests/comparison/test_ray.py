"""Comparisons on the workers of a real Ray cluster, one of which is killed at work."""

from __future__ import annotations

import gc
import inspect
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from inshape.comparison.api import compare
from inshape.comparison.result import Candidate
from inshape.comparison.workers import open_workers, placed, read_files
from inshape.errors import RequestError, RunError
from inshape.runtime.cluster import Cluster

# Ray leaves the handles of its own processes and logs to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def processes(word: str) -> set[int]:
    """Processes that run and whose command line begins with a word or holds it as a program."""
    pids = set()
    for folder in Path("/proc").iterdir():
        try:
            text = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text.startswith(word) or f"/{word} " in text:
            pids.add(int(folder.name))
    return pids


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture(scope="module")
def cluster(network):
    pytest.importorskip("ray")
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("processes are looked for in /proc")
    before = processes("raylet")
    with open_workers("local", [network]) as (workers, _):
        ours = processes("raylet") - before
        assert ours
        yield workers
    gc.collect()
    until = time.monotonic() + 30
    while ours & processes("raylet") and time.monotonic() < until:
        time.sleep(0.1)
    assert not ours & processes("raylet")


def kill_one(word: str, stop: threading.Event, killed: list[int]) -> None:
    others = processes(word)
    while not stop.is_set() and not killed:
        for pid in processes(word) - others:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            break
        time.sleep(0.01)


@pytest.mark.slow
def test_a_cluster_measures_what_this_process_measures_though_a_worker_is_killed(
    photos, network, cluster
):
    # One candidate: every worker that measures has to import TensorFlow, which takes longer than
    # the rest of this file. That two at once are not mixed up is the next test's.
    options = {
        "shapes": "9x8x1", "strategies": "rebuild", "backbones": network, "weights": None,
        "latency": False,
    }  # fmt: skip
    here = compare(photos, **options)
    stop, killed = threading.Event(), []
    killer = threading.Thread(target=kill_one, args=("ray::build_candidate", stop, killed))
    killer.start()
    try:
        there = compare(photos, **options, ray="local")
    finally:
        stop.set()
        killer.join()
    assert len(killed) == 1
    for one, other in zip(here.candidates, there.candidates, strict=True):
        assert other.error is None
        assert one.but(seconds={}) == other.but(seconds={})
        assert other.seconds.keys() == {"build", "features", "probe"}
    assert there.recommended == here.recommended


@pytest.mark.slow
def test_a_candidate_whose_worker_dies_every_time_does_not_stop_the_rest(cluster):
    def work(candidate, added):
        if candidate.backbone == "bad":
            os._exit(3)
        if candidate.backbone == "slow":
            time.sleep(1)
        return candidate.but(macs=len(candidate.backbone) + added), candidate.backbone

    added = cluster.share(7)
    names = ("bad", "slow", "good one")
    results = cluster.run(work, [(Candidate(name, "8x8x1", "rebuild"), added) for name in names])
    by_name = {names[number]: (candidate, state) for number, candidate, state in results}
    for name in ("slow", "good one"):
        candidate, state = by_name[name]
        assert (candidate.backbone, candidate.macs) == (name, len(name) + 7)
        assert cluster.fetch(state) == name
    candidate, state = by_name["bad"]
    assert candidate.error.startswith("its worker failed 4 times (WorkerCrashedError: ")
    assert state is None


_HEAD_DIES = """
import os, signal, time
from pathlib import Path
from inshape.comparison import workers
from inshape.runtime import cluster as ray_cluster
from inshape.comparison.result import Candidate
from inshape.errors import RunError

def work(candidate):
    time.sleep(300)
    return candidate, None

def calls():
    yield (Candidate("a", "8x8x1", "rebuild"),)
    (head,) = [pid for pid in processes("gcs_server") if parent_of(pid) == os.getpid()]
    os.kill(head, signal.SIGKILL)

ray_cluster.ASK_S = 0.2
with workers.open_workers("local", []) as (cluster, _):
    for round_ in (calls(), [(Candidate("b", "8x8x1", "rebuild"),)]):
        try:
            list(cluster.run(work, round_))
        except RunError as error:
            print(error)
print("ended by itself")
"""


@pytest.mark.slow
def test_a_head_that_dies_is_one_line():
    """In a process of its own, which Ray would end after a minute in C++, without a word of ours.

    The head is missed both by the round at work and by the next one, which cannot begin.
    """
    pytest.importorskip("ray")
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("processes are looked for in /proc")
    helpers = map(inspect.getsource, (processes, parent_of))
    words = [sys.executable, "-c", "\n".join([*helpers, _HEAD_DIES])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=50)
    line = (
        "ray=local: the cluster has gone while it was working (Connection refused); expected it to "
        "stay until the end; see that one runs and repeat the command, which goes on from what it "
        "has kept in --out; or leave ray out"
    )
    assert done.stdout.splitlines() == [line, line, "ended by itself"]
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_head_is_asked_for():

    class Ray:
        """As far as a cluster is asked for its head."""

        def get_runtime_context(self):
            return SimpleNamespace(gcs_address="{}:{}".format(*head.getsockname()))

    with socket.create_server(("127.0.0.1", 0)) as head:
        cluster = Cluster(Ray(), "10.0.0.7:6379")
        cluster.ask_head()
    text = (
        "ray=10.0.0.7:6379: the cluster has gone while it was working (Connection refused); "
        "expected it to stay until the end; see that one runs and repeat the command"
    )
    with pytest.raises(RunError, match=re.escape(text)):
        cluster.ask_head()


def test_files_come_along(tmp_path):
    file = tmp_path / "weights.h5"
    file.write_bytes(b"values")
    files = read_files([str(file), "imagenet", None])
    assert files == {str(file): b"values"}
    file.unlink()
    with placed(files) as place:
        copy = Path(place(str(file)))
        assert (copy.name, copy.read_bytes()) == ("weights.h5", b"values")
        assert place("imagenet") == "imagenet"
    assert not copy.exists()
    with placed({}) as place:
        assert place(str(file)) == str(file)


def test_ray_must_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    text = "ray needs Ray; expected it to be installed; pip install 'ray[data]>=2.44'"
    with pytest.raises(RequestError, match=re.escape(text)), open_workers("local", []):
        pass


def test_a_cluster_that_does_not_answer(monkeypatch):
    ray = pytest.importorskip("ray")

    def refuse(**options):
        raise ConnectionError(f"nobody at {options['address']}\nand more")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    text = "ray=10.0.0.7:6379: no cluster answers (nobody at 10.0.0.7:6379); expected one at"
    with pytest.raises(RequestError, match=re.escape(text)), open_workers("10.0.0.7:6379", []):
        pass
    text = "ray=local: Ray cannot be started here (nobody at local); expected it to start within"
    with pytest.raises(RequestError, match=re.escape(text)), open_workers("local", []):
        pass
