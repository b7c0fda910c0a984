"""Interface of the training step, which each backend implements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol


class TrainStep(Protocol):
    """Training step of a backend: reads batches, updates the weights and the metrics of the epoch.

    Between `run` and `sync_to_model` the variables of the model may be out of date: a backend may hold their values
    elsewhere. The steps that are complete are counted inside the compiled steps, in `TrainingModel.non_finite.steps`,
    so the count is exact after any exception.
    """

    def run(self, data: Iterator[Any], num_steps: int) -> Mapping[str, Any]:
        """Run steps; may return before the device has finished.

        Args:
            data: elements of `TrainingFeed.open`; as many as the steps need are read.
            num_steps: number of steps of this execution.

        Returns:
            The average of each loss and metric over the epoch so far, by name.

        Raises:
            Exception: of the data pipeline; no step has begun that is not complete.
        """

    def sync_to_model(self) -> None:
        """Write the current values to the variables of the model."""
