"""Which arrays of a file belong to which layer, against the models that were saved."""

from __future__ import annotations

import importlib
import io
import struct
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest

from inshape.errors import WeightsError
from inshape.weights.files import open_weights


@pytest.fixture(scope="module")
def model(randomise) -> keras.Model:
    """A model with models in it, a repeated class, and layers without weights."""
    layers = keras.layers
    inner = keras.Sequential(
        [
            layers.Conv2D(4, (3, 2), name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Conv2D(4, 1, name="second"),  # Keras 2 puts its weights before norm's statistics
        ],
        name="inner",
    )
    picture = keras.Input((9, 6, 1))
    x = layers.Rescaling(1 / 255)(picture)
    x = layers.Conv2D(2, 1, name="stem")(x)
    x = layers.Rescaling(2.0)(x)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = inner(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Conv2D(3, 2, name="last")(x)
    return randomise(keras.Model(picture, x))


def written(model: keras.Model, form: str, folder):
    path = folder / f"model{form}"
    if form == ".keras":
        model.save(path)
    elif form == ".weights.h5":
        model.save_weights(path)
    else:
        legacy = importlib.import_module("keras.src.legacy.saving.legacy_h5_format")
        with h5py.File(path, "w") as file:
            legacy.save_weights_to_hdf5_group(file, model)
    return path


@pytest.mark.parametrize("form", [".weights.h5", ".keras", ".h5"])
def test_every_array_has_its_place(form, model, tmp_path):
    names = {".h5": ["stem", "stem_norm", "inner", "last"]}.get(
        form, ["stem", "stem_norm", "inner/first", "inner/norm", "inner/second", "last"]
    )
    with open_weights(written(model, form, tmp_path)) as stored:
        slots = stored.slots_of(model)
        assert [slot.name for slot in slots] == names
        assert stored.beyond(slots) == ()
        seen = 0
        for slot in slots:
            assert stored.shapes(slot) == slot.shapes
            for variable, values in zip(slot.variables, stored.arrays(slot), strict=True):
                np.testing.assert_array_equal(variable, values)
                seen += 1
        assert seen == len(model.weights)


@pytest.mark.parametrize("form", [".weights.h5", ".keras", ".h5"])
def test_layers_without_weights_are_counted(form, model, tmp_path):
    with open_weights(written(model, form, tmp_path)) as stored:
        assert stored.count_layers("rescaling") == 2
        assert stored.count_layers("dropout") == 1
        assert stored.count_layers("dense") == 0


@pytest.mark.parametrize("form", [".weights.h5", ".h5"])
def test_layers_beyond_a_model_are_named(form, model, tmp_path):
    with open_weights(written(model, form, tmp_path)) as stored:
        slots = stored.slots_of(model)
        assert stored.beyond(slots[:-1]) == ("last",)


def test_a_long_list_of_layers_that_keras_splits(tmp_path):
    path = tmp_path / "long.h5"
    names = ["a", "b", "c"]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names0"] = [names[0].encode(), names[1].encode()]
        file.attrs["layer_names1"] = [names[2].encode()]
        for i, name in enumerate(names):
            group = file.create_group(name)
            group.attrs["weight_names"] = ["kernel"]
            group["kernel"] = np.full((2, i + 1), float(i))
    dense = [keras.layers.Dense(i + 1, use_bias=False, name=n) for i, n in enumerate(names)]
    picture = keras.Input((2,))
    model = keras.Model(picture, [layer(picture) for layer in dense])
    with open_weights(path) as stored:
        slots = stored.slots_of(model)
        assert [stored.shapes(slot) for slot in slots] == [slot.shapes for slot in slots]
        assert [stored.arrays(slot)[0].max() for slot in slots] == [0.0, 1.0, 2.0]


def test_a_known_network_sets_what_its_file_may_unpack_to(model, tmp_path):
    path = written(model, ".weights.h5", tmp_path)
    with open_weights(path, weights_bytes=1):
        pass  # it is as large as what it holds
    with h5py.File(path, "a") as file:
        file.create_dataset("zeros", (300 * 2**20,), "u1", chunks=(2**20,))
    with open_weights(path, weights_bytes=40 * 2**20):
        pass
    text = "MiB; expected at most 240.0 MiB for the network's weights; have it saved again without"
    with pytest.raises(WeightsError, match=text), open_weights(path, weights_bytes=30 * 2**20):
        pass
    with pytest.raises(WeightsError, match=r"at most 256\.0 MiB; have it"), open_weights(path):
        pass


_READ = """
import sys
from pathlib import Path
from inshape.graph.hdf5 import open_checked
with open_checked(Path(sys.argv[1])) as file:
    print(dict(file.attrs))
"""


# From text to values of any length, of no kind that there is; and a text of two gigabytes, for
# which memory would be taken.
DAMAGED = {
    "of another type": (
        lambda c: (c.index(b"\x19\x01", c.index(b"model_config\0")) + 1, b"\x09"),
        "model_config of / holds object",
    ),
    "too long": (
        lambda c: (c.index(struct.pack("<IQ", 2, c.index(b"GCOL"))), b"\xff\xff\xff\x7f"),
        "an attribute of / is larger than the file",
    ),
}


@pytest.mark.parametrize("name", [*DAMAGED, "whole"])
def test_what_the_library_would_not_survive_is_refused(name, tmp_path):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["model_config"], file.attrs["names"] = "{}", ["a", "b"]
        file["weights"] = np.ones(3)
    content, text = content.getvalue(), "{'model_config': '{}', 'names': array("
    if name != "whole":
        damage, text = DAMAGED[name]
        place, odd = damage(content)
        content = content[:place] + odd + content[place + len(odd) :]
        text = f"a.h5 is damaged ({text}); expected text and numbers; download or save it again"
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", _READ, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert text in (done.stdout if name == "whole" else done.stderr)
