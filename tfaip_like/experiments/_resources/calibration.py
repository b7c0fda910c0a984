"""Calibration: what a run takes, measured in a few short epochs of it.

A run takes time to start, then time for each sample, then time after each epoch (validation, saving). All three
are measured in a few short epochs with all its data opened, so that only the second has to be scaled.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import re
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
from tfaip_like._runs.run_files import read_history
from tfaip_like._utils.errors import UsageError, pluralize
from tfaip_like._utils.json_files import Json, format_json
from tfaip_like._utils.processes import ParentPipe
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like._utils.typed_json import AtLeast, Count, Seconds
from tfaip_like.experiments._batches.batch import Batch, BatchRun
from tfaip_like.experiments._status import last_error_message
from tfaip_like.params._files import read_param_file

NUM_EPOCHS = 3
BATCHES_PER_EPOCH = 50
"""In an epoch of the first calibration."""
TARGET_EPOCH_S = 2.0
"""A second calibration has epochs of about so long, where the first one's were too short to be measured well."""
SHORT_EPOCH_S, LONG_RUN_S = 1.0, 120.0
"""Seconds of an epoch that is too short, and of a run for which that matters."""
POLL_INTERVAL_S = 0.2
SCALED_FLAGS = ("trainer.random_seed", "trainer.epochs", "trainer.samples_per_epoch", "trainer.val_every_n")
"""Flags that a calibration need not have in common with a run."""

_TRAINING_SUMMARY_PATTERN = re.compile(
    r"(?:(\d+) samples?|a stream of samples), .* epochs? of (\d+) steps? of (?:(\d+) times )?(\d+) samples?"
)


@dataclass(frozen=True)
class Calibration:
    """What a short run of a run took; kept in the batch."""

    name: str
    setup: str
    """What of the run decides how long a sample takes, see `make_setup_key`."""
    size: Count
    """How large the numbers are that the run was given, see `compute_size_score`."""
    samples: Count
    """In an epoch of the whole run."""
    measured: Count
    """Samples in an epoch of the calibration."""
    start: Seconds
    """Before the first sample and after the last epoch."""
    of_samples: Seconds
    """For the samples of an epoch."""
    after_epoch: Seconds
    """For validation and saving."""
    memory: Annotated[float, AtLeast(0)]
    """Megabytes at the peak, of all its processes."""
    disk: Annotated[float, AtLeast(0)] = 0.0
    """Megabytes of its output folder without checkpoints."""
    checkpoint: Annotated[float, AtLeast(0)] = 0.0
    """Megabytes of a checkpoint."""
    when: str = ""
    host: str = ""

    def estimate_seconds(self, work: RemainingWork) -> float:
        """Return what a run of this set-up will take."""
        samples = work.epochs * (work.samples or self.samples)
        return self.start + samples * self.of_samples / self.measured + work.num_validations * self.after_epoch

    def text(self, work: RemainingWork) -> str:
        """Return the calculation."""
        each = 1000 * self.of_samples / self.measured
        kept = f" ({self.when}, on {self.host})" if self.when else ""
        total = format_duration(self.estimate_seconds(work))
        return (
            f"{self.name}: measured{kept} {self.start:.1f} s to start and end, {each:.3g} ms a sample "
            f"({pluralize(self.measured, 'sample')} in {self.of_samples:.2f} s), {self.after_epoch:.2f} s to validate "
            f"and save, {self.memory:.0f} MB\n"
            f"  {self.start:.1f} s + {pluralize(work.epochs, 'epoch')} x {work.samples or self.samples} samples x "
            f"{each:.3g} ms + {work.num_validations} x {self.after_epoch:.2f} s = {total}"
        )


@dataclass(frozen=True)
class RemainingWork:
    """What is left to do of a run."""

    epochs: int
    samples: int | None
    """In an epoch; None for all that there are."""
    val_every_n: int

    @property
    def num_validations(self) -> int:
        """Epochs that end with a validation, or at least with saving."""
        return math.ceil(self.epochs / max(1, self.val_every_n))


