"""The front door: `plan` says what will be done to a backbone, `adapt` does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import keras

from .backbones import Backbone, find
from .errors import GraphError, RequestError, ShapeError, UnknownName, WeightsError
from .geometry.spec import GraphSpec
from .graph.edits import applied
from .graph.read import at_native_size, read
from .graph.rewrite import rebuild
from .heads import (
    Head,
    Pool,
    attach,
    feature_map,
    feature_maps,
    has_neck,
    truncated,
    with_new_classifier,
)
from .shapes import InputShape, ShapeLike
from .strategies.channels import ChannelRule
from .strategies.decide import AnyStrategy, decide
from .strategies.plan import Plan
from .weights.native import is_wrapped, native
from .weights.transplant import TransplantReport, transplant

BackboneLike: TypeAlias = str | Path | keras.Model
HeadLike: TypeAlias = Literal["top"] | Pool | Head | None
Weights: TypeAlias = str | Path | None


@dataclass(frozen=True, slots=True)
class Adapted:
    """An adapted model, and how it came about.

    Attributes:
        model: the model.
        plan: the plan that was carried out.
        report: what happened to each layer's weights.
    """

    model: keras.Model
    plan: Plan
    report: TransplantReport


@dataclass(frozen=True)
class BackbonePlan(Plan):
    """A plan that knows the backbone it was made for, and so can be built.

    Attributes:
        backbone: the name's facts, or the user's own model.
        asked_shape: the shape as asked for.
        request: strategy, channels and options as asked for.
    """

    backbone: Backbone | keras.Model | None = None
    asked_shape: InputShape | None = None
    request: tuple[tuple[str, Any], ...] = ()

    def build(
        self,
        *,
        weights: Weights = "imagenet",
        classes: int | None = None,
        head: HeadLike = None,
        features: Sequence[int] | None = None,
    ) -> keras.Model:
        """Carry the plan out.

        Args:
            weights: ``"imagenet"``, a file, ``"hf://OWNER/NAME"``, ``"kaggle://PRESET"``, ``None``
                for random ones, or ``"demo"``: the small checkpoint that comes with inshape, of
                MobileNetV3Small-minimalistic alone, which never saw a photo and is worse than
                ImageNet's. See `weights.sources` for what a file can be. A model of the user's
                brings its own.
            classes: of the new classifier.
            head: ``"top"`` keeps the pretrained one; a pool (``"avg"``, ``"max"``, ``"gem"``, or
                rows and columns) or a `Head` makes a new one. By default average pooling.
            features: output strides, such as ``[4, 8, 16, 32]``: the model returns the last map at
                each instead of a head.

        Returns:
            A plain ``keras.Model``.

        Raises:
            RequestError: if head, classes and features contradict each other.
            WeightsError: if the weights are missing or do not fit.
        """
        return self.carried_out(
            weights=weights, classes=classes, head=head, features=features
        ).model

    def carried_out(
        self,
        *,
        weights: Weights = "imagenet",
        classes: int | None = None,
        head: HeadLike = None,
        features: Sequence[int] | None = None,
    ) -> Adapted:
        """Like `build`, with the plan and the weights' report beside the model."""
        ending = _ending(head, classes, features)
        keeps_neck = isinstance(ending, Head) and bool(ending.neck)
        source = _source(self.backbone, weights, with_top=ending == "top" or keeps_neck)
        spec = _read(source)
        outputs: tuple[int, ...] | None = None
        if keeps_neck and not has_neck(spec):
            raise RequestError(
                f"neck=True: {spec.name} has no layers between pooling and classifier that are "
                "worth keeping; leave neck out"
            )
        if ending != "top" and not keeps_neck:
            outputs = (feature_map(spec),)
            spec = truncated(spec, outputs)
        plan = decide(spec, self.asked_shape or self.input_shape, **dict(self.request))
        if features is not None:
            shape = plan.shown_shape or plan.input_shape
            outputs = feature_maps(applied(spec, plan.edits), shape, tuple(features))
        model, layer_map = rebuild(
            source,
            plan.input_shape,
            edits=plan.edits,
            outputs=outputs,
            open_nested=isinstance(self.backbone, Backbone) and is_wrapped(self.backbone),
            name=self.source.name,
        )
        report = transplant(
            layer_map,
            spec,
            edits=plan.edits,
            stem=plan.channels.stem,
            channels=plan.channels.as_matrix(),
        )
        if isinstance(ending, Head):
            model = (with_new_classifier if keeps_neck else attach)(model, ending)
        return Adapted(model, plan, report)


