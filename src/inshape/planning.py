"""`plan`: what a new input shape will do to a network, decided once, head included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from os.path import exists, isfile  # false for what cannot be a path, where pathlib raises
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from .backbones import Backbone, backbones, find
from .errors import (
    GraphError,
    NoClassifier,
    OutputExists,
    RequestError,
    UnknownName,
    WeightsError,
)
from .geometry.amounts import product, total_of
from .geometry.cost import costs
from .geometry.drawing import drawing_html
from .geometry.footprint import Footprint, footprint, why_unknown
from .geometry.patches import Patches, find_spans, first_whole, patched
from .geometry.rules import Map
from .geometry.sizes import map_shapes
from .geometry.spec import GraphSpec
from .geometry.stages import Geometry, geometry
from .geometry.tables import stored_spec
from .geometry.warnings import ShapeWarning, shape_warnings
from .heads import (
    Head,
    Pool,
    classifier_input,
    decoder_maps,
    feature_map,
    feature_maps,
    has_pretrained_dense,
    read_pool,
    truncated,
    with_head,
    write_pool,
)
from .importing.api import is_model_file, read_file
from .importing.imported import Imported, range_notes, with_pixels
from .importing.options import FileOptions, Pixels
from .keras_words import KerasWords
from .limits import MemoryLimit
from .requests import (
    File,
    Flag,
    OptionsOnly,
    Positional,
    Range,
    Request,
    Shape,
    Weights,
    Without,
    Written,
    joined,
    make,
    many,
    read_whole,
    takes,
    write_file,
)
from .shapes import InputShape
from .strategies.channels import ChannelPlan
from .strategies.decide import StrategyOptions, decide
from .strategies.decision import Decision
from .strategies.patches import PatchChoice, choose_patches
from .text import Printable, format_bytes, format_macs, format_shape, join_some

if TYPE_CHECKING:
    import keras

    from .weights.transplant import TransplantReport

HeadLike: TypeAlias = Literal["top"] | Pool | Head | None
_TOP = "top"
_AS_IT_IS = FileOptions()


def read_backbone(value: Any) -> Any:
    """Read a backbone: a run folder stands for the model in it."""
    if isinstance(value, str | Path):
        path = Path(value).expanduser()
        return str(path / "model.keras" if isfile(path / "model.keras") else path)
    return value


def _read_head(value: Any) -> HeadLike:
    return value if value == _TOP or isinstance(value, Head) else read_pool(value)


def _write_head(value: Any) -> str | None:
    if isinstance(value, Head):
        return None
    return value if value == _TOP else write_pool(value)


BackboneField = Annotated[Any, Written(read_backbone, write_file, "BACKBONE")]
BackboneOption = Annotated[Any, Written(read_backbone, write_file, "NAME")]


@dataclass(frozen=True, slots=True)
class PlanRequest(KerasWords):
    """Which network is brought to which input shape, and what it ends in."""

    backbone: Annotated[BackboneField, Positional()]
    """A name of keras.applications (inshape models lists them), a model file (.keras, .h5,
    .tflite, .onnx), a run folder or, in Python, a keras.Model."""
    input_shape: Annotated[Shape, Positional(), Flag("input")]
    """The new input shape: height, width, channels; ? is any size."""
    classes: Annotated[int, Range(1)] | None = None
    """How many classes the new classifier has, or 1 for a single value; without them the pooled
    features are returned."""
    head: Annotated[HeadLike, Written(_read_head, _write_head, "HEAD")] = None
    """top keeps the network's own head as it is; a pooling says the same as pool. In Python also an
    inshape.Head."""
    features: Annotated[
        tuple[int, ...] | None, Written(many(read_whole), joined(str), "STRIDES")
    ] = None
    """Return the last maps at these output strides instead of a head, such as 8,16,32."""
    open_nested: bool = False
    """Dissolve the models nested in yours into one flat model, whose layers can all be reached
    (Grad-CAM, a cut inside)."""
    new_head: Annotated[Head, Without(("classes",)), OptionsOnly()] = field(default_factory=Head)
    """What stands behind the last map."""
    file: FileOptions = field(default_factory=FileOptions)
    """How a model file, or a network of your own, is read."""
    options: StrategyOptions = field(default_factory=StrategyOptions)
    """How the input shape is changed."""
    limits: MemoryLimit = field(default_factory=MemoryLimit)
    """What the device's memory allows."""

    def __post_init__(self) -> None:
        Request.__post_init__(self)
        by_head, by_option = self._by_head(), self._by_option()
        asked = _words(by_option if self.head is None else {"head": self.head, **by_option})
        if self.features is not None and asked:
            raise RequestError(
                f"features={list(self.features)} returns maps instead of a head; leave out "
                f"{asked}, or features"
            )
        if self.head == _TOP and by_option:
            raise RequestError(
                f"head='top' keeps the network's own head as it is; leave out {_words(by_option)}, "
                "or head='top'"
            )
        for name, value in by_option.items():
            if by_head.get(name, value) != value:
                raise RequestError(
                    f"{name}={value!r} and head={self.head!r} disagree; give {name} once"
                )
        self.ending  # noqa: B018 - what no head can be is refused here

    @property
    def ending(self) -> Literal["top", "maps"] | Head:
        """What the model ends in."""
        if self.features is not None:
            return "maps"
        if self.head == _TOP:
            return _TOP
        return Head(**{**self._by_option(), **self._by_head()})

    def _by_head(self) -> dict[str, Any]:
        """What ``head`` says of a new head; a field at its default says nothing."""
        if isinstance(self.head, Head):
            return self.head.stated()
        return {} if self.head in (None, _TOP) else {"pool": self.head}

    def _by_option(self) -> dict[str, Any]:
        """What the other options say of it."""
        classes = {} if self.classes is None else {"classes": self.classes}
        return {**classes, **self.new_head.stated()}

    @property
    def needs_top(self) -> bool:
        """Whether layers of the network's own head are kept."""
        ending = self.ending
        return ending == _TOP or (isinstance(ending, Head) and bool(ending.pretrained_dense))


