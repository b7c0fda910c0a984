"""Validations of a run: on the validation data, and load-and-validate (LAV) of the current export."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field

from tfaip_like._training.validation.lav import LavValidation
from tfaip_like._training.validation.validation import Validation
from tfaip_like.settings import Trainer
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

    def due_after(self, epoch: int, is_last: bool = False) -> list[Validation | LavValidation]:
        """Return the validations due after an epoch: all of them after the last epoch, LAV also after the first.

        Args:
            epoch: epoch, from 1.
            is_last: whether training stops early after this epoch.
        """
        is_last = is_last or epoch == self.trainer.epochs
        due: list[Validation | LavValidation] = []
        if self.validation is not None and (is_last or epoch % self.trainer.val_every_n == 0):
            due.append(self.validation)
        if self.lavs and (is_last or epoch == 1 or epoch % self.trainer.lav_every_n == 0):
            due += self.lavs.values()
        return due
