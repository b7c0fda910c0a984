"""Whether a training that is interrupted ends with the same bits as one that is not, on this machine."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tfaip_like.errors import TrainingError, UsageError
from tfaip_like.output_dir import OutputDir
from tfaip_like.processes import run_with_us
from tfaip_like.scenario import Scenario
from tfaip_like.train import train
from tfaip_like.train.checkpoints import Content, all_checkpoints

logger = logging.getLogger(__name__)

EPOCHS = 2
STEPS = 8
STOP_AT = 3
"""Steps after which the interrupted training was stopped; not a border of an epoch."""
DIFFER = ("seconds", "samples_per_second", "input_bound", "memory_mb")


def verify(scenario: Scenario) -> str:
    """Trains a few steps, goes on from the middle of them in a process of its own, and compares.

    Returns:
        What was found, for a person.

    Raises:
        TrainingError: when the two differ; it names the first variables.
    """
    with TemporaryDirectory() as folder:
        straight, interrupted = OutputDir(Path(folder, "straight")), OutputDir(Path(folder, "interrupted"))
        train(_short(scenario, straight.path))
        _as_if_killed(straight, interrupted)
        words = [sys.executable, "-m", "tfaip_like.cli.resume_training", str(interrupted.path)]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        done = run_with_us(words, {**os.environ, "PYTHONPATH": path})
        if done.returncode:
            raise TrainingError(f"--verify: the interrupted training could not go on:\n{done.stderr[-2000:]}")
        found = _differences(_last(straight), _last(interrupted))
        count = len(_last(straight).arrays)
    if found:
        raise TrainingError(
            f"--verify: NOT the same bits after an interruption: {len(found)} of {count} ({', '.join(found[:3])}).\n"
            "A step that draws random numbers without keras.random, or an operation that is not repeatable on this "
            "device, is the usual reason."
        )
    return (
        f"the same bits: {count} arrays and the history of {EPOCHS} epochs, with and without an interruption after "
        f"step {STOP_AT} of epoch {EPOCHS}"
    )


def _short(scenario: Scenario, folder: Path) -> Scenario:
    trainer = scenario.trainer
    samples = STEPS * scenario.train.batch_size * trainer.accumulate_steps
    trainer = dataclasses.replace(
        trainer,
        epochs=EPOCHS,
        output_dir=folder,
        samples_per_epoch=min(samples, trainer.samples_per_epoch or samples),
        steps_per_execution=None if trainer.steps_per_execution is None else min(trainer.steps_per_execution, STEPS),
        checkpoint_every=f"{STOP_AT}steps",
        keep_checkpoints=EPOCHS * STEPS,
        random_seed=1 if trainer.random_seed is None else trainer.random_seed,
        profile=False,
    )
    never = dataclasses.replace(scenario.early_stopping, n_to_go=0, lower_threshold=None, upper_threshold=None)
    return dataclasses.replace(scenario, trainer=trainer, early_stopping=never)


def _as_if_killed(run: OutputDir, copy: OutputDir) -> None:
    """A copy of a run's folder as it was in the middle of its last epoch."""
    shutil.copytree(run.path, copy.path)
    checkpoints = all_checkpoints(copy.checkpoints)
    in_last_epoch = [c for c in checkpoints if c.position.epoch == EPOCHS - 1 and c.position.step]
    if not in_last_epoch:
        raise UsageError(f"--verify: an epoch must have more than {STOP_AT} steps (--train.batch_size, --train.limit)")
    stopped = in_last_epoch[0]
    for checkpoint in checkpoints:
        if checkpoint.position > stopped.position:
            shutil.rmtree(checkpoint.path)
    for later in (copy.best, copy.export):
        shutil.rmtree(later, ignore_errors=True)


def _last(run: OutputDir) -> Content:
    return all_checkpoints(run.checkpoints)[-1].read()


def _differences(one: Content, other: Content) -> list[str]:
    found = [name for name in one.arrays if one.arrays[name].tobytes() != other.arrays[name].tobytes()]
    rows = [[_untimed(row) for row in content.state["history"]] for content in (one, other)]
    return found + ([] if rows[0] == rows[1] else ["the history"])


def _untimed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in DIFFER}
