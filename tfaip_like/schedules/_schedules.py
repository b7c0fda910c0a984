"""Settings of learning-rate schedules, in epochs or steps and with a warm-up; built on those of Keras."""

from __future__ import annotations

import abc
import logging
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, TypeAlias

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.lazy_keras import keras
from tfaip_like.params import FieldError, Params
from tfaip_like.params._field_rules import OnResume, Requires

if TYPE_CHECKING:
    from keras.optimizers.schedules import LearningRateSchedule


logger = logging.getLogger(__name__)


Duration: TypeAlias = float | str
"""Part of a training: a number of epochs (2.5 or `2.5epochs`), or of steps (`500steps`)."""

_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)\s*(epoch|step)s?")


def _parse_duration(duration: Duration) -> tuple[float, bool]:
    """Return the number of a duration, and whether it counts steps.

    Raises:
        ValueError: if it is neither epochs nor steps.
    """
    with suppress(ValueError):  # a number may also be a string in JSON, which has no infinity
        return float(duration), False
    assert isinstance(duration, str)
    match = _DURATION.fullmatch(duration.strip())
    number = float(match[1]) if match else 0.0
    if match is None or number == 0 or (match[2] == "step" and not number.is_integer()):
        raise ValueError("expected epochs (2.5 or 2.5epochs) or steps (500steps)")
    return number, match[2] == "step"


@dataclass(frozen=True)
class TrainingLength:
    """Length of a training run, from which a schedule derives its steps.

    Example:
        >>> length = TrainingLength(steps_per_epoch=100, epochs=10)
        >>> length.steps(2.5), length.steps("500steps"), length.to_epochs("500steps")
        (250, 500, 5.0)
    """

    steps_per_epoch: int
    epochs: float

    def steps(self, duration: Duration) -> int:
        """Return the number of steps in a number of epochs, or of `500steps`."""
        return round(self.to_epochs(duration) * self.steps_per_epoch)

    def to_epochs(self, duration: Duration) -> float:
        """Return a duration as a number of epochs."""
        number, counts_steps = _parse_duration(duration)
        return number / self.steps_per_epoch if counts_steps else number


class Schedule(Params, abc.ABC):
    """Learning-rate schedule with an optional linear warm-up.

    Example:
        >>> from tfaip_like.schedules import CosineDecay
        >>> schedule = CosineDecay(lr=0.01, warmup_epochs=2).build(TrainingLength(steps_per_epoch=100, epochs=10))
        >>> round(float(schedule(99)), 6)  # after half of the warm-up
        0.005
        >>> CosineDecay(warmup_epochs="500steps")
        CosineDecay(warmup_epochs='500steps')
    """

    plugin_group = "tfaip_like.schedules"

    search_words = {
        "lr": "learning_rate initial_learning_rate base_lr max_lr",
        "find": "lr_find auto_lr_find lr_finder range_test",
        "warmup_epochs": "warmup warmup_steps num_warmup_steps warmup_ratio",
    }

    lr: float = 0.001
    """Peak learning rate."""

    find: Annotated[bool, OnResume("the learning rate was found at the start of the run", is_ignored=True)] = False
    """Find lr before the training: a range test of 140 steps from 1e-6 to 10 on a copy of the network proposes the rate
    at which the loss falls fastest."""

    warmup_epochs: Duration = 0.0
    """Linear warm-up to lr, in epochs (0.5 or 0.5epochs) or steps (500steps); 0 disables it."""

    warmup_factor: Annotated[float, Requires("warmup_epochs", "no warm-up (set --learning_rate.warmup_epochs)")] = 0.0
    """Initial learning rate of the warm-up as a fraction of lr, in [0, 1]."""

    def check(self) -> None:
        self.require_finite()
        self.require(self.lr > 0, "lr", "must be above 0")
        self.require_duration("warmup_epochs", self.warmup_epochs, can_be_zero=True)
        self.require(0 <= self.warmup_factor <= 1, "warmup_factor", "must be from 0 to 1")

    def require_duration(self, field: str, duration: Duration | None, can_be_zero: bool = False) -> None:
        """Raise `FieldError` unless a duration counts epochs or steps and is positive; None is accepted.

        Args:
            field: name of the parameter.
            duration: its value, or one of its values.
            can_be_zero: whether 0 is accepted too.

        Raises:
            FieldError: says what is accepted.
        """
        try:
            number = 1.0 if duration is None else _parse_duration(duration)[0]
        except ValueError as problem:
            raise FieldError(field, str(problem)) from problem
        self.require(math.isfinite(number), field, "must be a finite number")
        self.require(number > 0 or can_be_zero, field, "must be above 0")
        self.require(number >= 0, field, "must not be negative")

    def build(self, training_length: TrainingLength) -> LearningRateSchedule:
        """Return the Keras schedule, which maps a step to a learning rate."""
        from tfaip_like._keras_ext.schedules import WarmupThenDecay

        epochs_before_decay = self.epochs_before_decay(training_length)
        if epochs_before_decay >= training_length.epochs and epochs_before_decay > 0:
            logger.warning(
                "learning rate: warm-up and constant phase (%g epochs) fill the whole training (%g epochs); "
                "the decay never starts",
                epochs_before_decay,
                training_length.epochs,
            )
        return WarmupThenDecay(
            lr=self.lr,
            warmup_steps=training_length.steps(self.warmup_epochs),
            warmup_factor=self.warmup_factor,
            constant_steps=training_length.steps(epochs_before_decay) - training_length.steps(self.warmup_epochs),
            decay=self.decay_schedule(training_length),
        )

    def epochs_before_decay(self, training_length: TrainingLength) -> float:
        """Return the number of epochs before `decay_schedule` starts."""
        return training_length.to_epochs(self.warmup_epochs)

    @abc.abstractmethod
    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule | None:
        """Return the Keras schedule that starts after the warm-up, or None for a constant rate `lr`."""


