"""Train the demonstration checkpoint (``weights="demo"``) from scratch on pictures from formulas.

    python -m tools.pretrain_demo [--steps N] [--out runs/pretrain] [--to FILE]

MobileNetV3Small-minimalistic learns to tell 480 classes of `tools.formula` apart at 48x48 pixels,
and what stands below its pooling is written as float16. No photo, no licence and no download is
involved. The result is a demonstration: it knows edges, strokes, textures and outlines, but has
never seen a photo, and is worse than ImageNet's weights on photos.

It may be killed at any time: the same command goes on from the last checkpoint, with the pictures
that it would have seen. The learning rate stays level and falls over the last steps, so that
``--steps`` may be lowered on the way: the run then ends sooner, and ends well.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formula.catalogue import COUNTS, FormulaClass, classes, rendered

BACKBONE = "MobileNetV3Small-minimalistic"


@dataclass(frozen=True, slots=True)
class Course:
    """What a training is made of; everything but ``steps`` must stay as it was on resuming.

    Attributes:
        steps: how many batches.
        batch: pictures in each, a multiple of eight.
        px: their height and width.
        drawn_px: height and width of what is drawn beforehand.
        pictures: of each class that are drawn beforehand.
        counts: classes of each family.
        rate: the level learning rate.
        warm: steps until it is reached.
        falling: the share of all steps over which it falls to nothing.
        decay: of the weights.
        smoothing: of the labels.
        momentum: of batch norm's statistics; Keras's 0.999 is too slow for so few steps.
        seed: of the pictures, their order and the first weights.
    """

    steps: int = 4400
    batch: int = 128
    px: int = 48
    drawn_px: int = 64
    pictures: int = 160
    counts: tuple[tuple[str, int], ...] = tuple(COUNTS.items())
    rate: float = 2.5e-3
    warm: int = 300
    falling: float = 0.3
    decay: float = 0.02
    smoothing: float = 0.0
    momentum: float = 0.99
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """The learning rate of a step: it rises, stays, and falls (arXiv 2404.06395)."""
        left = (self.steps - step) / max(1.0, self.falling * self.steps)
        return self.rate * min(1.0, (step + 1) / self.warm, left)

    def order_of(self, step: int, total: int) -> NDArray[np.int64]:
        """Which pictures make up the batch of a step; each one comes once an epoch."""
        each = total // self.batch
        epoch, within = divmod(step, each)
        order = np.random.default_rng((self.seed, 7, epoch)).permutation(total)
        return order[within * self.batch : (within + 1) * self.batch]


class Learner:
    """The network, its optimiser and how far it is.

    Args:
        course: what the training is made of.
        wanted: the classes.
    """

    def __init__(self, course: Course, wanted: tuple[FormulaClass, ...]) -> None:
        import keras
        import tensorflow as tf

        from inshape.backbones import find

        from .formula.compose import compose

        keras.utils.set_random_seed(course.seed)
        self.course, self.step = course, 0
        shape = (course.px, course.px, 3)
        self.backbone = find(BACKBONE).build(include_top=False, input_shape=shape)
        for layer in self.backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = course.momentum
        pooled = keras.layers.GlobalAveragePooling2D()(self.backbone.output)
        logits = keras.layers.Dense(len(wanted))(pooled)
        self.model = keras.Model(self.backbone.input, logits)
        self.optimizer = keras.optimizers.AdamW(course.rate, weight_decay=course.decay)
        self.optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        self.optimizer.build(self.model.trainable_variables)
        fills = tf.constant([one.family == "textures" for one in wanted])

        @tf.function(jit_compile=False)
        def learn(grey: Any, labels: Any, step: Any) -> tuple[Any, Any]:
            grey.set_shape((course.batch, course.drawn_px, course.drawn_px))
            pictures = compose(grey, tf.gather(fills, labels), step, px=course.px, seed=course.seed)
            smooth = tf.one_hot(labels, len(wanted)) * (1 - course.smoothing)
            smooth += course.smoothing / len(wanted)
            with tf.GradientTape() as tape:
                answers = self.model(pictures, training=True)
                loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(smooth, answers))
            variables = self.model.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            right = tf.argmax(answers, 1, tf.int32) == labels
            return loss, tf.reduce_mean(tf.cast(right, tf.float32))

        self._learn = learn

    def take_step(self, pictures: NDArray[np.uint8], labels: NDArray[np.int32]) -> tuple[Any, Any]:
        """Learn from the next batch.

        Args:
            pictures: all of them, uint8 ``(total, px, px)``.
            labels: their class numbers.

        Returns:
            Loss and accuracy on the batch.
        """
        import tensorflow as tf

        rows = self.course.order_of(self.step, len(labels))
        self.optimizer.learning_rate.assign(self.course.rate_at(self.step))
        loss_and_share = self._learn(
            tf.constant(pictures[rows]), tf.constant(labels[rows]), tf.constant(self.step)
        )
        self.step += 1
        return loss_and_share

    def save(self, path: Path) -> None:
        """Keep everything that the next step depends on."""
        arrays = {f"v{i}": np.asarray(v) for i, v in enumerate(self._variables())}
        about = {"step": self.step, "course": asdict(self.course)}
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.savez(file, about=np.array(json.dumps(about)), **arrays)
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from what `save` kept.

        Args:
            path: the file.
        """
        with np.load(path) as kept:
            about = json.loads(str(kept["about"]))
            now = json.loads(json.dumps(asdict(self.course)))
            for name, value in about["course"].items():
                if name != "steps" and now[name] != value:
                    raise SystemExit(
                        f"{path} was begun with {name} {value}, this is {now[name]}; give the "
                        "same, or another --out"
                    )
            for number, variable in enumerate(self._variables()):
                variable.assign(kept[f"v{number}"])
            self.step = about["step"]

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.optimizer.variables]


