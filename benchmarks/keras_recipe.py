"""The recipe that a Keras user writes by hand, to measure `inshape train` against.

    python -m benchmarks.keras_recipe TRAIN VALIDATION --shape 96x96x3 --weights FILE --out a.json
    python -m benchmarks.keras_recipe TRAIN VALIDATION --network FILE --out a.json

It follows https://keras.io/guides/transfer_learning: ``image_dataset_from_directory`` at the target
size, the backbone at that ``input_shape``, a new classifier trained for ten epochs on the frozen
backbone, then ten epochs of everything at 1e-5. One channel is read as grey and repeated to three.
A network of one fixed size (``--network``, a .keras file) is made anew from its configuration with
another size written in, as answers in forums say.
Written to the file: seconds and validation accuracy of every epoch, and the final predictions.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from inshape.shapes import InputShape

EPOCHS = 10
BATCH = 32


def main() -> None:
    begun = time.perf_counter()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("--shape", default="96x96x3")
    begin_with = parser.add_mutually_exclusive_group(required=True)
    begin_with.add_argument("--weights", help="of MobileNetV3Large-minimalistic")
    begin_with.add_argument("--network", help="another one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of each of the two phases")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    shape = InputShape.of(options.shape)
    keras.utils.set_random_seed(options.seed)
    train = pictures(options.train, shape, shuffle=True, seed=options.seed)
    validation = pictures(options.validation, shape, shuffle=False, seed=options.seed)
    if options.network:
        backbone = at_size(keras.models.load_model(options.network), shape)
    else:
        backbone = keras.applications.MobileNetV3Large(
            minimalistic=True,
            input_shape=(shape.height, shape.width, 3),
            include_top=False,
            weights=None,
            pooling="avg",
        )
        take(backbone, options.weights)
    classes = len(train.class_names)
    inputs = keras.Input((shape.height, shape.width, shape.channels))
    x = inputs if shape.channels == 3 else keras.layers.Concatenate()([inputs] * 3)
    backbone.trainable = False
    x = backbone(x, training=False)
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(x))
    epochs: list[dict[str, Any]] = []
    feed = train.prefetch(tf.data.AUTOTUNE)
    validating = validation.prefetch(tf.data.AUTOTUNE)
    for phase, rate in (("frozen", 1e-3), ("unfrozen", 1e-5)):
        backbone.trainable = phase == "unfrozen"
        model.compile(
            keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        history = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs, phase=phase: epochs.append(
                {
                    "phase": phase,
                    "epoch": epoch + 1,
                    "seconds": time.perf_counter() - begun,
                    **(logs or {}),
                }
            )
        )
        model.fit(
            feed, validation_data=validating, epochs=options.epochs, verbose=2, callbacks=[history]
        )
    guesses = model.predict(validating, verbose=0).argmax(axis=1)
    labels = [label for _, batch in validation for label in batch.numpy().tolist()]
    right = int((guesses == labels).sum())
    seconds = epochs[-1]["seconds"] - epochs[options.epochs - 1]["seconds"]
    results = {
        "epochs": epochs,
        "right": right,
        "pictures": len(labels),
        "rate": options.epochs * len(train.file_paths) / seconds,
    }
    options.out.write_text(json.dumps(results, indent=1))


def pictures(folder: Path, shape: InputShape, *, shuffle: bool, seed: int) -> Any:
    return keras.utils.image_dataset_from_directory(
        str(folder),
        image_size=(shape.height, shape.width),
        batch_size=BATCH,
        color_mode="grayscale" if shape.channels == 1 else "rgb",
        shuffle=shuffle,
        seed=seed,
    )


def at_size(network: keras.Model, shape: InputShape) -> keras.Model:
    """The same layers and weights at another input size, pooled."""
    config = network.get_config()
    config["layers"][0]["config"]["batch_shape"] = (None, shape.height, shape.width, 3)
    resized = keras.Model.from_config(config)
    resized.set_weights(network.get_weights())
    return keras.Sequential([resized, keras.layers.GlobalAveragePooling2D()])


def take(backbone: keras.Model, weights: str) -> None:
    """Load a ``.weights.h5`` file of the whole network into its part without the classifier."""
    whole = keras.applications.MobileNetV3Large(
        minimalistic=True, weights=None, classifier_activation=None
    )
    whole.load_weights(weights)
    for layer in backbone.layers:
        layer.set_weights(whole.get_layer(layer.name).get_weights() if layer.weights else [])


if __name__ == "__main__":
    main()