class Constant(Schedule):
    """Constant learning rate.

    Example:
        >>> Constant(lr=0.01, warmup_epochs=1)
        Constant(lr=0.01, warmup_epochs=1)
    """

    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule | None:
        return None


class Decay(Schedule, abc.ABC):
    """Base class of schedules that decay after a constant phase."""

    constant_epochs: Duration = 0.0
    """Time at lr between warm-up and decay, in epochs (2 or 2epochs) or steps (500steps)."""

    decay_epochs: Duration | None = None
    """Length of the decay in epochs (20 or 20epochs) or steps (5000steps); by default all remaining epochs."""

    def check(self) -> None:
        super().check()
        self.require_duration("constant_epochs", self.constant_epochs, can_be_zero=True)
        self.require_duration("decay_epochs", self.decay_epochs)

    def epochs_before_decay(self, training_length: TrainingLength) -> float:
        return training_length.to_epochs(self.warmup_epochs) + training_length.to_epochs(self.constant_epochs)

    def decay_steps(self, training_length: TrainingLength) -> int:
        """Return the number of steps of the decay, at least 1."""
        remaining = training_length.epochs - self.epochs_before_decay(training_length)
        return max(1, training_length.steps(remaining if self.decay_epochs is None else self.decay_epochs))


class ExponentialDecay(Decay):
    """Exponential decay: the learning rate is multiplied by `decay` every `decay_epochs`."""

    search_words = {
        "decay": "decay_rate gamma",
    }

    decay: float = 0.99
    """Decay factor, in (0, 1]."""

    decay_epochs: Duration | None = 1.0
    """Epochs (2 or 2epochs) or steps (500steps) per multiplication by decay; between them the rate decays smoothly
    unless staircase is set."""

    staircase: bool = False
    """Decay in discrete steps instead of smoothly."""

    def check(self) -> None:
        super().check()
        self.require(0 < self.decay <= 1, "decay", "must be above 0 and at most 1")
        self.require(self.decay_epochs is not None, "decay_epochs", "is required by ExponentialDecay")

    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule:
        return keras.optimizers.schedules.ExponentialDecay(
            self.lr, decay_steps=self.decay_steps(training_length), decay_rate=self.decay, staircase=self.staircase
        )


class CosineDecay(Decay):
    """Cosine decay (https://arxiv.org/abs/1608.03983)."""

    search_words = {
        "alpha": "eta_min",
    }

    alpha: float = 0.0
    """Final learning rate as a fraction of lr, in [0, 1]."""

    def check(self) -> None:
        super().check()
        self.require(0 <= self.alpha <= 1, "alpha", "must be from 0 to 1")

    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule:
        return keras.optimizers.schedules.CosineDecay(self.lr, self.decay_steps(training_length), alpha=self.alpha)


class PolynomialDecay(Decay):
    """Polynomial decay to `end_lr`; linear by default."""

    end_lr: float = 0.0001
    """Final learning rate, in [0, lr]."""

    power: float = 1.0
    """Power of the remaining fraction of the decay; 1 is linear, above 1 decays faster at first."""

    cycle: bool = False
    """Restart with a lower peak and a longer period when the end is reached."""

    def check(self) -> None:
        super().check()
        self.require(0 <= self.end_lr <= self.lr, "end_lr", "must be from 0 to lr")
        self.require(self.power > 0, "power", "must be above 0")

    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule:
        return keras.optimizers.schedules.PolynomialDecay(
            self.lr,
            self.decay_steps(training_length),
            end_learning_rate=self.end_lr,
            power=self.power,
            cycle=self.cycle,
        )


