"""Trainer settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from tfaip_like._utils.errors import pluralize
from tfaip_like._utils.remote_paths import RemotePath
from tfaip_like.params import Params
from tfaip_like.params._field_rules import (
    AffectsTrainingSamples,
    ChangesLengthOnly,
    OnResume,
    Requires,
    ShownLast,
    UniquePerRun,
)
from tfaip_like.settings._interval import Interval, parse_interval, require_interval

_NEEDS_OUTPUT_DIR = Requires("output_dir", "requires --trainer.output_dir")


class Trainer(Params):
    """Training loop and run directory.

    Example:
        >>> Trainer(epochs=10, checkpoint_every="10min")
        Trainer(epochs=10, checkpoint_every='10min')
    """

    search_words = {
        "epochs": "max_epochs num_epochs num_train_epochs n_epochs",
        "output_dir": "default_root_dir log_dir logdir run_dir save_dir workdir",
        "samples_per_epoch": "steps_per_epoch limit_train_batches",
        "val_every_n": "validation_freq check_val_every_n_epoch val_check_interval eval_every eval_steps",
        "random_seed": "seed",
        "calc_ema": "use_ema ema_momentum ema_decay exponential_moving_average",
        "accumulate_steps": "accumulate_grad_batches gradient_accumulation_steps grad_accum",
        "precision": "dtype dtype_policy mixed_precision fp16 bf16 amp",
        "no_train_scope": "freeze frozen_layers trainable",
        "remat": "gradient_checkpointing activation_checkpointing rematerialization recompute",
        "on_nan": "terminate_on_nan detect_anomaly",
        "sanity_check": "num_sanity_val_steps fast_dev_run",
        "checkpoint_every": "save_freq every_n_epochs every_n_train_steps save_steps",
        "mirror_to": "remote upload_to s3 gcs",
        "keep_checkpoints": "max_to_keep save_total_limit",
        "keep_best": "save_top_k save_best_only best_k_models",
        "keep_every_n": "keep_period",
        "profile": "profiler profile_batch",
        "force_eager": "run_eagerly eager debug",
        "jit_compile": "xla compile",
        "steps_per_execution": "log_every_n_steps scan_steps",
    }

    epochs: Annotated[int, ChangesLengthOnly()] = 100
    """Number of training epochs."""

    output_dir: Annotated[Path | None, UniquePerRun()] = None
    """Run directory for log, history, checkpoints, best and last model. By default nothing is saved."""

    samples_per_epoch: Annotated[int | None, ChangesLengthOnly()] = None
    """Samples per epoch; by default the size of the dataset. All batches are full: samples left over at the end of an
    epoch start the next one."""

    val_every_n: Annotated[int | str, ChangesLengthOnly()] = 1
    """Validate every n epochs (5 or 5epochs), steps (500steps) or minutes (10min), and at the end; 0 disables
    validation."""

    print_eval_limit: int = 3
    """Number of predicted samples to print in each validation, formatted by the scenario's method `example_text`; 0
    prints none, -1 all."""

    lav_every_n: int | str = 0
    """Reload and validate the export (LAV) every n epochs (5 or 5epochs), steps (500steps) or minutes (10min), and
    after the first and the last epoch; 0 disables it."""

    random_seed: Annotated[
        int | None,
        AffectsTrainingSamples(True),
        ChangesLengthOnly(),
        ShownLast(),
        OnResume("changes the order of the data from here on; layers keep their random states"),
    ] = None
    """Random seed, 0 to 4294967295; the same seed on the same machine reproduces a run. By default a random seed, which
    is logged."""

    description: Annotated[str, _NEEDS_OUTPUT_DIR, ShownLast()] = ""
    """Purpose of this run, as free text; saved with the results."""

    compare_to: Path | None = None
    """Run directory of a reference run: its metrics at each epoch are logged as compare_NAME, and the improvement of
    the monitored metric over it as compare_gain."""

    keep_data: bool = False
    """Save the samples of the first epoch and of validation as the model receives them, with histograms of inputs and
    targets, to used_data/ in the run directory."""

    calc_ema: float = 0.0
    """Momentum, in [0, 1), of the exponential moving average (EMA) of the weights, which validation and exports use; 0
    disables it, -1 derives it from steps_per_epoch."""

    accumulate_steps: int = 1
    """Number of batches whose gradients are averaged before each optimizer step (gradient accumulation)."""

    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    """Keras dtype policy: layers compute in this precision, weights stay float32. mixed_float16 uses loss scaling."""

    no_train_scope: str | None = None
    """Regular expression for the paths of layers or graphs to freeze (encoder/conv, encoder), with all layers in them.
    model.txt of a run lists the paths."""

    remat: str | None = None
    """Regular expression for the paths of layers that recompute their activations in the backward pass instead of
    keeping them (rematerialization, gradient checkpointing): less memory, more time."""

    on_nan: Literal["stop", "skip"] = "stop"
    """Action on a non-finite loss or gradient: stop with a diagnosis, or skip the step."""

    sanity_check: bool = True
    """Before the first step, run validation, evaluator and export on a few samples and read back a checkpoint, to find
    mistakes before an epoch is spent."""

    checkpoint_every: Annotated[str, _NEEDS_OUTPUT_DIR] = "epoch"
    """Checkpoint interval: epoch, 5epochs, 500steps, 30s, 10min or 2h. A checkpoint is also written when training is
    interrupted."""

    checkpoint_dir: Annotated[Path | None, _NEEDS_OUTPUT_DIR] = None
    """Directory for checkpoints on another disk (/scratch/me): they are stored in a subdirectory with the path of
    output_dir, and output_dir/checkpoints is a link to it. By default in output_dir."""

    mirror_to: Annotated[Path | None, _NEEDS_OUTPUT_DIR] = None
    """URL (s3://bucket/runs) or directory to copy the run to after each checkpoint, in the background, as
    URL/NAME of its directory; `resume-training URL/NAME` continues it on another machine."""

    keep_checkpoints: Annotated[int, _NEEDS_OUTPUT_DIR] = 3
    """Number of most recent checkpoints to keep."""

    keep_best: Annotated[int, _NEEDS_OUTPUT_DIR] = 0
    """Number of checkpoints with the best monitored values to keep in addition to the most recent ones."""

    keep_epochs: Annotated[list[int], _NEEDS_OUTPUT_DIR] = []
    """Epochs whose checkpoints are never deleted, to resume from later (resume-training DIR --resume.epoch 12)."""

    keep_every_n: Annotated[int, _NEEDS_OUTPUT_DIR] = 0
    """Never delete the checkpoint of every n-th epoch; 1 keeps all, 0 none."""

    profile: bool = False
    """Profile a few steps for TensorBoard's Profile tab (tensorflow and jax)."""

    force_eager: bool = False
    """Execute eagerly instead of compiling a graph, for debugging; much slower."""

    jit_compile: bool | None = None
    """Compile the training step with XLA; by default if batches have few shapes (padding variable lengths, where that
    changes no loss) and all layers support it."""

    steps_per_execution: int | None = None
    """Training steps per compiled execution (Keras' steps_per_execution); more is faster for small models. By default
    about half a second of steps, at most 256."""

    @property
    def val_interval(self) -> Interval:
        """Return the interval of validation."""
        return parse_interval(self.val_every_n)

    @property
    def lav_interval(self) -> Interval:
        """Return the interval of load-and-validate."""
        return parse_interval(self.lav_every_n)

    def ignored_params(self) -> Mapping[str, str]:
        reasons: dict[str, str] = {}
        if self.keep_epochs and min(self.keep_epochs) > self.epochs:
            reasons["keep_epochs"] = f"training ends after {pluralize(self.epochs, 'epoch')} (--trainer.epochs)"
        elif self.keep_every_n > self.epochs:
            reasons["keep_every_n"] = f"training ends after {pluralize(self.epochs, 'epoch')} (--trainer.epochs)"
        return reasons

    def check(self) -> None:
        self.require(self.epochs >= 1, "epochs", "must be at least 1")
        self.require(
            self.samples_per_epoch is None or self.samples_per_epoch >= 1,
            "samples_per_epoch",
            "must be at least 1; omit it to use the whole dataset",
        )
        for name in ("output_dir", "checkpoint_dir"):
            is_local = not isinstance(getattr(self, name), RemotePath)
            self.require(is_local, name, "must be on a file system; --trainer.mirror_to copies the run to a URL")
        require_interval(self, "val_every_n", "0 (no validation), 5 (epochs)")
        self.require(self.print_eval_limit >= -1, "print_eval_limit", "must be at least -1 (-1 prints all, 0 none)")
        require_interval(self, "lav_every_n", "0 (no LAV), 5 (epochs)")
        self.require(
            self.calc_ema == -1 or 0 <= self.calc_ema < 1,
            "calc_ema",
            "must be at least 0 and below 1, or -1 to derive it from steps_per_epoch",
        )
        self.require(self.accumulate_steps >= 1, "accumulate_steps", "must be at least 1")
        self.require_regex("no_train_scope", self.no_train_scope or "")
        self.require_regex("remat", self.remat or "")
        try:
            parse_interval(self.checkpoint_every)
        except ValueError as problem:
            self.require(False, "checkpoint_every", str(problem))
        self.require(all(epoch >= 1 for epoch in self.keep_epochs), "keep_epochs", "epochs must be at least 1")
        self.require(self.keep_every_n >= 0, "keep_every_n", "must be at least 0 (0 keeps none)")
        self.require(self.keep_checkpoints >= 1, "keep_checkpoints", "must be at least 1")
        self.require(self.keep_best >= 0, "keep_best", "must be at least 0 (0 keeps none)")
        self.require(
            self.random_seed is None or 0 <= self.random_seed < 2**32, "random_seed", "must be between 0 and 4294967295"
        )
        self.require(
            self.steps_per_execution is None or self.steps_per_execution >= 1,
            "steps_per_execution",
            "must be at least 1",
        )
        for name in ("profile", "keep_data"):
            lacks_output_dir = getattr(self, name) and self.output_dir is None
            self.require(not lacks_output_dir, name, "requires --trainer.output_dir")
        eager_and_compiled = self.force_eager and (self.jit_compile or (self.steps_per_execution or 1) > 1)
        self.require(
            not eager_and_compiled,
            "force_eager",
            "cannot be combined with --trainer.jit_compile or --trainer.steps_per_execution",
        )
