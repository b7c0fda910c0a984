"""One training, from a scenario to the last export."""

from __future__ import annotations

import dataclasses
import logging
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tfaip_like._export.formats import check_formats
from tfaip_like._keras_ext.extended_optimizer import finalize_averaged_weights
from tfaip_like._runs.output_dir import OutputDir, OutputDirLock, OutputDirLostError
from tfaip_like._training.checkpointing.checkpoints import list_checkpoints
from tfaip_like._training.components import TrainingComponents, build_components
from tfaip_like._training.devices import Devices
from tfaip_like._training.initialization.saved_weights import find_weights_file
from tfaip_like._training.loop import TrainingLoop
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
from tfaip_like._utils.errors import Interrupted, TrainingError, UsageError, pluralize
from tfaip_like._utils.files import retry_while_disk_full
from tfaip_like._utils.interruption import PhaseHook, graceful_shutdown_signals
from tfaip_like._utils.json_files import write_json
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like.data._sample import Mode
from tfaip_like.params._files import write_params
from tfaip_like.params._ignored_flags import NO_EXPLICIT_FLAGS, ExplicitFlags
from tfaip_like.params._resources import check_resources, make_paths_relative
from tfaip_like.params._tree import non_default_flags
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Resume

logger = logging.getLogger(__name__)

INTERRUPT_MESSAGE = "stopping after the running step; Ctrl-C (again) stops at once, without saving"


def run_training(
    scenario: Scenario,
    devices: Devices,
    resume: Resume | None = None,
    given: ExplicitFlags = NO_EXPLICIT_FLAGS,
    phase_hook: PhaseHook | None = None,
) -> TrainResult:
    """Train a checked scenario, in a new folder or on with the run in its folder. See `tfaip_like._training`.

    Args:
        given: by flag; what turns out to have no effect is refused.
        phase_hook: called with each phase that is reached.
    """
    _check_batch_size_divisible(scenario, devices)
    scenario = _with_random_seed(scenario)
    check_resources(scenario)
    check_formats(scenario.trainer.export_formats, "--trainer.export_formats")
    _validate_referenced_runs(scenario, is_new=resume is None)
    folder = OutputDir(scenario.trainer.output_dir) if scenario.trainer.output_dir else None
    with ExitStack() as stack:
        resumed, record, hold = None, None, None
        if folder is not None:
            hold = stack.enter_context(folder.acquire(resume=resume is not None))
            stack.enter_context(log_to_file(folder.train_log))
            if scenario.trainer.checkpoint_dir is not None:
                _set_checkpoint_dir(folder, scenario.trainer.checkpoint_dir, given)
            record_trusted_code(imported_user_files())
            resumed = _load_resume_state(folder, scenario, resume) if resume is not None else None
            record = stack.enter_context(_track_run_status(folder, hold, scenario, resumed))
        else:
            logger.warning("nothing of this run is kept: no --trainer.output_dir is given")
        devices.log_summary()
        resources = folder.resources if folder else stack.enter_context(temporary_directory())
        interrupt = stack.enter_context(graceful_shutdown_signals(INTERRUPT_MESSAGE, phase_hook))
        if hold is not None:
            interrupt.checks.append(hold.check_periodically)
        if resumed is None:
            resources.mkdir(exist_ok=True)
            prepared, source = scenario.prepare_for_training(resources)
            given.reject_overridden(scenario, prepared, "what is learnt from the data (`adapt`)")
            scenario = prepared
            if not any(resources.iterdir()):
                resources.rmdir()
        else:  # what was learnt from the data is in its parameters
            source = scenario.select_source(Mode.TRAIN)
        params = make_paths_relative(scenario, folder.path) if folder is not None else scenario
        if folder is not None and resumed is None:
            write_params(params, folder.trainer_params)
        components = stack.enter_context(build_components(scenario, source, folder, interrupt, devices, resumed, given))
        if folder is not None and resumed is not None:  # only now: parameters that do not fit must not stay
            resumed.supersede_later_checkpoints(folder)
            write_params(params, folder.trainer_params)  # after that: who reads them need not ask for the epoch again
            resumed.restore_best(components.model, components.epoch_finalizer)
        if record is not None:
            record_training_info(components, record)
        return _train(components, resumed)


