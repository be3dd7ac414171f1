"""A network that learns: its forward pass, its step and everything that the step changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ..graph.walk import all_layers
from .recipe import Recipe
from .teacher import Teaching, distillation_losses

_EVAL_BATCH = 64


class Learner:
    """The trained part of a model with its optimizer.

    ``body`` is the unfrozen part of the backbone, or ``None`` if only the head is trained; ``head``
    leads from the pooled features to the logits; ``variables`` are what is trained.
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
        """Prepare the step; with a teaching, labels hold a teacher's soft ones as well."""
        self.body = body
        self.head = head
        self.recipe = recipe
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

    @property
    def is_taught(self) -> bool:
        """Whether labels hold a teacher's soft ones as well."""
        return self._teaching is not None

    def step(
        self,
        rows: NDArray[np.float32],
        labels: NDArray[np.float32],
        weights: NDArray[np.float32],
        rate: float,
    ) -> float:
        """Learn from a batch and return the loss.

        Each row of labels sums to 1; a teacher's soft labels stand in as many columns behind them.
        ``weights`` are those of the rows in the loss, ``rate`` is the learning rate at scale 1.
        """
        self._optimizer.learning_rate = rate
        loss = self._on_every_device(rows, labels, weights)
        for average, variable in zip(self._averages, self.variables, strict=False):
            average.assign(average + (1.0 - self.recipe.ema) * (variable - average))
        return float(loss)

    def _on_every_device(self, *batch: NDArray[np.float32]) -> Any:
        """Take the step, each device with its share of the batch; their losses add up."""
        # Divided by the weight of the whole batch and not of a share: shares may differ in size,
        # and a mean of means would then weigh their rows differently.
        total = np.float32(batch[-1].sum())
        if self._strategy is None:
            return self._step(*batch, total)
        strategy = self._strategy
        shares = [np.array_split(part, strategy.num_replicas_in_sync) for part in batch]

        def distribute(share: list[NDArray[np.float32]]) -> Any:
            def of_replica(context: Any) -> Any:
                return tf.constant(share[context.replica_id_in_sync_group])

            return strategy.experimental_distribute_values_from_function(of_replica)

        losses = self._spread(*map(distribute, shares), total)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    def logits(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """The logits ``(rows, classes)`` of any number of rows, in inference mode."""
        parts = [np.zeros((0, self.head.output_shape[-1]), np.float32)]
        parts += [
            self._forward(np.asarray(rows[i : i + _EVAL_BATCH], np.float32)).numpy()
            for i in range(0, len(rows), _EVAL_BATCH)
        ]
        return np.concatenate(parts)

    def weights(self, *, averaged: bool = True) -> list[NDArray[np.float32]]:
        """Copies of the weights as they are to be used: averages, if the recipe asks for them."""
        averages = self._averages if averaged else []
        use = {id(v): a for v, a in zip(self.variables, averages, strict=False)}
        return [_copy(use.get(id(v), v)) for v in self._weights()]

    def set_weights(self, weights: Sequence[NDArray[np.float32]]) -> None:
        """Take these weights, as `weights` gives them."""
        for variable, value in zip(self._weights(), weights, strict=True):
            variable.assign(value)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that a step reads and changes, by name."""
        return {
            f"{group}/{index}": _copy(variable)
            for group, variables in self._groups().items()
            for index, variable in enumerate(variables)
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go back to a state."""
        for group, variables in self._groups().items():
            for index, variable in enumerate(variables):
                variable.assign(state[f"{group}/{index}"])

    def _groups(self) -> dict[str, list[Any]]:
        return {
            "model": [*self._weights(), *self._seeds()],
            "optimizer": self._optimizer.variables,
            "average": self._averages,
        }

    def _weights(self) -> list[keras.Variable]:
        return [*(self.body.weights if self.body else []), *self.head.weights]

    def _seeds(self) -> list[Any]:
        """The counters of dropout and its like, which are variables but no weights."""
        weights = {id(v) for v in self._weights()}
        variables: list[Any] = [*(self.body.variables if self.body else []), *self.head.variables]
        unique: dict[int, Any] = {id(v): v for v in variables if id(v) not in weights}
        return list(unique.values())

    def _on_each_replica(self, *batch: Any) -> Any:
        assert self._strategy is not None
        return self._strategy.run(self._one_step, batch)

    def _one_step(self, rows: Any, labels: Any, weights: Any, total: Any) -> Any:
        with tf.GradientTape() as tape:
            # The body's batch norms keep the pretrained statistics unless the recipe says
            # otherwise: batches of 32 make worse ones. Its dropout then stays off as well, since
            # Keras has one switch for both; the head's is on.
            training = self.recipe.batch_norm == "train"
            features = rows if self.body is None else self.body(rows, training=training)
            logits = tf.cast(self.head(features, training=True), tf.float32)
            if self._teaching is None:
                losses = keras.losses.categorical_crossentropy(labels, logits, from_logits=True)
            else:
                losses = distillation_losses(labels, logits, self._teaching)
            loss = tf.reduce_sum(losses * weights) / total
        values = [v.value for v in self.variables]
        gradients = tape.gradient(loss, values)
        self._optimizer.apply(gradients, self.variables)
        return loss

    def _logits_of(self, rows: Any) -> Any:
        features = rows if self.body is None else self.body(rows, training=False)
        return tf.cast(self.head(features, training=False), tf.float32)


class LayerwiseAdamW(keras.optimizers.Adam):
    """AdamW whose rate is scaled per variable, so that early layers change less than late ones.

    Loshchilov and Hutter, arXiv 1711.05101; layerwise rates as in Howard and Ruder's discriminative
    fine-tuning, arXiv 1801.06146. Keras's own AdamW has one rate for all. ``scales`` are relative
    to ``learning_rate``; ``decay`` is that of kernels, per unit of learning rate.
    """

    def __init__(
        self, variables: Sequence[keras.Variable], scales: Sequence[float], *, decay: float
    ) -> None:
        """Build the optimizer's own variables."""
        super().__init__(learning_rate=0.0)
        self._scales = [float(s) for s in scales]
        # Biases and the parameters of normalisations are vectors; to pull them towards zero would
        # change what the network computes without making it simpler.
        self._decays = [decay if len(v.shape) >= 2 else 0.0 for v in variables]
        self.build(list(variables))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take Adam's step and the decay at the variable's own rate."""
        index = self._get_variable_index(variable)
        rate = learning_rate * self._scales[index]
        if self._decays[index]:
            self.assign_sub(variable, variable * (rate * self._decays[index]))
        super().update_step(gradient, variable, rate)


def layer_scales(depths: Sequence[int], decay: float) -> list[float]:
    """The relative rate of each variable from the depth of its layer.

    Geometrically from ``decay`` at depth 0 (the first unfrozen layer) towards 1 just past the
    deepest, where the head stands.

    Example:
        >>> [round(s, 3) for s in layer_scales([0, 0, 1], 0.01)]
        [0.01, 0.01, 0.1]
    """
    depth = max(depths, default=0) + 1
    return [decay ** ((depth - d) / depth) for d in depths]


def _copy(variable: keras.Variable) -> NDArray[Any]:
    # Not Keras's own conversion, which cannot read what is mirrored on several devices.
    return np.array(tf.convert_to_tensor(variable.value))


def _depths(body: keras.Model) -> list[int]:
    """The depth of each trainable variable: how many layers with a kernel start before it."""
    by_id: dict[int, int] = {}
    depth = -1
    for layer in all_layers(body):
        # A layer that has layers inside comes before them and would claim all of their variables.
        variables = layer.trainable_variables if not layer._layers else []
        if any(len(v.shape) >= 2 for v in variables):
            depth += 1
        for variable in variables:
            by_id.setdefault(id(variable), max(depth, 0))
    return [by_id.get(id(v), max(depth, 0)) for v in body.trainable_variables]
