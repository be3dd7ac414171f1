"""Features, answers and scores by the workers of a real Ray cluster, one of which is killed."""

from __future__ import annotations

import gc
import os
import re
import signal
import threading
import time
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from tests.tasks import test_boxes, test_masks

import inshape
from inshape.data.batches import Batches
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.data.split import split
from inshape.errors import DataError, RunError
from inshape.evaluation.api import evaluate
from inshape.features.extract import Extraction
from inshape.prediction import predict
from inshape.runs import Run
from inshape.runtime.cluster import joined
from inshape.runtime.frozen import Forward
from inshape.runtime.litert import Setting
from inshape.runtime.shares import answers_of

# Ray leaves the handles of its own processes and logs to the garbage collector.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

PREPARATION = Preparation.of("11x9x1")
COUNT = 600  # three shares


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    pytest.importorskip("pyarrow")
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("processes are looked for in /proc")
    with joined("local") as cluster:
        yield cluster
    gc.collect()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        (folder / "ab"[i % 2]).mkdir(exist_ok=True)
        pixels = rng.integers(0, 128 + 127 * (i % 2), (12, 10), np.uint8)
        Image.fromarray(pixels).save(folder / "ab"[i % 2] / f"{i:03}.png")
    (folder / "a" / "300.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(3)
    image = keras.Input((11, 9, 1))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = keras.layers.Conv2D(6, 3, strides=2, activation="relu")(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))


@pytest.fixture(scope="module")
def run(network, tmp_path_factory):
    logits = keras.layers.Dense(2, activation="softmax")(network.output)
    run = Run.create(tmp_path_factory.mktemp("runs") / "run", {"request": {}})
    run = run.updated(preparation=PREPARATION.as_dict(), status="complete")
    run.save_labels(["a", "b"])
    keras.Model(network.input, logits).save(run.model_path)
    return run


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def kill_one(word: bytes, stop: threading.Event, killed: list[int]) -> None:
    """Kill the first worker of this process's own cluster that is at a work."""
    while not stop.is_set() and not killed:
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            pid = int(line.parent.name)
            try:
                is_it = line.read_bytes().startswith(word)
                is_ours = is_it and parent_of(parent_of(pid)) == os.getpid()
            except OSError:
                continue
            if is_ours:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                break
        time.sleep(0.01)


def test_answers_are_those_of_this_process_though_a_worker_is_killed(cluster, run, photos):
    with pytest.warns(UserWarning, match="300.png is left out"):
        here = predict(run, photos)
    stop, killed = threading.Event(), []
    killer = threading.Thread(target=kill_one, args=(b"ray::MapBatches(", stop, killed))
    killer.start()
    try:
        with pytest.warns(UserWarning, match="300.png is left out"):
            there = predict(run, photos, ray="local")
    finally:
        stop.set()
        killer.join()
    assert len(killed) == 1
    assert len(there) == COUNT - 1
    assert [one.picture for one in there] == [one.picture for one in here]
    for one, other in zip(here, there, strict=True):
        assert other.label == one.label
        assert other.probability == pytest.approx(one.probability, abs=1e-5)


def test_arrays_with_fractions_are_sent(cluster, run):
    pictures = np.random.default_rng(1).uniform(0, 255, (70, 12, 10, 1)).astype(np.float32)
    here, there = predict(run, pictures, tta=True), predict(run, pictures, tta=True, ray="local")
    for one, other in zip(here, there, strict=True):
        assert other.picture == one.picture
        assert other.probability == pytest.approx(one.probability, abs=1e-5)


def test_scores_are_those_of_this_process(cluster, run, photos):
    options = {"split": "all", "save": False, "resamples": 20}
    here, there = evaluate(run, photos, **options), evaluate(run, photos, **options, ray="local")
    assert there.scores.accuracy == here.scores.accuracy
    assert there.scores.confusion.tolist() == here.scores.confusion.tolist()
    assert [m.picture for m in there.mistakes] == [m.picture for m in here.mistakes]
    assert there.skipped == here.skipped


