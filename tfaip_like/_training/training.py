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
    require_posix("training")
    _check_batch_size_divisible(scenario, devices)
    scenario = _with_random_seed(scenario)
    check_resources(scenario)
    check_formats(scenario.trainer.export_formats, "--trainer.export_formats")
    _validate_referenced_runs(scenario, is_new=resume is None)
    output_dir = OutputDir(scenario.trainer.output_dir) if scenario.trainer.output_dir else None
    with ExitStack() as stack:
        resume_state, metadata, lock = None, None, None
        if output_dir is not None:
            lock = stack.enter_context(output_dir.acquire(resume=resume is not None))
            stack.enter_context(log_to_file(output_dir.train_log))
            if scenario.trainer.checkpoint_dir is not None:
                _set_checkpoint_dir(output_dir, scenario.trainer.checkpoint_dir, given)
            record_trusted_code(imported_user_files())
            resume_state = _load_resume_state(output_dir, scenario, resume) if resume is not None else None
            metadata = stack.enter_context(_track_run_status(output_dir, lock, scenario, resume_state))
        else:
            logger.warning("nothing of this run is kept: no --trainer.output_dir is given")
        devices.log_summary()
        resources = output_dir.resources if output_dir else stack.enter_context(temporary_directory())
        interrupt = stack.enter_context(graceful_shutdown_signals(INTERRUPT_MESSAGE, phase_hook))
        if lock is not None:
            interrupt.checks.append(lock.check_periodically)
        if resume_state is None:
            resources.mkdir(exist_ok=True)
            prepared, source = scenario.prepare_for_training(resources)
            given.reject_overridden(scenario, prepared, "`adapt`")
            scenario = prepared
            if not any(resources.iterdir()):
                resources.rmdir()
        else:  # what was learnt from the data is in its parameters
            source = scenario.select_source(Mode.TRAIN)
        params = make_paths_relative(scenario, output_dir.path) if output_dir is not None else scenario
        if output_dir is not None and resume_state is None:
            write_params(params, output_dir.trainer_params)
        components = stack.enter_context(
            build_components(scenario, source, output_dir, interrupt, devices, resume_state, given)
        )
        if output_dir is not None and resume_state is not None:  # only now: parameters that do not fit must not stay
            resume_state.supersede_later_checkpoints(output_dir)
            write_params(
                params, output_dir.trainer_params
            )  # after that: who reads them need not ask for the epoch again
            resume_state.restore_best(components.model, components.epoch_finalizer)
        if metadata is not None:
            record_training_info(components, metadata)
        result = _train(components, resume_state)
        if metadata is not None:
            metadata.update(epoch_ends=components.epoch_finalizer.epoch_ends)
        return result


def _set_checkpoint_dir(output_dir: OutputDir, place: Path, given: ExplicitFlags) -> None:
    output_dir.link_checkpoints_to(place)
    found = output_dir.checkpoints.resolve()
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


def _load_resume_state(output_dir: OutputDir, scenario: Scenario, resume: Resume) -> ResumeState | None:
    """The state that the run goes on from; None where it was killed before the first."""
    resume_state = load_resume_state(output_dir, resume)
    if resume_state is None:
        ended = output_dir.read_info()
        had_one = ended.get("status") == "done" or (ended.get("status") == "stopped" and ended.get("checkpoint"))
        if had_one and output_dir.history.exists():
            raise UsageError(
                f"{output_dir.checkpoints}: there is no checkpoint any more to go on from;\n"
                f"--warmstart.model {output_dir.path} begins another run, in another folder, with its weights"
            )
        logger.warning("the run was stopped before its first checkpoint: it begins anew")
        return None
    if (done := resume_state.checkpoint.position.epoch) > scenario.trainer.epochs:
        raise UsageError(f"--trainer.epochs {scenario.trainer.epochs}: {done} epochs are done already")
    logger.info("going on after %s", resume_state.checkpoint.position)
    return resume_state


