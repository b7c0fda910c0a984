"""Settings of a training that every scenario has: trainer and device."""

from __future__ import annotations

import os
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from tfaip_like.params import Params


class Trainer(Params):
    """How the training runs and where its results go."""

    epochs: int = 100
    """Number of epochs to train."""

    output_dir: Path | None = None
    """Folder for everything a run leaves behind: log, history, checkpoints, best and last model.
    Nothing is kept if it is none."""

    samples_per_epoch: int | None = None
    """Samples in an epoch; by default as many as there are. Every batch is full: the samples that
    are left over at the end of an epoch begin the next."""

    val_every_n: int = 1
    """Validate after every n-th epoch, and after the last; 0 never validates."""

    lav_every_n: int = 0
    """Load-and-validate after every n-th epoch, and after the first and the last; 0 never does."""

    random_seed: int | None = None
    """Makes a run repeatable: same seed, same machine, same numbers. By default a new one is drawn;
    the log says which."""

    description: str = ""
    """What this run is for, in your words; kept with its results."""

    keep_checkpoints: int = 3
    """How many of the latest checkpoints are kept."""

    force_eager: bool = False
    """Run Python line by line, for a debugger; much slower."""

    jit_compile: bool | None = None
    """Compile the training step with XLA. By default it is, if all shapes are fixed and the layers
    allow it."""

    steps_per_execution: int | None = None
    """Training steps between two looks at the progress. By default chosen so that this is about
    half a second, at most 32 steps; more is faster for small networks."""

    def check(self) -> None:
        self.require(self.epochs >= 1, "epochs", "there must be at least 1")
        self.require(
            self.samples_per_epoch is None or self.samples_per_epoch >= 1,
            "samples_per_epoch",
            "there must be at least 1; leave it out for as many as there are",
        )
        self.require(self.val_every_n >= 0, "val_every_n", "must be 0 (never) or more")
        self.require(self.lav_every_n >= 0, "lav_every_n", "must be 0 (never) or more")
        self.require(self.keep_checkpoints >= 1, "keep_checkpoints", "there must be at least 1")
        self.require(
            self.random_seed is None or 0 <= self.random_seed < 2**32, "random_seed", "must be from 0 to 4294967295"
        )
        self.require(
            self.steps_per_execution is None or self.steps_per_execution >= 1,
            "steps_per_execution",
            "there must be at least 1",
        )
        eager_and_compiled = self.force_eager and (self.jit_compile or (self.steps_per_execution or 1) > 1)
        self.require(
            not eager_and_compiled, "force_eager", "contradicts --trainer.jit_compile and --trainer.steps_per_execution"
        )


def _usual_backend() -> Any:
    return os.environ.get("KERAS_BACKEND", "tensorflow")


class Device(Params):
    """What computes."""

    backend: Literal["tensorflow", "jax", "torch"] = field(default_factory=_usual_backend)
    """The library under Keras; by default that of the environment variable KERAS_BACKEND, else
    tensorflow. jax and torch must be installed: pip install 'tfaip_like[jax]'."""
