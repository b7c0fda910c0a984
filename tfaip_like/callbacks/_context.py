"""The running training, as user code sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tfaip_like.params import Params

if TYPE_CHECKING:
    import keras


class RunContext(Protocol):
    """Read-only view of a running training, which each hook of a `Callback` receives.

    Example:
        >>> from tfaip_like.callbacks import Callback
        >>> class StopWhenGood(Callback):
        ...     def on_epoch_end(self, run, metrics):
        ...         run.log("weight", float(run.network.weights[0][0]))
        ...         if metrics["loss"] < 0.01:
        ...             run.request_stop("the loss is small enough")
    """

    @property
    def scenario(self) -> Params:
        """Return the scenario that is trained."""

    @property
    def output_dir(self) -> Path | None:
        """Return the run directory; None if nothing is saved."""

    @property
    def epoch(self) -> int:
        """Return the current epoch, from 1."""

    @property
    def step(self) -> int:
        """Return the completed steps of the run."""

    @property
    def steps_per_epoch(self) -> int:
        """Return the steps of an epoch."""

    @property
    def network(self) -> keras.Model:
        """Return the network with its current weights; reading it may wait for the device."""

    @property
    def is_temporary(self) -> bool:
        """Return whether the results are discarded: a short training of `--verify`, or a calibration of a batch."""

    def log(self, name: str, value: float) -> None:
        """Add a value to the next row of history.csv, of an epoch or of a validation within it, and to each logger.

        Args:
            name: name of the value; the last value of a name counts.
            value: the value.

        Raises:
            UsageError: if the trainer logs this name, or it begins with val_, lav_ or compare_.
        """

    def request_stop(self, reason: str) -> None:
        """End training after the current epoch.

        Args:
            reason: text for the log and summary.json; the first reason counts.
        """
