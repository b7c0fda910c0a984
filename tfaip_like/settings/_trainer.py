"""How a training runs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfaip_like._utils.errors import pluralize
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

    print_eval_limit: int = 3
    """Predicted samples that each validation prints, as the scenario's method `example_text` describes them;
    0 prints none, -1 all."""

    lav_every_n: int = 0
    """Load-and-validate after every n-th epoch, and after the first and the last; 0 never does."""

    random_seed: int | None = None
    """Makes a run repeatable: same seed, same machine, same numbers. By default a new one is drawn;
    the log says which."""

    description: str = ""
    """What this run is for, in your words; kept with its results."""

    compare_to: Path | None = None
    """Folder of an earlier run: its values of each epoch are logged as compare_NAME next to those of this run, and
    compare_gain says by how much the monitored value is better here."""

    keep_data: bool = False
    """Keep the samples of the first epoch and of validation as the network sees them, in used_data/ of output_dir, with
    the distribution of each input and target."""

    calc_ema: float = 0.0
    """Validate and export exponential moving averages of the weights: 0 does not, a number below 1 is
    the part of the average that stays at each step, -1 computes it from the steps of an epoch."""

    accumulate_steps: int = 1
    """Batches whose gradients are averaged into one step: as a batch so many times as large, in the
    memory of one."""

    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    """Type of number that layers compute in; weights stay float32. bfloat16 needs no loss scaling, which
    float16 gets."""

    no_train_scope: str | None = None
    """Regular expression for layers that are not trained, by their path (encoder/dense_1); a layer takes
    all layers in it along."""

    on_nan: Literal["stop", "skip"] = "stop"
    """What to do when a loss or a gradient is no finite number: stop and say why, or leave that step out."""

    sanity_check: bool = True
    """Run validation, evaluator, show and an export on a few samples, and read a checkpoint back, before the first
    step: a mistake in one of them costs no epoch then."""

    checkpoint_every: str = "epoch"
    """When the whole state is saved, for an exact resume: epoch, 5epochs, 500steps, 10min, 2h. It is
    saved when the training is stopped, too."""

    checkpoint_dir: Path | None = None
    """Folder on another disk, such as /scratch/me, below which checkpoints are kept under the path of output_dir;
    checkpoints/ in output_dir links there. By default they are in output_dir itself."""

    keep_checkpoints: int = 3
    """How many of the latest checkpoints are kept."""

    keep_epochs: list[int] = []
    """Epochs whose checkpoints are kept for good, to go on from there (resume-training DIR --resume.epoch 12)."""

    keep_every_n: int = 0
    """Keep the checkpoint of every n-th epoch for good; 1 keeps each, 0 none."""

    export_formats: list[Literal["onnx", "litert"]] = []
    """Further formats of best/ and export/, written at the end: network.onnx, network.tflite; each needs
    packages of its own, pip install 'tfaip_like[onnx,litert]'."""

    profile: bool = False
    """Write a profile of a few steps for TensorBoard's page PROFILE; on tensorflow and jax."""

    force_eager: bool = False
    """Run Python line by line, for a debugger; much slower."""

    jit_compile: bool | None = None
    """Compile the training step with XLA. By default it is, if all shapes are fixed and the layers
    allow it."""

    steps_per_execution: int | None = None
    """Training steps between two looks at the progress. By default chosen so that this is about
    half a second, at most 64 steps; more is faster for small networks."""

    def ignored_params(self) -> Mapping[str, str]:
        reasons: dict[str, str] = {}
        if self.output_dir is None:
            kept = (
                "description",
                "checkpoint_every",
                "checkpoint_dir",
                "keep_checkpoints",
                "keep_epochs",
                "keep_every_n",
                "export_formats",
            )
            reasons |= dict.fromkeys(kept, "nothing is kept without --trainer.output_dir")
        elif self.keep_epochs and min(self.keep_epochs) > self.epochs:
            reasons["keep_epochs"] = f"the training has {pluralize(self.epochs, 'epoch')} (--trainer.epochs)"
        elif self.keep_every_n > self.epochs:
            reasons["keep_every_n"] = f"the training has {pluralize(self.epochs, 'epoch')} (--trainer.epochs)"
        return reasons

    def check(self) -> None:
        self.require(self.epochs >= 1, "epochs", "must be at least 1")
        self.require(
            self.samples_per_epoch is None or self.samples_per_epoch >= 1,
            "samples_per_epoch",
            "there must be at least 1; leave it out for as many as there are",
        )
        self.require(self.val_every_n >= 0, "val_every_n", "must be 0 (never) or more")
        self.require(self.print_eval_limit >= -1, "print_eval_limit", "must be -1 (all), 0 (none) or more")
        self.require(self.lav_every_n >= 0, "lav_every_n", "must be 0 (never) or more")
        self.require(
            self.calc_ema == -1 or 0 <= self.calc_ema < 1, "calc_ema", "must be from 0 to below 1, or -1 to compute it"
        )
        self.require(self.accumulate_steps >= 1, "accumulate_steps", "must be at least 1")
        self.require_regex("no_train_scope", self.no_train_scope or "")
        try:
            parse_interval(self.checkpoint_every)
        except ValueError as problem:
            self.require(False, "checkpoint_every", str(problem))
        self.require(all(epoch >= 1 for epoch in self.keep_epochs), "keep_epochs", "epochs count from 1")
        self.require(self.keep_every_n >= 0, "keep_every_n", "must be 0 (none) or more")
        self.require(self.keep_checkpoints >= 1, "keep_checkpoints", "must be at least 1")
        self.require(
            self.random_seed is None or 0 <= self.random_seed < 2**32, "random_seed", "must be from 0 to 4294967295"
        )
        self.require(
            self.steps_per_execution is None or self.steps_per_execution >= 1,
            "steps_per_execution",
            "must be at least 1",
        )
        for name in ("profile", "keep_data"):
            needs_folder = getattr(self, name) and self.output_dir is None
            self.require(not needs_folder, name, "needs a folder: give --trainer.output_dir")
        eager_and_compiled = self.force_eager and (self.jit_compile or (self.steps_per_execution or 1) > 1)
        self.require(
            not eager_and_compiled, "force_eager", "contradicts --trainer.jit_compile and --trainer.steps_per_execution"
        )


@dataclass(frozen=True)
class Interval:
    """How often something is done: after so many epochs, steps or seconds, whichever is given."""

    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0


_INTERVAL = re.compile(r"(\d*\.?\d*)\s*(epoch|epochs|step|steps|s|min|h)")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def parse_interval(text: str) -> Interval:
    """What `checkpoint_every` says.

    Raises:
        ValueError: when it says nothing that is understood.
    """
    match = _INTERVAL.fullmatch(text.strip())
    count = float(match[1] or 1) if match and match[1] != "." else 0.0
    if match is None or not count > 0 or not math.isfinite(count):
        raise ValueError("expected epoch, 5epochs, 500steps, 30s, 10min or 2h")
    if match[2] in _SECONDS:
        return Interval(seconds=count * _SECONDS[match[2]])
    if count != int(count):
        raise ValueError("expected a whole number of epochs or steps")
    return Interval(epochs=int(count)) if match[2].startswith("epoch") else Interval(steps=int(count))