@dataclass(frozen=True, slots=True)
class AdaptRequest(PlanRequest):
    """Which network is brought to which input shape, with which weights."""

    weights: Weights = "imagenet"
    """imagenet, a file (.weights.h5, .h5, .keras; torchvision's or timm's MobileNetV3 as
    .safetensors or .pth), hf://OWNER/NAME, kaggle://PRESET, none, or demo: the small checkpoint
    that comes with inshape, of MobileNetV3Small-minimalistic."""
    out: File | None = None
    """Where to save the new model, a .keras file."""

    def __post_init__(self) -> None:
        """Refuse an output before any work is done for it."""
        PlanRequest.__post_init__(self)
        if self.out is None:
            return
        if self.out.suffix != ".keras":
            raise RequestError(
                f"out {self.out} is not a .keras file; name one, such as {self.out.stem}.keras"
            )
        if self.out.exists():
            raise OutputExists(f"out {self.out} exists already; expected a new file; name another")
        if not self.out.parent.is_dir():
            raise RequestError(
                f"out {self.out}: there is no folder {self.out.parent}; make it first"
            )


@dataclass(frozen=True, eq=False)
class Network:
    """A network at its native shape, read once.

    Attributes:
        name: what it is known by.
        spec: the network as plain data.
        opened: the Keras model, with whatever weights it was opened with; ``None`` for a named one
            of which only the stored layer table was looked up.
        backbone: what is known of a named one.
        has_top: whether its own head is there with the weights that it was opened with.
        notes: what reading its file wants the user to know.
    """

    name: str
    spec: GraphSpec
    opened: keras.Model | None
    backbone: Backbone | None = None
    has_top: bool = True
    notes: tuple[str, ...] = ()

    @cached_property
    def model(self) -> keras.Model:
        """The Keras model, which is not changed; built if it was only looked up."""
        if self.opened is not None:
            return self.opened
        return open_network(self.backbone, None, top=self.has_top).model

    def is_alike(self, other: Network) -> bool:
        """Whether a decision for the other network holds for this one, by whatever names."""
        return _nameless(self.spec) == _nameless(other.spec)


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


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Printable):
    """What will be done to a network, with its geometry, before any model is built.

    Attributes:
        request: what was asked for.
        network: what it starts from.
        decision: what the strategy decided.
        spec: the graph as it will be built, head included, before any patches.
        outputs: the positions that are returned before a new head, ``None`` for all of the
            network's own.
        choice: how a limit on the RAM is met, if there is one.
    """

    request: PlanRequest
    network: Network
    decision: Decision
    spec: GraphSpec
    outputs: tuple[int, ...] | None
    choice: PatchChoice | None = None

    @property
    def strategy(self) -> str:
        """The strategy's name."""
        return self.decision.strategy

    @property
    def input_shape(self) -> InputShape:
        """The new shape."""
        return self.decision.input_shape

    @property
    def static_shape(self) -> InputShape:
        """The new shape, or the one that numbers are given for where it is unknown."""
        return self.decision.static_shape

    @property
    def native_shape(self) -> InputShape:
        """The network's own shape."""
        return self.network.spec.input_shape

    @property
    def channels(self) -> ChannelPlan:
        """What happens to the picture's channels."""
        return self.decision.channels

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why this strategy was chosen."""
        return self.decision.reasons

    @property
    def notes(self) -> tuple[str, ...]:
        """What the strategy wants the user to know, and what training would keep besides."""
        own = (*self.network.notes, *self.decision.notes)
        return (*own, *self._head_notes(), *self._output_notes())

    @cached_property
    def geometry(self) -> Geometry:
        """Stage by stage at the new shape: map sizes, strides, receptive fields, cost."""
        return geometry(self.spec, self.static_shape)

    @cached_property
    def native_geometry(self) -> Geometry:
        """The same network up to the same layers, with the same head, at its own shape."""
        return geometry(self._native_spec, self.native_shape)

    @cached_property
    def _native_spec(self) -> GraphSpec:
        return _ended(self.decision.source, self.outputs, self.request.ending, self.native_shape)

    @property
    def patches(self) -> tuple[Patches, ...]:
        """Where the network is computed piece by piece, if anywhere."""
        return () if self.choice is None else self.choice.best.patches

    @cached_property
    def patched_spec(self) -> GraphSpec:
        """The graph with its patches, if it has some."""
        if not self.patches:
            return self.spec
        return patched(self.spec, self.static_shape, self.patches)

    @cached_property
    def macs(self) -> int | None:
        """Multiply-accumulates for one picture, those that patches repeat among them."""
        return total_of(cost.macs for cost in costs(self.patched_spec, self.static_shape))

    @cached_property
    def footprint(self) -> Footprint:
        """Flash and RAM of the int8 file that `export` writes."""
        return footprint(self.patched_spec, self.static_shape)

    @cached_property
    def warnings(self) -> tuple[ShapeWarning, ...]:
        """What to know about this shape."""
        return shape_warnings(
            self.spec,
            self.native_shape,
            self.static_shape,
            source=self._native_spec,
            strategy=self.strategy,
        )

    def but(self, **changes: Any) -> Plan:
        """The plan with something else asked for, such as ``classes=5``; nothing is downloaded."""
        request, network = self.request.but(**changes), self.network
        lacks_top = request.needs_top and not network.has_top
        sources = [(each.backbone, each.file) for each in (request, self.request)]
        if lacks_top or sources[0] != sources[1]:
            network = look_up(request.backbone, top=request.needs_top, file=request.file)
        return decide_plan(request, network)

    @property
    def whole(self) -> Plan:
        """The plan without its patches: the same answers, faster where there is enough memory."""
        return replace(self, choice=None)

    def within(self, max_ram: int | None) -> Plan:
        """The plan with the patches that meet a limit, or that come nearest to it.

        A model for any size has none.
        """
        if max_ram is None or not self.input_shape.is_static:
            return self
        return replace(self, choice=choose_patches(self.spec, self.static_shape, max_ram))

    def build(self, weights: Weights = "imagenet", **changes: Any) -> keras.Model:
        """Carry the plan out.

        Args:
            weights: ``"imagenet"``, a file, ``"hf://OWNER/NAME"``, ``"kaggle://PRESET"``, ``None``
                for random ones, or ``"demo"``: the small checkpoint that comes with inshape, of
                MobileNetV3Small-minimalistic alone, which never saw a photo. See `weights.sources`
                for what a file can be. A model of the user's brings its own.
            changes: something else than was planned, as for `but`: ``classes``, ``head``,
                ``features`` or an option; ``plan.but(...)`` prints that plan.

        Returns:
            A plain ``keras.Model``.

        Raises:
            RequestError: if the changes contradict each other.
            WeightsError: if the weights are missing or do not fit.
        """
        return self.carry_out(weights, **changes).model

    def carry_out(self, weights: Weights = "imagenet", **changes: Any) -> Adapted:
        """Like `build`, with the plan and the weights' report beside the model."""
        plan = self.but(**changes) if changes else self
        network = plan.network
        if weights is not None or network.backbone is None or network.opened is None:
            known = network.backbone or network.model
            network = open_network(known, weights, top=plan.request.needs_top)
            # Weights of other libraries bring their own padding with them, and a file may hold
            # another number of classes, and another Keras than the stored tables are of may build
            # another graph: then the same request is decided on that network.
            if not network.is_alike(plan.network):
                plan = decide_plan(plan.request, replace(network, notes=plan.network.notes))
        return plan.carried_out_on(network)

    def carried_out_on(self, network: Network) -> Adapted:
        """The model that this plan makes of a network that it was decided for."""
        from .adaptation import carry_out  # which needs Keras

        ending = self.request.ending
        named, is_scaled = network.backbone, self.request.file.pixels is not None
        is_wrapped = is_scaled if named is None else named.is_wrapped
        model, report = carry_out(
            network.model,
            self.decision,
            outputs=self.outputs,
            patches=self.patches,
            head=ending if isinstance(ending, Head) else None,
            name=network.name,
            open_nested=self.request.open_nested or is_wrapped,
        )
        return Adapted(model, self, report)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        spec = self.decision.spec
        return {
            "backbone": self.network.name,
            "strategy": self.strategy,
            "input_shape": str(self.input_shape),
            "native_shape": str(self.native_shape),
            "channels": self.channels.rule,
            "head": self.head_text,
            "reasons": list(self.reasons),
            "input_layers": asdict(spec.input_layers),
            "changes": self.decision.changes(),
            "geometry": self.geometry.as_dict(),
            "native_geometry": self.native_geometry.as_dict(),
            "footprint": self.footprint.as_dict(),
            "patches": None if self.choice is None else self.choice.as_dict(),
            "warnings": [{"code": w.code, "message": w.message} for w in self.warnings],
            "notes": list(self.notes),
        }

    @property
    def head_text(self) -> str:
        """What the model ends in, in words."""
        ending = self.request.ending
        if ending == "maps":
            strides = ", ".join(map(str, self.request.features or ()))
            return f"none; the last maps at strides {strides}"
        return "the network's own" if ending == _TOP else str(ending)

    def describe(self, width: int | None = None) -> str:
        """What is changed and why, stage by stage, what it costs and what to know about it."""
        name, shape = self.network.name, self.input_shape
        lines = [f"{name}: {self.native_shape} -> {shape} by {self.strategy}"]
        lines += [f"  why: {reason}" for reason in self.reasons]
        lines += [f"  channels: {self.channels}", f"  head: {self.head_text}"]
        if self.decision.shown_shape is not None:
            lines += [f"  geometry shown at {self.static_shape}; {self._other_sizes()}"]
        lines += ["", self.geometry.describe(width), str(self.footprint)]
        unknown = why_unknown(self.spec, self.static_shape)
        amounts = "flash and RAM" if self.footprint.flash_bytes is None else "RAM"
        lines += [f"{amounts}: {unknown}"] if unknown else []
        lines += [] if self.choice is None else [str(self.choice)]
        lines += ["", self._cost()]
        lines += [f"  warning: {warning.message}" for warning in self.warnings]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def __repr__(self) -> str:
        shapes = f"{self.native_shape} -> {self.input_shape}"
        return f"<Plan {self.network.name} {shapes} by {self.strategy}, head: {self.head_text}>"

    def _repr_html_(self) -> str:
        """The text and the drawing in a notebook."""
        drawing = drawing_html(self.native_geometry.as_dict(), self.geometry.as_dict())
        return f"{Printable._repr_html_(self)}{drawing}"

    def _output_notes(self) -> tuple[str, ...]:
        """How large an output is that is a map, where its relation to the input changes."""
        if self.request.ending != _TOP or not self.static_shape.is_static:
            return ()
        shapes = map_shapes(self.spec, self.static_shape)
        notes: list[str] = []
        for index in self.spec.outputs:
            before, after = self.spec[index].native_shape, shapes[index]
            if len(before) != 3 or None in before or before[:2] == (1, 1):
                continue
            if _ratio(before, self.native_shape) != _ratio(after, self.static_shape):
                notes.append(
                    f'output "{self.spec[index].name}" is {format_shape(after[:2])} for '
                    f"{self.static_shape.size}, where it was {format_shape(before[:2])} for "
                    f"{self.native_shape.size}; strategy='rebuild' keeps their relation"
                )
        return tuple(notes)

    def _other_sizes(self) -> str:
        """What is known of other sizes than the one shown."""
        step = self.decision.size_step_px
        if not self.static_shape.is_static:
            return "other sizes were not tried"
        if step == 1:
            return "other sizes get the right padding too"
        return f"other sizes fit in steps of {step} pixels from there"

    def _cost(self) -> str:
        """One line that sets the cost against the network's own."""
        new, old = self.macs, self.native_geometry.macs
        if new is None and self.geometry.working_shape.is_static:
            known = format_macs(self.geometry.known_macs)
            return f"cost: at least {known}; {join_some(self.geometry.uncounted)} were not counted"
        if new is None:
            return "cost: depends on the size at run time"
        if old is None:
            return f"cost: {format_macs(new)}"
        ratio = new / old if old else 1.0
        return (
            f"cost: {format_macs(new)}, {ratio:.2f}x of {format_macs(old)} at {self.native_shape}"
        )

    def _head_notes(self) -> tuple[str, ...]:
        ending, network = self.request.ending, self.network
        if not isinstance(ending, Head) or ending.classes is None or ending.settles_dense:
            return ()
        source = network.backbone
        if not (
            has_pretrained_dense(network.spec) if source is None else source.has_pretrained_dense
        ):
            return ()
        return (
            "training also keeps the pretrained layers between pooling and classifier, with "
            "weights that hold them; pretrained_dense=True plans that",
        )


