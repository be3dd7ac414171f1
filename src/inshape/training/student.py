"""The part of a network that is trained, as a Keras model, and the optimizer that trains it."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..errors import UnknownName
from ..graph.walk import all_layers, nodes_in_order
from ..tasks.task import Task
from .devices import choose_jit
from .recipe import Recipe
from .teacher import Teaching

_PARTS = ("body", "head")
_ANY_PX = 256


@keras.saving.register_keras_serializable(package="inshape")
class Student(keras.Model):
    """The unfrozen part of a backbone, if there is one, and the head, from rows to logits.

    It shares its layers with the model that they come from. The body's batch norms keep the
    pretrained statistics unless ``moves_statistics``: batches of 32 make worse ones. Its dropout
    then stays off as well, since Keras has one switch for both; the head's is on.
    """

    def __init__(
        self, body: keras.Model | None, head: keras.Model, *, moves_statistics: bool, seed: int
    ) -> None:
        """Join the two; ``head`` leads from the pooled features to the logits."""
        super().__init__(name="student")
        self.body = body
        self.head = head
        self.moves_statistics = moves_statistics
        self.seed = seed
        self(keras.Input((body or head).input_shape[1:]))
        for index, state in enumerate(self._seeds()):
            # Keras draws these when a layer is made, so a loaded model has others.
            state.assign(np.asarray([seed, index], state.dtype))

    def call(self, rows: Any, training: bool | None = None) -> Any:
        """The logits of rows; in training with the map behind them that a body shows, flat."""
        shown = None
        if self.body is not None:
            rows = self.body(rows, training=bool(training) and self.moves_statistics)
            if len(self.body.outputs) == 2:
                rows, shown = rows
        logits = keras.ops.cast(self.head(rows, training=bool(training)), "float32")
        if shown is None or not training:
            return logits
        flat = keras.ops.reshape(shown, (-1, math.prod(shown.shape[1:])))
        return keras.ops.concatenate([logits, keras.ops.cast(flat, "float32")], axis=1)

    @property
    def losses(self) -> list[Any]:
        """None: the optimizer's decay takes the place of a network's own penalties on weights."""
        return []

    def get_config(self) -> dict[str, Any]:
        """What the student is made of, for callbacks that save it."""
        config = {n: keras.saving.serialize_keras_object(getattr(self, n)) for n in _PARTS}
        return config | {"moves_statistics": self.moves_statistics, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Student:
        """A student from its configuration, without the optimizer that trained it."""
        parts = {
            n: keras.saving.deserialize_keras_object(config[n], custom_objects) for n in _PARTS
        }
        return cls(**{**config, **parts})

    def get_compile_config(self) -> None:
        """Nothing: rates by depth belong to the variables of one training."""

    def begin_epoch(self, epoch: int) -> None:
        """Draw what this epoch draws, whatever was drawn before."""
        if keras.backend.backend() == "torch":  # whose dropout has no state that could be kept
            import torch  # pyright: ignore[reportMissingImports]

            torch.manual_seed(self.seed + 1_000_003 * epoch)

    def _seeds(self) -> list[Any]:
        """The counters of dropout and its like, which are variables but no weights."""
        weights = {id(v) for v in self.weights}
        return [v for v in self.variables if id(v) not in weights]


def compile_student(
    student: Student,
    task: Task,
    recipe: Recipe,
    steps: int,
    epochs: int,
    teaching: Teaching | None = None,
) -> None:
    """Give a student its loss, its score and its optimizer, for epochs of so many steps.

    Rows are weighed by the data: losses are summed up.
    """
    scales = _scales(student, recipe.layer_decay)
    options: dict[str, Any] = {}
    if recipe.ema:
        options = {"use_ema": True, "ema_momentum": recipe.ema}
    optimizer = layerwise(optimizer_class(recipe.optimizer))
    student.compile(
        optimizer=optimizer(
            student.trainable_variables,
            scales,
            decay=recipe.weight_decay,
            learning_rate=schedule(recipe, steps, epochs),
            **options,
        ),
        loss=_Taught(task, teaching) if teaching else _Plain(task),
        weighted_metrics=[] if task.metric is None else [_metric(task, *task.metric)],
        jit_compile=choose_jit(),
    )


def schedule(
    recipe: Recipe, steps: int, epochs: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate of each step: a linear rise, then a half cosine to 0.

    Example:
        >>> rate = schedule(Recipe(learning_rate=0.1, warmup_epochs=1), steps=2, epochs=3)
        >>> [round(float(rate(step)), 3) for step in range(6)]
        [0.05, 0.075, 0.1, 0.085, 0.05, 0.015]
    """
    total = steps * epochs
    warm = min(round(recipe.warmup_epochs * steps), total // 2)
    return keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / max(1, warm),
        decay_steps=total - warm,
        warmup_target=recipe.learning_rate if warm else None,
        warmup_steps=warm,
    )


