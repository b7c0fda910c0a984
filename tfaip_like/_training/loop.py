"""The training itself: one epoch after another, from any step on, and what is saved in between."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from tfaip_like._runs.output_dir import OutputDirLostError
from tfaip_like._training import state
from tfaip_like._training.callbacks import EveryStep, logged_values
from tfaip_like._training.checkpointing.checkpoints import Content, Position
from tfaip_like._training.checkpointing.manager import Saver
from tfaip_like._training.components import Parts
from tfaip_like._training.epoch_end import Trained
from tfaip_like._training.non_finite import NonFiniteSteps
from tfaip_like._training.profiler import Profile
from tfaip_like._training.resume import Resumed, batching_of
from tfaip_like._training.steps.execution import compile_model, is_unsupported_by_xla
from tfaip_like._training.steps.training_model import GRADIENT_NORM, NON_FINITE
from tfaip_like._training.validation.sanity_check import check_before_training
from tfaip_like._utils.errors import Interrupted
from tfaip_like.params._resources import relative_to

logger = logging.getLogger(__name__)


class Loop:
    """Trains until the last epoch, an early stop or a signal.

    Args:
        resumed: what the parts were restored from, if the run goes on.
    """

    def __init__(self, parts: Parts, resumed: Resumed | None = None):
        self.parts = parts
        self.resumed = resumed
        self.steps_per_epoch = parts.batches.steps_per_epoch
        position = resumed.position(parts.batches) if resumed else Position(0, 0)
        self.epoch, self._first = position.epoch, position.step
        self.trained = resumed.trained if resumed else None
        self.seconds, self.waited = resumed.seconds if resumed else (0.0, 0.0)
        self._start = position
        self.schedule_begin = resumed.schedule_begin() if resumed else 0.0
        self.saver: Saver | None = None
        if parts.folder is not None:
            self.saver = Saver(parts.folder.checkpoints, parts.trainer, parts.interrupt.check)
            weights = sum(4 * math.prod(weight.shape) for weight in parts.networks.training.weights)
            self.saver.check_room(state.nbytes(parts.model), weights)
        self.non_finite = NonFiniteSteps(parts)
        self.every_step = EveryStep(
            self.steps_per_epoch,
            parts.epoch_end.progress,
            parts.interrupt,
            self._begin,
            self._look,
            self._after_execution,
            Profile(parts.folder.tensorboard) if parts.folder is not None and parts.trainer.profile else None,
        )

    def run(self) -> None:
        """Trains.

        Raises:
            Interrupted: after a signal; the state is saved.
            TrainingError: when the loss is no longer a finite number.
        """
        try:
            self._check_sanity()
            self.parts.interrupt.check()
            while self.epoch < self.parts.trainer.epochs and not self.parts.epoch_end.stop_reason:
                if self.trained is None:
                    self.trained = self._train_epoch()
                self.parts.epoch_end(self.trained)
                self._go_to_next_epoch()
                is_over = self.epoch == self.parts.trainer.epochs or bool(self.parts.epoch_end.stop_reason)
                steps = self.epoch * self.steps_per_epoch
                if self.saver is not None and (is_over or self.saver.is_due_after_epoch(self.epoch, steps)):
                    self._save()
                if not is_over:
                    self.parts.interrupt.check()
        except BaseException as error:
            if isinstance(error, Interrupted) and error.at_once:
                self.parts.interrupt.unwound()
            self._save_before_leaving(error)
            raise
        finally:
            self.every_step.close()
            # The disk that a checkpoint is being written to may be why somebody stops at once.
            if self.saver is not None and not self.parts.interrupt.is_at_once:
                self.saver.settle()
        self.parts.interrupt.nothing_to_stop()

    def _check_sanity(self) -> None:
        if not self.parts.trainer.sanity_check or self.epoch >= self.parts.trainer.epochs:
            return
        try:
            check_before_training(self.parts)
        except Exception as error:
            if not self._does_without_xla(error):
                raise
            check_before_training(self.parts)

    @property
    def position(self) -> Position:
        """How far the training is; asks the compiled steps themselves, so it is exact whatever stopped them."""
        if self.trained is not None:
            return Position(self.epoch, self.steps_per_epoch)
        return Position(self.epoch, self._steps_of_epoch)

    @property
    def _steps_of_epoch(self) -> int:
        return state.steps_of_epoch(self.parts.model) if self._is_fitting else self._first

    _is_fitting = False

    def _train_epoch(self) -> Trained:
        parts = self.parts
        data, executions = parts.feed.open(self.epoch * self.steps_per_epoch + self._first)
        self.every_step.executions = executions
        self._began = time.perf_counter()
        self._is_fitting = True
        self._fit(data, len(executions))
        return self._measured_epoch()

    def _measured_epoch(self) -> Trained:
        """Return what the steps of the epoch gave, once all of them are done."""
        seconds, waited = self._time_so_far()
        state.synchronise(self.parts.model)
        logs = {metric.name: float(metric.result()) for metric in self.parts.model.metrics}
        values = logged_values(logs)
        if self.non_finite.left_out(self.epoch + 1) == self.steps_per_epoch:
            values = dict.fromkeys(values, math.nan)  # there was nothing to average
        if GRADIENT_NORM in logs:
            values[GRADIENT_NORM] = logs[GRADIENT_NORM]
        return Trained(self.epoch + 1, values, seconds, waited)

    def _fit(self, data: Any, executions: int) -> None:
        parts = self.parts
        arguments = {
            "steps_per_epoch": executions,
            "initial_epoch": self.epoch,
            "epochs": self.epoch + 1,
            "callbacks": [self.every_step],
            "verbose": 0,
            "shuffle": False,
        }
        try:
            with parts.feed.own_errors():
                parts.model.fit(data, **arguments)
        except Exception as error:
            # The number of steps is asked last: on JAX nothing can be read any more behind most errors.
            if not self._does_without_xla(error, lambda: state.steps_of_epoch(parts.model) == self._first):
                self.non_finite.explain(error, self.epoch + 1)
                raise
            data, _ = parts.feed.open(self.epoch * self.steps_per_epoch + self._first)
            with parts.feed.own_errors():
                parts.model.fit(data, **arguments)

    def _does_without_xla(self, error: Exception, is_at_begin: Callable[[], bool] = lambda: True) -> bool:
        """Compile the model again without XLA if that cannot compile it; return whether it was so.

        Args:
            is_at_begin: whether no step was trained, so that nothing is lost.
        """
        parts = self.parts
        if parts.trainer.jit_compile or not is_unsupported_by_xla(error) or not is_at_begin():
            return False
        logger.debug("%s", error)
        logger.warning(
            "XLA cannot compile this model, it trains without (slower); --trainer.jit_compile False hides this"
        )
        trainer = dataclasses.replace(parts.trainer, jit_compile=False)
        compile_model(parts.model, parts.model.optimizer, trainer, parts.batches)
        return True

    def _begin(self) -> None:
        """Keras has just set the sums of the epoch to 0."""
        if self.resumed is not None and self._first:
            self.resumed.restore_sums(self.parts.model)
        self.parts.model.non_finite.steps.assign(self._first)
        self.parts.feed.seconds_waited()

    def _look(self, logs: Mapping[str, Any]) -> None:
        self.non_finite.look(self.epoch + 1, int(logs[NON_FINITE]))

    def _after_execution(self, done: int) -> None:
        if self.saver is None:
            return
        self.saver.look()
        if done % self.steps_per_epoch and self.saver.is_due_after_step(done):
            self._save()

    def _time_so_far(self) -> tuple[float, float]:
        """Seconds of the running epoch, and those that the network waited for data."""
        if not self._is_fitting:
            return self.seconds, self.waited
        return self.seconds + time.perf_counter() - self._began, self.waited + self.parts.feed.seconds_waited()

    def _go_to_next_epoch(self) -> None:
        self.epoch, self._first, self.trained = self.epoch + 1, 0, None
        self.seconds = self.waited = 0.0
        self._is_fitting = False

    def _save(self) -> None:
        assert self.saver is not None
        parts = self.parts
        assert parts.folder is not None
        if self._is_fitting and self.trained is None and self._steps_of_epoch == self.steps_per_epoch:
            self.trained = self._measured_epoch()  # stopped behind the last step, before `fit` returned
        if self._is_fitting and self.trained is None:
            state.synchronise(parts.model)
            self.non_finite.check(self.epoch + 1)
            self.seconds, self.waited = self._time_so_far()
            self._began = time.perf_counter()
        else:  # the sums of a validation, whose number of steps depends on how many ran at once
            parts.model.reset_metrics()
        values = {
            "batching": batching_of(parts.batches),
            "stream": parts.batches.stream_state(self.epoch * self.steps_per_epoch + self.position.step),
            "at_once": parts.at_once,
            "schedule_begin": self.schedule_begin,
            "schedule_offset": parts.epoch_end.rate.offset,
            "seconds": self.seconds,
            "waited": self.waited,
            "trained": dataclasses.asdict(self.trained) if self.trained else None,
            **parts.epoch_end.state(),
        }
        content = Content(
            arrays=state.capture(parts.model),
            state=values,
            params=relative_to(parts.scenario, parts.folder.path).to_dict(),
        )
        self.saver.save(self.position, content)

    def _save_before_leaving(self, error: BaseException) -> None:
        """Save the state that an interruption or an exception leaves, where it is the state between two steps.

        It is when a signal was noticed, when the pipeline failed (a step begins when its batches are there), and when
        the steps of the epoch are done (what follows them does not change the state).
        """
        is_between_steps = isinstance(error, Interrupted) or self.trained is not None or self.parts.feed.has_failed
        is_at_once = isinstance(error, Interrupted) and error.at_once
        if self.saver is None or self.parts.folder is None or is_at_once or not is_between_steps:
            return
        if isinstance(error, OutputDirLostError):
            return
        try:
            # At the start the sums of a resumed epoch may not be in the model yet, and its checkpoint holds them.
            if self.position not in (self.saver.saved, self._start):
                self._save()
                self.saver.settle()
        except Exception as failure:
            if isinstance(error, Interrupted):
                raise
            logger.warning("the state could not be saved: %s", failure)
        else:
            where = self.position
            begin = "starts from the beginning: no step was trained"
            how = begin if where == Position(0, 0) else f"continues after {where}"
            error.add_note(f"resume-training {self.parts.folder.path} {how}.")
