"""Training loop: steps, evaluations and checkpoints."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import keras

from tfaip_like._runs.output_dir import GRADIENT_NORM
from tfaip_like._runs.output_dir_lock import OutputDirLostError
from tfaip_like._training import variables
from tfaip_like._training.callbacks.run_context import TrainingContext
from tfaip_like._training.checkpointing.checkpoints import CheckpointData, Position
from tfaip_like._training.checkpointing.manager import CheckpointManager
from tfaip_like._training.checkpointing.run_uploader import RunUploader
from tfaip_like._training.checkpointing.state_schema import CallbackState, SavedState
from tfaip_like._training.components import TrainingComponents
from tfaip_like._training.device_usage import DeviceUsage
from tfaip_like._training.evaluation import Evaluation
from tfaip_like._training.loggers.training_loggers import TrainingLoggers
from tfaip_like._training.non_finite import NonFiniteGuard
from tfaip_like._training.profiler import StepProfiler
from tfaip_like._training.resume import ResumeState, batching_signature
from tfaip_like._training.steps.compilation import is_xla_unsupported_error
from tfaip_like._training.steps.example_checks import NON_FINITE
from tfaip_like._training.steps.training_model import select_logged_metrics
from tfaip_like._training.validation.sanity_check import run_sanity_check
from tfaip_like._utils.errors import Interrupted
from tfaip_like.modeling._context import set_position
from tfaip_like.params._resources import make_paths_relative

logger = logging.getLogger(__name__)

HOST_SYNC_EVERY_STEPS = 32
"""Minimum number of steps between two reads of metrics, which make the host wait for the device."""


class TrainingLoop:
    """Training loop until the last epoch, early stopping or a signal.

    Args:
        components: components of the run, already restored when resuming.
        loggers: loggers of the run.
        resume_state: the state they were restored from; None for a new run.
        uploader: thread that uploads the run after each checkpoint; None if it is not uploaded.
    """

    def __init__(
        self,
        components: TrainingComponents,
        loggers: TrainingLoggers,
        resume_state: ResumeState | None = None,
        uploader: RunUploader | None = None,
    ):
        self.components = components
        self.uploader = uploader
        self.resume_state = resume_state
        self.step = components.step
        self.state = components.state
        components.model.completed_steps.assign(self.state.global_step)
        self.schedule_begin = resume_state.schedule_begin() if resume_state else 0.0
        path = components.output_dir.path if components.output_dir is not None else None
        self.context = TrainingContext(components.scenario, path, components.model, self.state, self.step)
        self.device_usage = DeviceUsage(components)
        self.evaluation = Evaluation(components, self.context, loggers, self.device_usage)
        self.non_finite = NonFiniteGuard(components)
        self._saved_state = dataclasses.replace(self.state)
        """State of the last checkpoint, initially that from which the run starts."""
        self._callbacks_before_evaluation: list[CallbackState] | None = None
        """State of the callbacks before the evaluation in progress, which a resumed run repeats with its hooks."""
        self._start_time: float | None = None
        """Time at which the measurement of the steps began; None outside of them."""
        self._last_sync_step = 0
        self.checkpoint_manager: CheckpointManager | None = None
        self.profiler: StepProfiler | None = None
        if components.output_dir is not None:
            self.checkpoint_manager = CheckpointManager(
                components.output_dir.checkpoints, components.trainer, components.writer
            )
            weights = sum(4 * math.prod(weight.shape) for weight in components.networks.training.weights)
            self.checkpoint_manager.check_disk_space(variables.nbytes(components.model), weights)
            if components.trainer.profile:
                self.profiler = StepProfiler(components.output_dir.tensorboard)

    def run(self) -> None:
        """Train the remaining epochs.

        Raises:
            Interrupted: after a signal; the state is saved.
            TrainingError: if the loss or a gradient becomes non-finite.
        """
        set_position(self.state.training_position)
        try:
            self._run_sanity_check()
            self.components.interrupt.check()
            if not self._is_finished:
                if self.state.metrics is None:
                    self.components.feed.open(self.state.global_step)  # builds batches while the step is compiled
                self.device_usage.analyze()
                self.components.interrupt.check()
            self._begin_training()
            while not self._is_finished:
                if self.state.metrics is None:
                    self._train_until_evaluation()
                self._callbacks_before_evaluation = self.components.callbacks.state()
                self.evaluation.run(self.state)
                self._callbacks_before_evaluation = None
                self.state.complete_evaluation()
                self.context.logged.clear()
                self._save_after_evaluation()
                self._report_checkpoints()
                if not self._is_finished:
                    self.components.interrupt.check()
        except BaseException as raised:
            error = self.components.interrupt.restore_exception(raised)
            if isinstance(error, Interrupted) and error.forced:
                self.components.interrupt.mark_unwound()
            self._save_on_exit(error)
            if not self.components.interrupt.is_forced:
                self.components.callbacks.on_exception(self.context, error)
            if error is not raised:
                raise error from raised
            raise
        finally:
            self._close()
        self._report_checkpoints()
        self.components.interrupt.disarm()

    def _begin_training(self) -> None:
        """Begin or resume the work of callbacks, and restore the metrics of a resumed epoch."""
        self.components.callbacks.call("on_train_begin", self.context)
        if self.resume_state is not None:
            self.resume_state.restore_callbacks(self.components, self.context)
            self.components.model.reset_metrics()
            if self.state.step and not self.state.is_epoch_complete:
                self.resume_state.restore_epoch_metrics(self.components.model)
            if not self._is_evaluation_due:  # any more, because its interval was changed
                self.state.metrics = None

    @property
    def _is_finished(self) -> bool:
        is_last = self.state.epoch >= self.components.trainer.epochs
        return is_last or bool(self.components.selection.stop_reason)

    def _train_until_evaluation(self) -> None:
        """Run the steps up to the next evaluation, which is that of the epoch or a validation within it."""
        self._begin_steps()
        while not self._is_evaluation_due:
            try:
                self._run_executions()
            except Exception as error:
                if not self._disable_xla_if_unsupported(error):
                    self.non_finite.explain(error, self.state.epoch + 1, self._read_completed_steps)
                    raise
        if self.profiler is not None:
            self.profiler.on_steps_end()
        self._complete_steps()

    @property
    def _is_evaluation_due(self) -> bool:
        return self.state.is_epoch_complete or bool(self.components.validations.due_at(self.state))

    def _run_executions(self) -> None:
        """Run executions until an evaluation is due."""
        components, is_due = self.components, False
        data, executions = components.feed.open(self.state.global_step)
        while not is_due:
            num_steps = len(executions.popleft())
            if self.profiler is not None:
                self.profiler.on_execution_begin(self.state.global_step + 1)
            components.callbacks.on_execution_begin(self.context)
            results = self.step.run(data, num_steps)
            self.state.step += num_steps
            if components.validations.depend_on_time:
                self._measure_time()
            is_due = self._is_evaluation_due
            self._after_execution(results, is_last=is_due)

    def _begin_steps(self) -> None:
        """Reset the metrics at the beginning of an epoch, and start the clock."""
        model = self.components.model
        if self.state.step == 0:
            model.reset_metrics()
        model.non_finite.steps.assign(self.state.step)
        model.completed_steps.assign(self.state.global_step)
        self._last_sync_step = self.state.global_step
        if self.state.step == 0:
            self.components.interrupt.report_phase("epoch")
            self.components.callbacks.call("on_epoch_begin", self.context)
        self.components.feed.pop_wait_seconds()
        self._start_time = time.perf_counter()

    def _after_execution(self, results: Mapping[str, Any], is_last: bool) -> None:
        """Report progress and save a checkpoint if it is due.

        Args:
            results: averages over the epoch so far.
            is_last: whether an evaluation follows, after which the checkpoint is saved instead.
        """
        step, components = self.state.global_step, self.components
        if self.profiler is not None:
            self.profiler.on_execution_end(step)
        if step - self._last_sync_step >= HOST_SYNC_EVERY_STEPS or is_last:
            self._last_sync_step = step
            if first := int(results[NON_FINITE]):
                self._report_non_finite(first)
            components.progress.update(step, self.state.epoch + 1, float(results["loss"]))
        components.callbacks.on_execution_end(self.context, lambda: select_logged_metrics(results))
        self._report_checkpoints()
        components.writer.raise_pending_error()
        if self.checkpoint_manager is not None and not is_last and self.checkpoint_manager.is_due(self.state):
            self._save_checkpoint()
        components.interrupt.report_phase("step")
        # Not after the last step: the metrics of the epoch are collected first, since no checkpoint could restore
        # them after the end of an epoch; signals are checked again after that.
        if not is_last:
            components.interrupt.check()

    def _complete_steps(self) -> None:
        """Collect the training metrics for the evaluation that follows."""
        self._measure_time()
        self._start_time = None
        self.step.sync_to_model()
        results = {name: float(value) for name, value in self.components.model.metric_results().items()}
        values = select_logged_metrics(results)
        if self.non_finite.count_skipped() == self.state.step:
            values = dict.fromkeys(values, math.nan)  # all steps were skipped: nothing to average
        if self.state.is_epoch_complete:
            self.non_finite.log_skipped(self.state.epoch + 1)
        if GRADIENT_NORM in results:
            values[GRADIENT_NORM] = results[GRADIENT_NORM]
        self.state.metrics = values

    def _measure_time(self) -> None:
        """Add the time since the last call to the duration of the steps."""
        if self._start_time is not None:
            now = time.perf_counter()
            self.state.seconds += now - self._start_time
            self.state.waited += self.components.feed.pop_wait_seconds()
            self._start_time = now

    def _report_non_finite(self, first: int) -> None:
        self.step.sync_to_model()
        self.non_finite.check(self.state.epoch + 1, first)

    def _run_sanity_check(self) -> None:
        if not self.components.trainer.sanity_check or self.state.epoch >= self.components.trainer.epochs:
            return
        try:
            run_sanity_check(self.components)
        except Exception as error:
            if not self._disable_xla_if_unsupported(error):
                raise
            run_sanity_check(self.components)

    def _disable_xla_if_unsupported(self, error: Exception) -> bool:
        """Compile the step without XLA if XLA caused the error and no step is lost; return whether it did."""
        components = self.components
        if (
            components.trainer.jit_compile
            or not is_xla_unsupported_error(error)
            or self._read_completed_steps() != self.state.step
        ):
            return False
        logger.debug("%s", error)
        logger.warning(
            "XLA compilation failed; falling back to jit_compile=False (slower). Set --trainer.jit_compile false to "
            "silence this warning."
        )
        self.step = self.context.train_step = components.compile_step(jit_compile=False)
        return True

    def _read_completed_steps(self) -> int:
        """Return the completed steps of the epoch from the counter of the compiled steps, exact after any exception."""
        self.step.sync_to_model()
        return int(keras.ops.convert_to_numpy(self.components.model.non_finite.steps.value))

    def _save_after_evaluation(self) -> None:
        manager, state = self.checkpoint_manager, self.state
        is_best = state.position in self.components.selection.best_checkpoints.positions
        if manager is not None and (self._is_finished or is_best or manager.is_due(state)):
            self._save_checkpoint()

    def _report_checkpoints(self) -> None:
        """Run the hook of callbacks for the checkpoints that have been written."""
        for path in self.checkpoint_manager.pop_written() if self.checkpoint_manager is not None else ():
            self.components.callbacks.call("on_checkpoint", self.context, path)

    def _save_checkpoint(self) -> None:
        assert self.checkpoint_manager is not None
        components, state = self.components, self.state
        assert components.output_dir is not None
        components.writer.wait(max_pending=1)  # bounds the number of copies of the state
        if state.step and not state.is_epoch_complete:
            self.step.sync_to_model()
            self._report_non_finite(int(components.model.non_finite.result()))
            self._measure_time()
        else:  # drop the metrics of a validation, whose number of steps depends on the steps per execution
            components.model.reset_metrics()
        saved_state = SavedState(
            batching=batching_signature(components.loader),
            stream=components.loader.stream_state(state.global_step),
            steps_per_execution=components.steps_per_execution,
            pads_lengths=components.pads_lengths,
            schedule_begin=self.schedule_begin,
            schedule_offset=components.lr_schedule.offset,
            seconds=state.seconds,
            waited=state.waited,
            evaluated_step=state.evaluated_step,
            evaluated_seconds=state.evaluated_seconds,
            metrics=state.metrics,
            history=list(components.recorder.history.rows),  # a copy: a thread writes it during the next epoch
            selection=components.selection.state(),
            callbacks=self._callbacks_before_evaluation or components.callbacks.state(),
            logged=dict(self.context.logged),
        )
        content = CheckpointData(
            arrays=variables.capture(components.model, components.writer.buffers),
            state=saved_state,
            params=make_paths_relative(components.scenario, components.output_dir.path).to_dict(),
        )
        self.checkpoint_manager.save(state.position, content, components.selection.best_checkpoints.positions)
        if self.uploader is not None:
            components.writer.submit(self.uploader.submit)
        self._saved_state = dataclasses.replace(state)

    def _save_on_exit(self, error: BaseException) -> None:
        """Save the state after an interruption or an exception, provided that no step was in progress.

        That is the case after a signal, after an error of the data pipeline (a step starts once its batches are
        available), of a callback or of the thread that writes exports and checkpoints, and during an evaluation
        (validation and export do not change the state).
        """
        is_between_steps = (
            isinstance(error, Interrupted)
            or self.state.metrics is not None
            or self.components.feed.has_failed
            or self.components.callbacks.has_raised
            or self.components.writer.has_failed
        )
        is_forced = isinstance(error, Interrupted) and error.forced
        if self.checkpoint_manager is None or self.components.output_dir is None or is_forced or not is_between_steps:
            return
        if isinstance(error, OutputDirLostError):
            return
        try:
            self._commit_interrupted_execution()
            # At the start position the metrics of a resumed epoch may not be restored yet; its checkpoint has them.
            if not self.state.is_at(self._saved_state):
                self._save_checkpoint()
                self.components.writer.wait()
        except Exception as failure:
            if isinstance(error, Interrupted):
                raise
            logger.warning("failed to save the state: %s", failure)
        else:
            position = self.state.position
            start = "start from the beginning; no step was trained"
            action = start if position == Position(0, 0) else f"continue after {position}"
            error.add_note(f"Run `resume-training {self.components.output_dir.path}` to {action}.")

    def _commit_interrupted_execution(self) -> None:
        """Count the steps of an execution that an exception ended."""
        if self._start_time is None:  # no steps are running
            return
        self.state.step = self._read_completed_steps()
        if self.state.is_epoch_complete:
            self._complete_steps()

    def _close(self) -> None:
        self.components.progress.close()
        if self.profiler is not None:
            self.profiler.close()
        # An immediate stop does not wait: the disk that a checkpoint is written to may be what hangs.
        if not self.components.interrupt.is_forced:
            self.components.writer.wait()