def _metric(task: Task, name: str, settings: Mapping[str, Any]) -> keras.Metric:
    """A task's score of the hard labels, behind which a teacher's may stand."""
    activation: Any = keras.activations.get(task.metric_activation)

    class OfHardLabels(getattr(keras.metrics, name)):
        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            hard = y_true[..., : task.target_width]
            logits = y_pred[..., : task.output_width]
            answers = activation(task.align(logits, hard))
            weights = None if sample_weight is None else task.counted(sample_weight)
            return super().update_state(hard, answers, weights)

    return OfHardLabels(name=task.score_name, **settings)


class _Plain(keras.losses.Loss):
    """The loss against hard labels alone."""

    def __init__(self, task: Task) -> None:
        super().__init__(name="plain", reduction="sum")
        self._losses = task.losses()

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self._losses(y_true, y_pred)


class _Taught(keras.losses.Loss):
    """The loss against hard labels and a teacher's answers, which stand behind them."""

    def __init__(self, task: Task, teaching: Teaching) -> None:
        super().__init__(name="taught", reduction="sum")
        self._outputs = task.target_width
        self._teaching = teaching
        self._losses = task.losses()

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if y_true.shape[-1] == self._outputs:  # in validation nobody teaches
            return self._losses(y_true, y_pred)
        return self._teaching.losses(y_true, y_pred, self._losses, self._outputs)


def optimizers() -> dict[str, type[Any]]:
    """Keras's optimizers by their names in lower case."""
    kinds = (getattr(keras.optimizers, name) for name in dir(keras.optimizers))
    return {
        kind.__name__.lower(): kind
        for kind in kinds
        # Those that stand by themselves: the first parameter of others is an optimizer.
        if isinstance(kind, type)
        and issubclass(kind, keras.optimizers.Optimizer)
        and "learning_rate" in inspect.signature(kind).parameters
        and kind is not keras.optimizers.Optimizer
    }


def optimizer_class(name: str) -> type[Any]:
    """One of Keras's optimizers by its name, in upper or lower case.

    Raises:
        UnknownName: if there is none.

    Example:
        >>> optimizer_class("adamw").__name__
        'AdamW'
    """
    known = optimizers()
    if name.lower() not in known:
        raise UnknownName("optimizer", name, sorted(known))
    return known[name.lower()]


def layerwise(kind: type[Any]) -> type[Any]:
    """An optimizer whose rate is scaled per variable, so that early layers change less.

    Layerwise rates as in Howard and Ruder's discriminative fine-tuning, arXiv 1801.06146. Kernels
    alone decay, each at its own rate (Loshchilov and Hutter, arXiv 1711.05101): biases and the
    parameters of normalisations are vectors, and to pull them towards zero would change what the
    network computes without making it simpler.
    """

    class Layerwise(kind):
        def __init__(
            self,
            variables: Sequence[keras.Variable],
            scales: Sequence[float],
            *,
            decay: float,
            **options: Any,
        ) -> None:
            super().__init__(**options)
            self.weight_decay = None  # Keras's own has one rate for all
            self._scales = [float(scale) for scale in scales]
            self._decays = [decay if len(v.shape) >= 2 else 0.0 for v in variables]
            self.build(list(variables))

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            index = self._get_variable_index(variable)
            rate = learning_rate * self._scales[index]
            if self._decays[index]:
                self.assign_sub(
                    variable, variable * keras.ops.cast(rate * self._decays[index], variable.dtype)
                )
            super().update_step(gradient, variable, rate)

    return Layerwise


