"""`experiments search PLAN`: hyperparameter search; the results of runs determine the next ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tfaip_like._cli.command import suppress_native_stderr
from tfaip_like._cli.experiments_plan import PROGRAM, load_original_plan, load_plan, quote_path
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import UsageError
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._plans.plan import Plan
from tfaip_like.experiments._search.search import Searcher, create_search, require_optuna
from tfaip_like.experiments._search.settings import read_search_settings, read_submit_options
from tfaip_like.experiments._submit import SubmitOptions, require_trusted_batch
from tfaip_like.params._base import non_default_fields
from tfaip_like.params._field_rules import field_rules
from tfaip_like.params._flags import Flag


@dataclass(frozen=True)
class StartOnly:
    """Rule: the field can be given when a search starts, not when it is resumed."""


class SearchOptions(SubmitOptions):
    """Options of a hyperparameter search."""

    configuration: Annotated[str | None, StartOnly()] = None
    """Configuration of the plan whose `random` values are searched; required if several have such values."""

    trials: int | None = None
    """Number of runs. Default: `draws` of the configuration."""

    prune: Annotated[bool, StartOnly()] = True
    """Stop runs early that are worse than most others were at the same epoch."""

    description: Annotated[str | None, StartOnly()] = None
    """Purpose of the search; required here or in the plan."""

    name: Annotated[str | None, StartOnly()] = None
    """Name of the batch. Default: the name of the plan file."""

    folder: Annotated[Path, StartOnly()] = Path("batches")
    """Parent directory of batches; a batch is written to FOLDER/NAME/version_1, version_2 and so on."""

    def check(self) -> None:
        super().check()
        for name in ("dry_run", "wait"):
            self.require(not getattr(self, name), name, "not available: a search always runs and waits for its runs")
        is_known = not self.slurm or (self.time is not None and self.mem is not None)
        self.require(
            is_known, "slurm", "requires --time and --mem in a search; otherwise every run would be calibrated"
        )
        self.require(self.trials is None or self.trials >= 1, "trials", "must be at least 1")


def search(words: list[str], options: SearchOptions, flags: list[Flag]) -> None:
    """Start or resume a search, and work on it until all its trials have ended."""
    require_optuna()
    if not words:
        raise UsageError(f"missing argument PLAN, or the directory of a search. usage: {PROGRAM} search PLAN")
    options.check_machine()  # before the batch is created
    batch, plan = _resume_search(words, options, flags) or _start_search(words, options, flags)
    settings = read_search_settings(batch)
    if not options.non_default_values():  # resume with the settings it was started with
        options = dataclasses.replace(options, **read_submit_options(batch, settings).non_default_values())
    searcher = Searcher(batch, plan, options, log=echo)
    location = "on the cluster" if options.slurm else "on this machine"
    echo(f"{batch.path}: {settings.trials} runs of {searcher.name}, {searcher.num_parallel_runs} at a time {location}")
    try:
        searcher.run()
    except KeyboardInterrupt:
        echo(f"search stopped; its runs continue. To resume it: {PROGRAM} search {quote_path(batch)}")
        raise
    if best := searcher.best():
        echo(f"best: {best[0]} {best[1]:.6g}; to list all runs: {PROGRAM} show {quote_path(batch)}")


def _resume_search(words: list[str], options: SearchOptions, flags: list[Flag]) -> tuple[Batch, Plan] | None:
    """Return the search in a directory; None if the argument is not the directory of a batch."""
    batch = Batch(Path(words[0]))
    if not batch.index_file.exists():
        return None
    require_trusted_batch(batch, options.trust_code)
    settings = read_search_settings(batch)
    start_only = field_rules(SearchOptions, StartOnly)
    rejected = [flag.name for flag in flags] + [name for name in non_default_fields(options) if name in start_only]
    if rejected:
        raise UsageError(f"--{rejected[0]}: a search resumes with its original settings; only --trials can be changed")
    if options.trials is not None:
        dataclasses.replace(settings, trials=options.trials).write(batch)
    return batch, load_original_plan(batch)


def _start_search(words: list[str], options: SearchOptions, flags: list[Flag]) -> tuple[Batch, Plan]:
    """Return a new search."""
    with suppress_native_stderr():
        plan, text = load_plan(words, None, (), flags)
        plan = dataclasses.replace(plan, description=options.description or plan.description)
        if not plan.description:
            raise UsageError("--description is required (here or in the plan): the purpose of the search")
        folder = options.folder / (options.name or Path(words[0]).stem)
        return create_search(plan, folder, text, options.configuration, options.trials, options.prune, options), plan
