"""`Scenario`: the root of the parameter tree, the whole declared experiment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from tfaip_like.data import Data, LavData, Source, TrainData, ValData
from tfaip_like.data.sources.folds import fold_of
from tfaip_like.evaluator import Evaluator
from tfaip_like.model import Model
from tfaip_like.optimizers import Adam, Optimizer
from tfaip_like.params import Params
from tfaip_like.params.base import default_of
from tfaip_like.params.tree import check_tree
from tfaip_like.sample import Mode, Sample, brief_example
from tfaip_like.schedules import Constant, Schedule
from tfaip_like.settings import Device, EarlyStopping, Trainer, WarmStart
from tfaip_like.voter import Voter
from tfaip_like.writer import Writer

_OF_ALL_COMMANDS = ("help", "show", "params", "version", "completion", "trust_code")
FLAGS_OF_COMMANDS = (*_OF_ALL_COMMANDS, "benchmark", "look", "resume", "verify")
"""Flags that belong to the commands and so cannot be parameters of a scenario."""


class Scenario(Params):
    """An experiment: data, a model and an evaluator, and how they are trained.

    A subclass gives defaults for what it needs; each field is a group of flags::

        class Tutorial(Scenario):
            data: Data = Digits()
            model: Model = Classifier()
    """

    def __init_subclass__(cls, of_a_command: bool = False, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        for name in FLAGS_OF_COMMANDS:
            if name in cls.__dataclass_fields__ and not of_a_command:
                raise TypeError(f"{cls.__qualname__}.{name}: --{name} is a flag of the commands; choose another name")

    batch_flags: ClassVar[tuple[str, ...]] = ("model", "model.graph")
    """The flags that the words of a model's name stand for where batches of many models are generated:
    `experiments generate --models Classifier.CNN=10` runs `--model Classifier --model.graph CNN` ten times."""

    data: Data
    """The samples."""

    model: Model
    """The network, its losses and metrics."""

    evaluator: Evaluator | None = None
    """Judges the predictions of each validation, in plain Python."""

    trainer: Trainer = Trainer()
    """How the training runs and where its results go."""

    optimizer: Optimizer = Adam()
    """How gradients change the weights."""

    learning_rate: Schedule = Constant()
    """How large the steps are, over the course of the training."""

    early_stopping: EarlyStopping = EarlyStopping()
    """When the training ends before its last epoch, and which epoch is the best."""

    warmstart: WarmStart = WarmStart()
    """Weights to begin with, from an earlier training."""

    train: TrainData = TrainData()
    """Batches for training."""

    val: ValData = ValData()
    """Batches for validation."""

    lav: LavData = LavData()
    """Batches for load-and-validate."""

    device: Device = Device()
    """What computes."""

    def source(self, mode: Mode) -> Source | None:
        """The samples of a mode; those of `data`, if a scenario does not say otherwise."""
        return self.data.source(mode)

    def prepared(self, train: Source | None, folder: Path) -> Self:
        """The scenario with what must be learnt from the training samples first: a codec, a vocabulary.

        Called once, before a training; what it returns is trained, saved and exported.

        Args:
            train: the source of the training samples.
            folder: where files can be written that belong to the run; see `resources`.
        """
        return self

    def lav_sources(self) -> Mapping[str, Source]:
        """The samples of load-and-validate by the names of its results; by default those of validation, unnamed."""
        source = self.samples(Mode.EVALUATE)
        return {} if source is None else {"": source}

    def samples(self, mode: Mode) -> Source | None:
        """The source of a mode, or its part of the training samples in a cross-validation."""
        if not self.train.folds or mode is Mode.PREDICT:
            return self.source(mode)
        return fold_of(self.source(Mode.TRAIN), self.train.folds, self.train.fold, held_out=mode is Mode.EVALUATE)

    def example_text(self, sample: Sample) -> str | None:
        """Return what is printed of a predicted sample in each validation; None for nothing.

        By default all targets and outputs, shortened; see `--trainer.print_eval_limit`.

        Args:
            sample: with targets and outputs, after the post-processors.
        """
        return brief_example(sample)

    def voter(self) -> Voter | None:
        """Makes one prediction of those of several networks, where `--voter` names no other; None: their mean."""
        return None

    def writer(self) -> Writer | None:
        """Writes predictions into files that end with neither .jsonl nor .npz, where `--writer` names no other."""
        return None

    def with_training_source(self, folder: Path) -> tuple[Self, Source | None]:
        """The prepared scenario, and the source of its training samples.

        Args:
            folder: see `prepared`.
        """
        learnt = dataclasses.replace(self, data=self.data.prepared())
        source = learnt.samples(Mode.TRAIN)
        prepared = check_tree(learnt.prepared(source, folder))
        return prepared, source if prepared.data is learnt.data else prepared.samples(Mode.TRAIN)

    def check(self) -> None:
        for group in ("train", "val", "lav"):
            expected = type(default_of(type(self), group))
            same = type(getattr(self, group)) is expected
            self.require(same, group, f"must be {expected.__name__} in this scenario")
