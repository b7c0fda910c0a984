"""Extensions of Keras optimizers: factors of the learning rate, moving averages of the weights, and L2 decay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfaip_like._keras_ext.snapshots import read_array

PAST_AVERAGE = "past_average"
RATE_FACTOR = "rate_factor"

WeightAverages = list[tuple[keras.Variable, Any]]
"""Weights, each with its moving average."""


def with_extensions(
    optimizer_class: type[keras.optimizers.Optimizer],
    has_rate_factor: bool = False,
    ema_momentum: float = 0.0,
    l2: float = 0.0,
    lr_factors: Sequence[float] = (),
) -> type[keras.optimizers.Optimizer]:
    """Return a subclass of an optimizer class with extensions; the class itself if none is enabled.

    Their state is kept in variables of the optimizer, which are part of the state of a compiled step on every backend,
    and of a checkpoint.

    Args:
        optimizer_class: Keras optimizer class to extend.
        has_rate_factor: add a variable `rate_factor`, initially 1, that multiplies the learning rate. Keras'
            `ReduceLROnPlateau` sets the learning rate itself, which fails in combination with a schedule.
        ema_momentum: momentum of exponential moving averages of the weights (`averages()`), in [0, 1); 0 adds none.
            Keras' `use_ema` replaces the weights when `fit` ends, updates after each batch of an accumulated step,
            and starts at 0.
        l2: L2 decay: this times each weight is added to its gradient, after clipping; 0 disables it.
        lr_factors: factor of the learning rate of each variable, in the order of `build`; empty for 1.
    """
    name = optimizer_class.__name__
    if l2:
        optimizer_class = _with_l2(optimizer_class, l2)
    if lr_factors:
        optimizer_class = _with_lr_factors(optimizer_class, lr_factors)
    if has_rate_factor:
        optimizer_class = _with_rate_factor(optimizer_class)
    if ema_momentum:
        optimizer_class = _with_ema(optimizer_class, ema_momentum)
    if has_rate_factor or ema_momentum or l2 or lr_factors:
        optimizer_class.__name__ = name
    return optimizer_class


def _with_rate_factor(optimizer_class: type[keras.optimizers.Optimizer]) -> type[keras.optimizers.Optimizer]:
    class RateFactorOptimizer(optimizer_class):
        def build(self, variables: list[keras.Variable]) -> None:
            if self.built:
                return
            super().build(variables)
            self.rate_factor = self.add_variable(shape=(), initializer="ones", dtype="float32", name=RATE_FACTOR)

        def _get_current_learning_rate(self) -> Any:
            return super()._get_current_learning_rate() * self.rate_factor

    return RateFactorOptimizer


def _with_lr_factors(
    optimizer_class: type[keras.optimizers.Optimizer], lr_factors: Sequence[float]
) -> type[keras.optimizers.Optimizer]:
    class LRFactorsOptimizer(optimizer_class):
        _decay_factor = 1.0

        # Scales the rate instead of the gradient, to which Adam and its relatives are invariant. On PyTorch, Keras uses
        # `update_step` too: its parallel implementations are for its own classes only, not for subclasses.
        def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
            factor = lr_factors[self._get_variable_index(variable)]
            super().update_step(gradient, variable, learning_rate * factor)

        def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
            groups: dict[float, list[keras.Variable]] = {}
            for variable in filter(self._use_weight_decay, variables):
                groups.setdefault(lr_factors[self._get_variable_index(variable)], []).append(variable)
            for factor, group in groups.items():
                object.__setattr__(self, "_decay_factor", factor)
                try:
                    super()._apply_weight_decay(group)
                finally:
                    object.__setattr__(self, "_decay_factor", 1.0)

        def _get_current_learning_rate(self) -> Any:
            return super()._get_current_learning_rate() * self._decay_factor

    return LRFactorsOptimizer


def _with_l2(optimizer_class: type[keras.optimizers.Optimizer], l2: float) -> type[keras.optimizers.Optimizer]:
    class L2Optimizer(optimizer_class):
        def _backend_update_step(
            self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable], learning_rate: Any
        ) -> None:
            pairs = zip(grads, trainable_variables, strict=True)
            decayed = [ops.add(g, l2 * ops.cast(v, g.dtype)) if self._use_weight_decay(v) else g for g, v in pairs]
            super()._backend_update_step(decayed, trainable_variables, learning_rate)

    return L2Optimizer


def _with_ema(
    optimizer_class: type[keras.optimizers.Optimizer], ema_momentum: float
) -> type[keras.optimizers.Optimizer]:
    class EMAOptimizer(optimizer_class):
        def build(self, variables: list[keras.Variable]) -> None:
            if self.built:
                return
            super().build(variables)
            # Bypasses Keras' attribute tracking, which would treat the weights as variables of the optimizer: they
            # would be saved twice, and passed to JAX twice.
            object.__setattr__(self, "_ema_sources", list(variables))
            self._past_averages = self.add_optimizer_variables(variables, PAST_AVERAGE)
            self.reset_averages()

        def reset_averages(self) -> None:
            """Reset the averages to the current weights."""
            if hasattr(optimizer_class, "reset_averages"):
                super().reset_averages()
            for mean, variable in zip(self._past_averages, self._ema_sources, strict=True):
                mean.assign(ops.copy(variable))  # otherwise both share one buffer on JAX

        def averages(self) -> WeightAverages:
            """Return each weight with its average, which includes the current weight."""
            pairs = zip(self._ema_sources, self._past_averages, strict=True)
            return [(v, mean + (ops.cast(v, mean.dtype) - mean) * (1.0 - ema_momentum)) for v, mean in pairs]

        def apply(self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
            # Averages the weights before the step, so the stored average lags one step: averaging after the step made
            # XLA compute the step twice. The remaining cost is reading and writing the averages: measured up to 15 %
            # for wide dense layers in batches of 64, nothing for convolutions (scripts/benchmarks/trainer_costs.py).
            for past, (_, mean) in zip(self._past_averages, self.averages(), strict=True):
                self.assign(past, mean)
            super().apply(grads, trainable_variables)

    return EMAOptimizer


def disable_all_reduce(optimizer: keras.optimizers.Optimizer) -> None:
    """Disable the reduction of gradients over the replicas of a `tf.distribute` strategy, which Keras does without any.

    TensorFlow registers the gradient of each reduction for the rest of the process, and with it the graph of the step
    and its pipeline (https://github.com/tensorflow/tensorflow/issues/97697): 6,000 Python objects per training, so that
    the garbage collector made the trainings of a long process two to three times slower.

    Args:
        optimizer: optimizer of the TensorFlow backend.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a loss scale
    # Bypasses Keras' attribute tracking, which would save it.
    object.__setattr__(optimizer, "_all_reduce_sum_gradients", list)


class Clipping(NamedTuple):
    """Kinds of gradient clipping, of which one at most is not None."""

    value: float | None
    norm: float | None
    global_norm: float | None


def take_over_clipping(optimizer: keras.optimizers.Optimizer) -> Clipping:
    """Disable the gradient clipping of an optimizer, and return its settings."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a loss scale
    object.__setattr__(optimizer, "_clip_gradients", list)
    return Clipping(optimizer.clipvalue, optimizer.clipnorm, optimizer.global_clipnorm)


@contextmanager
def use_averaged_weights(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Assign the averages, if any, to the weights in the block; restore the exact weights afterwards."""
    weights = [(variable, np.array(read_array(variable))) for variable, _ in _averaged_weights(optimizer)]
    finalize_averaged_weights(optimizer)
    try:
        yield
    finally:
        for variable, weight in weights:
            variable.assign(weight)


def finalize_averaged_weights(optimizer: keras.optimizers.Optimizer) -> None:
    """Assign the averages, if any, to the weights at the end of training."""
    for variable, mean in _averaged_weights(optimizer):
        variable.assign(mean)


def _averaged_weights(optimizer: keras.optimizers.Optimizer) -> WeightAverages:
    averages: WeightAverages = optimizer.averages() if hasattr(optimizer, "averages") else []
    return averages


def default_ema_momentum(steps_per_epoch: int) -> float:
    """Return the EMA momentum of `calc_ema` -1: 0.75 per epoch, clipped to [0.99, 0.99975] per step."""
    return float(min(max(0.75 ** (1.0 / steps_per_epoch), 0.99), 0.99975))
