"""Layout of a batch directory and its index of runs.

BATCH/
  batch.json       settings of the batch and its runs
  plan.yaml        plan it was generated from; plan_2.yaml, ...: plans that were added
  code/  git.diff  snapshot of the scenario's code, and its uncommitted changes
  code_2/          another snapshot, used by the runs whose jobs/NAME.code names it
  job.sh           starts or resumes a run: bash job.sh NAME
  jobs/NAME.json   parameters of a run; NAME.flags and NAME.once: see `_epoch_extension`
  runs/NAME/       run directory, see `OutputDir`
  logs/NAME.log    output of a run
  queue/           tickets of the local queue; queue/slurm: see `submissions`
  calibrations.json  measured time, memory and disk space
  reset/           archived results of runs that were reset
"""

from __future__ import annotations

import fnmatch
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tfaip_like._runs.batch_layout import BATCH_INDEX, CODE_DIR, RUNS_DIR, run_code_dir
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._user_code.trust import find_code_files
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like._utils.escaping import is_printable
from tfaip_like._utils.file_formats import FileFormat
from tfaip_like._utils.locks import inheritable_lock, is_locked
from tfaip_like._utils.typed_json import AtLeast, Count
from tfaip_like.params._formatting import format_flag_words

RANDOM_SEED_FLAG = "trainer.random_seed"


@dataclass(frozen=True)
class BatchRun:
    """Entry of a run in `batch.json`."""

    name: str
    configuration: str
    flags: Mapping[str, tuple[str, ...]]
    """Flags in effect that the plan sets, with the words of each."""
    epochs: Count
    monitor: str
    """Logged value that determines the best epoch."""
    expert: str | None = None
    version: str | None = None
    """Version of its configuration."""
    repeat: Count = 1
    task: Count | None = None
    """Number, from 1, of the array task that trains it together with other runs; None for a separate task."""
    random_seed: Count | None = None
    """Seed of this repetition, if it was derived from that of the plan."""

    def __post_init__(self) -> None:
        for name in (self.name, self.expert):
            if name is not None and not _is_valid_file_name(name):
                raise ValueError(f"{name!r} is not a valid directory name")

    @property
    def command_line(self) -> str:
        """Return the flags that reproduce the run, to be pasted after `train-scenario SCENARIO`."""
        seed = {} if self.random_seed is None else {RANDOM_SEED_FLAG: (str(self.random_seed),)}
        flags = {**self.flags, **seed, "trainer.output_dir": (str(self.output_dir),)}
        return " ".join(format_flag_words(f"--{flag}", words) for flag, words in flags.items())

    @property
    def output_dir(self) -> Path:
        """Return the run directory, relative to the batch directory."""
        return Path(RUNS_DIR, self.name)