def main(arguments: list[str] | None = None) -> None:
    """Draw the pictures, train, and write the checkpoint."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/pretrain"), help="what is kept")
    parser.add_argument("--to", type=Path, help="the checkpoint; OUT/demo.safetensors if not given")
    parser.add_argument("--steps", type=int, default=Course().steps)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    options = parser.parse_args(arguments)
    train(
        Course(steps=options.steps),
        options.out,
        options.to or options.out / "demo.safetensors",
        threads=options.threads,
    )


def train(course: Course, out: Path, to: Path, *, threads: int = 0, every_s: float = 120) -> None:
    """Draw the pictures, train, and write the checkpoint.

    Args:
        course: what the training is made of.
        out: folder of the pictures and of the training's state.
        to: the file to write.
        threads: of TensorFlow; 0 is as many as there are cores.
        every_s: seconds between two states that are kept.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf
    from rich.progress import track

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    # Sums in another order would end in other weights after a resume.
    tf.config.experimental.enable_op_determinism()
    wanted = classes(dict(course.counts))
    drawn = rendered(
        out / "pictures", wanted, count=course.pictures, px=course.drawn_px, seed=course.seed
    )
    pictures = np.concatenate(list(track(drawn, "drawing pictures", total=len(wanted))))
    labels = np.repeat(np.arange(len(wanted), dtype=np.int32), course.pictures)
    learner, state = Learner(course, wanted), out / "state.npz"
    if state.exists():
        learner.resume(state)
        print(f"going on from step {learner.step} of {course.steps}")
    learn(learner, pictures, labels, state, every_s)
    write(learner, to)


def learn(
    learner: Learner,
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int32],
    state: Path,
    every_s: float,
) -> None:
    """Take the steps that are left; Ctrl-C keeps the state before it ends the program."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")
    )  # fmt: skip
    kept, losses, rights = time.monotonic(), [], []
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=learner.course.steps, completed=learner.step)
        try:
            while learner.step < learner.course.steps:
                loss, right = learner.take_step(pictures, labels)
                losses.append(float(loss))
                rights.append(float(right))
                status = f"loss {np.mean(losses[-50:]):.3f}, right {np.mean(rights[-50:]):.3f}"
                progress.update(bar, completed=learner.step, description=status)
                if learner.step % 100 == 0:
                    progress.console.print(f"step {learner.step}: {status}")
                if time.monotonic() - kept > every_s:
                    learner.save(state)
                    kept = time.monotonic()
        finally:
            learner.save(state)


def write(learner: Learner, to: Path) -> None:
    """Write the backbone's weights as float16, layer by layer in the graph's order."""
    from inshape.weights.demo import save_demo

    # One key: the order of several would differ from file to file.
    save_demo(learner.backbone, to, {"course": json.dumps(asdict(learner.course))})
    print(f"{to}: {to.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