def plan(
    backbone: BackboneLike,
    input_shape: ShapeLike,
    *,
    strategy: AnyStrategy = "auto",
    channels: ChannelRule = "auto",
    **options: Any,
) -> BackbonePlan:
    """Plan a backbone at another input shape; nothing is downloaded.

    Args:
        backbone: a name (``"MobileNetV3Small"``, ``"MobileNetV3Large-minimalistic"``, any
            ``keras.applications`` model), a path to a ``.keras`` file, or a ``keras.Model``.
        input_shape: ``"HxWxC"`` (``?``: any), a tuple ``(H, W, C)`` or an `InputShape`.
        strategy: ``"resize"``, ``"rebuild"``, ``"restride"``, ``"flexible"``, or ``"auto"``.
        channels: ``"sum"``, ``"mean"``, ``"luma"``, ``"tile"``, ``"zero"``, ``"first"``,
            ``"project"``, a list of the pretrained channels that bands start from (``None``: zero),
            or ``"auto"``.
        options: the strategy's own: ``working_hw``, ``fit``, ``interpolation`` (resize), ``stem``,
            ``factor``, ``output_stride`` (restride).

    Returns:
        The plan: print it, or ``build`` it.

    Raises:
        RequestError: if the request cannot be met; the message says why and what to do.

    Example:
        >>> import inshape
        >>> small = inshape.plan("MobileNetV3Small", "96x96x1", strategy="rebuild")
        >>> print(small.geometry.final_map)
        3x3
    """
    shape = InputShape.of(input_shape)
    known = _resolved(backbone)
    spec = _read(_source(known, None, with_top=True))
    if isinstance(known, Backbone):
        spec = spec.but(name=known.name)
    request = {"strategy": strategy, "channels": channels, **options}
    try:
        return _bound(spec, shape, known, **request)
    except ShapeError as problem:
        # The network's own top may be all that is in the way, and a new head takes its place.
        try:
            bare = truncated(spec, (feature_map(spec),))
        except GraphError:
            raise problem from None
        return _bound(bare, shape, known, **request)


def adapt(
    backbone: BackboneLike,
    input_shape: ShapeLike,
    *,
    strategy: AnyStrategy = "auto",
    channels: ChannelRule = "auto",
    weights: Weights = "imagenet",
    classes: int | None = None,
    head: HeadLike = None,
    features: Sequence[int] | None = None,
    **options: Any,
) -> keras.Model:
    """Give a pretrained network a new input shape: `plan` and ``build`` in one.

    Pictures go in as [0, 255] for every named backbone: what the network expects beyond that
    (scaling, mean, channel order) is done inside the model. A model of the user's keeps the value
    range that it has.

    Args:
        backbone: a name, a path to a ``.keras`` file, or a ``keras.Model`` (which is not changed).
        input_shape: ``"HxWxC"``, a tuple or an `InputShape`.
        strategy: see `plan`.
        channels: see `plan`.
        weights: see `BackbonePlan.build`.
        classes: of the new classifier; without them the model returns pooled features.
        head: see `BackbonePlan.build`.
        features: see `BackbonePlan.build`.
        options: see `plan`.

    Returns:
        A plain ``keras.Model``, not compiled.

    Raises:
        RequestError: if the request cannot be met; the message says why and what to do.

    Example:
        >>> import inshape
        >>> model = inshape.adapt("MobileNetV3Small", "97x130x1", classes=10, weights=None)
        >>> model.input_shape, model.output_shape
        ((None, 97, 130, 1), (None, 10))
    """
    made = plan(backbone, input_shape, strategy=strategy, channels=channels, **options)
    return made.build(weights=weights, classes=classes, head=head, features=features)


