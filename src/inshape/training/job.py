"""What the phases of a training work on: the pictures, the model, and its frozen features."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..data.augment import augmenter
from ..data.batches import Batches
from ..features.cut import Cut, head_cut, section, stage_ends, unfrozen_from
from ..features.extract import Extraction, Stored, carry_on
from ..features.views import View, targets_of_view, views
from ..heads import LOGITS
from ..progress import Progress
from ..runs import Run
from ..runtime.cluster import Cluster
from ..runtime.frozen import Forward
from ..tasks.task import Labels, Task
from .feeds import FeatureFeed, Feed, MixedFeed, PictureFeed, targets_of
from .journals import Journal
from .recipe import Recipe
from .request import TrainRequest
from .teacher import Teacher

_SAMPLE = 32
_DISK_SHARE = 0.5
ROOM = "features_fit_on_disk"
"""Where a run's record says whether the maps before the unfrozen part are stored."""


@dataclass(frozen=True)
class Job:
    """What the phases work on."""

    run: Run
    request: TrainRequest
    batches: Batches
    """The pictures of training and validation."""
    model: keras.Model
    """The model that learns."""
    progress: Progress
    journals: Sequence[Journal] = ()
    callbacks: Sequence[keras.callbacks.Callback] = ()
    """The user's, which see every epoch of every phase."""
    cluster: Cluster | None = None
    """Whose workers run the frozen layers."""
    unlabelled: Batches | None = None
    """Pictures for which a teacher alone has answers, all of them in the split for training."""
    notes: list[str] = field(default_factory=list[str])
    """What the run's record and its report are to say besides numbers."""

    def note(self, line: str) -> None:
        """Warn of something now, and keep it for the record."""
        self.notes.append(line)
        warnings.warn(line, UserWarning, stacklevel=3)

    def keep_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the whole history into the run folder and hand it to the journals."""
        self.run.save_history(rows)
        for journal in self.journals:
            journal.write(rows)

    @property
    def recipe(self) -> Recipe:
        """How the training is done."""
        return self.request.recipe

    @property
    def batch_size(self) -> int:
        """Pictures per step."""
        return self.recipe.batch_size_for(self._count)

    @property
    def epochs(self) -> int:
        """At most, with the backbone unfrozen."""
        return self.recipe.epochs_for(self._count)

    @property
    def _count(self) -> int:
        return len(self.batches.catalogue.indices("train"))

    @property
    def seed(self) -> int:
        """Of everything that is drawn."""
        return self.request.seed

    @property
    def task(self) -> Task:
        """What the labels are."""
        return self.batches.catalogue.task

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""
        height, width = self.batches.preparation.shape.hw
        assert height is not None
        assert width is not None
        return height, width

    @cached_property
    def logits_model(self) -> keras.Model:
        """The model up to its logits; it shares the model's layers."""
        return keras.Model(self.model.inputs[0], self.model.get_layer(LOGITS).output)

    @cached_property
    def head_cut(self) -> Cut:
        """Where the trained part of the head begins."""
        return head_cut(self.logits_model, self.size_hw)

    @cached_property
    def body_cut(self) -> Cut | None:
        """Where the trained part of the backbone begins, if any of it is trained."""
        if self.epochs == 0:
            return None
        return unfrozen_from(self.logits_model, self.recipe.unfreeze, self.size_hw)

    @cached_property
    def last_map(self) -> Cut | None:
        """The last map that the trained part of the backbone makes."""
        ends = stage_ends(self.logits_model, self.size_hw, 1)
        cut, last = self.body_cut, ends[-1] if ends else None
        is_within = cut is not None and last is not None and last.position > cut.position
        return last if is_within else None

    @cached_property
    def views(self) -> tuple[View, ...]:
        """The views of each picture that are cached."""
        return views(self.recipe.view_count, self.recipe.augment, flip=self.recipe.flip)

    @cached_property
    def sample(self) -> NDArray[np.float32]:
        """A few pictures to check and time the frozen network on."""
        pictures, _ = next(self.batches.iterate("train", _SAMPLE, shuffle=True, seed=self.seed))
        return np.asarray(pictures, np.float32)

    @cached_property
    def output_weights(self) -> NDArray[np.float32]:
        """The weight of each class or tag in the loss; 1 on average."""
        power = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[self.recipe.class_weights]
        return self.task.output_weights(self.labels("train"), power)

    @cached_property
    def _labels(self) -> dict[str, Labels]:
        return {}

    def labels(self, split: str) -> Labels:
        """Of a split's pictures, brought to the input where they lie on them."""
        if split not in self._labels:
            self._labels[split] = self.batches.labels(split)
        return self._labels[split]

    def targets_of(self, view: View) -> NDArray[np.float32]:
        """What is to be learned from a view of the training pictures."""
        return targets_of_view(
            self.task,
            self.labels("train"),
            view,
            self.recipe.augment,
            size_hw=self.size_hw,
            smoothing=self.recipe.label_smoothing,
            channels=self.batches.preparation.shape.channels,
            seed=self.seed,
            flip=self.recipe.flip,
        )

    @property
    def mixup(self) -> float:
        """How much rows are mixed; labels that lie on their pictures cannot be."""
        return 0.0 if self.task.moves_as else self.recipe.mixup

    @property
    def feature_folder(self) -> Path:
        """Where features are kept until the run is complete."""
        return self.run.checkpoints / "features"