@dataclass(frozen=True)
class BatchIndex:
    """Contents of `batch.json`."""

    scenario: str
    """Scenario class as `module:Class`."""
    description: str
    created: str
    folder: str
    """Working directory of `generate`; relative paths in parameters refer to it."""
    runs: tuple[BatchRun, ...] = ()
    overrides: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Flags of the generating command line, with the words of each."""
    compare_to: str | None = None
    names: str | None = None
    """Template of run names, see `format_name_template`."""
    debug: bool = False
    jobs: Annotated[int, AtLeast(1)] | None = None
    """Default number of parallel runs for `submit`."""
    array: Annotated[int, AtLeast(1)] | None = None
    """Number of array tasks, each of which trains all runs of the plan with different seeds; None for a
    separate task per run."""
    git_commit: str | None = None
    command: Sequence[str] = ()


INDEX_FORMAT = FileFormat("batch.json", BatchIndex)


@dataclass(frozen=True)
class Batch:
    """Directory of a batch."""

    path: Path

    @property
    def index_file(self) -> Path:
        """Return the path of `batch.json`."""
        return self.path / BATCH_INDEX

    @property
    def plan_path(self) -> Path:
        """Return the path of the plan that the batch was generated from."""
        return self.path / "plan.yaml"

    @property
    def code_dir(self) -> Path:
        """Return the code snapshot that was taken when the batch was generated."""
        return self.path / CODE_DIR

    def run_code_dir(self, name: str) -> Path:
        """Return the code snapshot that a run uses."""
        return run_code_dir(self.path, name)

    @property
    def git_diff(self) -> Path:
        """Return the path of the diff of uncommitted changes."""
        return self.path / "git.diff"

    @property
    def job_script_path(self) -> Path:
        """Return the path of the script that starts or resumes a run."""
        return self.path / "job.sh"

    def code_files(self) -> list[Path]:
        """Return all files that a run of the batch may execute."""
        return [
            self.job_script_path,
            *(file for folder in sorted(self.path.glob(f"{CODE_DIR}*")) for file in find_code_files(folder)),
        ]

    @property
    def jobs_dir(self) -> Path:
        """Return the directory with the parameters of each run."""
        return self.path / "jobs"

    @property
    def queue_dir(self) -> Path:
        """Return the directory with the tickets of submitted runs."""
        return self.path / "queue"

    def params_path(self, name: str) -> Path:
        """Return the path of the initial parameters of a run."""
        return self.jobs_dir / f"{name}.json"

    def run_dir(self, name: str) -> OutputDir:
        """Return the directory of a run."""
        return OutputDir(self.path / RUNS_DIR / name)

    def log_path(self, name: str) -> Path:
        """Return the path of the output of a run."""
        return self.path / "logs" / f"{name}.log"

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Lock the index of runs and the queue for the length of the block; yield the descriptor of the lock."""
        self.queue_dir.mkdir(exist_ok=True)
        with inheritable_lock(self.queue_dir / ".lock") as lock:
            yield lock

    def is_locked(self) -> bool:
        """Return whether a process holds the lock of the index and the queue."""
        return is_locked(self.queue_dir / ".lock")

    def read_index(self) -> BatchIndex:
        """Return the contents of `batch.json`.

        Raises:
            UsageError: if the directory is not a batch, or its index is damaged.
        """
        if not os.path.lexists(self.index_file):
            what = "not a batch (missing batch.json)" if self.path.exists() else "no such directory"
            raise UsageError(f"{self.path}: {what}; create a batch with `experiments generate PLAN`")
        index = INDEX_FORMAT.read(self.index_file)
        names = Counter(run.name for run in index.runs)
        for name, count in names.items():
            if count > 1:
                raise UsageError(f"{self.index_file}: runs: duplicate name {name!r} ({count} runs)")
        return index

    def write_index(self, index: BatchIndex) -> None:
        """Replace `batch.json`."""
        INDEX_FORMAT.write(self.index_file, index, indent=1)


def _is_valid_file_name(name: str) -> bool:
    return is_printable(name) and "/" not in name and name not in ("", ".", "..")


def select_runs(index: BatchIndex, patterns: Collection[str]) -> list[BatchRun]:
    """Return the runs whose name or configuration matches one of the patterns; all runs without patterns.

    Args:
        index: index of the batch.
        patterns: names, in which * and ? are wildcards.

    Raises:
        UsageError: if a pattern matches no run.
    """
    for pattern in patterns:
        if not any(_matches_pattern(run, pattern) for run in index.runs):
            names = truncate_list([run.name for run in index.runs], limit=8)
            raise UsageError(f"{pattern}: no run or configuration matches; available: {names or 'none'}")
    known = {run.name for run in index.runs}
    return [run for run in index.runs if not patterns or any(_is_selected(run, pattern, known) for pattern in patterns)]


def _is_selected(run: BatchRun, pattern: str, names: Collection[str]) -> bool:
    # A run may have the name of its configuration, which may have further runs by now.
    return run.name == pattern if pattern in names else _matches_pattern(run, pattern)


def _matches_pattern(run: BatchRun, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in (run.name, run.configuration))