def _bound(
    spec: GraphSpec, shape: InputShape, backbone: Backbone | keras.Model, **request: Any
) -> BackbonePlan:
    bare = decide(spec, shape, **request)
    fields = {name: getattr(bare, name) for name in bare.__dataclass_fields__}
    return BackbonePlan(
        **fields, backbone=backbone, asked_shape=shape, request=tuple(request.items())
    )


def _read(model: keras.Model) -> GraphSpec:
    """Read a model by the names and the size that it is known by.

    A named network stands nested behind its preprocessing, and one of ``keras.applications`` may
    have been built for any size.
    """
    spec = read(model)
    nested = f"{model.name}/"
    spec = spec.but(layers=tuple(x.but(name=x.name.removeprefix(nested)) for x in spec))
    if spec.input_shape.is_static:
        return spec
    try:
        native_hw = find(model.name).native_hw
    except UnknownName:
        return spec
    return at_native_size(spec, native_hw)


def _resolved(backbone: BackboneLike) -> Backbone | keras.Model:
    if isinstance(backbone, keras.Model):
        return backbone
    if str(backbone).endswith(".keras"):
        return _from_file(Path(backbone))
    try:
        return find(str(backbone))
    except UnknownName:
        if Path(backbone).exists():
            raise WeightsError(
                f"backbone {str(backbone)!r} is not a .keras file; expected a name or a whole "
                "model; "
                "give the architecture's name as backbone and the file as weights"
            ) from None
        raise


def _from_file(path: Path) -> keras.Model:
    if not path.is_file():
        raise WeightsError(f"no model file at {path}; expected a .keras file, or a backbone's name")
    try:
        model: Any = keras.saving.load_model(path, compile=False)
        return model
    except Exception as error:  # zipfile, h5py and Keras each raise their own
        raise WeightsError(
            f"{path} cannot be loaded as a Keras model ({str(error).splitlines()[0]}); expected a "
            "whole "
            "model saved with model.save('name.keras')"
        ) from error


def _source(
    backbone: Backbone | keras.Model | None, weights: Weights, *, with_top: bool
) -> keras.Model:
    """The network to start from; pictures in [0, 255] go in, where it is a named one."""
    if isinstance(backbone, keras.Model):
        if weights not in (None, "imagenet"):
            raise RequestError(
                f"weights={str(weights)!r} with a whole model, which brings its own; leave "
                "weights out, "
                "or give the architecture's name as backbone"
            )
        return backbone
    assert backbone is not None
    return native(backbone, weights, with_top=with_top)


def _ending(
    head: HeadLike, classes: int | None, features: Sequence[int] | None
) -> Literal["top", "maps"] | Head:
    """What the model ends in, checked for contradictions."""
    if features is not None:
        if isinstance(features, int):
            raise RequestError(f"features={features}; expected a list, such as [8, 16, 32]")
        if head is not None or classes is not None:
            raise RequestError(
                f"features={list(features)} returns maps, so head={head!r} and classes={classes} "
                "have "
                "nothing to stand on; leave them out, or leave out features"
            )
        return "maps"
    if head == "top":
        if classes is not None:
            raise RequestError(
                f"head='top' keeps the pretrained classes, so classes={classes} cannot be met; "
                "leave "
                "classes out, or use head='avg'"
            )
        return "top"
    if isinstance(head, Head):
        if classes not in (None, head.classes):
            raise RequestError(f"classes={classes} and {head} disagree; give the classes once")
        return head
    return Head(classes=classes, pool=head or "avg")