class Features:
    """The frozen part of a job's model, run once per view where the results fit on the disk.

    ``engines`` says what ran each frozen part, and why not LiteRT where it was not.
    """

    def __init__(self, job: Job) -> None:
        """Nothing is run before it is needed."""
        self._job = job
        self._forwards: dict[tuple[int, int], Forward] = {}
        self.engines: list[str] = []

    def _of(self, batches: Batches) -> Features:
        """Those of other pictures, computed by the same networks."""
        others = Features(replace(self._job, batches=batches))
        others._forwards = self._forwards
        return others

    def head_rows(self) -> tuple[list[NDArray[Any]], NDArray[Any]]:
        """What the head reads: features of every training view, and of the validation split."""
        job = self._job
        if job.body_cut is None or not self.has_room:
            return self.rows(job.head_cut, job.views)
        maps, validation = self.rows(job.body_cut, job.views)
        sample = np.asarray(maps[0][:_SAMPLE], np.float32)
        forward = self._forward(job.body_cut, job.head_cut, sample)
        between = section(job.logits_model, job.body_cut, job.head_cut)
        stored: Stored = "float16" if job.head_cut.beside else "float32"  # whole maps, not pooled
        *pooled, pooled_validation = (
            carry_on(rows, forward, between, stored) for rows in (*maps, validation)
        )
        return pooled, pooled_validation

    def body_feed(self, teacher: Teacher | None = None) -> Feed:
        """What the unfrozen backbone reads; a teacher's answers stand behind the labels."""
        feed, unlabelled = self._feed(teacher), self._job.unlabelled
        if teacher is None or unlabelled is None:
            return feed
        others = self._of(unlabelled)._feed(teacher.of(unlabelled))
        return MixedFeed(feed, others, self._job.seed)

    def _feed(self, teacher: Teacher | None) -> Feed:
        return self._map_feed(teacher) if self.keeps_maps else self._picture_feed(teacher)

    def _map_feed(self, teacher: Teacher | None) -> Feed:
        job = self._job
        assert job.body_cut is not None
        maps, validation = self.rows(job.body_cut, job.views)
        if teacher is None:
            targets = [job.targets_of(view) for view in job.views]
        else:
            hard = targets_of(job.task, job.labels("train"), job.recipe.label_smoothing)
            answers = teacher.answers_to_views(job.views, job.feature_folder)
            targets = [teacher.targets(rows, hard) for rows in answers]
        return FeatureFeed(maps, targets, validation, job.batch_size, job.seed, job.mixup)

    def _picture_feed(self, teacher: Teacher | None) -> Feed:
        job, recipe = self._job, self._job.recipe
        assert job.body_cut is not None
        change = augmenter(
            recipe.augment,
            channels=job.batches.preparation.shape.channels,
            seed=job.seed,
            flip=recipe.flip,
            mixup=recipe.mixup,
            cutmix=recipe.cutmix,
            rand_augment=recipe.rand_augment,
            moves_as=job.task.moves_as,
        )
        has_frozen = job.body_cut.position > 0
        return PictureFeed(
            job.batches,
            change,
            job.task,
            recipe.label_smoothing,
            job.batch_size,
            job.seed,
            frozen=self._forward(None, job.body_cut, job.sample) if has_frozen else None,
            teacher=teacher,
        )

    @property
    def keeps_maps(self) -> bool:
        """Whether the unfrozen part reads stored maps rather than new pictures in every epoch."""
        recipe = self._job.recipe
        return self.has_room and not (recipe.cutmix or recipe.rand_augment)

    @cached_property
    def has_room(self) -> bool:
        """Whether there are maps before an unfrozen part, and they leave half of the disk free."""
        job = self._job
        if job.body_cut is None or job.body_cut.position == 0:
            return False
        # Decided once for a run, which then keeps the answer: its own files fill the disk, and a
        # resumed training that went another way for it would end with another result.
        decided = job.run.record.get(ROOM)
        if decided is not None:
            return bool(decided)
        extraction = self._extraction(job.body_cut)
        need = extraction.bytes("train", len(job.views)) + extraction.bytes("validation", 1)
        if job.unlabelled is not None:
            others = self._of(job.unlabelled)._extraction(job.body_cut)
            need += others.bytes("train", len(job.views))
        written = sum(file.stat().st_size for file in job.feature_folder.glob("*.npy"))
        return need <= _DISK_SHARE * (shutil.disk_usage(job.run.folder).free + written)

    def rows(self, end: Cut, views: Sequence[View]) -> tuple[list[NDArray[Any]], NDArray[Any]]:
        """Features at a cut: of each view of the training pictures, and of the validation split.

        Unlabelled pictures have no such split; what stands for it is not looked at.
        """
        job, extraction = self._job, self._extraction(end)
        parts: list[tuple[str, View]] = [("train", view) for view in views]
        if len(job.batches.catalogue.indices("validation")):
            parts.append(("validation", "plain"))
        arrays: list[NDArray[Any]] = []
        for split, view in parts:
            with job.progress.bar(f"frozen layers: {split}, {view}") as advance:
                arrays.append(
                    extraction.rows(
                        split,
                        view,
                        job.feature_folder,
                        lambda: self._forward(None, end, job.sample),
                        advance,
                    )
                )
        return arrays[: len(views)], arrays[-1]

    def _extraction(self, end: Cut) -> Extraction:
        job = self._job
        # Maps are many times as large as pooled features: half of their bytes, and the unfrozen
        # layers do not notice what float16 rounds off.
        stored: Stored = "float16" if end.map_hw is not None else "float32"
        return Extraction(
            section(job.logits_model, None, end),
            job.batches,
            augment=job.recipe.augment,
            flip=job.recipe.flip,
            seed=job.seed,
            stored=stored,
            cluster=job.cluster,
        )

    def _forward(self, start: Cut | None, end: Cut, sample: NDArray[np.float32]) -> Forward:
        key = (0 if start is None else start.position, end.position)
        if key not in self._forwards:
            # Measured once: the layers behind a cut are laid out as well as those before it.
            layouts = [f.setting for f in self._forwards.values() if f.engine == "litert"]
            layout = layouts[0] if layouts else None
            network = section(self._job.logits_model, start, end)
            forward = Forward(network, sample, setting=layout)
            self._forwards[key] = forward
            place = f"{start.layer if start else 'picture'} to {end.layer}"
            self.engines.append(f"{place}: {forward.engine}, {forward.reason or forward.setting}")
        return self._forwards[key]