def layer_scales(stages: Sequence[int], decay: float) -> list[float]:
    """The relative rate of each layer with a kernel, from the stage that it stands in.

    Stages count from the head, the last being 0. The rate falls geometrically towards the picture,
    by ``decay`` over each stage, and would be 1 just behind the last layer, where the head stands:
    what a layer's rate is does not depend on how much before it is unfrozen.

    Example:
        >>> [round(s, 4) for s in layer_scales([1, 0, 0], 0.01)]
        [0.0001, 0.01, 0.1]
    """
    sizes, place = Counter(stages), Counter[int]()
    scales: list[float] = []
    for stage in stages:
        scales.append(decay ** (stage + 1 - place[stage] / sizes[stage]))
        place[stage] += 1
    return scales


def _scales(student: Student, decay: float) -> list[float]:
    """The relative rate of each trained variable."""
    body = student.body
    scales = [] if body is None else _body_scales(body, decay)
    return scales + [1.0] * (len(student.trainable_variables) - len(scales))


def _body_scales(body: keras.Model, decay: float) -> list[float]:
    """The relative rate of each trainable variable: that of the last kernel at or before it."""
    # A layer that has layers inside comes before them and would claim all of their variables.
    layers = [x for x in all_layers(body) if x.trainable_variables and not x._layers]
    kernels = [x for x in layers if any(len(v.shape) >= 2 for v in x.trainable_variables)]
    rates = iter(layer_scales(_stages(_map_sizes(body, kernels)), decay))
    by_variable: dict[int, float] = {}
    rate = decay
    for layer in layers:
        rate = next(rates) if layer in kernels else rate
        new = dict.fromkeys(map(id, layer.trainable_variables), rate)
        by_variable = new | by_variable
    return [by_variable.get(id(v), rate) for v in body.trainable_variables]


def _map_sizes(body: keras.Model, layers: Sequence[Any]) -> list[tuple[int, ...] | None]:
    """Height and width of each layer's map; ``None`` for a vector, pooled to 1x1 or not."""
    # A layer may stand in other graphs as well; one inside a nested model stands in that alone.
    outputs = {id(node.operation): node.outputs[0] for node in nodes_in_order(body)}
    shapes = {key: tuple(output.shape) for key, output in outputs.items()}
    if None in body.input_shape[1:]:  # any size tells where they change
        sized = keras.Model(body.inputs[0], list(outputs.values())).compute_output_shape(
            (1, _ANY_PX, _ANY_PX, body.input_shape[-1])
        )
        shapes = dict(zip(shapes, map(tuple, sized), strict=True))
    found = [shapes.get(id(layer)) or tuple(layer.output.shape) for layer in layers]
    sizes = [shape[1:3] if len(shape) == 4 else (1, 1) for shape in found]
    return [None if size == (1, 1) else size for size in sizes]


def _stages(sizes_hw: Sequence[tuple[int, ...] | None]) -> list[int]:
    """The stage of each layer, counted from the last: those whose maps have the same size."""
    stages: list[int] = []
    stage, current = 0, None
    for size in reversed(sizes_hw):
        stage += size is not None and current not in (None, size)
        current = size or current
        stages.append(stage)
    return stages[::-1]


def state_of(student: Student) -> list[NDArray[Any]]:
    """Copies of everything that a step reads and changes."""
    return [_copy(variable) for variable in _state(student)]


def restore_state(student: Student, state: Sequence[NDArray[Any]]) -> None:
    """Go back to a state."""
    for variable, value in zip(_state(student), state, strict=True):
        variable.assign(value)


def weights_of(student: Student) -> list[NDArray[Any]]:
    """Copies of the weights, as ``student.set_weights`` takes them."""
    return [_copy(variable) for variable in student.weights]


def _state(student: Student) -> list[Any]:
    return [*student.variables, *student.optimizer.variables]


def _copy(variable: Any) -> NDArray[Any]:
    # Through a tensor: what is mirrored on several devices has no value of its own.
    tensor = keras.ops.convert_to_tensor(variable.value)
    return np.array(keras.ops.convert_to_numpy(tensor))