def compute_remaining_work(batch: Batch, run: BatchRun, done: int = 0) -> RemainingWork:
    """Return what is left to do of a run.

    Args:
        done: epochs that it has done already.
    """
    return RemainingWork(
        epochs=max(1, run.epochs - done),
        samples=get_int_parameter(batch, run, "trainer", "samples_per_epoch"),
        val_every_n=get_int_parameter(batch, run, "trainer", "val_every_n") or 0,
    )


def make_setup_key(run: BatchRun) -> str:
    """Return what of a run decides how long a sample takes: its flags without what is scaled, and without fractions.

    (A learning rate or a dropout of another value changes nothing.)
    """
    flags = {
        flag: list(words)
        for flag, words in run.flags.items()
        if flag not in SCALED_FLAGS and not all(_is_fraction(word) for word in words)
    }
    return format_json([run.configuration, run.expert, dict(sorted(flags.items()))])


def configuration_from_setup_key(setup: str) -> str:
    """Return the configuration of a set-up."""
    return str(json.loads(setup)[0])


def _is_fraction(word: str) -> bool:
    if word.isdecimal():
        return False
    try:
        float(word)
    except ValueError:
        return False
    return True


def compute_size_score(run: BatchRun) -> int:
    """Return the product of the whole numbers that a run was given: units, layers, files."""
    words = [word for flag, given in run.flags.items() if flag not in SCALED_FLAGS for word in given]
    return math.prod(int(word) for word in words if word.isdecimal() and int(word))


def calibrate(batch: Batch, run: BatchRun, check: Callable[[], None] = lambda: None) -> Calibration:
    """Trains a run for a few short epochs, in a temporary folder.

    Args:
        check: called while it trains; may raise to stop.
    """
    batch_size = get_int_parameter(batch, run, "train", "batch_size") or 1
    found = _measure(batch, run, batch_size * BATCHES_PER_EPOCH, check)
    seconds = found.estimate_seconds(compute_remaining_work(batch, run))
    if found.of_samples < SHORT_EPOCH_S and seconds > LONG_RUN_S and found.measured < found.samples:
        wanted = round(found.measured * TARGET_EPOCH_S / max(found.of_samples, 0.01))
        found = _measure(batch, run, min(found.samples, wanted), check)
    return found


def _measure(batch: Batch, run: BatchRun, samples: int, check: Callable[[], None]) -> Calibration:
    print(f"calibrating {run.name} with {NUM_EPOCHS} epochs of {samples} samples ...", file=sys.stderr, flush=True)
    with temporary_directory() as folder:
        out = OutputDir(Path(folder, "run"))
        log = Path(folder, "log")
        begin = datetime.now()
        memory = _train(batch, run, samples, out, log, check)
        end = datetime.now()
        return _make_calibration(batch, run, out, begin, end, memory)


