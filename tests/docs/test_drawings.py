"""The drawings in the repository are those that the real geometry gives."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from tools.draw_geometry import DRAWINGS, FOLDER, main, plan
from tools.svg import Drawing


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_file_is_what_is_drawn(name):
    path = FOLDER / f"{name}.svg"
    assert path.read_text(encoding="utf-8") == DRAWINGS[name](), "run python -m tools.draw_geometry"


def test_there_is_no_other_drawing():
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(DRAWINGS)


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_file_is_a_drawing_with_a_title_that_fetches_nothing(name):
    text = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    tree = ElementTree.fromstring(text)
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    assert tree[0].text
    assert not re.search(r"href|url\(|<script", text)


def test_the_maps_are_those_of_keras_own_constructor():
    import keras

    # The size of every stage's last map, by the parity-aware network that Keras builds at 97x130.
    model = keras.applications.MobileNetV3Small(
        input_shape=(97, 130, 3), include_top=False, weights=None, minimalistic=True
    )
    sizes = {tuple(layer.output.shape[1:3]) for layer in model.layers if layer.output.ndim == 4}
    drawn = re.findall(r">(\d+)x(\d+)</text>", (FOLDER / "rebuild_maps.svg").read_text())
    drawn_at_97x130 = {(int(h), int(w)) for h, w in drawn[-6:]}
    assert len(drawn_at_97x130) == 6
    assert drawn_at_97x130 <= sizes
    assert plan("97x130x3", strategy="rebuild").geometry.final_map.hw in drawn_at_97x130


def test_a_drawing_that_differs_is_reported(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tools.draw_geometry.FOLDER", tmp_path)
    monkeypatch.setattr("tools.draw_geometry.DRAWINGS", {"a": lambda: str(Drawing("A"))})
    monkeypatch.setattr("sys.argv", ["draw", "--check"])
    assert main() == 1
    assert capsys.readouterr().out == "not as drawn: a; run python -m tools.draw_geometry\n"
    monkeypatch.setattr("sys.argv", ["draw"])
    assert main() == 0
    monkeypatch.setattr("sys.argv", ["draw", "--check"])
    assert main() == 0
