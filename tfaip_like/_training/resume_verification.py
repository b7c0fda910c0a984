"""`--verify`: check that interrupted and resumed training is bitwise identical to uninterrupted training."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tfaip_like._runs.output_dir import NONDETERMINISTIC_COLUMNS, OutputDir
from tfaip_like._runs.temporary_runs import mark_temporary_runs
from tfaip_like._training.checkpointing.checkpoints import CheckpointData, list_checkpoints
from tfaip_like._training.devices import Devices, configure_devices
from tfaip_like._training.training import run_training
from tfaip_like._utils.console import console_level
from tfaip_like._utils.errors import Interrupted, TrainingError, UsageError, truncate_list
from tfaip_like._utils.interruption import Phase
from tfaip_like._utils.processes import run_child_process
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like.params._tree import validate_params
from tfaip_like.scenario import Scenario
from tfaip_like.settings._interval import parse_interval

logger = logging.getLogger(__name__)

NUM_EPOCHS = 2
NUM_STEPS = 8
CHECKPOINT_EVERY_STEPS = 3
"""Steps between two checkpoints, each of which ends an execution; not a divisor of the steps per epoch."""

MAX_VALIDATION_STEPS = 5
"""Longest interval of validations within an epoch."""

Interruption = Callable[[Scenario], None]
"""Trains a short scenario and interrupts it before its end."""


class InjectedError(Exception):
    """Exception raised to interrupt a training."""


class _InterruptionProbe:
    """Phase hook that interrupts a training once: in its last epoch, or for the phase "data" after its first step.

    Args:
        phase: phase in which to interrupt.
        interrupt: sends a signal, or raises.
    """

    def __init__(self, phase: Phase, interrupt: Callable[[], None]):
        self._phase = phase
        self._interrupt = interrupt
        self._num_epochs = 0
        self._has_stepped = False
        self.is_done = False

    def __call__(self, phase: Phase) -> None:
        self._num_epochs += phase == "epoch"
        # Data are prefetched, so their epoch is unknown here.
        is_due = self._has_stepped if phase == "data" else self._num_epochs == NUM_EPOCHS
        self._has_stepped |= phase == "step"
        if phase == self._phase and is_due and not self.is_done:
            self.is_done = True
            self._interrupt()


def verify_resume(scenario: Scenario) -> str:
    """Train a few steps, interrupt the same training in several ways, resume each in a new process, and compare.

    Callbacks run as in a training, because they may change it; loggers do not.

    The interruptions are a kill; SIGTERM after a step, while waiting for data and during validation; and an exception
    during validation.

    Returns:
        A report of the comparison.

    Raises:
        TrainingError: if a resumed training differs; names the first variables and values.
        UsageError: if an epoch is too short to be interrupted, or a callback ends the training.
    """
    with temporary_directory() as temp_dir, mark_temporary_runs(), _without_notes_on(temp_dir):
        uninterrupted = OutputDir(Path(temp_dir, "uninterrupted"))
        devices = configure_devices(scenario.device)
        with console_level(logging.ERROR):  # the user need not see the logs of temporary runs
            run_training(_shorten(scenario, uninterrupted.path), devices)
        expected = _read_last_checkpoint(uninterrupted)
        if expected.state.selection.stop_reason:
            raise UsageError(
                f"--verify: a callback ended the training of {NUM_EPOCHS} epochs too early: "
                f"{expected.state.selection.stop_reason};\nverify without it (--callbacks [])"
            )
        validates = any(name.startswith("val_") for name in expected.state.history[-1])
        lines, failures = [], []
        for name, interrupt in _make_interruptions(uninterrupted, devices, validates).items():
            run = OutputDir(Path(temp_dir, name.replace(" ", "_")))
            with console_level(logging.ERROR):
                interrupt(_shorten(scenario, run.path))
            _resume_in_subprocess(run, name)
            if differences := _find_differences(expected, _read_last_checkpoint(run)):
                failures.append(f"{name}: {len(differences)} values differ ({truncate_list(differences, 3)})")
            else:
                lines.append(f"{name}: bitwise identical")
            logger.info("--verify: %s: %s", name, "differs" if differences else "bitwise identical")
    if failures:
        raise TrainingError(
            "--verify: resuming is NOT bitwise reproducible.\n" + "\n".join(failures) + "\n"
            "Common causes: random numbers drawn without keras.random, or a nondeterministic operation on this device."
        )
    lines.append(f"compared {len(expected.arrays)} arrays and the history of {NUM_EPOCHS} epochs")
    return "\n".join(lines)


@contextmanager
def _without_notes_on(temp_dir: Path) -> Iterator[None]:
    """Drop the notes of an exception that name files of a temporary run, which nobody can resume or read."""
    try:
        yield
    except Exception as error:
        notes = getattr(error, "__notes__", [])
        notes[:] = [note for note in notes if str(temp_dir) not in note]
        raise


def _make_interruptions(uninterrupted: OutputDir, devices: Devices, validates: bool) -> dict[str, Interruption]:
    def interrupted_at(phase: Phase, interrupt: Callable[[], None]) -> Interruption:
        def train(scenario: Scenario) -> None:
            probe = _InterruptionProbe(phase, interrupt)
            try:
                run_training(scenario, devices, phase_hook=probe)
            except (Interrupted, InjectedError):
                return
            if not probe.is_done:
                raise _too_short_error()

        return train

    interruptions = {
        "killed": lambda scenario: _simulate_kill(uninterrupted, OutputDir(scenario.trainer.output_dir)),
        "signal after a step": interrupted_at("step", _send_signal),
        "signal while waiting for data": interrupted_at("data", _send_signal),
    }
    if validates:
        interruptions["signal during validation"] = interrupted_at("validation", _send_signal)
        interruptions["exception during validation"] = interrupted_at("validation", _raise_injected_error)
    return interruptions


def _send_signal() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _raise_injected_error() -> None:
    raise InjectedError("raised by --verify")


def _too_short_error() -> UsageError:
    return UsageError(
        f"--verify: an epoch must have more than {CHECKPOINT_EVERY_STEPS} steps; "
        "check --train.batch_size, --train.limit and --trainer.samples_per_epoch"
    )


def _shorten(scenario: Scenario, output_dir: Path) -> Scenario:
    trainer = scenario.trainer
    samples = NUM_STEPS * scenario.train.fixed_batch_size * trainer.accumulate_steps
    trainer = dataclasses.replace(
        trainer,
        epochs=NUM_EPOCHS,
        output_dir=output_dir,
        checkpoint_dir=None,
        mirror_to=None,
        samples_per_epoch=min(samples, trainer.samples_per_epoch or samples),
        steps_per_execution=None
        if trainer.steps_per_execution is None
        else min(trainer.steps_per_execution, NUM_STEPS),
        val_every_n=_shorten_interval(trainer.val_every_n),
        lav_every_n=_shorten_interval(trainer.lav_every_n),
        checkpoint_every=f"{CHECKPOINT_EVERY_STEPS}steps",
        keep_checkpoints=NUM_EPOCHS * NUM_STEPS,
        random_seed=1 if trainer.random_seed is None else trainer.random_seed,
        profile=False,
        sanity_check=False,
    )
    never = dataclasses.replace(scenario.early_stopping, n_to_go=0, lower_threshold=None, upper_threshold=None)
    return validate_params(dataclasses.replace(scenario, trainer=trainer, early_stopping=never, loggers=[]))


def _shorten_interval(interval: int | str) -> int | str:
    """Return an interval that is passed within a short epoch, unless it is in epochs."""
    parsed = parse_interval(interval)
    return (
        interval
        if not parsed or parsed.epochs
        else f"{min(parsed.steps or MAX_VALIDATION_STEPS, MAX_VALIDATION_STEPS)}steps"
    )


def _simulate_kill(run: OutputDir, copy: OutputDir) -> None:
    """Copy a run directory to the state that a kill within the last epoch leaves."""
    shutil.copytree(run.path, copy.path)
    checkpoints = list_checkpoints(copy.checkpoints)
    in_last_epoch = [c for c in checkpoints if c.position.epoch == NUM_EPOCHS - 1 and c.position.step]
    if not in_last_epoch:
        raise _too_short_error()
    latest = in_last_epoch[0]
    for checkpoint in checkpoints:
        if checkpoint.position > latest.position:
            shutil.rmtree(checkpoint.path)
    for export in (copy.best, copy.export):
        shutil.rmtree(export, ignore_errors=True)


def _resume_in_subprocess(run: OutputDir, name: str) -> None:
    command = [sys.executable, "-m", "tfaip_like._cli.resume_training", str(run.path)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    result = run_child_process(command, {**os.environ, "PYTHONPATH": path})
    if result.returncode:
        raise TrainingError(f"--verify, {name}: resuming failed:\n{result.stderr[-2000:]}")


def _read_last_checkpoint(run: OutputDir) -> CheckpointData:
    return list_checkpoints(run.checkpoints)[-1].read()


def _find_differences(expected: CheckpointData, actual: CheckpointData) -> list[str]:
    """Return descriptions of the variables and history values that differ."""
    differences = [
        name.partition(":")[2]
        for name, array in expected.arrays.items()
        if name not in actual.arrays or array.tobytes() != actual.arrays[name].tobytes()
    ]
    for expected_row, row in zip(expected.state.history, actual.state.history, strict=False):
        differences += _compare_history_rows(expected_row, row)
    if len(expected.state.history) != len(actual.state.history):
        differences.append(f"{len(actual.state.history)} epochs instead of {len(expected.state.history)}")
    return differences


def _compare_history_rows(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    def is_same(one: Any, other: Any) -> bool:
        return bool(one == other or (one != one and other != other))  # NaN

    return [
        f"{name} of epoch {expected['epoch']}: {actual.get(name)} instead of {expected.get(name)}"
        for name in {**expected, **actual}
        if name not in NONDETERMINISTIC_COLUMNS and not is_same(expected.get(name), actual.get(name))
    ]
