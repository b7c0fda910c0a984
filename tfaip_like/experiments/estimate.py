"""Time and memory that a run will take, from a short calibration of it.

A run takes time to start, then time for each sample, then time after each epoch (validation, saving). All three
are measured in a few short epochs with all its data opened, so that only the second has to be scaled.
"""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tfaip_like.errors import UsageError, counted, some
from tfaip_like.experiments.batch import SEED, Batch, BatchRun
from tfaip_like.experiments.status import last_words
from tfaip_like.interrupt import catch_interrupts
from tfaip_like.output_dir import OutputDir
from tfaip_like.params.store import read_values
from tfaip_like.processes import Lifeline
from tfaip_like.run_files import read_history
from tfaip_like.temporary import temporary_directory

EPOCHS = 3
BATCHES = 50
"""In an epoch of the first calibration."""
SECONDS_OF_AN_EPOCH = 2.0
"""A second calibration has epochs of about so long, where the first one's were too short to be measured well."""
SHORT, LONG = 1.0, 120.0
"""Seconds of an epoch that is too short, and of a run for which that matters."""
MARGIN = 1.3
MORE_MB = 200
MOST = 3
"""Runs that are calibrated, each of another configuration."""
SECONDS_BETWEEN_LOOKS = 0.2

_PLAN = re.compile(
    r"(?:(\d+) samples?|a stream of samples), .* epochs? of (\d+) steps? of (?:(\d+) times )?(\d+) samples?"
)


@dataclass(frozen=True)
class Calibration:
    """What a short run of a run took."""

    name: str
    epochs: int
    """Of the whole run, as the next three."""
    samples: int
    """In an epoch."""
    val_every_n: int
    measured: int
    """Samples in an epoch of the calibration."""
    start: float
    """Seconds before the first sample and after the last epoch."""
    of_samples: float
    """Seconds for the samples of an epoch."""
    after_epoch: float
    """Seconds for validation and saving."""
    memory: float
    """Megabytes at the peak, of all its processes."""

    @property
    def seconds(self) -> float:
        """What the whole run will take."""
        training = self.epochs * self.samples * self.of_samples / self.measured
        return self.start + training + self._validations * self.after_epoch

    @property
    def _validations(self) -> int:
        return math.ceil(self.epochs / max(1, self.val_every_n))

    def text(self) -> str:
        """The calculation."""
        each = 1000 * self.of_samples / self.measured
        return (
            f"{self.name}: measured {self.start:.1f} s to start and end, {each:.3g} ms a sample "
            f"({counted(self.measured, 'sample')} in {self.of_samples:.2f} s), {self.after_epoch:.2f} s to validate "
            f"and save, {self.memory:.0f} MB\n"
            f"  {self.start:.1f} s + {counted(self.epochs, 'epoch')} x {self.samples} samples x {each:.3g} ms + "
            f"{self._validations} x {self.after_epoch:.2f} s = {duration(self.seconds)}"
        )


@dataclass(frozen=True)
class Estimate:
    """What to ask for, so that the largest of some runs has room."""

    calibrations: Sequence[Calibration]
    save_seconds: int
    others: Sequence[str] = ()
    """Runs that differ from those that were measured."""

    @property
    def time(self) -> str:
        """The time limit, as SLURM writes it."""
        longest = max(calibration.seconds for calibration in self.calibrations)
        # A cluster looks at time limits once a minute, and may send its signal so much earlier.
        return duration(60 * math.ceil((MARGIN * longest + self.save_seconds + 60) / 60))

    @property
    def memory(self) -> str:
        """The memory, as SLURM writes it."""
        largest = max(calibration.memory for calibration in self.calibrations)
        return f"{100 * math.ceil((MARGIN * largest + MORE_MB) / 100)}M"

    def text(self) -> str:
        """The calculation, for the person who submits."""
        lines = [calibration.text() for calibration in self.calibrations]
        if self.others:
            lines.append(f"not measured: {some(self.others)}; where they take more, give --time and --mem")
        margin = f"{round(100 * (MARGIN - 1))} %"
        lines.append(f"--time {self.time}  (and {margin}, {self.save_seconds} s to save, a minute, rounded up)")
        lines.append(f"--mem {self.memory}  (and {margin}, {MORE_MB} MB, rounded up)")
        return "\n".join(lines)


def estimate(batch: Batch, runs: Iterable[BatchRun], save_seconds: int) -> Estimate:
    """Calibrates the largest run of each configuration, of at most three.

    Raises:
        UsageError: when a run fails even so far, or has no end that could be calculated.
        Interrupted: after a signal; nothing is left of the calibration.
    """
    chosen, others = choose(runs)
    with catch_interrupts() as interrupt:
        calibrations = [calibrate(batch, run, interrupt.check) for run in chosen]
    return Estimate(calibrations, save_seconds, [run.name for run in others])


def choose(runs: Iterable[BatchRun]) -> tuple[list[BatchRun], list[BatchRun]]:
    """The runs to measure, and one of each kind of the others.

    Large is what has many epochs, then what was given large whole numbers: units, layers, files.
    """
    largest: dict[str, BatchRun] = {}
    kinds: dict[str, BatchRun] = {}
    for run in sorted(runs, key=_size, reverse=True):
        largest.setdefault(run.configuration, run)
        kinds.setdefault(_kind(run), run)
    chosen = list(largest.values())[:MOST]
    measured = {_kind(run) for run in chosen}
    return chosen, [run for kind, run in kinds.items() if kind not in measured]


