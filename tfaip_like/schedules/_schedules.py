"""Learning-rate schedules: Keras' own where it has them, in epochs instead of steps, with a warm-up."""

from __future__ import annotations

import abc
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfaip_like._utils.lazy_keras import keras
from tfaip_like.params import Params

if TYPE_CHECKING:
    from keras.optimizers.schedules import LearningRateSchedule


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingLength:
    """What a schedule must know of a training."""

    steps_per_epoch: int
    epochs: float

    def steps(self, epochs: float) -> int:
        """The number of steps in so many epochs."""
        return round(epochs * self.steps_per_epoch)


class Schedule(Params, abc.ABC):
    """How large the steps are, over the course of the training."""

    lr: float = 0.001
    """The learning rate: its highest value."""

    warmup_epochs: float = 0.0
    """Epochs (or a part of one) in which the rate first rises in a straight line to `lr`."""

    warmup_factor: float = 0.0
    """Where the warm-up begins, as a part of `lr`."""

    def check(self) -> None:
        self.require_finite()
        self.require(self.lr > 0, "lr", "must be above 0")
        self.require(self.warmup_epochs >= 0, "warmup_epochs", "must not be negative")
        self.require(0 <= self.warmup_factor <= 1, "warmup_factor", "must be from 0 to 1")

    def ignored_params(self) -> Mapping[str, str]:
        return {} if self.warmup_epochs else {"warmup_factor": "there is no warm-up: set --learning_rate.warmup_epochs"}

    def build(self, training_length: TrainingLength) -> LearningRateSchedule:
        """The Keras schedule of a training, by its step."""
        from tfaip_like._keras_ext.schedules import WarmupThenDecay

        if self.epochs_before_decay >= training_length.epochs and self.epochs_before_decay > 0:
            logger.warning(
                "the learning rate is still in its warm-up or constant phase at the end: %g epochs of %g",
                self.epochs_before_decay,
                training_length.epochs,
            )
        return WarmupThenDecay(
            lr=self.lr,
            warmup_steps=training_length.steps(self.warmup_epochs),
            warmup_factor=self.warmup_factor,
            constant_steps=training_length.steps(self.epochs_before_decay) - training_length.steps(self.warmup_epochs),
            decay=self.decay_schedule(training_length),
        )

    @property
    def epochs_before_decay(self) -> float:
        """Epochs after which `decay_schedule` begins."""
        return self.warmup_epochs

    @abc.abstractmethod
    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule | None:
        """The Keras schedule that begins after the warm-up; None stays at `lr`."""


class Constant(Schedule):
    """The same rate from beginning to end."""

    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule | None:
        return None


class Decay(Schedule, abc.ABC):
    """A rate that falls."""

    constant_epochs: float = 0.0
    """Epochs at the full rate after the warm-up, before the decay begins."""

    decay_epochs: float | None = None
    """Epochs that the decay takes; by default all that are left."""

    def check(self) -> None:
        super().check()
        self.require(self.constant_epochs >= 0, "constant_epochs", "must not be negative")
        self.require(self.decay_epochs is None or self.decay_epochs > 0, "decay_epochs", "must be above 0")

    @property
    def epochs_before_decay(self) -> float:
        return self.warmup_epochs + self.constant_epochs

    def decay_steps(self, training_length: TrainingLength) -> int:
        """How many steps the decay takes."""
        epochs = (
            self.decay_epochs if self.decay_epochs is not None else training_length.epochs - self.epochs_before_decay
        )
        return max(1, training_length.steps(epochs))


class ExponentialDecay(Decay):
    """A rate that is multiplied by `decay` every `decay_epochs`."""

    decay: float = 0.99
    """The factor."""

    decay_epochs: float | None = 1.0
    """Epochs between two multiplications (in between the rate falls smoothly, unless `staircase`)."""

    staircase: bool = False
    """Fall in steps."""

    def check(self) -> None:
        super().check()
        self.require(0 < self.decay <= 1, "decay", "must be above 0 and at most 1")
        self.require(self.decay_epochs is not None, "decay_epochs", "must be given for this schedule")

    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule:
        return keras.optimizers.schedules.ExponentialDecay(
            self.lr, decay_steps=self.decay_steps(training_length), decay_rate=self.decay, staircase=self.staircase
        )


