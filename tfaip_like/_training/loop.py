"""Training loop: steps, end of each epoch, checkpoints."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from tfaip_like._runs.output_dir import OutputDirLostError
from tfaip_like._training import state
from tfaip_like._training.callbacks import StepCallback, select_logged_metrics
from tfaip_like._training.checkpointing.checkpoints import CheckpointData, Position
from tfaip_like._training.checkpointing.manager import CheckpointManager
from tfaip_like._training.components import TrainingComponents
from tfaip_like._training.epoch_finalizer import EpochResult
from tfaip_like._training.non_finite import NonFiniteGuard
from tfaip_like._training.profiler import StepProfiler
from tfaip_like._training.resume import ResumeState, batching_signature
from tfaip_like._training.steps.execution import compile_model, is_xla_unsupported_error
from tfaip_like._training.steps.training_model import GRADIENT_NORM, NON_FINITE
from tfaip_like._training.validation.sanity_check import run_sanity_check
from tfaip_like._utils.errors import Interrupted
from tfaip_like.params._resources import make_paths_relative

logger = logging.getLogger(__name__)


class TrainingLoop:
    """Training loop until the last epoch, early stopping or a signal.

    Args:
        components: components of the run, already restored when resuming.
        resume_state: the state they were restored from; None for a new run.
    """

    def __init__(self, components: TrainingComponents, resume_state: ResumeState | None = None):
        self.components = components
        self.resume_state = resume_state
        self.steps_per_epoch = components.loader.steps_per_epoch
        position = resume_state.position(components.loader) if resume_state else Position(0, 0)
        self.epoch, self._first_step = position.epoch, position.step
        self.epoch_result = resume_state.epoch_result if resume_state else None
        self.seconds, self.waited = resume_state.seconds if resume_state else (0.0, 0.0)
        self._start_position = position
        self.schedule_begin = resume_state.schedule_begin() if resume_state else 0.0
        self.checkpoint_manager: CheckpointManager | None = None
        if components.output_dir is not None:
            self.checkpoint_manager = CheckpointManager(
                components.output_dir.checkpoints, components.trainer, components.interrupt.check
            )
            weights = sum(4 * math.prod(weight.shape) for weight in components.networks.training.weights)
            self.checkpoint_manager.check_disk_space(state.nbytes(components.model), weights)
        self.non_finite = NonFiniteGuard(components)
        self.step_callback = StepCallback(
            self.steps_per_epoch,
            components.epoch_finalizer.progress,
            components.interrupt,
            self._on_metrics_reset,
            self._on_metrics,
            self._on_execution_end,
            StepProfiler(components.output_dir.tensorboard)
            if components.output_dir is not None and components.trainer.profile
            else None,
        )

    def run(self) -> None:
        """Train the remaining epochs.

        Raises:
            Interrupted: after a signal; the state is saved.
            TrainingError: if the loss or a gradient becomes non-finite.
        """
        try:
            self._run_sanity_check()
            self.components.interrupt.check()
            while self.epoch < self.components.trainer.epochs and not self.components.epoch_finalizer.stop_reason:
                if self.epoch_result is None:
                    self.epoch_result = self._train_epoch()
                self.components.epoch_finalizer.run(self.epoch_result)
                self._advance_epoch()
                is_over = self.epoch == self.components.trainer.epochs or bool(
                    self.components.epoch_finalizer.stop_reason
                )
                steps = self.epoch * self.steps_per_epoch
                if self.checkpoint_manager is not None and (
                    is_over or self.checkpoint_manager.should_save_after_epoch(self.epoch, steps)
                ):
                    self._save_checkpoint()
                if not is_over:
                    self.components.interrupt.check()
        except BaseException as error:
            if isinstance(error, Interrupted) and error.forced:
                self.components.interrupt.mark_unwound()
            self._save_on_exit(error)
            raise
        finally:
            self.step_callback.close()
            # An immediate stop does not wait: the disk that a checkpoint is written to may be what hangs.
            if self.checkpoint_manager is not None and not self.components.interrupt.is_forced:
                self.checkpoint_manager.wait_until_finished()
        self.components.interrupt.disarm()

    def _run_sanity_check(self) -> None:
        if not self.components.trainer.sanity_check or self.epoch >= self.components.trainer.epochs:
            return
        try:
            run_sanity_check(self.components)
        except Exception as error:
            if not self._disable_xla_if_unsupported(error):
                raise
            run_sanity_check(self.components)

    @property
    def position(self) -> Position:
        """Progress of the run; read from the counter of the compiled steps, so it is exact after any interruption."""
        if self.epoch_result is not None:
            return Position(self.epoch, self.steps_per_epoch)
        return Position(self.epoch, self._completed_steps)

    @property
    def _completed_steps(self) -> int:
        return state.completed_steps(self.components.model) if self._is_fitting else self._first_step

    _is_fitting = False

    def _train_epoch(self) -> EpochResult:
        components = self.components
        data, executions = components.feed.open(self.epoch * self.steps_per_epoch + self._first_step)
        self.step_callback.executions = executions
        self._start_time = time.perf_counter()
        self._is_fitting = True
        self._fit(data, len(executions))
        return self._collect_epoch_result()

    def _collect_epoch_result(self) -> EpochResult:
        """Return the training metrics of an epoch whose steps are complete."""
        seconds, waited = self._elapsed()
        state.synchronise(self.components.model)
        logs = {metric.name: float(metric.result()) for metric in self.components.model.metrics}
        values = select_logged_metrics(logs)
        if self.non_finite.count_skipped(self.epoch + 1) == self.steps_per_epoch:
            values = dict.fromkeys(values, math.nan)  # all steps were skipped: nothing to average
        if GRADIENT_NORM in logs:
            values[GRADIENT_NORM] = logs[GRADIENT_NORM]
        return EpochResult(self.epoch + 1, values, seconds, waited)

    def _fit(self, data: Any, executions: int) -> None:
        components = self.components
        arguments = {
            "steps_per_epoch": executions,
            "initial_epoch": self.epoch,
            "epochs": self.epoch + 1,
            "callbacks": [self.step_callback],
            "verbose": 0,
            "shuffle": False,
        }
        try:
            with components.feed.reraise_pipeline_errors():
                components.model.fit(data, **arguments)
        except Exception as error:
            # The step counter is read last: on JAX no variable can be read after most errors.
            if not self._disable_xla_if_unsupported(
                error, lambda: state.completed_steps(components.model) == self._first_step
            ):
                self.non_finite.explain(error, self.epoch + 1)
                raise
            data, _ = components.feed.open(self.epoch * self.steps_per_epoch + self._first_step)
            with components.feed.reraise_pipeline_errors():
                components.model.fit(data, **arguments)

    def _disable_xla_if_unsupported(
        self, error: Exception, is_at_epoch_start: Callable[[], bool] = lambda: True
    ) -> bool:
        """Recompile the model without XLA if XLA caused the error; return whether it did.

        Args:
            error: error of a training step.
            is_at_epoch_start: returns whether no step of the epoch was trained, so that nothing is lost.
        """
        components = self.components
        if components.trainer.jit_compile or not is_xla_unsupported_error(error) or not is_at_epoch_start():
            return False
        logger.debug("%s", error)
        logger.warning(
            "XLA compilation failed; falling back to jit_compile=False (slower). Set --trainer.jit_compile false to "
            "silence this warning."
        )
        trainer = dataclasses.replace(components.trainer, jit_compile=False)
        compile_model(components.model, components.model.optimizer, trainer, components.loader)
        return True

    def _on_metrics_reset(self) -> None:
        """Restore the metrics of a resumed epoch, which `fit` has just reset."""
        if self.resume_state is not None and self._first_step:
            self.resume_state.restore_epoch_metrics(self.components.model)
        self.components.model.non_finite.steps.assign(self._first_step)
        self.components.feed.pop_wait_seconds()

    def _on_metrics(self, logs: Mapping[str, Any]) -> None:
        self.non_finite.check_logs(self.epoch + 1, int(logs[NON_FINITE]))

    def _on_execution_end(self, step: int) -> None:
        if self.checkpoint_manager is None:
            return
        self.checkpoint_manager.raise_pending_error()
        if step % self.steps_per_epoch and self.checkpoint_manager.should_save_after_step(step):
            self._save_checkpoint()

    def _elapsed(self) -> tuple[float, float]:
        """Return the seconds of the current epoch so far, and those spent waiting for data."""
        if not self._is_fitting:
            return self.seconds, self.waited
        return (
            self.seconds + time.perf_counter() - self._start_time,
            self.waited + self.components.feed.pop_wait_seconds(),
        )

    def _advance_epoch(self) -> None:
        self.epoch, self._first_step, self.epoch_result = self.epoch + 1, 0, None
        self.seconds = self.waited = 0.0
        self._is_fitting = False

    def _save_checkpoint(self) -> None:
        assert self.checkpoint_manager is not None
        components = self.components
        assert components.output_dir is not None
        if self._is_fitting and self.epoch_result is None and self._completed_steps == self.steps_per_epoch:
            self.epoch_result = self._collect_epoch_result()  # stopped after the last step, before `fit` returned
        if self._is_fitting and self.epoch_result is None:
            state.synchronise(components.model)
            self.non_finite.check_running_epoch(self.epoch + 1)
            self.seconds, self.waited = self._elapsed()
            self._start_time = time.perf_counter()
        else:  # drop the metrics of a validation, whose number of steps depends on the steps per execution
            components.model.reset_metrics()
        values = {
            "batching": batching_signature(components.loader),
            "stream": components.loader.stream_state(self.epoch * self.steps_per_epoch + self.position.step),
            "at_once": components.steps_per_execution,
            "schedule_begin": self.schedule_begin,
            "schedule_offset": components.epoch_finalizer.lr_schedule.offset,
            "seconds": self.seconds,
            "waited": self.waited,
            "trained": dataclasses.asdict(self.epoch_result) if self.epoch_result else None,
            **components.epoch_finalizer.state(),
        }
        content = CheckpointData(
            arrays=state.capture(components.model),
            state=values,
            params=make_paths_relative(components.scenario, components.output_dir.path).to_dict(),
        )
        self.checkpoint_manager.save(self.position, content)

    def _save_on_exit(self, error: BaseException) -> None:
        """Save the state after an interruption or an exception, provided that no step was in progress.

        That is the case after a signal, after an error of the data pipeline (a step starts once its batches are
        available) and once all steps of the epoch are complete (validation and export do not change the state).
        """
        is_between_steps = (
            isinstance(error, Interrupted) or self.epoch_result is not None or self.components.feed.has_failed
        )
        is_forced = isinstance(error, Interrupted) and error.forced
        if self.checkpoint_manager is None or self.components.output_dir is None or is_forced or not is_between_steps:
            return
        if isinstance(error, OutputDirLostError):
            return
        try:
            # At the start position the metrics of a resumed epoch may not be restored yet; its checkpoint has them.
            if self.position not in (self.checkpoint_manager.last_position, self._start_position):
                self._save_checkpoint()
                self.checkpoint_manager.wait_until_finished()
        except Exception as failure:
            if isinstance(error, Interrupted):
                raise
            logger.warning("failed to save the state: %s", failure)
        else:
            position = self.position
            start = "start from the beginning; no step was trained"
            action = start if position == Position(0, 0) else f"continue after {position}"
            error.add_note(f"Run `resume-training {self.components.output_dir.path}` to {action}.")
