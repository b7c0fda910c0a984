"""`--verify`: whether a training that is interrupted ends with the same bits as one that is not, on this machine."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfaip_like._runs.output_dir import OutputDir
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

logger = logging.getLogger(__name__)

NUM_EPOCHS = 2
NUM_STEPS = 8
CHECKPOINT_EVERY_STEPS = 3
"""Steps between two checkpoints, which end an execution; not a divisor of the steps of an epoch."""
NONDETERMINISTIC_COLUMNS = ("seconds", "samples_per_second", "input_bound", "memory_mb")

Interruption = Callable[[Scenario], None]
"""Trains a short scenario into its output folder, and ends before it is done."""


class InjectedError(Exception):
    """Exception of the variant that fails."""


class _InterruptionProbe:
    """Probe of a training that interrupts it once: in its last epoch; while data are awaited, from its first step on.

    Args:
        phase: where.
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
        # Data are made ahead of the steps, so which epoch they belong to is not known here.
        is_due = self._has_stepped if phase == "data" else self._num_epochs == NUM_EPOCHS
        self._has_stepped |= phase == "step"
        if phase == self._phase and is_due and not self.is_done:
            self.is_done = True
            self._interrupt()


def verify_resume(scenario: Scenario) -> str:
    """Train a few steps, interrupt the same training in several ways, resume each in another process, and compare.

    The interruptions are a kill; SIGTERM behind a step, while data are awaited and in a validation; and an exception in
    a validation.

    Returns:
        What was found, for a person.

    Raises:
        TrainingError: when a resumed training differs; it names the first variables and values.
        UsageError: when an epoch is too short to be interrupted.
    """
    with temporary_directory() as folder:
        uninterrupted = OutputDir(Path(folder, "uninterrupted"))
        devices = configure_devices(scenario.device)
        with console_level(logging.ERROR):  # the trainings are not the user's, and their folder goes
            run_training(_shorten(scenario, uninterrupted.path), devices)
        expected = _read_last_checkpoint(uninterrupted)
        validates = any(name.startswith("val_") for name in expected.state["history"][-1])
        lines, failures = [], []
        for name, interrupt in _make_interruptions(uninterrupted, devices, validates).items():
            run = OutputDir(Path(folder, name.replace(" ", "_")))
            with console_level(logging.ERROR):
                interrupt(_shorten(scenario, run.path))
            _resume_in_subprocess(run, name)
            if found := _find_differences(expected, _read_last_checkpoint(run)):
                failures.append(f"{name}: {len(found)} differ ({truncate_list(found, 3)})")
            else:
                lines.append(f"{name}: the same bits")
            logger.info("--verify: %s: %s", name, "differs" if found else "the same bits")
    if failures:
        raise TrainingError(
            "--verify: NOT the same bits after an interruption.\n" + "\n".join(failures) + "\n"
            "A step that draws random numbers without keras.random, or an operation that is not repeatable on this "
            "device, is the usual reason."
        )
    lines.append(f"compared: {len(expected.arrays)} arrays and the history of {NUM_EPOCHS} epochs")
    return "\n".join(lines)


def _make_interruptions(uninterrupted: OutputDir, devices: Devices, validates: bool) -> dict[str, Interruption]:
    def interrupted_at(phase: Phase, interrupt: Callable[[], None]) -> Interruption:
        def train(scenario: Scenario) -> None:
            injection = _InterruptionProbe(phase, interrupt)
            try:
                run_training(scenario, devices, phase_hook=injection)
            except (Interrupted, InjectedError):
                return
            if not injection.is_done:
                raise UsageError(
                    f"--verify: an epoch must have more than {CHECKPOINT_EVERY_STEPS} steps ({_EPOCH_LENGTH_FLAGS})"
                )

        return train

    interruptions = {
        "killed": lambda scenario: _simulate_kill(uninterrupted, OutputDir(scenario.trainer.output_dir)),
        "signal behind a step": interrupted_at("step", _send_signal),
        "signal while data are awaited": interrupted_at("data", _send_signal),
    }
    if validates:
        interruptions["signal in a validation"] = interrupted_at("validation", _send_signal)
        interruptions["exception in a validation"] = interrupted_at("validation", _raise_injected_error)
    return interruptions