class PiecewiseConstant(Schedule):
    """Piecewise constant (multi-step) schedule."""

    boundaries: list[Duration] = [30.0, 60.0, 90.0]
    """Epochs (30 or 30epochs) or steps (500steps) after which the rate changes, counted from the end of the warm-up;
    strictly increasing."""

    factors: list[float] = [0.1, 0.01, 0.001]
    """Learning rate after each boundary as a fraction of lr; one per boundary."""

    def check(self) -> None:
        super().check()
        self.require(
            len(self.factors) == len(self.boundaries),
            "factors",
            f"{len(self.factors)} factors for {len(self.boundaries)} boundaries; expected one per boundary",
        )
        for boundary in self.boundaries:
            self.require_duration("boundaries", boundary)
        for (before, steps_before), (after, steps_after) in pairwise(map(_parse_duration, self.boundaries)):
            is_increasing = before < after or steps_before != steps_after
            self.require(is_increasing, "boundaries", "must be strictly increasing")
        self.require(all(factor >= 0 for factor in self.factors), "factors", "must not be negative")

    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule:
        # Keras keeps the old value at the boundary step itself, but the first step of an epoch should have the new one.
        boundaries = [training_length.steps(boundary) - 1 for boundary in self.boundaries]
        if boundaries != sorted(boundaries):
            raise UsageError(
                f"--learning_rate.boundaries {' '.join(map(str, self.boundaries))}: must be increasing; an epoch has "
                f"{training_length.steps_per_epoch} steps"
            )
        values = [self.lr * factor for factor in (1.0, *self.factors)]
        return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


class OneCycle(Schedule):
    """One-cycle schedule: warm-up to `lr`, then cosine annealing (https://arxiv.org/abs/1708.07120)."""

    search_words = {
        "rise": "pct_start warmup_fraction",
    }

    rise: float = 0.3
    """Fraction of the training spent on the warm-up (PyTorch's pct_start), in (0, 1)."""

    start_factor: float = 0.04
    """Initial learning rate as a fraction of lr, in [0, 1]."""

    end_factor: float = 4e-6
    """Final learning rate as a fraction of lr, in [0, 1]."""

    def check(self) -> None:
        super().check()
        self.require(0 < self.rise < 1, "rise", "must be between 0 and 1")
        self.require(0 <= self.start_factor <= 1, "start_factor", "must be from 0 to 1")
        self.require(0 <= self.end_factor <= 1, "end_factor", "must be from 0 to 1")
        self.require(
            self.warmup_epochs == 0, "warmup_epochs", "OneCycle includes a warm-up: use rise and start_factor instead"
        )

    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule:
        from tfaip_like._keras_ext.schedules import OneCycle as KerasOneCycle

        return KerasOneCycle(
            self.lr,
            total_steps=training_length.steps(training_length.epochs),
            rise=self.rise,
            start_factor=self.start_factor,
            end_factor=self.end_factor,
        )


class InverseSqrt(Schedule):
    """Inverse square-root decay, as in Transformers (https://arxiv.org/abs/1706.03762)."""

    timescale_epochs: Duration | None = None
    """Epochs (4 or 4epochs) or steps (500steps) until the rate decays to lr / sqrt(2); by default warmup_epochs, or 1
    epoch without a warm-up."""

    def check(self) -> None:
        super().check()
        self.require_duration("timescale_epochs", self.timescale_epochs)

    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule:
        from tfaip_like._keras_ext.schedules import InverseSqrt as KerasInverseSqrt

        epochs = self.timescale_epochs or self.warmup_epochs or 1.0
        return KerasInverseSqrt(self.lr, timescale=max(1, training_length.steps(epochs)))


class ReduceOnPlateau(Schedule):
    """Schedule that reduces the learning rate when the monitored metric stops improving."""

    factor: float = 0.1
    """Factor of each reduction, in (0, 1)."""

    patience: int = 10
    """Number of validations without improvement before a reduction."""

    min_delta: float = 1e-4
    """Minimum change of the monitored metric that counts as an improvement."""

    cooldown: int = 0
    """Number of validations after a reduction that do not count toward patience."""

    min_lr: float = 0.0
    """Lower bound of the learning rate."""

    def check(self) -> None:
        super().check()
        self.require(0 < self.factor < 1, "factor", "must be between 0 and 1")
        self.require(self.patience >= 1, "patience", "must be at least 1")
        self.require(self.cooldown >= 0, "cooldown", "must not be negative")
        self.require(self.min_delta >= 0, "min_delta", "must not be negative")
        self.require(0 <= self.min_lr < self.lr, "min_lr", "must be in [0, lr)")

    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule | None:
        return None