@takes(PlanRequest)
def plan(request: PlanRequest) -> Plan:
    """Plan a network at another input shape; nothing is downloaded.

    Args:
        {options}

    Returns:
        The plan: print it, or ``build`` it.

    Raises:
        RequestError: if the request cannot be met; the message says why and what to do.

    Example:
        >>> import inshape
        >>> small = inshape.plan("MobileNetV3Small", "96x96x1", strategy="rebuild", classes=5)
        >>> print(small.geometry.final_map)
        3x3
        >>> small.geometry.params == small.build(weights=None).count_params()
        True
    """
    network = look_up(request.backbone, top=request.needs_top, file=request.file)
    return decide_plan(request, network)


@takes(AdaptRequest)
def adapt(request: AdaptRequest) -> keras.Model:
    """Give a pretrained network a new input shape: `plan` and ``build`` in one.

    Pictures go in as [0, 255] for every named backbone: what the network expects beyond that
    (scaling, mean, channel order) is done inside the model. A model of the user's keeps the value
    range that it has, unless ``pixels`` says which one that is.

    Args:
        {options}

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
    return adapted(request).model


def open_for_training(request: PlanRequest, weights: Weights) -> tuple[PlanRequest, Network]:
    """Open a network with its weights, and settle whether its pretrained dense layers are kept.

    They are where the network has some worth keeping and the weights hold them: random weights have
    taught them nothing, and without them they stand beside a checkpoint that has none on equal
    terms.
    """
    head, known = request.ending, _resolved(request.backbone, request.file)
    assert isinstance(head, Head)
    is_named = isinstance(known, Backbone)
    if head.settles_dense:
        return request, open_network(known, weights, top=request.needs_top)
    may_keep = not is_named or (weights is not None and known.has_pretrained_dense)
    try:
        network = open_network(known, weights, top=may_keep)
    except NoClassifier:
        network = open_network(known, weights, top=False)
    keeps = network.has_top and has_pretrained_dense(network.spec)
    return request.but(head=head.but(pretrained_dense=keeps)), network


def adapted(request: AdaptRequest) -> Adapted:
    """Open a network with its weights, decide once on it, and carry that out."""
    network = open_network(
        request.backbone, request.weights, top=request.needs_top, file=request.file
    )
    result = decide_plan(request, network).carried_out_on(network)
    if request.out is not None:
        from .graph.saving import save_model

        save_model(result.model, request.out)
    return result


def decide_plan(request: PlanRequest, network: Network) -> Plan:
    """Decide, once, what is done to a network.

    Raises:
        RequestError: if the request cannot be met.
    """
    assert network.has_top or not request.needs_top
    spec, ending = network.spec, request.ending
    if isinstance(ending, Head) and ending.pretrained_dense:
        if not has_pretrained_dense(spec):
            raise RequestError(
                f"pretrained_dense=True: {network.name} has no layers between pooling and "
                "classifier that are worth keeping; leave pretrained_dense out"
            )
    elif ending != _TOP:
        spec = truncated(spec, (feature_map(spec),))
    decision = decide(spec, request.input_shape, request.options)
    outputs = _outputs(request, decision)
    ended = _ended(decision.spec, outputs, ending, decision.static_shape)
    decided = Plan(request=request, network=network, decision=decision, spec=ended, outputs=outputs)
    decided.geometry  # noqa: B018 - what cannot be built is refused here
    return _meeting_limit(decided)


def _meeting_limit(plan: Plan) -> Plan:
    """A plan that meets the limit on its RAM, if there is one.

    Raises:
        RequestError: if patches cannot meet it.
    """
    limit, shape = plan.request.limits.max_ram, plan.static_shape
    if limit is None:
        return plan
    asked = f"max_ram={format_bytes(limit)}"
    picture = product(shape.as_tuple())
    if picture is None or plan.input_shape != shape:
        raise RequestError(
            f"{asked} with the input {plan.input_shape}, whose RAM depends on the size at run "
            "time; expected a fixed height and width, such as 96x96x3"
        )
    if limit < picture:
        raise RequestError(
            f"{asked}: the picture alone takes {format_bytes(picture)} at {shape}; expected more "
            "than that; use a smaller shape"
        )
    met = plan.within(limit)
    choice, name = met.choice, plan.network.name
    if choice is None:
        raise RequestError(
            f"{asked}: what {name} takes at {shape} is not known, since "
            f"{why_unknown(plan.spec, shape)}; expected layers of which that is known; use "
            "another, or leave max_ram out"
        )
    if choice.is_met:
        return met
    takes = f"{name} takes {format_bytes(choice.whole.ram_bytes)} at {shape} by {plan.strategy}"
    least = f"{format_bytes(choice.best.ram_bytes)} at least, in {choice.best}"
    if not choice.best.regions:
        shapes = map_shapes(plan.spec, shape)
        blocked = None if find_spans(plan.spec, shapes) else first_whole(plan.spec, shapes)
        least = "no patches take less"
        if blocked is not None:
            least = f'"{plan.spec[blocked].name}" needs the whole map before any could begin'
    raise RequestError(f"{asked}: {takes}, and {least}; {_smaller(plan, limit)}")


def _smaller(plan: Plan, limit: int) -> str:
    """Which strategy or shape meets a limit as it is."""
    height, width = (n or 0 for n in plan.static_shape.hw)
    shapes = [
        InputShape(height * eighths // 8, width * eighths // 8, plan.static_shape.channels)
        for eighths in range(8, 0, -1)
    ]
    for shape in shapes:
        for strategy in dict.fromkeys((plan.strategy, "rebuild")):
            try:
                channels = plan.request.options.channels
                options = make(StrategyOptions, strategy=strategy, channels=channels)
                other = plan.but(input_shape=shape, options=options, limits=MemoryLimit())
            except RequestError:
                continue
            ram = other.footprint.ram_bytes
            if ram is not None and ram <= limit:
                return f"use {shape} by strategy={strategy!r}, which takes {format_bytes(ram)}"
    return "use a smaller shape or network"


def _outputs(request: PlanRequest, decision: Decision) -> tuple[int, ...] | None:
    """The positions that the network returns, which are the same before and after the decision."""
    ending = request.ending
    if ending == _TOP:
        return None
    if ending == "maps":
        return feature_maps(decision.spec, decision.static_shape, request.features or ())
    assert isinstance(ending, Head)
    if ending.decoder is not None:
        if ending.classes is None:
            raise RequestError(
                f"decoder={ending.decoder!r} without classes; expected how many it tells apart; "
                "give classes=N"
            )
        return decoder_maps(decision.spec, decision.static_shape, ending)
    if ending.map_stride != Head().map_stride:
        raise RequestError(
            f"map_stride={ending.map_stride} for a head that pools its map; expected masks or "
            "boxes, which are maps; leave map_stride out"
        )
    return (
        (classifier_input(decision.source),) if ending.pretrained_dense else decision.spec.outputs
    )


def _ended(
    spec: GraphSpec,
    outputs: tuple[int, ...] | None,
    ending: Literal["top", "maps"] | Head,
    shape: InputShape,
) -> GraphSpec:
    """A graph up to the positions that are returned, with the new head if there is one."""
    if outputs is not None:
        spec = truncated(spec, outputs)
    return with_head(spec, ending, shape) if isinstance(ending, Head) else spec


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def look_up(backbone: Any, *, top: bool, file: FileOptions = _AS_IT_IS) -> Network:
    """A network to plan: a named one by its stored layer table, without a framework."""
    known = _resolved(backbone, file)
    spec = stored_spec(known.name, top=top) if isinstance(known, Backbone) else None
    if spec is None:
        return open_network(known, None, top=top)
    return Network(known.name, spec, None, known, top)


def open_network(
    backbone: Any, weights: Weights, *, top: bool, file: FileOptions = _AS_IT_IS
) -> Network:
    """Open a network at its native shape.

    Args:
        backbone: a name, a file, a ``keras.Model`` or what `find` or `read_file` gives.
        weights: see `Plan.build`.
        top: whether the network's own head is needed.
        file: how a model file is read.

    Raises:
        UnknownName: if there is no such network.
        WeightsError: if a file cannot be read or does not fit.
    """
    known = _resolved(backbone, file)
    if isinstance(known, Backbone):
        from .weights.native import native

        model = native(known, weights, with_top=top)
        return Network(known.name, _read(model).but(name=known.name), model, known, top)
    imported = known if isinstance(known, Imported) else Imported(known)
    spec = _read(imported.model)
    if weights not in (None, "imagenet"):
        raise RequestError(
            f"weights={str(weights)!r} with a whole model, which brings its own; leave weights "
            "out, or give the architecture's name as backbone"
        )
    return Network(imported.model.name, spec, imported.model, notes=imported.notes)


def _read(model: keras.Model) -> GraphSpec:
    """Read a model by the names and the size that it is known by.

    A named network stands nested behind its preprocessing, and one of ``keras.applications`` may
    have been built for any size.
    """
    from .graph.read import at_native_size, read

    if not isinstance(model, type) and callable(model) and _is_backbone(model):
        raise GraphError(
            f"got the function {model.__name__}, expected a keras.Model, a backbone's name or a "
            f".keras file; write its name, {model.__name__!r}, or call it"
        )
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


def _is_backbone(function: Any) -> bool:
    """Whether it is a constructor of ``keras.applications``."""
    name = getattr(function, "__name__", "")
    return any(backbone.constructor == name for backbone in backbones())


def _resolved(backbone: Any, file: FileOptions = _AS_IT_IS) -> Any:
    """What is known of a name, or a Keras model, which may have been read from a file."""
    is_word = isinstance(backbone, str | Path)
    if is_word and is_model_file(Path(backbone)):
        return _scaled(read_file(Path(backbone), file.outputs), file.pixels, str(backbone))
    is_known = isinstance(backbone, Backbone | Imported)
    file.check_without_file(backbone, is_named=is_word or is_known)
    if is_known:
        return backbone
    if not is_word:
        name = getattr(backbone, "name", "")
        return _scaled(backbone, file.pixels, f"model {name!r}")
    path = Path(backbone)
    try:
        return find(str(backbone))
    except UnknownName:
        if isfile(path / "saved_model.pb"):
            raise WeightsError(
                f"backbone {str(backbone)!r} is a SavedModel, whose layers cannot be rewired; "
                "expected a model file; save the model again with model.save('model.keras')"
            ) from None
        if exists(path):
            raise WeightsError(
                f"backbone {str(backbone)!r} is not a model file; expected a name or a whole "
                "model; give the architecture's name as backbone and the file as weights"
            ) from None
        raise


def _scaled(known: Any, pixels: Pixels | None, place: str) -> Any:
    """A network that takes [0, 255], if the user says which values it was trained on."""
    if pixels is None:
        return known
    model = known.model if isinstance(known, Imported) else known
    _read(model)  # refuses what is no network of one picture
    if not isinstance(known, Imported):
        known = Imported(model, range_notes(model))
    return with_pixels(known, pixels, place)


def _nameless(spec: GraphSpec) -> GraphSpec:
    """The graph without names, which Keras numbers anew for every model."""
    return spec.but(name="", layers=tuple(layer.but(name="") for layer in spec))


def _ratio(map_shape: Map, picture: InputShape) -> tuple[float, ...]:
    """Height and width of a map, as parts of the picture's."""
    pairs = zip(map_shape[:2], picture.hw, strict=True)
    return tuple((a or 0) / (b or 1) for a, b in pairs)
