"""A batch of experiments on disk: the names of what lies in its folder, and its list of runs.

BATCH/
  batch.json       what it is, and its runs
  plan.yaml        the plan it was made from; plan_2.yaml and so on are those that were added
  code/  git.diff  the scenario's code as it was, and what was not committed of it
  code_2/          other code, for the runs that jobs/NAME.code names it for
  job.sh           runs one of the runs, or goes on with it: bash job.sh NAME
  jobs/NAME.json   the parameters of a run; NAME.flags and NAME.once: see `more_epochs`
  runs/NAME/       what the run leaves, see `output_dir`
  logs/NAME.log    what it prints
  queue/           which runs wait, run and have ended; queue/slurm: see `submissions`
  calibrations.json  what runs took that were measured
  reset/           what runs had left that were reset
"""

from __future__ import annotations

import dataclasses
import fnmatch
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
from tfaip_like._utils.files import file_lock, is_locked
from tfaip_like._utils.json_files import write_json
from tfaip_like._utils.typed_json import AtLeast, Count, read_typed_json
from tfaip_like.params._formatting import format_flag_words

RANDOM_SEED_FLAG = "trainer.random_seed"


@dataclass(frozen=True)
class BatchRun:
    """A run of a batch."""

    name: str
    configuration: str
    flags: Mapping[str, tuple[str, ...]]
    """Flags in effect that its plan gives, and the words of each."""
    epochs: Count
    monitor: str
    """The logged value that tells its best epoch."""
    expert: str | None = None
    version: str | None = None
    """Version of its configuration."""
    repeat: Count = 1
    task: Count | None = None
    """Number of the array task, from 1, that trains it with others; None if it has its own."""
    random_seed: Count | None = None
    """Seed of this repetition, if it was counted up from that of its plan."""

    def __post_init__(self) -> None:
        for name in (self.name, self.expert):
            if name is not None and not _is_valid_file_name(name):
                raise ValueError(f"{name!r} cannot be the name of a folder")

    @property
    def command_line(self) -> str:
        """Return the flags that repeat it, to be pasted after `train-scenario SCENARIO`."""
        counted = {} if self.random_seed is None else {RANDOM_SEED_FLAG: (str(self.random_seed),)}
        flags = {**self.flags, **counted, "trainer.output_dir": (str(self.output_dir),)}
        return " ".join(format_flag_words(f"--{flag}", words) for flag, words in flags.items())

    @property
    def output_dir(self) -> Path:
        """Return its output folder, below that of the batch."""
        return Path(RUNS_DIR, self.name)


@dataclass(frozen=True)
class BatchIndex:
    """What `batch.json` holds."""

    scenario: str
    """Its class: `module:Class`."""
    description: str
    created: str
    folder: str
    """Where it was generated: relative paths in parameters start there."""
    runs: tuple[BatchRun, ...] = ()
    overrides: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Flags of the command line that generated it, with their words."""
    compare_to: str | None = None
    names: str | None = None
    """Template of the names of its runs, see `names.format_name_template`."""
    debug: bool = False
    jobs: Annotated[int, AtLeast(1)] | None = None
    """Runs at a time, where submit is not given another number."""
    array: Annotated[int, AtLeast(1)] | None = None
    """Array tasks, each of which trains all runs of the plan with other seeds; None where each run is a task."""
    git_commit: str | None = None
    command: Sequence[str] = ()


@dataclass(frozen=True)
class Batch:
    """The folder of a batch."""

    path: Path

    @property
    def index_file(self) -> Path:
        """What it is, and its runs."""
        return self.path / BATCH_INDEX

    @property
    def plan_path(self) -> Path:
        """The plan that it was made from."""
        return self.path / "plan.yaml"

    @property
    def code_dir(self) -> Path:
        """The scenario's code as it was."""
        return self.path / CODE_DIR

    def run_code_dir(self, name: str) -> Path:
        """Return the folder with the code of a run."""
        return run_code_dir(self.path, name)

    @property
    def git_diff(self) -> Path:
        """What was not committed of it."""
        return self.path / "git.diff"

    @property
    def job_script_path(self) -> Path:
        """Runs one of its runs."""
        return self.path / "job.sh"

    def code_files(self) -> list[Path]:
        """Return all that a run of it would execute."""
        return [
            self.job_script_path,
            *(file for folder in sorted(self.path.glob(f"{CODE_DIR}*")) for file in find_code_files(folder)),
        ]

    @property
    def jobs_dir(self) -> Path:
        """Parameters of each run."""
        return self.path / "jobs"

    @property
    def queue_dir(self) -> Path:
        """Who waits, runs and has ended."""
        return self.path / "queue"

    def params_path(self, name: str) -> Path:
        """The parameters that a run begins with."""
        return self.jobs_dir / f"{name}.json"

    def run_dir(self, name: str) -> OutputDir:
        """What a run leaves."""
        return OutputDir(self.path / RUNS_DIR / name)

    def log_path(self, name: str) -> Path:
        """What a run prints."""
        return self.path / "logs" / f"{name}.log"

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Keep others from changing the list of runs or the queue for the length of the block; yield the lock."""
        self.queue_dir.mkdir(exist_ok=True)
        with file_lock(self.queue_dir / ".lock") as lock:
            yield lock

    def is_locked(self) -> bool:
        """Return whether somebody changes the list of runs or the queue just now."""
        return is_locked(self.queue_dir / ".lock")

    def read_index(self) -> BatchIndex:
        """What it is, and its runs.

        Raises:
            UsageError: when there is no batch in this folder, or its list cannot be read.
        """
        if not self.index_file.exists() and not self.index_file.is_symlink():
            what = "is no batch of experiments (no batch.json)" if self.path.exists() else "there is no such folder"
            raise UsageError(f"{self.path}: {what}; `experiments generate PLAN` makes one")
        index = read_typed_json(BatchIndex, self.index_file)
        names = Counter(run.name for run in index.runs)
        for name, number in names.items():
            if number > 1:
                raise UsageError(f"{self.index_file}: runs: {number} of them are called {name!r}")
        return index

    def write_index(self, index: BatchIndex) -> None:
        """Replaces the list of runs."""
        write_json(self.index_file, dataclasses.asdict(index), indent=1)


def _is_valid_file_name(name: str) -> bool:
    return is_printable(name) and "/" not in name and name not in ("", ".", "..")


def select_runs(index: BatchIndex, patterns: Collection[str]) -> list[BatchRun]:
    """The runs with one of these names or of one of these configurations; * and ? stand for anything.

    Raises:
        UsageError: for a pattern that fits none.
    """
    for pattern in patterns:
        if not any(_matches_pattern(run, pattern) for run in index.runs):
            names = truncate_list([run.name for run in index.runs], limit=8)
            raise UsageError(f"{pattern}: no run or configuration has this name; there are {names or 'none'}")
    known = {run.name for run in index.runs}
    return [run for run in index.runs if not patterns or any(_is_selected(run, pattern, known) for pattern in patterns)]


def _is_selected(run: BatchRun, pattern: str, names: Collection[str]) -> bool:
    # The name of a run may be that of its configuration as well, which has more runs by now.
    return run.name == pattern if pattern in names else _matches_pattern(run, pattern)


def _matches_pattern(run: BatchRun, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in (run.name, run.configuration))
