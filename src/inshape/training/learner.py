"""A network that learns: its forward pass, its step and everything that the step changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from .optimizer import LayerwiseAdamW, layer_scales
from .recipe import Recipe
from .teaching import Teaching, distilled

_EVAL_BATCH = 64


class Learner:
    """The trained part of a model with its optimizer.

    Attributes:
        body: the unfrozen part of the backbone, or ``None`` if only the head is trained.
        head: from the pooled features to the logits.
        variables: what is trained.
    """

    def __init__(
        self,
        body: keras.Model | None,
        head: keras.Model,
        recipe: Recipe,
        *,
        seed: int,
        teaching: Teaching | None = None,
    ) -> None:
        """Prepare the step.

        Args:
            body: called with its statistics fixed, unless the recipe says otherwise; its dropout
                and stochastic depth then stay off too.
            head: called in training mode.
            recipe: the choices.
            seed: of dropout.
            teaching: how a teacher's soft labels count, if the labels hold them.
        """
        self.body = body
        self.head = head
        self._recipe = recipe
        self._teaching = teaching
        body_variables: list[keras.Variable] = body.trainable_variables if body else []
        head_variables: list[keras.Variable] = head.trainable_variables
        self.variables = [*body_variables, *head_variables]
        scales = layer_scales(_depths(body), recipe.layer_decay) if body else []
        scales += [1.0] * len(head_variables)
        self._optimizer = LayerwiseAdamW(self.variables, scales, decay=recipe.weight_decay)
        averaged = self.variables if recipe.ema else []
        # From copies: a variable made of another's value would share it.
        self._averages = [keras.Variable(_copy(v), trainable=False) for v in averaged]
        for index, state in enumerate(self._seeds()):
            # Keras draws these when a layer is made, so a loaded model has others.
            state.assign(np.asarray([seed, index], state.dtype))
        first = body or head
        row = tf.TensorSpec((None, *first.input_shape[1:]), tf.float32)
        columns = head.output_shape[-1] * (1 if teaching is None else 2)
        labels = tf.TensorSpec((None, columns), tf.float32)
        weights = tf.TensorSpec((None,), tf.float32)
        self._strategy = tf.distribute.get_strategy() if tf.distribute.has_strategy() else None
        total = tf.TensorSpec((), tf.float32)
        self._step = tf.function(self._one_step, input_signature=[row, labels, weights, total])
        self._spread = tf.function(self._on_each_replica)
        self._forward = tf.function(self._logits_of, input_signature=[row])

    def step(
        self,
        rows: NDArray[np.float32],
        labels: NDArray[np.float32],
        weights: NDArray[np.float32],
        rate: float,
    ) -> float:
        """Learn from a batch.

        Args:
            rows: pictures or features, ``(batch, ...)``.
            labels: ``(batch, classes)``, each row summing to 1; with a teacher, its soft labels in
                as many columns behind them.
            weights: of each row in the loss, ``(batch,)``.
            rate: the learning rate at scale 1.

        Returns:
            The loss.
        """
        self._optimizer.learning_rate = rate
        loss = self._on_every_device(rows, labels, weights)
        for average, variable in zip(self._averages, self.variables, strict=False):
            average.assign(average + (1.0 - self._recipe.ema) * (variable - average))
        return float(loss)

    def _on_every_device(self, *batch: NDArray[np.float32]) -> Any:
        """Take the step, each device with its share of the batch; their losses add up."""
        total = np.float32(batch[-1].sum())
        if self._strategy is None:
            return self._step(*batch, total)
        strategy = self._strategy
        shares = [np.array_split(part, strategy.num_replicas_in_sync) for part in batch]

        def share_of(part: list[NDArray[np.float32]]) -> Any:
            def one(context: Any) -> Any:
                return tf.constant(part[context.replica_id_in_sync_group])

            return strategy.experimental_distribute_values_from_function(one)

        losses = self._spread(*map(share_of, shares), total)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    def logits(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """The logits of any number of rows, in inference mode.

        Args:
            rows: pictures or features, ``(rows, ...)``.

        Returns:
            float32 ``(rows, classes)``.
        """
        parts = [
            self._forward(np.asarray(rows[i : i + _EVAL_BATCH], np.float32)).numpy()
            for i in range(0, len(rows), _EVAL_BATCH)
        ]
        return np.concatenate(parts)

    def weights(self, *, averaged: bool = True) -> list[NDArray[np.float32]]:
        """The weights as they are to be used.

        Args:
            averaged: whether averages stand for what is trained, if the recipe asks for them.

        Returns:
            Copies, statistics of normalisations among them.
        """
        averages = self._averages if averaged else []
        use = {id(v): a for v, a in zip(self.variables, averages, strict=False)}
        return [_copy(use.get(id(v), v)) for v in self._weights()]

    def set_weights(self, weights: Sequence[NDArray[np.float32]]) -> None:
        """Take these weights.

        Args:
            weights: as `weights` gives them.
        """
        for variable, value in zip(self._weights(), weights, strict=True):
            variable.assign(value)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that a step reads and changes, by name."""
        found = {f"model/{i}": v for i, v in enumerate([*self._weights(), *self._seeds()])}
        found |= {f"optimizer/{i}": v for i, v in enumerate(self._optimizer.variables)}
        found |= {f"average/{i}": v for i, v in enumerate(self._averages)}
        return {name: _copy(variable) for name, variable in found.items()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go back to a state."""
        groups = {
            "model": [*self._weights(), *self._seeds()],
            "optimizer": self._optimizer.variables,
            "average": self._averages,
        }
        for group, variables in groups.items():
            for index, variable in enumerate(variables):
                variable.assign(state[f"{group}/{index}"])

    def _weights(self) -> list[keras.Variable]:
        return [*(self.body.weights if self.body else []), *self.head.weights]

    def _seeds(self) -> list[Any]:
        """The counters of dropout and its like, which are variables but no weights."""
        weights = {id(v) for v in self._weights()}
        found: list[Any] = [*(self.body.variables if self.body else []), *self.head.variables]
        unique: dict[int, Any] = {id(v): v for v in found if id(v) not in weights}
        return list(unique.values())

    def _on_each_replica(self, *batch: Any) -> Any:
        assert self._strategy is not None
        return self._strategy.run(self._one_step, batch)

    def _one_step(self, rows: Any, labels: Any, weights: Any, total: Any) -> Any:
        with tf.GradientTape() as tape:
            training = self._recipe.batch_norm == "train"
            features = rows if self.body is None else self.body(rows, training=training)
            logits = tf.cast(self.head(features, training=True), tf.float32)
            if self._teaching is None:
                losses = keras.losses.categorical_crossentropy(labels, logits, from_logits=True)
            else:
                losses = distilled(labels, logits, self._teaching)
            loss = tf.reduce_sum(losses * weights) / total
        values = [v.value for v in self.variables]
        gradients = tape.gradient(loss, values)
        self._optimizer.apply(gradients, self.variables)
        return loss

    def _logits_of(self, rows: Any) -> Any:
        features = rows if self.body is None else self.body(rows, training=False)
        return tf.cast(self.head(features, training=False), tf.float32)


def _copy(variable: keras.Variable) -> NDArray[Any]:
    # Not Keras's own conversion, which cannot read what is mirrored on several devices.
    return np.array(tf.convert_to_tensor(variable.value))


def _depths(body: keras.Model) -> list[int]:
    """The depth of each trainable variable: how many layers with a kernel start before it."""
    by_id: dict[int, int] = {}
    depth = -1
    # Keras offers no public way to list the layers inside nested models.
    for layer in body._flatten_layers(include_self=False):  # pyright: ignore[reportPrivateUsage]
        own = layer.trainable_variables if not layer._layers else []
        if any(len(v.shape) >= 2 for v in own):
            depth += 1
        for variable in own:
            by_id.setdefault(id(variable), max(depth, 0))
    return [by_id.get(id(v), max(depth, 0)) for v in body.trainable_variables]