class CosineDecay(Decay):
    """A rate that falls along half a cosine (https://arxiv.org/abs/1608.03983)."""

    alpha: float = 0.0
    """Where it ends, as a part of `lr`."""

    def check(self) -> None:
        super().check()
        self.require(0 <= self.alpha <= 1, "alpha", "must be from 0 to 1")

    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule:
        return keras.optimizers.schedules.CosineDecay(self.lr, self.decay_steps(training_length), alpha=self.alpha)


class PolynomialDecay(Decay):
    """A rate that falls to `end_lr` along a power of the time left: a straight line by default."""

    end_lr: float = 0.0001
    """Where it ends."""

    power: float = 1.0
    """The power; 2 falls fast first."""

    cycle: bool = False
    """Begin again, lower and longer, when the end is reached."""

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
    """A rate that changes at given epochs."""

    boundaries: list[float] = [30.0, 60.0, 90.0]
    """Epochs after which the rate changes, counted from the end of the warm-up."""

    factors: list[float] = [0.1, 0.01, 0.001]
    """The rate after each boundary, as a part of `lr`."""

    def check(self) -> None:
        super().check()
        self.require(
            len(self.factors) == len(self.boundaries),
            "factors",
            f"there are {len(self.factors)} for {len(self.boundaries)} boundaries; give one for each",
        )
        ascending = self.boundaries == sorted(set(self.boundaries)) and all(b > 0 for b in self.boundaries)
        self.require(ascending, "boundaries", "must be above 0 and rise")
        self.require(all(factor >= 0 for factor in self.factors), "factors", "must not be negative")

    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule:
        # Keras keeps the old value at the boundary step itself; the first step of an epoch gets the new one.
        boundaries = [training_length.steps(boundary) - 1 for boundary in self.boundaries]
        values = [self.lr * factor for factor in (1.0, *self.factors)]
        return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


class OneCycle(Schedule):
    """A rise to `lr` and a longer fall far below the start (https://arxiv.org/abs/1708.07120)."""

    rise: float = 0.3
    """Part of the training in which the rate rises."""

    start_factor: float = 0.04
    """Where it starts, as a part of `lr`."""

    end_factor: float = 4e-6
    """Where it ends, as a part of `lr`."""

    def check(self) -> None:
        super().check()
        self.require(0 < self.rise < 1, "rise", "must be between 0 and 1")
        self.require(0 <= self.start_factor <= 1, "start_factor", "must be from 0 to 1")
        self.require(0 <= self.end_factor <= 1, "end_factor", "must be from 0 to 1")
        self.require(self.warmup_epochs == 0, "warmup_epochs", "OneCycle has a warm-up of its own: rise, start_factor")

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
    """A rate that falls with the root of the step (https://arxiv.org/abs/1706.03762)."""

    timescale_epochs: float | None = None
    """Epochs after which the rate has fallen to `lr` / sqrt(2); by default the warm-up, or 1."""

    def check(self) -> None:
        super().check()
        self.require(self.timescale_epochs is None or self.timescale_epochs > 0, "timescale_epochs", "must be above 0")

    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule:
        from tfaip_like._keras_ext.schedules import InverseSqrt as KerasInverseSqrt

        epochs = self.timescale_epochs or self.warmup_epochs or 1.0
        return KerasInverseSqrt(self.lr, timescale=max(1, training_length.steps(epochs)))


class ReduceOnPlateau(Schedule):
    """A rate that is lowered when validation no longer improves."""

    factor: float = 0.1
    """What the rate is multiplied by."""

    patience: int = 10
    """Validations without an improvement before the rate is lowered."""

    min_delta: float = 1e-4
    """The least change of the value that counts as an improvement."""

    cooldown: int = 0
    """Validations after a change during which none is counted."""

    min_lr: float = 0.0
    """The rate never falls below this."""

    def check(self) -> None:
        super().check()
        self.require(0 < self.factor < 1, "factor", "must be between 0 and 1")
        self.require(self.patience >= 1, "patience", "must be at least 1")
        self.require(self.cooldown >= 0, "cooldown", "must not be negative")
        self.require(self.min_delta >= 0, "min_delta", "must not be negative")
        self.require(0 <= self.min_lr < self.lr, "min_lr", "must be from 0 to below lr")

    def decay_schedule(self, training_length: TrainingLength) -> LearningRateSchedule | None:
        return None
