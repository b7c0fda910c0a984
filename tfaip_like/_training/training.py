"""One training, from a scenario to the last export."""

from __future__ import annotations

import dataclasses
import logging
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tfaip_like._export.formats import check_formats
from tfaip_like._keras_ext.extended_optimizer import keep_averages
from tfaip_like._runs.output_dir import Hold, OutputDir, OutputDirLostError
from tfaip_like._training.checkpointing.checkpoints import all_checkpoints
from tfaip_like._training.components import Parts, parts_of
from tfaip_like._training.devices import Devices
from tfaip_like._training.initialization.saved_weights import weights_file
from tfaip_like._training.kept_data import keep_data
from tfaip_like._training.loop import Loop
from tfaip_like._training.provenance import RunRecord
from tfaip_like._training.reporter import last_report
from tfaip_like._training.result import TrainResult
from tfaip_like._training.resume import Resumed, find_state, tell_changes
from tfaip_like._training.run_info import record_plan, tell_plan
from tfaip_like._training.selection.comparison import read_earlier_history
from tfaip_like._user_code.trust import record_code
from tfaip_like._utils.code_origin import users_files
from tfaip_like._utils.console import log_to_file
from tfaip_like._utils.errors import Interrupted, TrainingError, UsageError, counted
from tfaip_like._utils.files import patiently
from tfaip_like._utils.interruption import Probe, catch_interrupts
from tfaip_like._utils.json_files import write_json
from tfaip_like._utils.temporary import temporary_directory
from tfaip_like.data._sample import Mode
from tfaip_like.params._given import NOTHING_GIVEN, Given
from tfaip_like.params._resources import check_resources, relative_to
from tfaip_like.params._store import write_params
from tfaip_like.params._tree import changed_flags
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Resume

logger = logging.getLogger(__name__)

ACKNOWLEDGEMENT = "stopping after the running step; Ctrl-C (again) stops at once, without saving"


def run_training(
    scenario: Scenario,
    devices: Devices,
    resume: Resume | None = None,
    given: Given = NOTHING_GIVEN,
    probe: Probe | None = None,
) -> TrainResult:
    """Train a checked scenario, in a new folder or on with the run in its folder. See `tfaip_like._training`.

    Args:
        given: by flag; what turns out to have no effect is refused.
        probe: called with each phase that is reached.
    """
    _check_that_batches_can_be_shared(scenario, devices)
    scenario = _with_seed(scenario)
    check_resources(scenario)
    check_formats(scenario.trainer.export_formats, "--trainer.export_formats")
    _check_earlier_runs(scenario, is_new=resume is None)
    folder = OutputDir(scenario.trainer.output_dir) if scenario.trainer.output_dir else None
    with ExitStack() as stack:
        resumed, record, hold = None, None, None
        if folder is not None:
            hold = stack.enter_context(folder.held(go_on=resume is not None))
            stack.enter_context(log_to_file(folder.train_log))
            if scenario.trainer.checkpoint_dir is not None:
                _place_checkpoints(folder, scenario.trainer.checkpoint_dir, given)
            record_code(users_files())
            resumed = _resumed(folder, scenario, resume) if resume is not None else None
            record = stack.enter_context(_recorded(folder, hold, scenario, resumed))
        else:
            logger.warning("nothing of this run is kept: no --trainer.output_dir is given")
        devices.tell()
        resources = folder.resources if folder else stack.enter_context(temporary_directory())
        interrupt = stack.enter_context(catch_interrupts(ACKNOWLEDGEMENT, probe))
        if hold is not None:
            interrupt.checks.append(hold.check_now_and_then)
        if resumed is None:
            resources.mkdir(exist_ok=True)
            prepared, source = scenario.with_training_source(resources)
            given.refuse_changed(scenario, prepared, "what is learnt from the data (`prepared`)")
            scenario = prepared
            if not any(resources.iterdir()):
                resources.rmdir()
        else:  # what was learnt from the data is in its parameters
            source = scenario.samples(Mode.TRAIN)
        params = relative_to(scenario, folder.path) if folder is not None else scenario
        if folder is not None and resumed is None:
            write_params(params, folder.trainer_params)
        parts = stack.enter_context(parts_of(scenario, source, folder, interrupt, devices, resumed, given))
        if folder is not None and resumed is not None:  # only now: parameters that do not fit must not stay
            resumed.set_aside_later(folder)
            write_params(params, folder.trainer_params)  # after that: who reads them need not ask for the epoch again
            resumed.restore_best(parts.model, parts.epoch_end)
        if record is not None:
            record_plan(parts, record)
        return _train(parts, resumed)


def _place_checkpoints(folder: OutputDir, place: Path, given: Given) -> None:
    folder.keep_checkpoints_below(place)
    found = folder.checkpoints.resolve()
    if not found.is_relative_to(place.resolve()):
        given.warn(("trainer", "checkpoint_dir"), f"this run has its checkpoints in {found}")


def _check_that_batches_can_be_shared(scenario: Scenario, devices: Devices) -> None:
    size, count = scenario.train.batch_size, len(devices.gpus)
    if count > 1 and size % count:
        raise UsageError(
            f"--train.batch_size {size}: cannot be divided among {count} GPUs; "
            f"{-(-size // count) * count} can, and every multiple of {count}"
        )


def _check_earlier_runs(scenario: Scenario, is_new: bool) -> None:
    """Raise `UsageError` for an earlier run that cannot be read, before a folder is made for this one."""
    if scenario.trainer.compare_to is not None:
        read_earlier_history(scenario.trainer.compare_to)
    if scenario.warmstart.model is not None and is_new:
        weights_file(scenario.warmstart.model)


