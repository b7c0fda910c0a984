"""Calibration: measurement of the time, memory and disk space of a run in a few short epochs.

The time of a run is the sum of its start, its samples, and its epoch ends (validation, saving). All three are measured
with the full dataset open, so only the time of the samples is scaled.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.reader import Run
from tfaip_like._runs.temporary_runs import TEMPORARY_RUN_ENVIRONMENT
from tfaip_like._utils.errors import UsageError, pluralize
from tfaip_like._utils.json_files import Json, format_json, parse_json_line, short_json
from tfaip_like._utils.processes import ParentPipe, session_memory_mb
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like._utils.typed_json import AtLeast, Count, Seconds
from tfaip_like.experiments._batches.batch import Batch, BatchRun
from tfaip_like.experiments._status.run_log import last_error_message
from tfaip_like.params._field_rules import ChangesLengthOnly, field_rules
from tfaip_like.params._files import read_param_file
from tfaip_like.settings import Trainer
from tfaip_like.settings._interval import Interval, parse_interval

NUM_EPOCHS = 3
BATCHES_PER_EPOCH = 50
"""Batches per epoch of the first calibration."""
TARGET_EPOCH_S = 2.0
"""Length of the epochs of a second calibration, if those of the first one were too short to measure."""
SHORT_EPOCH_S, LONG_RUN_S = 1.0, 120.0
"""Length of an epoch that is too short to measure, and of a run for which this matters."""
POLL_INTERVAL_S = 0.2
SCALED_FLAGS = [f"trainer.{name}" for name in field_rules(Trainer, ChangesLengthOnly)]
"""Flags that may differ between a calibration and a run."""


@dataclass(frozen=True)
class Calibration:
    """Measurements of a calibrated run, which are stored in the batch."""

    name: str
    setup: str
    """Flags that determine the time per sample, see `make_setup_key`."""
    size: Count
    """Size of the model and the data, see `compute_size_score`."""
    samples: Count
    """Samples per epoch of the full run."""
    measured: Annotated[int, AtLeast(1)]
    """Samples per epoch of the calibration."""
    start: Seconds
    """Time before the first sample and after the last epoch."""
    of_samples: Seconds
    """Time for the samples of an epoch of the calibration."""
    after_epoch: Seconds
    """Time for validation and saving after an epoch."""
    memory: Annotated[float, AtLeast(0)]
    """Peak memory of all processes of the run, in megabytes."""
    disk: Annotated[float, AtLeast(0)] = 0.0
    """Size of the run directory without checkpoints, in megabytes."""
    checkpoint: Annotated[float, AtLeast(0)] = 0.0
    """Size of a checkpoint, in megabytes."""
    when: str = ""
    host: str = ""

    def __post_init__(self) -> None:
        configuration_from_setup_key(self.setup)

    def estimate_seconds(self, work: RemainingWork) -> float:
        """Return the estimated time of a run with this setup."""
        return self.start + self._train_seconds(work) + self._num_validations(work) * self.after_epoch

    def _train_seconds(self, work: RemainingWork) -> float:
        return work.epochs * (work.samples or self.samples) * self.of_samples / self.measured

    def _num_validations(self, work: RemainingWork) -> int:
        """Return the number of validations or, without validations, of epoch ends with saving."""
        steps_per_epoch = max(1, (work.samples or self.samples) // work.samples_per_step)
        every = work.val_interval or Interval(epochs=1)
        steps = every.num_steps(steps_per_epoch)
        return math.ceil(work.epochs * steps_per_epoch / steps if steps else self._train_seconds(work) / every.seconds)

    def text(self, work: RemainingWork) -> str:
        """Return the measurements and the estimated time as text."""
        each = 1000 * self.of_samples / self.measured
        origin = f" ({self.when}, on {self.host})" if self.when else ""
        total = format_duration(self.estimate_seconds(work))
        return (
            f"{self.name}: measured{origin} {self.start:.1f} s to start and end, {each:.3g} ms per sample "
            f"({pluralize(self.measured, 'sample')} in {self.of_samples:.2f} s), {self.after_epoch:.2f} s to validate "
            f"and save, {self.memory:.0f} MB\n"
            f"  {self.start:.1f} s + {pluralize(work.epochs, 'epoch')} x {work.samples or self.samples} samples x "
            f"{each:.3g} ms + {self._num_validations(work)} x {self.after_epoch:.2f} s = {total}"
        )


@dataclass(frozen=True)
class RemainingWork:
    """Remaining work of a run."""

    epochs: int
    """Remaining epochs."""
    samples: int | None
    """Samples per epoch; None for all training samples."""
    val_interval: Interval
    """Interval of validation."""
    samples_per_step: int = 1


def compute_remaining_work(batch: Batch, run: BatchRun, done: int = 0) -> RemainingWork:
    """Return the remaining work of a run.

    Args:
        batch: batch of the run.
        run: entry of the run.
        done: number of completed epochs.
    """
    return RemainingWork(
        epochs=max(1, run.epochs - done),
        samples=get_int_parameter(batch, run, "trainer", "samples_per_epoch"),
        val_interval=_val_interval(batch, run),
        samples_per_step=(get_int_parameter(batch, run, "train", "batch_size") or 1)
        * (get_int_parameter(batch, run, "trainer", "accumulate_steps") or 1),
    )


def _val_interval(batch: Batch, run: BatchRun) -> Interval:
    value = get_parameter(batch, run, "trainer", "val_every_n")
    return parse_interval(value) if isinstance(value, int | str) else Interval()


def make_setup_key(run: BatchRun) -> str:
    """Return the flags that determine the time per sample: all but scaled flags and fractional numbers.

    A fractional number, such as a learning rate or a dropout rate, does not change the time.
    """
    flags = {
        flag: list(words)
        for flag, words in run.flags.items()
        if flag not in SCALED_FLAGS and not all(_is_fraction(word) for word in words)
    }
    return format_json([run.configuration, run.expert, dict(sorted(flags.items()))])


def configuration_from_setup_key(setup: str) -> str:
    """Return the name of the configuration in a setup key.

    Raises:
        UsageError: if it is not the result of `make_setup_key`.
    """
    match parse_json_line(setup, "setup"):
        case [str(configuration), str() | None, {}]:
            return configuration
    raise UsageError(f"setup: expected a configuration, an expert and flags, got {short_json(setup)}")


def _is_fraction(word: str) -> bool:
    if word.isdecimal():
        return False
    try:
        float(word)
    except ValueError:
        return False
    return True


def compute_size_score(run: BatchRun) -> int:
    """Return the product of the integers among the flags of a run: units, layers, files."""
    values = [word for flag, words in run.flags.items() if flag not in SCALED_FLAGS for word in words]
    return math.prod(int(word) for word in values if word.isdecimal() and int(word))


def calibrate(batch: Batch, run: BatchRun, check: Callable[[], None] = lambda: None) -> Calibration:
    """Train a run for a few short epochs in a temporary directory.

    Args:
        batch: batch of the run.
        run: entry of the run.
        check: called while it trains; may raise an exception to stop the calibration.

    Raises:
        UsageError: if the training fails, or the number of samples is unknown.
    """
    batch_size = get_int_parameter(batch, run, "train", "batch_size") or 1
    calibration = _measure(batch, run, batch_size * BATCHES_PER_EPOCH, check)
    seconds = calibration.estimate_seconds(compute_remaining_work(batch, run))
    is_short = calibration.of_samples < SHORT_EPOCH_S and calibration.measured < calibration.samples
    if is_short and seconds > LONG_RUN_S:
        wanted = round(calibration.measured * TARGET_EPOCH_S / max(calibration.of_samples, 0.01))
        calibration = _measure(batch, run, min(calibration.samples, wanted), check)
    return calibration


def _measure(batch: Batch, run: BatchRun, samples: int, check: Callable[[], None]) -> Calibration:
    print(f"Calibrating {run.name}: {NUM_EPOCHS} epochs of {samples} samples ...", file=sys.stderr, flush=True)
    with temporary_directory() as folder:
        out = OutputDir(Path(folder, "run"))
        log = Path(folder, "log")
        begin = datetime.now()
        memory = _train(batch, run, samples, out, log, check)
        end = datetime.now()
        return _make_calibration(batch, run, out, begin, end, memory)


def _train(batch: Batch, run: BatchRun, samples: int, out: OutputDir, log: Path, check: Callable[[], None]) -> float:
    """Run the short training; return its peak memory in megabytes."""
    program = Path(sysconfig.get_path("scripts")) / "train-scenario"
    flags = {
        "params": batch.params_path(run.name).resolve(),
        "trainer.output_dir": out.path,
        "trainer.checkpoint_dir": "none",
        "trainer.epochs": NUM_EPOCHS,
        "trainer.samples_per_epoch": samples,
        "trainer.val_every_n": int(bool(_val_interval(batch, run))),
        "early_stopping.n_to_go": 0,
        "loggers": "[]",
    }
    words = [str(program), *(word for name, value in flags.items() for word in (f"--{name}", str(value)))]
    code = [str(batch.run_code_dir(run.name).resolve()), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in code if part)}
    parent_pipe = ParentPipe()
    with log.open("wb") as file:
        process = subprocess.Popen(
            words,
            cwd=batch.read_index().folder,
            env={**environment, **TEMPORARY_RUN_ENVIRONMENT, **parent_pipe.environment},
            pass_fds=[parent_pipe.descriptor],
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        peak_mb = 0.0
        try:
            while process.poll() is None:
                check()
                peak_mb = max(peak_mb, session_memory_mb(process.pid))
                time.sleep(POLL_INTERVAL_S)
        finally:
            if process.poll() is None:
                print("Stopping the calibration ...", file=sys.stderr, flush=True)
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
            parent_pipe.close()
    if process.returncode:
        error = Run(out).info.get("error") or last_error_message(log)
        raise UsageError(
            f"calibration of {run.name} failed: {error}\nfix the error, or pass --time and --mem explicitly"
        )
    return peak_mb


def _make_calibration(
    batch: Batch, run: BatchRun, out: OutputDir, begin: datetime, end: datetime, memory: float
) -> Calibration:
    measured = Run(out)
    info, rows = measured.info, measured.history
    samples = get_int_parameter(batch, run, "trainer", "samples_per_epoch") or info["data"]["train"]
    if samples is None:
        raise UsageError(
            f"{run.name}: the length of its data stream is unknown: set --trainer.samples_per_epoch in the plan, or "
            "pass --time and --mem explicitly"
        )
    train_seconds = [row["seconds"] for row in rows]
    ends = info["epoch_ends"]
    # The first epoch compiles the model, which belongs to the start. It is the only one after an early stop.
    train_s = sum(train_seconds[1:]) / (len(rows) - 1) if len(rows) > 1 else train_seconds[0]
    epoch_s = (ends[-1] - ends[0]) / (len(rows) - 1) if len(rows) > 1 else train_s
    return Calibration(
        name=run.name,
        setup=make_setup_key(run),
        size=compute_size_score(run),
        samples=samples,
        measured=info["samples_per_epoch"],
        start=max(0.0, (end - begin).total_seconds() - len(rows) * epoch_s),
        of_samples=train_s,
        after_epoch=max(0.0, epoch_s - train_s),
        memory=memory or max(row["memory_mb"] for row in rows),
        disk=(measure_dir_bytes(out.path) - measure_dir_bytes(out.checkpoints)) / 1e6,
        checkpoint=max((measure_dir_bytes(path) for path in out.checkpoints.iterdir()), default=0) / 1e6,
        when=end.isoformat(" ", "minutes"),
        host=socket.gethostname(),
    )


def get_int_parameter(batch: Batch, run: BatchRun, group: str, name: str) -> int | None:
    """Return the parameter `group.name` of a run; None if it is not an integer."""
    value = get_parameter(batch, run, group, name)
    return value if isinstance(value, int) else None


def get_text_parameter(batch: Batch, run: BatchRun, group: str, name: str) -> str | None:
    """Return the parameter `group.name` of a run; None if it is not a string."""
    value = get_parameter(batch, run, group, name)
    return value if isinstance(value, str) else None


def get_parameter(batch: Batch, run: BatchRun, group: str, name: str) -> Json:
    """Return the JSON value of the parameter `group.name` of a run; None if there is none."""
    values = _read_parameters(batch.params_path(run.name))[group]
    return values.get(name) if isinstance(values, dict) else None


@functools.lru_cache(maxsize=4096)  # the files never change
def _read_parameters(file: Path) -> dict[str, Json]:
    return read_param_file(file)


def measure_dir_bytes(folder: Path) -> int:
    """Return the total size of the files below a directory; files that disappear meanwhile do not count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def format_duration(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds: 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