def _set_checkpoint_dir(folder: OutputDir, place: Path, given: ExplicitFlags) -> None:
    folder.link_checkpoints_to(place)
    found = folder.checkpoints.resolve()
    if not found.is_relative_to(place.resolve()):
        given.warn(("trainer", "checkpoint_dir"), f"this run has its checkpoints in {found}")


def _check_batch_size_divisible(scenario: Scenario, devices: Devices) -> None:
    size, count = scenario.train.batch_size, len(devices.gpus)
    if count > 1 and size % count:
        raise UsageError(
            f"--train.batch_size {size}: cannot be divided among {count} GPUs; "
            f"{-(-size // count) * count} can, and every multiple of {count}"
        )


def _validate_referenced_runs(scenario: Scenario, is_new: bool) -> None:
    """Raise `UsageError` for an earlier run that cannot be read, before a folder is made for this one."""
    if scenario.trainer.compare_to is not None:
        read_reference_history(scenario.trainer.compare_to)
    if scenario.warmstart.model is not None and is_new:
        find_weights_file(scenario.warmstart.model)


def _load_resume_state(folder: OutputDir, scenario: Scenario, resume: Resume) -> ResumeState | None:
    """The state that the run goes on from; None where it was killed before the first."""
    resumed = load_resume_state(folder, resume)
    if resumed is None:
        ended = folder.read_info()
        had_one = ended.get("status") == "done" or (ended.get("status") == "stopped" and ended.get("checkpoint"))
        if had_one and folder.history.exists():
            raise UsageError(
                f"{folder.checkpoints}: there is no checkpoint any more to go on from;\n"
                f"--warmstart.model {folder.path} begins another run, in another folder, with its weights"
            )
        logger.warning("the run was stopped before its first checkpoint: it begins anew")
        return None
    if (done := resumed.checkpoint.position.epoch) > scenario.trainer.epochs:
        raise UsageError(f"--trainer.epochs {scenario.trainer.epochs}: {done} epochs are done already")
    logger.info("going on after %s", resumed.checkpoint.position)
    return resumed


def _train(components: TrainingComponents, resumed: ResumeState | None) -> TrainResult:
    """Trains what is left to train; leaves the last model and the outcome."""
    if resumed is not None and (done := resumed.checkpoint.position.epoch) >= components.trainer.epochs:
        logger.info("all %s are done already; --trainer.epochs trains more", pluralize(done, "epoch"))
    if components.epoch_finalizer.stop_reason:
        logger.info(
            "stopped early already: %s; other --early_stopping.* train more", components.epoch_finalizer.stop_reason
        )
    log_training_summary(components)
    if components.trainer.keep_data and components.folder is not None and resumed is None:
        _write_used_data(components, components.folder)
    try:
        with components.epoch_finalizer.tensorboard:
            TrainingLoop(components, resumed).run()
    except Interrupted:
        if rows := components.epoch_finalizer.history.rows:
            logger.info("stopped after %s", pluralize(len(rows), "epoch"))
            with suppress(Interrupted):  # it does not wait for room on a full disk
                _write_summary(components)
        raise
    components.epoch_finalizer.export_last()
    if components.epoch_finalizer.best.epoch is None:
        _warn_no_best_epoch(components)
    elif components.folder is not None and not components.folder.best.exists():
        logger.warning("%s was deleted while the training ran", components.folder.best)
    finalize_averaged_weights(components.optimizer)  # in the network that is returned, as in the exports
    _write_summary(components)
    return _make_result(components)


def _write_used_data(components: TrainingComponents, folder: OutputDir) -> None:
    check = components.interrupt.check
    retry_while_disk_full(
        folder.path,
        lambda: write_used_data(
            folder, "train", components.batches.samples, components.batches.iter_first_epoch(), check
        ),
        check,
    )
    if (validation := components.epoch_finalizer.validation) is not None:
        batches = validation.batches
        retry_while_disk_full(
            folder.path, lambda: write_used_data(folder, "val", batches.samples, batches.iter_pass(), check), check
        )


