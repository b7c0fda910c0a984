"""Several named Keras optimizers as one, for a step that updates parts of a network separately."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

from tfaip_like._keras_ext.extended_optimizer import WeightAverages, disable_all_reduce


class OptimizerGroup(keras.optimizers.Optimizer):
    """Named optimizers with a common count of steps, which their learning rates follow.

    An optimizer that is applied several times per step would otherwise pass through its schedule too fast.

    Args:
        learning_rate: learning rate by step, to log.
        build_members: function from the schedule wrapper of the group to the optimizers by name.
        has_rate_factor: whether the members have a variable `rate_factor`.
    """

    def __init__(
        self,
        learning_rate: LearningRateSchedule,
        build_members: Callable[[OptimizerGroup], Mapping[str, keras.optimizers.Optimizer]],
        has_rate_factor: bool = False,
    ):
        super().__init__(learning_rate=learning_rate, name="steps")
        self.build([])
        # Bypasses Keras' attribute tracking, which would list the variables of the members twice.
        object.__setattr__(self, "members", dict(build_members(self)))
        for member in self.members.values():
            disable_all_reduce(member)
        if has_rate_factor:
            self.rate_factor = _RateFactors([member.rate_factor for member in self.members.values()])
        if any(hasattr(member, "averages") for member in self.members.values()):
            self.averages, self.reset_averages = self._averages, self._reset_averages

    members: dict[str, keras.optimizers.Optimizer]

    @property
    def variables(self) -> list[keras.Variable]:
        """Return the count of steps and the variables of all members."""
        members = getattr(self, "members", {}).values()
        return [self._iterations, *(variable for member in members for variable in member.variables)]

    def complete_step(self) -> None:
        """Count a step."""
        self._iterations.assign_add(1)

    def follow(self, schedule: LearningRateSchedule) -> LearningRateSchedule:
        """Return a schedule by steps of the group instead of those of an optimizer."""
        return _GroupSchedule(schedule, self)

    def _averages(self) -> WeightAverages:
        return [pair for member in self.members.values() for pair in member.averages()]

    def _reset_averages(self) -> None:
        for member in self.members.values():
            member.reset_averages()

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Raise an error: the members update the weights."""
        raise NotImplementedError


class _GroupSchedule(LearningRateSchedule):
    def __init__(self, schedule: LearningRateSchedule, group: OptimizerGroup):
        self.schedule, self.group = schedule, group

    def __call__(self, step: Any) -> Any:
        return self.schedule(self.group.iterations)

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError


class _RateFactors:
    """Variables `rate_factor` of several optimizers, which are equal."""

    def __init__(self, variables: list[keras.Variable]):
        self._variables = variables

    def assign(self, value: Any) -> None:
        for variable in self._variables:
            variable.assign(value)

    def __float__(self) -> float:
        return float(self._variables[0])