def _train(batch: Batch, run: BatchRun, samples: int, out: OutputDir, log: Path, check: Callable[[], None]) -> float:
    """Runs the short training; its memory in MB."""
    program = Path(sysconfig.get_path("scripts")) / "train-scenario"
    flags = {
        "params": batch.params_path(run.name).resolve(),
        "trainer.output_dir": out.path,
        "trainer.checkpoint_dir": "none",
        "trainer.epochs": NUM_EPOCHS,
        "trainer.samples_per_epoch": samples,
        "trainer.val_every_n": min(1, get_int_parameter(batch, run, "trainer", "val_every_n") or 0),
        "early_stopping.n_to_go": 0,
    }
    words = [str(program), *(word for name, value in flags.items() for word in (f"--{name}", str(value)))]
    code = [str(batch.run_code_dir(run.name).resolve()), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in code if part)}
    parent_pipe = ParentPipe()
    with log.open("wb") as file:
        process = subprocess.Popen(
            words,
            cwd=batch.read_index().folder,
            env={**environment, **parent_pipe.environment},
            pass_fds=[parent_pipe.descriptor],
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        peak_mb = 0.0
        try:
            while process.poll() is None:
                check()
                peak_mb = max(peak_mb, _session_memory_mb(process.pid))
                time.sleep(POLL_INTERVAL_S)
        finally:
            if process.poll() is None:
                print("stopping the calibration ...", file=sys.stderr, flush=True)
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
            parent_pipe.close()
    if process.returncode:
        said = out.read_info().get("error") or last_error_message(log)
        raise UsageError(f"the calibration of {run.name} failed: {said}\nfix the error, or give --time and --mem")
    return peak_mb


def _make_calibration(
    batch: Batch, run: BatchRun, out: OutputDir, begin: datetime, end: datetime, memory: float
) -> Calibration:
    log = out.train_log.read_text(encoding="utf-8")
    plan = _TRAINING_SUMMARY_PATTERN.search(log)
    if plan is None:
        raise UsageError(f"the calibration of {run.name} left no plan in its log; give --time and --mem")
    measured = int(plan[2]) * int(plan[3] or 1) * int(plan[4])
    in_epoch = get_int_parameter(batch, run, "trainer", "samples_per_epoch") or int(plan[1] or 0)
    if not in_epoch:
        raise UsageError(
            f"{run.name} trains on a stream of unknown length: give --trainer.samples_per_epoch in its plan, or "
            "--time and --mem by hand"
        )
    rows = read_history(out.history)
    of_samples = [row["seconds"] for row in rows]
    ends = [_parse_timestamp(line) for line in log.splitlines() if re.search(r" INFO +epoch \d+/\d+: ", line)]
    # The first epoch compiles; that belongs to the start. (It may be the only one, if a threshold is reached at once.)
    usual = sum(of_samples[1:]) / (len(rows) - 1) if len(rows) > 1 else of_samples[0]
    whole = (ends[-1] - ends[0]).total_seconds() / (len(rows) - 1) if len(rows) > 1 else usual
    return Calibration(
        name=run.name,
        setup=make_setup_key(run),
        size=compute_size_score(run),
        samples=in_epoch,
        measured=measured,
        start=max(0.0, (end - begin).total_seconds() - len(rows) * whole),
        of_samples=usual,
        after_epoch=max(0.0, whole - usual),
        memory=memory or max(row["memory_mb"] for row in rows),
        disk=(measure_dir_bytes(out.path) - measure_dir_bytes(out.checkpoints)) / 1e6,
        checkpoint=max((measure_dir_bytes(path) for path in out.checkpoints.iterdir()), default=0) / 1e6,
        when=end.isoformat(" ", "minutes"),
        host=socket.gethostname(),
    )


def get_int_parameter(batch: Batch, run: BatchRun, group: str, name: str) -> int | None:
    """Return a whole number among the parameters of a run."""
    value = _get_parameter(batch, run, group, name)
    return value if isinstance(value, int) else None


def get_text_parameter(batch: Batch, run: BatchRun, group: str, name: str) -> str | None:
    """Return a text among the parameters of a run."""
    value = _get_parameter(batch, run, group, name)
    return value if isinstance(value, str) else None


def _get_parameter(batch: Batch, run: BatchRun, group: str, name: str) -> Json:
    values = _read_parameters(batch.params_path(run.name))[group]
    return values.get(name) if isinstance(values, dict) else None


@functools.lru_cache(maxsize=4096)  # they never change
def _read_parameters(file: Path) -> dict[str, Json]:
    return read_param_file(file)


def _session_memory_mb(session: int) -> float:
    """Megabytes of all processes of a session; 0 where the system does not report it."""
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # pid (name) state parent group session ...
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                pages += int((folder / "statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):  # it has ended just now
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure_dir_bytes(folder: Path) -> int:
    """Return how much the files in a folder hold; those that go away meanwhile do not count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _parse_timestamp(line: str) -> datetime:
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f")


def format_duration(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