def _resumed(folder: OutputDir, scenario: Scenario, resume: Resume) -> Resumed | None:
    """The state that the run goes on from; None where it was killed before the first."""
    resumed = find_state(folder, resume)
    if resumed is None:
        ended = folder.record()
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


def _train(parts: Parts, resumed: Resumed | None) -> TrainResult:
    """Trains what is left to train; leaves the last model and the outcome."""
    if resumed is not None and (done := resumed.checkpoint.position.epoch) >= parts.trainer.epochs:
        logger.info("all %s are done already; --trainer.epochs trains more", counted(done, "epoch"))
    if parts.epoch_end.stop_reason:
        logger.info("stopped early already: %s; other --early_stopping.* train more", parts.epoch_end.stop_reason)
    tell_plan(parts)
    if parts.trainer.keep_data and parts.folder is not None and resumed is None:
        _keep_data(parts, parts.folder)
    try:
        with parts.epoch_end.tensorboard:
            Loop(parts, resumed).run()
    except Interrupted:
        if rows := parts.epoch_end.history.rows:
            logger.info("stopped after %s", counted(len(rows), "epoch"))
            with suppress(Interrupted):  # it does not wait for room on a full disk
                _write_summary(parts)
        raise
    parts.epoch_end.export()
    if parts.epoch_end.best.epoch is None:
        _warn_of_no_best(parts)
    elif parts.folder is not None and not parts.folder.best.exists():
        logger.warning("%s was deleted while the training ran", parts.folder.best)
    keep_averages(parts.optimizer)  # in the network that is returned, as in the exports
    _write_summary(parts)
    return _result(parts)


def _keep_data(parts: Parts, folder: OutputDir) -> None:
    check = parts.interrupt.check
    patiently(
        folder.path,
        lambda: keep_data(folder, "train", parts.batches.samples, parts.batches.first_epoch(), check),
        check,
    )
    if (validate := parts.epoch_end.validate) is not None:
        batches = validate.batches
        patiently(folder.path, lambda: keep_data(folder, "val", batches.samples, batches.once(), check), check)


def _warn_of_no_best(parts: Parts) -> None:
    monitor = parts.epoch_end.best.monitor
    where = f"; the model of the last epoch is in {parts.folder.export}" if parts.folder is not None else ""
    logger.warning(
        "No epoch is the best, so there is no best/: %s was NaN in every epoch%s. Check what computes it, or choose "
        "another --early_stopping.monitor.",
        monitor,
        where,
    )


def _result(parts: Parts) -> TrainResult:
    return TrainResult(
        history=parts.epoch_end.history.rows,
        best_epoch=parts.epoch_end.best.epoch,
        best_value=parts.epoch_end.best.value,
        network=parts.networks.prediction,
        stopped_early=parts.epoch_end.stop_reason,
    )


def _write_summary(parts: Parts) -> None:
    best = parts.epoch_end.best
    if best.epoch is not None:
        logger.info("best epoch %d: %s %.4g", best.epoch, best.monitor, best.value)
    folder = parts.folder
    if folder is None:
        logger.warning("nothing of this run was kept: no --trainer.output_dir was given")
        return
    summary = {
        "best": {"epoch": best.epoch, "monitor": best.monitor, "mode": best.mode, "value": best.value},
        "stopped_early": parts.epoch_end.stop_reason,
        "last": parts.epoch_end.history.rows[-1],
        "parameters": changed_flags(parts.scenario),
    }
    patiently(
        folder.path,
        lambda: write_json(folder.summary, summary),
        parts.interrupt.check,
    )
    logger.info("results are in %s", folder.path)


def _with_seed(scenario: Scenario) -> Scenario:
    """The scenario with a seed, drawn where none is given: every run can be repeated."""
    if scenario.trainer.random_seed is not None:
        return scenario
    trainer = dataclasses.replace(scenario.trainer, random_seed=secrets.randbelow(2**32))
    return dataclasses.replace(scenario, trainer=trainer)


@contextmanager
def _recorded(folder: OutputDir, hold: Hold, scenario: Scenario, resumed: Resumed | None) -> Iterator[RunRecord]:
    """Keeps `run.json`, the log and the report true, however the training ends.

    Raises:
        OutputDirLostError: instead of any other exception when the folder is no longer there; nothing is written then.
    """
    record = RunRecord(folder, scenario)
    if resumed is None:
        record.begin_run()
    else:
        record.goes_on(str(resumed.checkpoint.position), tell_changes(folder, resumed, scenario))
    try:
        with _reason_of_a_lost_folder(hold):
            yield record
    except OutputDirLostError as error:
        logger.error("%s", error, extra={"file_only": True})
        raise
    except (Interrupted, KeyboardInterrupt) as interrupt:
        logger.warning(
            "%s", "; ".join([str(interrupt), *getattr(interrupt, "__notes__", [])]), extra={"file_only": True}
        )
        latest = max((checkpoint.position for checkpoint in all_checkpoints(folder.checkpoints)), default=None)
        record.end("stopped", error=str(interrupt) or "Ctrl-C", checkpoint=latest and str(latest))
        raise
    except (UsageError, TrainingError) as error:
        record.end("failed", error=str(error))
        logger.error("%s", error, extra={"file_only": True})
        raise
    except BaseException as error:
        logger.error("the training failed", exc_info=True, extra={"file_only": True})
        record.end("failed", error=f"{type(error).__name__}: {error}")
        error.add_note(f"The whole traceback is in {folder.train_log}.")
        raise
    else:
        record.end("done")
    finally:
        if not hold.is_lost():
            last_report(folder)


@contextmanager
def _reason_of_a_lost_folder(hold: Hold) -> Iterator[None]:
    """Raise what has become of the output folder in place of what followed from it: files that are not found, say."""
    try:
        yield
    except BaseException:  # also of a signal
        hold.check()
        raise