def test_features_are_those_of_this_process(cluster, network, photos, tmp_path):
    batches = Batches.open(split(open_source(photos)), PREPARATION)
    sample = next(batches.iterate("train", 8))[0].astype(np.float32)
    forward = Forward(network, sample, setting=Setting(batch=4))
    by_keras = Forward(network, sample, engine="keras")
    here = Extraction(network, batches)
    there = Extraction(network, batches, cluster=cluster)
    done = []
    # A random view has its worker load Keras: it has one share, and so one worker.
    for part, view, run_by in (("train", "mirrored", forward), ("validation", 2, by_keras)):
        expected = here.rows(part, view, tmp_path / "a", lambda: forward)
        rows = there.rows(
            part, view, tmp_path / "b", lambda by=run_by: by, lambda n, _: done.append(n)
        )
        assert isinstance(rows, np.memmap)
        np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-5)
        assert np.ptp(rows) > 0.1
        assert done[-1] == len(rows)


def test_a_training_ends_as_in_this_process(cluster, network, photos, tmp_path, monkeypatch):
    shares = []
    network.save(tmp_path / "network.keras")

    def spied(*arguments, **options):
        for share in answers_of(*arguments, **options):
            shares.append(share.start)
            yield share

    monkeypatch.setattr("inshape.features.extract.answers_of", spied)
    options = {"backbone": tmp_path / "network.keras", "weights": None, "epochs": 0, "views": 1,
               "baseline": False}  # fmt: skip
    here, there = (
        inshape.train(photos, "11x9x1", out=tmp_path / name, head_epochs=2, ray=ray, **options)
        for name, ray in (("a", None), ("b", "local"))
    )
    assert sorted(shares) == [0, 0, 256, 512]  # of training and of validation
    one, other = (run.record["metrics"]["validation"] for run in (here, there))
    assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert other["accuracy"] == one["accuracy"]


@pytest.mark.parametrize(
    ("kind", "shape", "write"),
    [
        ("masks", "32x40x1", partial(test_masks.write, count=40)),
        ("boxes", "48x64x1", partial(test_boxes.write_voc, counts={"train": 32, "val": 8})),
    ],
)
def test_masks_and_boxes_are_those_of_this_process(cluster, tmp_path, kind, shape, write):
    write(tmp_path / kind, rng=np.random.default_rng(1))
    network = {"masks": test_masks, "boxes": test_boxes}[kind].network()
    network.save(tmp_path / "network.keras")
    options = {
        "backbone": tmp_path / "network.keras", "weights": None, "strategy": "rebuild",
        "epochs": 1, "head_epochs": 12, "views": 3, "batch_size": 4, "learning_rate": 0.02,
        "baseline": False,
    }  # fmt: skip
    source, both = tmp_path / kind, (None, "local")
    here, there = (
        inshape.train(source, shape, out=tmp_path / str(ray), ray=ray, **options) for ray in both
    )
    one, other = (run.record["metrics"]["validation"] for run in (here, there))
    assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)
    options = {"split": "validation", "save": False, "resamples": 20}
    one, other = (evaluate(here, source, **options, ray=ray).scores.main for ray in both)
    assert other.as_dict() == pytest.approx(one.as_dict(), abs=1e-4)
    pictures = sorted(source.glob("*mages/*"))[:8]
    for folder, ray in zip("ab", both, strict=True):
        predict(here, pictures, **{f"save_{kind}": tmp_path / folder}, tta=True, ray=ray)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == (8 if kind == "boxes" else 16)
    for name in names:
        with Image.open(tmp_path / "a" / name) as ours, Image.open(tmp_path / "b" / name) as theirs:
            assert (np.asarray(ours) == np.asarray(theirs)).mean() > 0.995


def test_a_picture_that_vanishes_is_named(cluster, network, photos, tmp_path):
    catalogue = split(open_source(photos))
    batches = Batches.open(catalogue, PREPARATION)
    name = batches.catalogue.names[batches.catalogue.indices("validation")[0]]
    content = (photos / name).read_bytes()
    forward = Forward(network, np.zeros((1, 11, 9, 1), np.float32), setting=Setting())
    extraction = Extraction(network, batches, cluster=cluster)
    (photos / name).unlink()
    try:
        with pytest.raises(DataError, match=rf"^{name} cannot be read \(.*though it could be"):
            extraction.rows("validation", "plain", tmp_path, lambda: forward)
    finally:
        (photos / name).write_bytes(content)
    assert not list(tmp_path.iterdir())


def test_a_share_that_ends_every_worker_is_one_line(cluster, photos):
    catalogue = split(open_source(photos)).take([1])
    text = "a share of the pictures ended its worker 4 times (WorkerCrashedError: "
    with pytest.raises(RunError, match=re.escape(text)):
        list(answers_of(cluster, catalogue, PREPARATION, partial(os._exit, 3)))