def _train(components: TrainingComponents, resume_state: ResumeState | None) -> TrainResult:
    """Trains what is left to train; leaves the last model and the outcome."""
    if resume_state is not None and (done := resume_state.checkpoint.position.epoch) >= components.trainer.epochs:
        logger.info("all %s are done already; --trainer.epochs trains more", pluralize(done, "epoch"))
    if components.epoch_finalizer.stop_reason:
        logger.info(
            "stopped early already: %s; other --early_stopping.* train more", components.epoch_finalizer.stop_reason
        )
    log_training_summary(components)
    if components.trainer.keep_data and components.output_dir is not None and resume_state is None:
        _write_used_data(components, components.output_dir)
    try:
        with components.epoch_finalizer.tensorboard:
            TrainingLoop(components, resume_state).run()
    except Interrupted:
        if rows := components.epoch_finalizer.history.rows:
            logger.info("stopped after %s", pluralize(len(rows), "epoch"))
            with suppress(Interrupted):  # it does not wait for room on a full disk
                _write_summary(components)
        raise
    components.epoch_finalizer.export_last()
    if components.epoch_finalizer.best.epoch is None:
        _warn_no_best_epoch(components)
    elif components.output_dir is not None and not components.output_dir.best.exists():
        logger.warning("%s was deleted while the training ran", components.output_dir.best)
    finalize_averaged_weights(components.optimizer)  # in the network that is returned, as in the exports
    _write_summary(components)
    return _make_result(components)


def _write_used_data(components: TrainingComponents, output_dir: OutputDir) -> None:
    check = components.interrupt.check
    retry_while_disk_full(
        output_dir.path,
        lambda: write_used_data(
            output_dir, "train", components.loader.samples, components.loader.iter_first_epoch(), check
        ),
        check,
    )
    if (validation := components.epoch_finalizer.validation) is not None:
        loader = validation.loader
        retry_while_disk_full(
            output_dir.path,
            lambda: write_used_data(output_dir, "val", loader.samples, loader.iter_pass(), check),
            check,
        )


def _warn_no_best_epoch(components: TrainingComponents) -> None:
    monitor = components.epoch_finalizer.best.monitor
    where = (
        f"; the model of the last epoch is in {components.output_dir.export}"
        if components.output_dir is not None
        else ""
    )
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
    output_dir = components.output_dir
    if output_dir is None:
        logger.warning("nothing of this run was kept: no --trainer.output_dir was given")
        return
    summary = {
        "best": {"epoch": best.epoch, "monitor": best.monitor, "mode": best.mode, "value": best.value},
        "stopped_early": components.epoch_finalizer.stop_reason,
        "last": components.epoch_finalizer.history.rows[-1],
        "parameters": non_default_flags(components.scenario),
    }
    retry_while_disk_full(
        output_dir.path,
        lambda: write_json(output_dir.summary, summary),
        components.interrupt.check,
    )
    logger.info("results are in %s", output_dir.path)


def _with_random_seed(scenario: Scenario) -> Scenario:
    """The scenario with a seed, drawn where none is given: every run can be repeated."""
    if scenario.trainer.random_seed is not None:
        return scenario
    trainer = dataclasses.replace(scenario.trainer, random_seed=secrets.randbelow(2**32))
    return dataclasses.replace(scenario, trainer=trainer)


@contextmanager
def _track_run_status(
    output_dir: OutputDir, lock: OutputDirLock, scenario: Scenario, resume_state: ResumeState | None
) -> Iterator[RunMetadata]:
    """Keeps `run.json`, the log and the report true, however the training ends.

    Raises:
        OutputDirLostError: instead of any other exception when the folder is no longer there; nothing is written then.
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
        error.add_note(f"The whole traceback is in {output_dir.train_log}.")
        raise
    else:
        metadata.mark_finished("done")
    finally:
        if not lock.is_lost():
            write_final_report(output_dir)


@contextmanager
def _raise_if_output_dir_lost(lock: OutputDirLock) -> Iterator[None]:
    """Raise what has become of the output folder in place of what followed from it: files that are not found, say."""
    try:
        yield
    except BaseException:  # also of a signal
        lock.check()
        raise
