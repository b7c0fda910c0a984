"""`Callback`: user code that runs at points of a training."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tfaip_like.params._stateful import StatefulParams
from tfaip_like.settings._interval import parse_interval
from tfaip_like.summaries import Summary

if TYPE_CHECKING:
    from tfaip_like.callbacks._context import RunContext

Metrics = Mapping[str, float]


class Callback(StatefulParams, abc.ABC):
    """Base class of callbacks: override the hooks you need.

    A callback is chosen by flag (`--callbacks my_package:Message --callbacks.0.channel training`), in the class of a
    scenario (`callbacks = [Message(channel="training")]`), or in Python (`train(scenario, callbacks=[Message()])`).

    Its parameters are frozen. Each training works on a copy, on which a hook may set other attributes. They are saved
    in checkpoints and restored on resume, so they must be JSON values; names that begin with an underscore are not
    saved.

    A hook that raises ends the training, after its state is saved; the resumed training runs it again, unless it is
    `on_step_end`, whose step is done.

    Example:
        >>> class CountSteps(Callback):
        ...     every: str = "10steps"
        ...
        ...     def on_train_begin(self, run):
        ...         self.calls = 0
        ...
        ...     def on_step_end(self, run, metrics):
        ...         self.calls += 1
        ...
        ...     def on_epoch_end(self, run, metrics):
        ...         run.log("calls", self.calls)
        >>> CountSteps(every="500steps")
        CountSteps(every='500steps')
    """

    plugin_group = "tfaip_like.callbacks"

    foreign_name_hints = {
        **dict.fromkeys(
            ("on_batch_end", "on_train_batch_end", "on_train_step_end", "on_batch_begin", "on_train_batch_begin"),
            "override `on_step_end`",
        ),
        **dict.fromkeys(("on_test_end", "on_evaluate", "on_validation_epoch_end"), "override `on_validation_end`"),
        **dict.fromkeys(("on_train_epoch_end", "after_epoch"), "override `on_epoch_end`"),
        **dict.fromkeys(("on_save", "on_save_checkpoint"), "override `on_checkpoint`"),
    }

    every: str = "epoch"
    """Interval of `on_step_end`: 10steps, 2epochs, 30s or 10min. By default after the last step of each epoch."""

    def check(self) -> None:
        try:
            parse_interval(self.every)
        except ValueError as problem:
            self.require(False, "every", str(problem))

    def on_train_begin(self, run: RunContext) -> None:
        """Run before the first step of this process; when a run is resumed, `load_state_dict` follows."""

    def on_epoch_begin(self, run: RunContext) -> None:
        """Run before the first step of an epoch; not again if it is resumed within the epoch."""

    def on_step_end(self, run: RunContext, metrics: Metrics) -> None:
        """Run after a step, every `every`.

        Executions of several steps end there, so the same steps are seen on every machine and after every resume.

        Args:
            run: the running training.
            metrics: averages of losses and metrics over the epoch so far.
        """

    def on_validation_end(self, run: RunContext, metrics: Metrics, summaries: Mapping[str, Summary]) -> None:
        """Run after validations, with the weights that are validated (averaged ones, if any).

        Args:
            run: the running training.
            metrics: metrics of the validations (`val_loss`, `lav_loss`).
            summaries: summaries of the validations, by name (`val_confusion`).
        """

    def on_epoch_end(self, run: RunContext, metrics: Metrics) -> None:
        """Run at the end of an epoch, after validation; best/ is written meanwhile, see `on_checkpoint`.

        Args:
            run: the running training.
            metrics: values of the epoch, as in history.csv.
        """

    def on_checkpoint(self, run: RunContext, path: Path) -> None:
        """Run after a checkpoint, and before it best/ of its epoch, has been written completely.

        Args:
            run: the running training, which may be some steps ahead.
            path: directory of the checkpoint.
        """

    def on_exception(self, run: RunContext, error: BaseException) -> None:
        """Run before training ends with an exception or a signal (`Interrupted`); the state is saved.

        Args:
            run: the running training.
            error: the exception.
        """

    def on_train_end(self, run: RunContext) -> None:
        """Run at the end of a complete training, after the last export."""