def _send_signal() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _raise_injected_error() -> None:
    raise InjectedError("raised by --verify")


_EPOCH_LENGTH_FLAGS = "--train.batch_size, --train.limit, --trainer.samples_per_epoch"


def _shorten(scenario: Scenario, folder: Path) -> Scenario:
    trainer = scenario.trainer
    samples = NUM_STEPS * scenario.train.batch_size * trainer.accumulate_steps
    trainer = dataclasses.replace(
        trainer,
        epochs=NUM_EPOCHS,
        output_dir=folder,
        checkpoint_dir=None,
        samples_per_epoch=min(samples, trainer.samples_per_epoch or samples),
        steps_per_execution=None
        if trainer.steps_per_execution is None
        else min(trainer.steps_per_execution, NUM_STEPS),
        checkpoint_every=f"{CHECKPOINT_EVERY_STEPS}steps",
        keep_checkpoints=NUM_EPOCHS * NUM_STEPS,
        random_seed=1 if trainer.random_seed is None else trainer.random_seed,
        profile=False,
        sanity_check=False,
    )
    never = dataclasses.replace(scenario.early_stopping, n_to_go=0, lower_threshold=None, upper_threshold=None)
    return validate_params(dataclasses.replace(scenario, trainer=trainer, early_stopping=never))


def _simulate_kill(run: OutputDir, copy: OutputDir) -> None:
    """Copy a run's folder as a kill in the middle of its last epoch leaves it."""
    shutil.copytree(run.path, copy.path)
    checkpoints = list_checkpoints(copy.checkpoints)
    in_last_epoch = [c for c in checkpoints if c.position.epoch == NUM_EPOCHS - 1 and c.position.step]
    if not in_last_epoch:
        raise UsageError(
            f"--verify: an epoch must have more than {CHECKPOINT_EVERY_STEPS} steps ({_EPOCH_LENGTH_FLAGS})"
        )
    stopped = in_last_epoch[0]
    for checkpoint in checkpoints:
        if checkpoint.position > stopped.position:
            shutil.rmtree(checkpoint.path)
    for later in (copy.best, copy.export):
        shutil.rmtree(later, ignore_errors=True)


def _resume_in_subprocess(run: OutputDir, name: str) -> None:
    command = [sys.executable, "-m", "tfaip_like._cli.resume_training", str(run.path)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = run_child_process(command, {**os.environ, "PYTHONPATH": path})
    if done.returncode:
        raise TrainingError(f"--verify, {name}: the training could not be resumed:\n{done.stderr[-2000:]}")


def _read_last_checkpoint(run: OutputDir) -> CheckpointData:
    return list_checkpoints(run.checkpoints)[-1].read()


def _find_differences(one: CheckpointData, other: CheckpointData) -> list[str]:
    """Return the variables and the values of the history that differ, with a few numbers."""
    found = [
        name.split(":", 2)[2]
        for name, array in one.arrays.items()
        if name not in other.arrays or array.tobytes() != other.arrays[name].tobytes()
    ]
    for before, after in zip(one.state["history"], other.state["history"], strict=False):
        found += _compare_history_rows(before, after)
    if len(one.state["history"]) != len(other.state["history"]):
        found.append(f"{len(other.state['history'])} epochs instead of {len(one.state['history'])}")
    return found


def _compare_history_rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    def same(one: Any, other: Any) -> bool:
        return bool(one == other or (one != one and other != other))  # NaN

    return [
        f"{name} of epoch {before['epoch']}: {after.get(name)} instead of {before.get(name)}"
        for name in {**before, **after}
        if name not in NONDETERMINISTIC_COLUMNS and not same(before.get(name), after.get(name))
    ]