def _size(run: BatchRun) -> tuple[int, int]:
    words = [word for flag, given in run.flags.items() if flag != SEED for word in given]
    return run.epochs, math.prod(int(word) for word in words if word.isdecimal() and int(word))


def _kind(run: BatchRun) -> str:
    return str((run.configuration, run.expert, sorted(item for item in run.flags.items() if item[0] != SEED)))


def calibrate(batch: Batch, run: BatchRun, check: Callable[[], None] = lambda: None) -> Calibration:
    """Trains a run for a few short epochs, in a temporary folder.

    Args:
        check: called while it trains; may raise to stop.
    """
    batch_size = _number(batch, run, "train", "batch_size") or 1
    found = _measured(batch, run, batch_size * BATCHES, check)
    if found.of_samples < SHORT and found.seconds > LONG and found.measured < found.samples:
        wanted = round(found.measured * SECONDS_OF_AN_EPOCH / max(found.of_samples, 0.01))
        found = _measured(batch, run, min(found.samples, wanted), check)
    return found


def _measured(batch: Batch, run: BatchRun, samples: int, check: Callable[[], None]) -> Calibration:
    print(f"calibrating {run.name} with {EPOCHS} epochs of {samples} samples ...", file=sys.stderr, flush=True)
    with temporary_directory() as folder:
        out = OutputDir(Path(folder, "run"))
        log = Path(folder, "log")
        begin = datetime.now()
        memory = _train(batch, run, samples, out, log, check)
        end = datetime.now()
        return _calibration(batch, run, out, begin, end, memory)


def _train(batch: Batch, run: BatchRun, samples: int, out: OutputDir, log: Path, check: Callable[[], None]) -> float:
    """Runs the short training; its memory in MB."""
    program = Path(sysconfig.get_path("scripts")) / "train-scenario"
    flags = {
        "params": batch.params(run.name).resolve(),
        "trainer.output_dir": out.path,
        "trainer.epochs": EPOCHS,
        "trainer.samples_per_epoch": samples,
        "trainer.val_every_n": min(1, _number(batch, run, "trainer", "val_every_n") or 0),
        "early_stopping.n_to_go": 0,
    }
    words = [str(program), *(word for name, value in flags.items() for word in (f"--{name}", str(value)))]
    code = [str(batch.code_of(run.name).resolve()), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in code if part)}
    lifeline = Lifeline()
    with log.open("wb") as file:
        process = subprocess.Popen(
            words,
            cwd=batch.index().folder,
            env={**environment, **lifeline.environment},
            pass_fds=[lifeline.descriptor],
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        most = 0.0
        try:
            while process.poll() is None:
                check()
                most = max(most, _memory_of_session(process.pid))
                time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            if process.poll() is None:
                print("stopping the calibration ...", file=sys.stderr, flush=True)
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
            lifeline.cut()
    if process.returncode:
        said = out.record().get("error") or last_words(log)
        raise UsageError(f"the calibration of {run.name} failed: {said}\nmend it, or give --time and --mem by hand")
    return most


def _calibration(
    batch: Batch, run: BatchRun, out: OutputDir, begin: datetime, end: datetime, memory: float
) -> Calibration:
    log = out.train_log.read_text(encoding="utf-8")
    plan = _PLAN.search(log)
    if plan is None:
        raise UsageError(f"the calibration of {run.name} left no plan in its log; give --time and --mem by hand")
    measured = int(plan[2]) * int(plan[3] or 1) * int(plan[4])
    in_epoch = _number(batch, run, "trainer", "samples_per_epoch") or int(plan[1] or 0)
    if not in_epoch:
        raise UsageError(
            f"{run.name} trains on a stream, whose end is not known: give --trainer.samples_per_epoch in its plan, or "
            "--time and --mem by hand"
        )
    rows = read_history(out.history)
    of_samples = [row["seconds"] for row in rows]
    ends = [_when(line) for line in log.splitlines() if re.search(r" INFO +epoch \d+/\d+: ", line)]
    # The first epoch compiles; that belongs to the start. (It may be the only one, if a threshold is reached at once.)
    usual = sum(of_samples[1:]) / (len(rows) - 1) if len(rows) > 1 else of_samples[0]
    whole = (ends[-1] - ends[0]).total_seconds() / (len(rows) - 1) if len(rows) > 1 else usual
    return Calibration(
        name=run.name,
        epochs=run.epochs,
        samples=in_epoch,
        val_every_n=_number(batch, run, "trainer", "val_every_n") or 0,
        measured=measured,
        start=max(0.0, (end - begin).total_seconds() - len(rows) * whole),
        of_samples=usual,
        after_epoch=max(0.0, whole - usual),
        memory=memory or max(row["memory_mb"] for row in rows),
    )


def _number(batch: Batch, run: BatchRun, group: str, name: str) -> int | None:
    """A whole number among the parameters of a run."""
    values = read_values(batch.params(run.name))[group]
    value = values.get(name) if isinstance(values, dict) else None
    return value if isinstance(value, int) else None


def _memory_of_session(session: int) -> float:
    """Megabytes of all processes of a session; 0 where the system does not tell."""
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # pid (name) state parent group session ...
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                pages += int((folder / "statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):  # it has ended just now
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _when(line: str) -> datetime:
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f")


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
