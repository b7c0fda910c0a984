"""Learning-rate schedules that Keras lacks."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule


class OffsetSchedule(LearningRateSchedule):
    """Schedule shifted by a number of steps, for an optimizer that is reset during training.

    The bias correction of an optimizer depends on its own step count, so a new optimizer starts at step 0, while the
    schedule continues.
    """

    def __init__(self, schedule: LearningRateSchedule):
        self.schedule = schedule
        self.offset = 0
        """Number of schedule steps before the first step of the optimizer; read when the training step is compiled."""

    def __call__(self, step: Any) -> Any:
        return self.schedule(step + self.offset)

    def shift(self, schedule: LearningRateSchedule) -> LearningRateSchedule:
        """Return another schedule that is shifted by the same number of steps."""
        return _SameOffset(schedule, self)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OffsetSchedule:
        return cls(keras.saving.deserialize_keras_object(config["schedule"]))


class _SameOffset(LearningRateSchedule):
    def __init__(self, schedule: LearningRateSchedule, shifted: OffsetSchedule):
        self.schedule, self.shifted = schedule, shifted

    def __call__(self, step: Any) -> Any:
        return self.schedule(step + self.shifted.offset)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule)}


@keras.saving.register_keras_serializable("tfaip_like")
class WarmupThenDecay(LearningRateSchedule):
    """Linear warm-up, then a constant phase, then another schedule from its step 0.

    In Keras only `CosineDecay` has a warm-up.
    """

    def __init__(
        self,
        lr: float,
        warmup_steps: int = 0,
        warmup_factor: float = 0.0,
        constant_steps: int = 0,
        decay: LearningRateSchedule | None = None,
    ):
        self.lr = lr
        self.warmup_steps = warmup_steps
        self.warmup_factor = warmup_factor
        self.constant_steps = constant_steps
        self.decay = decay

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        lr = ops.convert_to_tensor(self.lr, "float32")
        if self.decay is not None:
            lr = ops.cast(self.decay(ops.maximum(step - self.warmup_steps - self.constant_steps, 0.0)), "float32")
        if self.warmup_steps:
            # (step + 1), so that with a factor of 0 the first step uses 1/warmup_steps of the rate instead of 0.
            warmup_fraction = ops.minimum((step + 1.0) / self.warmup_steps, 1.0)
            warm = self.lr * (self.warmup_factor + (1.0 - self.warmup_factor) * warmup_fraction)
            lr = ops.where(step < self.warmup_steps, warm, lr)
        return lr

    def get_config(self) -> dict[str, Any]:
        decay = None if self.decay is None else keras.saving.serialize_keras_object(self.decay)
        return {
            "lr": self.lr,
            "warmup_steps": self.warmup_steps,
            "warmup_factor": self.warmup_factor,
            "constant_steps": self.constant_steps,
            "decay": decay,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmupThenDecay:
        decay = config.pop("decay")
        return cls(**config, decay=None if decay is None else keras.saving.deserialize_keras_object(decay))


@keras.saving.register_keras_serializable("tfaip_like")
class OneCycle(LearningRateSchedule):
    """One-cycle policy with cosine annealing (Smith and Topin 2018, https://arxiv.org/abs/1708.07120)."""

    def __init__(self, lr: float, total_steps: int, rise: float, start_factor: float, end_factor: float):
        self.lr = lr
        self.total_steps = total_steps
        self.rise = rise
        self.start_factor = start_factor
        self.end_factor = end_factor

    def __call__(self, step: Any) -> Any:
        progress = ops.cast(step, "float32") / max(1, self.total_steps - 1)
        up = ops.clip(progress / self.rise, 0.0, 1.0)
        down = ops.clip((progress - self.rise) / (1.0 - self.rise), 0.0, 1.0)
        rising = self._cosine_interpolate(self.start_factor, 1.0, up)
        falling = self._cosine_interpolate(1.0, self.end_factor, down)
        return self.lr * ops.where(progress < self.rise, rising, falling)

    def _cosine_interpolate(self, begin: float, end: float, fraction: Any) -> Any:
        return end + (begin - end) * 0.5 * (1.0 + ops.cos(math.pi * fraction))

    def get_config(self) -> dict[str, Any]:
        return {
            "lr": self.lr,
            "total_steps": self.total_steps,
            "rise": self.rise,
            "start_factor": self.start_factor,
            "end_factor": self.end_factor,
        }


@keras.saving.register_keras_serializable("tfaip_like")
class InverseSqrt(LearningRateSchedule):
    """lr * sqrt(timescale / (timescale + step)).

    After a warm-up of `timescale` steps this is the schedule of Vaswani et al. 2017,
    https://arxiv.org/abs/1706.03762.
    """

    def __init__(self, lr: float, timescale: int):
        self.lr = lr
        self.timescale = timescale

    def __call__(self, step: Any) -> Any:
        return self.lr * ops.sqrt(self.timescale / (self.timescale + ops.cast(step, "float32")))

    def get_config(self) -> dict[str, Any]:
        return {"lr": self.lr, "timescale": self.timescale}
