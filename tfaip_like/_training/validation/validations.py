"""Validations of a run: on the validation data, and load-and-validate (LAV) of the current export."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property

from tfaip_like._training.train_state import TrainState
from tfaip_like._training.validation.lav import LavValidation
from tfaip_like._training.validation.validation import Validation
from tfaip_like.settings import Trainer
from tfaip_like.settings._interval import Interval
from tfaip_like.summaries import Summary

Summaries = MutableMapping[str, Mapping[str, Summary]]
"""Summaries of validations, by prefix and name."""


@dataclass(frozen=True)
class Validations:
    """Validations of a run, and when they are due."""

    trainer: Trainer
    """Intervals and number of epochs."""
    validation: Validation | None = None
    """Validation of the network; None without validation data."""
    lavs: Mapping[str, LavValidation] = field(default_factory=dict)
    """Load-and-validate by source."""

    @property
    def all(self) -> list[Validation | LavValidation]:
        """Return all validations, that of the network first."""
        return [*([self.validation] if self.validation is not None else []), *self.lavs.values()]

    @property
    def prefixes(self) -> list[str]:
        """Return the prefixes of their metrics."""
        return [validation.prefix for validation in self.all]

    def due_at(self, state: TrainState, is_last: bool = False) -> list[Validation | LavValidation]:
        """Return the validations due after the completed steps: all of them at the end, LAV also after the first epoch.

        Args:
            state: position of the run.
            is_last: whether training stops early here.
        """
        is_epoch_end = state.is_epoch_complete
        is_last = is_last or (is_epoch_end and state.epoch + 1 >= self.trainer.epochs)
        due: list[Validation | LavValidation] = []
        if self.validation is not None and (is_last or _is_due(self._intervals[self.validation.prefix], state)):
            due.append(self.validation)
        if self.lavs and (is_last or (is_epoch_end and state.epoch == 0) or _is_due(self.trainer.lav_interval, state)):
            due += self.lavs.values()
        return due

    @property
    def step_intervals(self) -> list[int]:
        """Return the intervals in steps, at whose multiples executions must end."""
        return [interval.steps for interval in self._intervals.values() if interval.steps]

    def count_remaining(self, step: int, steps_per_epoch: int, seconds: float) -> dict[str, float]:
        """Return the number of validations due at a step of the run or later, by prefix.

        Args:
            step: completed steps of the run.
            steps_per_epoch: steps of an epoch.
            seconds: expected duration of the remaining steps.
        """
        end, before = self.trainer.epochs * steps_per_epoch, max(0, step - 1)
        counts = {}
        for prefix, interval in self._intervals.items():
            if (every := interval.num_steps(steps_per_epoch)) == 0:
                counts[prefix] = seconds / interval.seconds + 1
                continue
            counts[prefix] = end // every - before // every + (end % every > 0)
            is_lav = self.validation is None or prefix != self.validation.prefix
            counts[prefix] += is_lav and before < steps_per_epoch < end and steps_per_epoch % every > 0
        return counts

    @cached_property
    def depend_on_time(self) -> bool:
        """Return whether some are due at a time, which makes their steps depend on the speed of the machine."""
        return any(interval.seconds for interval in self._intervals.values())

    @cached_property
    def _intervals(self) -> Mapping[str, Interval]:
        """Return the interval of each validation, by prefix."""
        intervals = {self.validation.prefix: self.trainer.val_interval} if self.validation is not None else {}
        return intervals | {lav.prefix: self.trainer.lav_interval for lav in self.lavs.values()}


def _is_due(interval: Interval, state: TrainState) -> bool:
    """Return whether a multiple of an interval was reached since the last evaluation.

    Steps count only at a multiple: one that a resumed run has skipped, because the interval was changed, is not made up
    for at a step that depends on the speed of the machine.
    """
    steps = interval.num_steps(state.steps_per_epoch)
    is_multiple = not steps or state.global_step % steps == 0
    return is_multiple and interval.is_passed(state.evaluated, state.elapsed)