def _warn_no_best_epoch(components: TrainingComponents) -> None:
    monitor = components.epoch_finalizer.best.monitor
    where = f"; the model of the last epoch is in {components.folder.export}" if components.folder is not None else ""
    logger.warning(
        "No epoch is the best, so there is no best/: %s was NaN in every epoch%s. Check what computes it, or choose "
        "another --early_stopping.monitor.",
        monitor,
        where,
    )


def _make_result(components: TrainingComponents) -> TrainResult:
    return TrainResult(
        history=components.epoch_finalizer.history.rows,
        best_epoch=components.epoch_finalizer.best.epoch,
        best_value=components.epoch_finalizer.best.value,
        network=components.networks.prediction,
        stopped_early=components.epoch_finalizer.stop_reason,
    )


def _write_summary(components: TrainingComponents) -> None:
    best = components.epoch_finalizer.best
    if best.epoch is not None:
        logger.info("best epoch %d: %s %.4g", best.epoch, best.monitor, best.value)
    folder = components.folder
    if folder is None:
        logger.warning("nothing of this run was kept: no --trainer.output_dir was given")
        return
    summary = {
        "best": {"epoch": best.epoch, "monitor": best.monitor, "mode": best.mode, "value": best.value},
        "stopped_early": components.epoch_finalizer.stop_reason,
        "last": components.epoch_finalizer.history.rows[-1],
        "parameters": non_default_flags(components.scenario),
    }
    retry_while_disk_full(
        folder.path,
        lambda: write_json(folder.summary, summary),
        components.interrupt.check,
    )
    logger.info("results are in %s", folder.path)


def _with_random_seed(scenario: Scenario) -> Scenario:
    """The scenario with a seed, drawn where none is given: every run can be repeated."""
    if scenario.trainer.random_seed is not None:
        return scenario
    trainer = dataclasses.replace(scenario.trainer, random_seed=secrets.randbelow(2**32))
    return dataclasses.replace(scenario, trainer=trainer)


@contextmanager
def _track_run_status(
    folder: OutputDir, hold: OutputDirLock, scenario: Scenario, resumed: ResumeState | None
) -> Iterator[RunMetadata]:
    """Keeps `run.json`, the log and the report true, however the training ends.

    Raises:
        OutputDirLostError: instead of any other exception when the folder is no longer there; nothing is written then.
    """
    record = RunMetadata(folder, scenario)
    if resumed is None:
        record.mark_started()
    else:
        record.mark_resumed(str(resumed.checkpoint.position), log_param_changes(folder, resumed, scenario))
    try:
        with _raise_if_output_dir_lost(hold):
            yield record
    except OutputDirLostError as error:
        logger.error("%s", error, extra={"file_only": True})
        raise
    except (Interrupted, KeyboardInterrupt) as interrupt:
        logger.warning(
            "%s", "; ".join([str(interrupt), *getattr(interrupt, "__notes__", [])]), extra={"file_only": True}
        )
        latest = max((checkpoint.position for checkpoint in list_checkpoints(folder.checkpoints)), default=None)
        record.mark_finished("stopped", error=str(interrupt) or "Ctrl-C", checkpoint=latest and str(latest))
        raise
    except (UsageError, TrainingError) as error:
        record.mark_finished("failed", error=str(error))
        logger.error("%s", error, extra={"file_only": True})
        raise
    except BaseException as error:
        logger.error("the training failed", exc_info=True, extra={"file_only": True})
        record.mark_finished("failed", error=f"{type(error).__name__}: {error}")
        error.add_note(f"The whole traceback is in {folder.train_log}.")
        raise
    else:
        record.mark_finished("done")
    finally:
        if not hold.is_lost():
            write_final_report(folder)


@contextmanager
def _raise_if_output_dir_lost(hold: OutputDirLock) -> Iterator[None]:
    """Raise what has become of the output folder in place of what followed from it: files that are not found, say."""
    try:
        yield
    except BaseException:  # also of a signal
        hold.check()
        raise
