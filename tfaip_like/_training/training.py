"""One training run, from a scenario to the last export."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import keras

from tfaip_like._export.exporting import check_exporters
from tfaip_like._keras_ext.extended_optimizer import finalize_averaged_weights
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.output_dir_lock import OutputDirLock, OutputDirLostError, lock_output_dir
from tfaip_like._runs.reader import Run
from tfaip_like._runs.run_files import RUN_SUMMARY_FORMAT, RunSummary, format_row_place
from tfaip_like._training.automatic_params import with_batch_size, with_learning_rate, with_random_seed
from tfaip_like._training.checkpointing.checkpoints import list_checkpoints
from tfaip_like._training.checkpointing.run_uploader import RunUploader, upload_run
from tfaip_like._training.component_builder import build_components
from tfaip_like._training.components import TrainingComponents
from tfaip_like._training.device_usage import DeviceUsage
from tfaip_like._training.devices import Devices
from tfaip_like._training.evaluation import export_last
from tfaip_like._training.initialization.saved_weights import find_weights_file
from tfaip_like._training.loggers.training_loggers import TrainingLoggers, check_logger_packages
from tfaip_like._training.loop import TrainingLoop
from tfaip_like._training.out_of_memory import explain_out_of_memory
from tfaip_like._training.provenance import RunMetadata
from tfaip_like._training.reporter import write_final_report
from tfaip_like._training.result import TrainResult
from tfaip_like._training.resume import ResumeState, load_resume_state, log_param_changes
from tfaip_like._training.run_info import log_training_summary, record_training_info
from tfaip_like._training.selection.comparison import read_reference_history
from tfaip_like._training.used_data import write_used_data
from tfaip_like._user_code.trust import record_trusted_code
from tfaip_like._utils.code_origin import imported_user_files
from tfaip_like._utils.console import log_to_file
from tfaip_like._utils.errors import Interrupted, TrainingError, UsageError, format_bytes, pluralize
from tfaip_like._utils.files import retry_while_disk_full
from tfaip_like._utils.interruption import PhaseHook, graceful_shutdown_signals
from tfaip_like._utils.operating_system import require_posix
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like.data._sample import Mode
from tfaip_like.params._files import write_params
from tfaip_like.params._ignored_flags import NO_EXPLICIT_FLAGS, ExplicitFlags
from tfaip_like.params._resources import check_resources, make_paths_relative
from tfaip_like.params._tree import non_default_flags
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Resume

logger = logging.getLogger(__name__)

INTERRUPT_MESSAGE = "stopping after the current step; press Ctrl-C again to stop immediately without saving"


def run_training(
    scenario: Scenario,
    devices: Devices,
    resume: Resume | None = None,
    explicit_flags: ExplicitFlags = NO_EXPLICIT_FLAGS,
    phase_hook: PhaseHook | None = None,
    keras_callbacks: Sequence[keras.callbacks.Callback] = (),
) -> TrainResult:
    """Train a validated scenario in a new run directory, or resume the run in its directory. See `tfaip_like.train`.

    Args:
        scenario: validated scenario.
        devices: configured compute devices.
        resume: how to resume; None starts a new run.
        explicit_flags: parameters set on the command line, for which having no effect is an error.
        phase_hook: called with each phase that is reached.
        keras_callbacks: callbacks of Keras, in addition to those of the scenario.
    """
    require_posix("training")
    _check_batch_size_divisible(scenario, devices)
    scenario = with_random_seed(scenario)
    check_resources(scenario)
    check_exporters(scenario.exporters)
    check_logger_packages(scenario.loggers)
    _validate_referenced_runs(scenario, is_new=resume is None)
    output_dir = OutputDir(scenario.trainer.output_dir) if scenario.trainer.output_dir else None
    with ExitStack() as stack:
        resume_state, metadata, lock = None, None, None
        range_test, uploader = None, None
        if output_dir is not None:
            lock = stack.enter_context(lock_output_dir(output_dir, resume=resume is not None))
            stack.enter_context(log_to_file(output_dir.train_log))
            if scenario.trainer.checkpoint_dir is not None:
                _set_checkpoint_dir(output_dir, scenario.trainer.checkpoint_dir, explicit_flags)
            record_trusted_code(imported_user_files())
            resume_state = _load_resume_state(output_dir, scenario, resume) if resume is not None else None
            if scenario.trainer.mirror_to is not None:
                mirror_to = scenario.trainer.mirror_to
                uploader = stack.enter_context(upload_run(output_dir, mirror_to, is_new=resume is None))
            metadata = stack.enter_context(_track_run_status(output_dir, lock, scenario, resume_state))
        else:
            logger.warning("no --trainer.output_dir given; results will not be saved")
        devices.log_summary()
        resources = output_dir.resources if output_dir else stack.enter_context(temporary_directory())
        interrupt = stack.enter_context(graceful_shutdown_signals(INTERRUPT_MESSAGE, phase_hook))
        if lock is not None:
            interrupt.checks.append(lock.check_periodically)
        if resume_state is None:
            resources.mkdir(exist_ok=True)
            prepared, source = scenario.prepare_for_training(resources)
            explicit_flags.reject_overridden(scenario, prepared, "`adapt`")
            scenario = prepared
            if not any(resources.iterdir()):
                resources.rmdir()
            scenario = with_batch_size(scenario, devices, interrupt)
            scenario, range_test = with_learning_rate(scenario, devices, interrupt, explicit_flags)
        else:  # its parameters include the results of `adapt`
            source = scenario.select_source(Mode.TRAIN)
        params = make_paths_relative(scenario, output_dir.path) if output_dir is not None else scenario
        if output_dir is not None and resume_state is None:
            write_params(params, output_dir.trainer_params)
        stack.enter_context(explain_out_of_memory(scenario))
        components = stack.enter_context(
            build_components(
                scenario, source, output_dir, interrupt, devices, resume_state, explicit_flags, keras_callbacks
            )
        )
        if output_dir is not None and resume_state is not None:  # last, so that invalid parameters are never written
            resume_state.supersede_later_checkpoints(output_dir)
            # After the checkpoints: a process killed in between resumes from the chosen epoch all the same.
            write_params(params, output_dir.trainer_params)
            resume_state.restore_best(components)
        if metadata is not None:
            record_training_info(components, metadata)
            if range_test is not None:
                metadata.update(learning_rate_test=dataclasses.asdict(range_test))
        result = _train(components, resume_state, uploader)
        if metadata is not None:
            metadata.update(epoch_ends=components.recorder.epoch_ends)
        return result


def _set_checkpoint_dir(output_dir: OutputDir, checkpoint_dir: Path, explicit_flags: ExplicitFlags) -> None:
    output_dir.link_checkpoints_to(checkpoint_dir)
    actual_dir = output_dir.checkpoints.resolve()
    if not actual_dir.is_relative_to(checkpoint_dir.resolve()):
        explicit_flags.warn(("trainer", "checkpoint_dir"), f"the checkpoints of this run are in {actual_dir}")


def _check_batch_size_divisible(scenario: Scenario, devices: Devices) -> None:
    size, count = scenario.train.batch_size, len(devices.gpus)
    if count > 1 and size != "auto" and size % count:
        raise UsageError(
            f"--train.batch_size {size} must be divisible by the number of GPUs ({count}), "
            f"e.g. {-(-size // count) * count}"
        )


def _validate_referenced_runs(scenario: Scenario, is_new: bool) -> None:
    """Raise `UsageError` for an unreadable reference run before a run directory is created."""
    if scenario.trainer.compare_to is not None:
        read_reference_history(scenario.trainer.compare_to)
    if scenario.warmstart.model is not None and is_new:
        find_weights_file(scenario.warmstart.model)


def _load_resume_state(output_dir: OutputDir, scenario: Scenario, resume: Resume) -> ResumeState | None:
    """Return the state to resume from; None if the run was killed before its first checkpoint."""
    resume_state = load_resume_state(output_dir, resume)
    if resume_state is None:
        info = Run(output_dir).info
        had_checkpoint = info.get("status") == "done" or (info.get("status") == "stopped" and info.get("checkpoint"))
        if had_checkpoint and output_dir.history.exists():
            raise UsageError(
                f"{output_dir.checkpoints}: no checkpoint left to resume from;\n"
                f"use --warmstart.model {output_dir.path} to start a new run, in another directory, with its weights"
            )
        logger.warning("no checkpoint found; starting from scratch")
        return None
    if (epochs := resume_state.checkpoint.position.epoch) > scenario.trainer.epochs:
        raise UsageError(f"--trainer.epochs {scenario.trainer.epochs}: the run has already completed {epochs} epochs")
    logger.info("resuming after %s", resume_state.checkpoint.position)
    return resume_state


def _train(
    components: TrainingComponents, resume_state: ResumeState | None, uploader: RunUploader | None
) -> TrainResult:
    """Train the remaining epochs; write the last export and the summary."""
    if resume_state is not None and (epochs := resume_state.checkpoint.position.epoch) >= components.trainer.epochs:
        logger.info("training already finished (%s); increase --trainer.epochs to continue", pluralize(epochs, "epoch"))
    if components.selection.stop_reason:
        logger.info(
            "training was already stopped early (%s); change --early_stopping to continue",
            components.selection.stop_reason,
        )
    log_training_summary(components)
    if components.trainer.keep_data and components.output_dir is not None and resume_state is None:
        _write_used_data(components, components.output_dir)
    with _make_loggers(components, resume_state) as loggers:
        return _train_and_export(components, loggers, resume_state, uploader)


def _make_loggers(components: TrainingComponents, resume_state: ResumeState | None) -> TrainingLoggers:
    recorder, best_epoch = components.recorder, components.selection.best.epoch
    history = [recorder.to_logged_epoch(row, row["epoch"] == best_epoch) for row in recorder.history.rows]
    return TrainingLoggers(
        components.scenario,
        components.output_dir,
        recorder.prefixes,
        components.interrupt,
        history,
        branches=resume_state is not None and resume_state.settings.is_rewind,
    )


def _train_and_export(
    components: TrainingComponents,
    loggers: TrainingLoggers,
    resume_state: ResumeState | None,
    uploader: RunUploader | None,
) -> TrainResult:
    loop = TrainingLoop(components, loggers, resume_state, uploader)
    try:
        with explain_out_of_memory(components.scenario, loop.device_usage.estimate_batch_size):
            loop.run()
    except Interrupted:
        if rows := components.recorder.history.rows:
            logger.info("stopped after %s", format_row_place(rows[-1]))
            with suppress(Interrupted):  # raised instead of waiting for space on a full disk
                _write_summary(components, loop.device_usage)
        raise
    export_last(components)
    if components.selection.best.epoch is None:
        _warn_no_best_epoch(components)
    elif components.output_dir is not None and not components.output_dir.best.exists():
        logger.warning("%s was deleted during training", components.output_dir.best)
    finalize_averaged_weights(components.optimizer)  # the returned network has the same weights as the exports
    _write_summary(components, loop.device_usage)
    components.callbacks.call("on_train_end", loop.context)
    return _make_result(components)


def _write_used_data(components: TrainingComponents, output_dir: OutputDir) -> None:
    check = components.interrupt.check
    retry_while_disk_full(
        output_dir.path,
        lambda: write_used_data(
            output_dir,
            "train",
            components.loader.samples,
            components.loader.iter_batches(0, components.loader.steps_per_epoch),
            check,
        ),
        check,
    )
    if (validation := components.validations.validation) is not None:
        loader = validation.loader
        retry_while_disk_full(
            output_dir.path,
            lambda: write_used_data(output_dir, "val", loader.samples, loader.iter_pass(), check),
            check,
        )


def _warn_no_best_epoch(components: TrainingComponents) -> None:
    monitor = components.selection.best.monitor
    last = (
        f"; the model of the last epoch is in {components.output_dir.export}"
        if components.output_dir is not None
        else ""
    )
    logger.warning(
        "no best epoch and no best/: %s was %s%s. Check its computation, or choose another metric with "
        "--early_stopping.monitor.",
        monitor,
        "NaN in every epoch" if any(monitor in row for row in components.recorder.history.rows) else "never logged",
        last,
    )


def _make_result(components: TrainingComponents) -> TrainResult:
    return TrainResult(
        history=components.recorder.history.rows,
        best_epoch=components.selection.best.epoch,
        best_value=components.selection.best.value,
        network=components.networks.prediction,
        stopped_early=components.selection.stop_reason,
        output_dir=components.output_dir.path if components.output_dir is not None else None,
    )


def _write_summary(components: TrainingComponents, device_usage: DeviceUsage) -> None:
    best, peak_mb = components.selection.best, device_usage.peak_memory_mb()
    if best.epoch is not None:
        logger.info("best %s: %s %.4g", best.place, best.monitor, best.value)
    peaks = ", ".join(f"{format_bytes(1e6 * size)} ({place})" for place, size in peak_mb.items())
    logger.info("Peak memory: %s", peaks)
    output_dir = components.output_dir
    if output_dir is None:
        logger.warning("no --trainer.output_dir given; results were not saved")
        return
    summary: RunSummary = {
        "best": {
            "monitor": best.monitor,
            "mode": best.mode,
            "value": best.value,
            "epoch": best.epoch,
            "step": best.step,
        },
        "stopped_early": components.selection.stop_reason,
        "last": components.recorder.history.rows[-1],
        "parameters": non_default_flags(components.scenario),
        "peak_memory_mb": peak_mb,
    }
    retry_while_disk_full(
        output_dir.path,
        lambda: RUN_SUMMARY_FORMAT.write(output_dir.summary, summary),
        components.interrupt.check,
    )
    logger.info("results saved to %s", output_dir.path)


@contextmanager
def _track_run_status(
    output_dir: OutputDir, lock: OutputDirLock, scenario: Scenario, resume_state: ResumeState | None
) -> Iterator[RunMetadata]:
    """Keep `run.json`, the log and the report up to date, however the training ends.

    Raises:
        OutputDirLostError: instead of any other exception if the run directory was lost; nothing is written then.
    """
    metadata = RunMetadata(output_dir, scenario)
    if resume_state is None:
        metadata.mark_started()
    else:
        metadata.mark_resumed(
            str(resume_state.checkpoint.position), log_param_changes(output_dir, resume_state, scenario)
        )
    try:
        with _raise_if_output_dir_lost(lock):
            yield metadata
    except OutputDirLostError as error:
        logger.error("%s", error, extra={"file_only": True})
        raise
    except (Interrupted, KeyboardInterrupt) as interrupt:
        logger.warning(
            "%s", "; ".join([str(interrupt), *getattr(interrupt, "__notes__", [])]), extra={"file_only": True}
        )
        latest = max((checkpoint.position for checkpoint in list_checkpoints(output_dir.checkpoints)), default=None)
        metadata.mark_finished("stopped", error=str(interrupt) or "Ctrl-C", checkpoint=latest and str(latest))
        raise
    except (UsageError, TrainingError) as error:
        metadata.mark_finished("failed", error=str(error))
        logger.error("%s", error, extra={"file_only": True})
        raise
    except BaseException as error:
        logger.error("the training failed", exc_info=True, extra={"file_only": True})
        metadata.mark_finished("failed", error=f"{type(error).__name__}: {error}")
        error.add_note(f"The full traceback is in {output_dir.train_log}.")
        raise
    else:
        metadata.mark_finished("done")
    finally:
        if not lock.is_lost():
            write_final_report(output_dir)


@contextmanager
def _raise_if_output_dir_lost(lock: OutputDirLock) -> Iterator[None]:
    """Raise `OutputDirLostError` instead of its consequences (such as a missing file)."""
    try:
        yield
    except BaseException:  # also of a signal
        lock.check()
        raise
