"""`Scenario`: the root of the parameter tree, the whole declared experiment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import pluralize, with_article
from tfaip_like.data import Data, LavLoaderSettings, Source, TrainLoaderSettings, ValLoaderSettings
from tfaip_like.data._sample import Mode, Sample, format_example
from tfaip_like.data._sources.folds import cross_validation_split
from tfaip_like.data._writer import Writer
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.modeling._model import Model
from tfaip_like.modeling._voter import Voter
from tfaip_like.optimizers import Adam, Optimizer
from tfaip_like.params import Params
from tfaip_like.params._base import field_default, field_types
from tfaip_like.params._tree import validate_params
from tfaip_like.schedules import Constant, PiecewiseConstant, Schedule
from tfaip_like.settings import Device, EarlyStopping, Trainer, WarmStart

P = TypeVar("P", bound="Data | Scenario")

_COMMON_COMMAND_FLAGS = ("help", "show", "params", "version", "completion", "trust_code")
RESERVED_FLAGS = (*_COMMON_COMMAND_FLAGS, "benchmark", "doctor", "inspect", "resume", "verify")
"""Flags that belong to the commands and so cannot be parameters of a scenario."""

__all__ = ["Scenario"]


class Scenario(Params):
    """An experiment: data, a model and an evaluator, and how they are trained.

    A subclass gives defaults for what it needs; each field is a group of flags::

        class Tutorial(Scenario):
            data: Data = Digits()
            model: Model = Classifier()
    """

    def __init_subclass__(cls, is_command_subclass: bool = False, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        for name in RESERVED_FLAGS:
            if name in cls.__dataclass_fields__ and not is_command_subclass:
                raise TypeError(f"{cls.__qualname__}.{name}: --{name} is a flag of the commands; choose another name")

    foreign_name_hints = {
        **dict.fromkeys(
            ("fit", "run", "main", "train_model"), "train-scenario or tfaip_like.train(scenario) trains it"
        ),
        **dict.fromkeys(("setup", "configure"), "what must be learnt from the data first is done in `adapt`"),
    }

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

    train: TrainLoaderSettings = TrainLoaderSettings()
    """Batches for training."""

    val: ValLoaderSettings = ValLoaderSettings()
    """Batches for validation."""

    lav: LavLoaderSettings = LavLoaderSettings()
    """Batches for load-and-validate."""

    device: Device = Device()
    """What computes."""

    def source(self, mode: Mode) -> Source | None:
        """The samples of a mode; those of `data`, if a scenario does not say otherwise."""
        return self.data.source(mode)

    def adapt(self, train: Source | None, folder: Path) -> Self:
        """The scenario with what must be learnt from the training samples first: a codec, a vocabulary.

        Called once, before a training; what it returns is trained, saved and exported.

        Args:
            train: the source of the training samples.
            folder: where files can be written that belong to the run; see `resources`.
        """
        return self

    def lav_sources(self) -> Mapping[str, Source]:
        """The samples of load-and-validate by the names of its results; by default those of validation, unnamed."""
        source = self.select_source(Mode.EVALUATE)
        return {} if source is None else {"": source}

    def validate_lav_sources(self) -> Mapping[str, Source]:
        """Return what `lav_sources` returns.

        Raises:
            CodeError: when that is not sources by their names.
        """
        sources = self.lav_sources()
        if not isinstance(sources, Mapping):
            got = with_article(type(sources).__name__)
            message = f"{type(self).__name__}.lav_sources returned {got}; it must return {{'name': source, ...}}"
            raise CodeError(message, self.lav_sources)
        return sources

    def select_source(self, mode: Mode) -> Source | None:
        """The source of a mode, or its part of the training samples in a cross-validation."""
        if not self.train.folds or mode is Mode.PREDICT:
            return self.source(mode)
        return cross_validation_split(
            self.source(Mode.TRAIN), self.train.folds, self.train.fold, held_out=mode is Mode.EVALUATE
        )

    def example_text(self, sample: Sample) -> str | None:
        """Return what is printed of a predicted sample in each validation; None for nothing.

        By default all targets and outputs, shortened; see `--trainer.print_eval_limit`.

        Args:
            sample: with targets and outputs, after the post-processors.
        """
        return format_example(sample)

    def voter(self) -> Voter | None:
        """Makes one prediction of those of several networks, where `--voter` names no other; None: their mean."""
        return None

    def writer(self) -> Writer | None:
        """Writes predictions into files that end with neither .jsonl nor .npz, where `--writer` names no other."""
        return None

    def prepare_for_training(self, folder: Path) -> tuple[Self, Source | None]:
        """The prepared scenario, and the source of its training samples.

        Args:
            folder: see `adapt`.
        """
        learnt = dataclasses.replace(self, data=_require_same_class(self.data, self.data.adapt()))
        source = learnt.select_source(Mode.TRAIN)
        prepared = validate_params(_require_same_class(self, learnt.adapt(source, folder)))
        return prepared, source if prepared.data is learnt.data else prepared.select_source(Mode.TRAIN)

    def ignored_params(self) -> Mapping[str, str]:
        reasons: dict[str, str] = {}
        trainer, stopping = self.trainer, self.early_stopping
        if not trainer.val_every_n:
            names = [name for name in field_types(type(self.val)) if name != "lists" or not trainer.lav_every_n]
            names = ["trainer.print_eval_limit", *(f"val.{name}" for name in names)]
            reasons |= dict.fromkeys(names, "nothing is validated: --trainer.val_every_n 0")
        if not trainer.lav_every_n:
            never = (
                "there is no load-and-validate while training; give --trainer.lav_every_n, or --lav.* to lav-scenario"
            )
            reasons |= dict.fromkeys((f"lav.{name}" for name in field_types(type(self.lav))), never)
        if self.train.folds:
            reasons["val.lists"] = "a part of the training samples is validated on (--train.folds)"
        if not stopping.n_to_go:
            begin = "lower" if (stopping.mode or type(self.model).best[1]) == "max" else "upper"
            reasons[f"early_stopping.{begin}_threshold"] = "nothing is tested without --early_stopping.n_to_go"
        if isinstance(self.learning_rate, PiecewiseConstant):
            rate = self.learning_rate
            if rate.boundaries and rate.warmup_epochs + rate.boundaries[0] >= trainer.epochs:
                ends = f"the training ends after {pluralize(trainer.epochs, 'epoch')} (--trainer.epochs)"
                reasons |= dict.fromkeys(("learning_rate.boundaries", "learning_rate.factors"), ends)
        return reasons

    def check(self) -> None:
        for group in ("train", "val", "lav"):
            expected = type(field_default(type(self), group))
            same = type(getattr(self, group)) is expected
            self.require(same, group, f"must be {expected.__name__} in this scenario")


def _require_same_class(before: P, prepared: P) -> P:
    """Return what a method `adapt` returned, if it is of the class that it was asked of."""
    if not isinstance(prepared, type(before)):
        returned = with_article(type(prepared).__name__)
        raise CodeError(
            f"{type(before).__name__}.adapt returned {returned}; it must return dataclasses.replace(self, ...)",
            type(before).adapt,
        )
    return prepared
