"""Which pictures files are judged on, and which int8 is calibrated on."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from inshape.data.sources import open_source
from inshape.data.split import split
from inshape.errors import DataError
from inshape.exporting import api
from inshape.exporting import selection as pictures
from inshape.exporting.api import export
from inshape.exporting.selection import select_pictures
from inshape.runs import Run


def of_its_own(run, source, folder):
    """A copy of the run that says that it was trained on another folder."""
    shutil.copytree(run.folder, folder)
    return Run.open(folder).updated(request={**run.record["request"], "source": str(source)})


@pytest.fixture
def moved(run, tmp_path):
    """A run whose pictures are not where they were."""
    return of_its_own(run, tmp_path / "gone", tmp_path / "a")


@pytest.fixture
def changed(run, photos, tmp_path):
    """A run and its pictures, which a test may change."""
    copy = shutil.copytree(photos, tmp_path / "own")
    return of_its_own(run, copy, tmp_path / "a"), copy


def contents(rows):
    return {np.asarray(row).tobytes() for row in rows}


def judged(selection):
    return contents(row[None] for rows in selection.blocks() for row in rows)


def test_pictures_that_are_gone_are_asked_for(moved, photos, elsewhere, tmp_path):
    with pytest.raises(DataError, match="expected some to compare on; name a folder with --data"):
        export(moved, "litert", out=tmp_path / "x")
    text = "other than those to compare on; name a folder with --calibrate-on"
    with pytest.raises(DataError, match=re.escape(text)):
        export(moved, "litert-int8", data=photos, out=tmp_path / "x", timing=False)
    assert not (tmp_path / "x").exists()
    (file,) = export(
        moved, "litert-int8", data=photos / "lie", calibrate_on=elsewhere / "lean",
        out=tmp_path / "x", timing=False,
    ).files  # fmt: skip
    assert file.pictures == 20


def test_calibration_pictures_are_training_pictures_of_every_class(run, photos):
    selection = select_pictures(run, None, most=9, calibration=12)
    record = run.record
    assert len(selection.sample) == 12
    assert np.bincount(selection.labels).tolist() == [3, 3, 3]
    assert selection.source == str(photos)
    training = split(
        open_source(photos), validation=record["request"]["recipe"]["validation"],
        seed=record["request"]["seed"],
    )  # fmt: skip
    classes = {
        training.load(i, run.preparation).tobytes(): int(training.labels[i])
        for i in training.indices("train")
    }
    labels = [classes[p.tobytes()] for p in selection.sample]  # KeyError: held out
    assert np.abs(np.bincount(labels, minlength=3) - 4).max() <= 1


def test_the_runs_own_pictures_are_taken_while_they_are_what_they_were(changed):
    run, copy = changed
    assert len(select_pictures(run, None, most=100, calibration=3).compared) == 18
    shutil.copy(copy / "lie" / "00.png", copy / "lie" / "again.png")
    text = (
        f"the pictures of {run.folder} in {copy} are not those that it was trained on (their finger"
    )
    with pytest.raises(DataError, match=re.escape(text)) as caught:
        select_pictures(run, None, most=100, calibration=0)
    assert str(caught.value).endswith("expected some to compare on; name a folder with --data")


def test_a_class_that_is_new_does_not_shift_the_others(changed, elsewhere):
    run, copy = changed
    shutil.copytree(elsewhere / "lean", copy / "bent")  # before all others
    with pytest.raises(DataError, match=re.escape("name a folder with --data")):
        select_pictures(run, None, most=100, calibration=0)
    with pytest.raises(DataError, match=re.escape("name a folder with --calibrate-on")):
        select_pictures(run, elsewhere, most=100, calibration=9)
    selection = select_pictures(run, elsewhere, most=100, calibration=9, calibrate_on=copy / "lie")
    assert np.bincount(selection.labels).tolist() == [20, 20, 20]


def test_no_picture_is_judged_and_calibrated_on(run, photos):
    """Copies under other names count as the same picture."""
    with pytest.warns(UserWarning, match="of the 12 pictures to compare on were trained on"):
        selection = select_pictures(run, photos, most=12, calibration=60)
    assert len(selection.sample) > 29
    assert not judged(selection) & contents(selection.sample)
    text = (
        "no calibration pictures: all 42 are among those to compare on; expected others to choose "
        "int8 ranges on; name a folder with --calibrate-on"
    )
    with (
        pytest.warns(UserWarning, match="42 of the 60 pictures to compare on were trained on"),
        pytest.raises(DataError, match=re.escape(text)),
    ):
        select_pictures(run, photos, most=100, calibration=9)


@pytest.mark.parametrize(("split", "others"), [("test", ["train", "val"]), ("val", ["train"])])
def test_what_is_furthest_from_training_is_judged(split, others, run, photos, elsewhere, tmp_path):
    data = tmp_path / "splits"
    for other in others:
        shutil.copytree(photos, data / other)
    shutil.copytree(elsewhere, data / split)
    selection = select_pictures(run, data, most=100, calibration=0)
    assert judged(selection) == judged(select_pictures(run, elsewhere, most=100, calibration=0))
    assert np.bincount(selection.labels).tolist() == [20, 20, 20]


def test_a_folder_that_is_no_class_is_named(run, elsewhere, tmp_path):
    data = shutil.copytree(elsewhere, tmp_path / "data")
    (data / "lean").rename(data / "bent")
    text = f"{data}: 'bent' is no class of {run.folder}, so that 20 of 60 pictures count for"
    with pytest.warns(UserWarning, match=re.escape(text)):
        (file,) = export(run, "litert", data=data, out=tmp_path / "x", timing=False).files
    assert file.pictures == 60
    with pytest.warns(UserWarning, match="'bent' is no class"):
        selection = select_pictures(run, data, most=100, calibration=0)
    expected = {"bent": -1, "lie": 1, "stand": 2}
    names = selection.compared.catalogue.names
    assert selection.labels.tolist() == [expected[name.split("/")[0]] for name in names]
    assert 0 <= file.accuracy.value <= 1


def test_a_folder_without_classes_is_taken_in_silence(run, elsewhere):
    assert set(select_pictures(run, elsewhere / "lie", most=100, calibration=0).labels) == {-1}


def test_memory_does_not_grow_with_the_pictures(run, tmp_path, monkeypatch):
    counts = []
    real = api.answer

    def spied(call, rows, **options):
        counts.append(len(rows))
        return real(call, rows, **options)

    monkeypatch.setattr(pictures, "_BLOCK", 8)
    monkeypatch.setattr(api, "answer", spied)
    (file,) = export(run, "litert", out=tmp_path / "x", timing=False).files
    assert counts == [8, 8, 2]
    assert file.agreement == 1.0
    selection = select_pictures(run, None, most=18, calibration=12)
    assert [len(rows) for rows in selection.blocks(3)] == [6, 6, 6]
    assert [len(rows) for rows in selection.blocks(16)] == [16, 2]
    assert selection.compared.kind is np.uint8  # a quarter of float32
    assert {p.shape for p in selection.sample} == {(1, 17, 13, 3)}
    np.testing.assert_array_equal(list(selection.sample)[1:9:3], list(selection.sample[1:9:3]))
