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
from tfaip_like._training.checkpointing.checkpoints import Content, all_checkpoints
from tfaip_like._training.devices import Devices, choose_devices
from tfaip_like._training.training import run_training
from tfaip_like._utils.console import console_level
from tfaip_like._utils.errors import Interrupted, TrainingError, UsageError, some
from tfaip_like._utils.interruption import Phase
from tfaip_like._utils.processes import run_with_us
from tfaip_like._utils.temporary import temporary_directory
from tfaip_like.params._tree import check_tree
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

EPOCHS = 2
STEPS = 8
STOP_AT = 3
"""Steps between two checkpoints, which end an execution; not a divisor of the steps of an epoch."""
DIFFER = ("seconds", "samples_per_second", "input_bound", "memory_mb")

Interruption = Callable[[Scenario], None]
"""Trains a short scenario into its output folder, and ends before it is done."""


class InjectedError(Exception):
    """Exception of the variant that fails."""


class _Injection:
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
        is_time = self._has_stepped if phase == "data" else self._num_epochs == EPOCHS
        self._has_stepped |= phase == "step"
        if phase == self._phase and is_time and not self.is_done:
            self.is_done = True
            self._interrupt()


def verify(scenario: Scenario) -> str:
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
        straight = OutputDir(Path(folder, "straight"))
        devices = choose_devices(scenario.device)
        with console_level(logging.ERROR):  # the trainings are not the user's, and their folder goes
            run_training(_short(scenario, straight.path), devices)
        expected = _last(straight)
        validates = any(name.startswith("val_") for name in expected.state["history"][-1])
        lines, failures = [], []
        for name, interrupt in _interruptions(straight, devices, validates).items():
            run = OutputDir(Path(folder, name.replace(" ", "_")))
            with console_level(logging.ERROR):
                interrupt(_short(scenario, run.path))
            _resume(run, name)
            if found := _differences(expected, _last(run)):
                failures.append(f"{name}: {len(found)} differ ({some(found, 3)})")
            else:
                lines.append(f"{name}: the same bits")
            logger.info("--verify: %s: %s", name, "differs" if found else "the same bits")
    if failures:
        raise TrainingError(
            "--verify: NOT the same bits after an interruption.\n" + "\n".join(failures) + "\n"
            "A step that draws random numbers without keras.random, or an operation that is not repeatable on this "
            "device, is the usual reason."
        )
    lines.append(f"compared: {len(expected.arrays)} arrays and the history of {EPOCHS} epochs")
    return "\n".join(lines)


def _interruptions(straight: OutputDir, devices: Devices, validates: bool) -> dict[str, Interruption]:
    def injected(phase: Phase, interrupt: Callable[[], None]) -> Interruption:
        def train(scenario: Scenario) -> None:
            injection = _Injection(phase, interrupt)
            try:
                run_training(scenario, devices, probe=injection)
            except (Interrupted, InjectedError):
                return
            if not injection.is_done:
                raise UsageError(f"--verify: an epoch must have more than {STOP_AT} steps ({_TOO_SHORT})")

        return train

    interruptions = {
        "killed": lambda scenario: _copy_as_if_killed(straight, OutputDir(scenario.trainer.output_dir)),
        "signal behind a step": injected("step", _send_signal),
        "signal while data are awaited": injected("data", _send_signal),
    }
    if validates:
        interruptions["signal in a validation"] = injected("validation", _send_signal)
        interruptions["exception in a validation"] = injected("validation", _raise)
    return interruptions


def _send_signal() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _raise() -> None:
    raise InjectedError("raised by --verify")


_TOO_SHORT = "--train.batch_size, --train.limit, --trainer.samples_per_epoch"


def _short(scenario: Scenario, folder: Path) -> Scenario:
    trainer = scenario.trainer
    samples = STEPS * scenario.train.batch_size * trainer.accumulate_steps
    trainer = dataclasses.replace(
        trainer,
        epochs=EPOCHS,
        output_dir=folder,
        checkpoint_dir=None,
        samples_per_epoch=min(samples, trainer.samples_per_epoch or samples),
        steps_per_execution=None if trainer.steps_per_execution is None else min(trainer.steps_per_execution, STEPS),
        checkpoint_every=f"{STOP_AT}steps",
        keep_checkpoints=EPOCHS * STEPS,
        random_seed=1 if trainer.random_seed is None else trainer.random_seed,
        profile=False,
        sanity_check=False,
    )
    never = dataclasses.replace(scenario.early_stopping, n_to_go=0, lower_threshold=None, upper_threshold=None)
    return check_tree(dataclasses.replace(scenario, trainer=trainer, early_stopping=never))


def _copy_as_if_killed(run: OutputDir, copy: OutputDir) -> None:
    """Copy a run's folder as a kill in the middle of its last epoch leaves it."""
    shutil.copytree(run.path, copy.path)
    checkpoints = all_checkpoints(copy.checkpoints)
    in_last_epoch = [c for c in checkpoints if c.position.epoch == EPOCHS - 1 and c.position.step]
    if not in_last_epoch:
        raise UsageError(f"--verify: an epoch must have more than {STOP_AT} steps ({_TOO_SHORT})")
    stopped = in_last_epoch[0]
    for checkpoint in checkpoints:
        if checkpoint.position > stopped.position:
            shutil.rmtree(checkpoint.path)
    for later in (copy.best, copy.export):
        shutil.rmtree(later, ignore_errors=True)


def _resume(run: OutputDir, name: str) -> None:
    words = [sys.executable, "-m", "tfaip_like._cli.resume_training", str(run.path)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = run_with_us(words, {**os.environ, "PYTHONPATH": path})
    if done.returncode:
        raise TrainingError(f"--verify, {name}: the training could not be resumed:\n{done.stderr[-2000:]}")


def _last(run: OutputDir) -> Content:
    return all_checkpoints(run.checkpoints)[-1].read()


def _differences(one: Content, other: Content) -> list[str]:
    """Return the variables and the values of the history that differ, with a few numbers."""
    found = [
        name.split(":", 2)[2]
        for name, array in one.arrays.items()
        if name not in other.arrays or array.tobytes() != other.arrays[name].tobytes()
    ]
    for before, after in zip(one.state["history"], other.state["history"], strict=False):
        found += _other_values(before, after)
    if len(one.state["history"]) != len(other.state["history"]):
        found.append(f"{len(other.state['history'])} epochs instead of {len(one.state['history'])}")
    return found


def _other_values(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    def same(one: Any, other: Any) -> bool:
        return bool(one == other or (one != one and other != other))  # NaN

    return [
        f"{name} of epoch {before['epoch']}: {after.get(name)} instead of {before.get(name)}"
        for name in {**before, **after}
        if name not in DIFFER and not same(before.get(name), after.get(name))
    ]
