"""`experiments search PLAN`: a batch whose runs are chosen one after the other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tfaip_like._cli.command import suppress_native_stderr
from tfaip_like._cli.experiments_plan import PROGRAM, default_batch_name, load_original_plan, load_plan, quote_path
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import UsageError
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._plans.plan import Plan
from tfaip_like.experiments._search.search import Searcher, create_search, require_optuna
from tfaip_like.experiments._search.settings import read_search_settings, read_submit_options
from tfaip_like.experiments._submit import SubmitOptions, require_trusted_batch
from tfaip_like.params._flags import Flag


class SearchOptions(SubmitOptions):
    """How values are searched."""

    configuration: str | None = None
    """The configuration of the plan whose `random` values are searched; it can be left out where there is one."""

    trials: int | None = None
    """How many runs; by default the `draws` of the configuration."""

    prune: bool = True
    """End runs that are worse than most others were at the same epoch."""

    description: str | None = None
    """What the search is for; wanted in the plan or here."""

    name: str | None = None
    """Name of the batch; by default that of the plan file."""

    folder: Path = Path("batches")
    """Where batches are kept: FOLDER/NAME/version_1, version_2 and so on."""

    def check(self) -> None:
        super().check()
        for name in ("dry_run", "wait"):
            self.require(not getattr(self, name), name, "cannot be used with search, which always waits for its runs")
        is_known = not self.slurm or (self.time is not None and self.mem is not None)
        self.require(is_known, "slurm", "needs --time and --mem, which would be measured again for each run")
        self.require(self.trials is None or self.trials >= 1, "trials", "must be at least 1")


START_ONLY_FLAGS = ("configuration", "prune", "description", "name", "folder")
"""Flags that say how a search begins."""


def search(words: list[str], options: SearchOptions, flags: list[Flag]) -> None:
    """Start or resume a search, until all its runs are decided."""
    require_optuna()
    if not words:
        raise UsageError(f"expected a plan file, or the folder of a search to resume: {PROGRAM} search PLAN")
    options.check_machine()  # before there is a batch
    batch, plan = _resume_search(words, options, flags) or _start_search(words, options, flags)
    settings = read_search_settings(batch)
    if not options.non_default_values():  # as it was begun
        options = dataclasses.replace(options, **read_submit_options(batch, settings).non_default_values())
    searcher = Searcher(batch, plan, options, log=echo)
    where = "on the cluster" if options.slurm else "here"
    echo(f"{batch.path}: {settings.trials} runs of {searcher.name}, {searcher.num_parallel_runs} at a time {where}")
    try:
        searcher.run()
    except KeyboardInterrupt:
        echo(f"search stopped; its runs continue. To resume it: {PROGRAM} search {quote_path(batch)}")
        raise
    if best := searcher.best():
        echo(f"best: {best[0]} {best[1]:.6g}; {PROGRAM} show {batch.path} shows all")


def _resume_search(words: list[str], options: SearchOptions, flags: list[Flag]) -> tuple[Batch, Plan] | None:
    """Return the search in a directory; None if the argument is not the directory of a batch."""
    batch = Batch(Path(words[0]))
    if not batch.index_file.exists():
        return None
    require_trusted_batch(batch, options.trust_code)
    settings = read_search_settings(batch)
    given = [flag.name for flag in flags] + [
        n for n in START_ONLY_FLAGS if getattr(options, n) != getattr(SearchOptions(), n)
    ]
    if given:
        raise UsageError(f"--{given[0]}: a search resumes with its original settings; only --trials can be changed")
    if options.trials is not None:
        dataclasses.replace(settings, trials=options.trials).write(batch)
    return batch, load_original_plan(batch)


def _start_search(words: list[str], options: SearchOptions, flags: list[Flag]) -> tuple[Batch, Plan]:
    """Return a new search."""
    with suppress_native_stderr():
        plan, text = load_plan(words, None, (), flags)
        plan = dataclasses.replace(plan, description=options.description or plan.description)
        if not plan.description:
            raise UsageError("--description is missing: say what this search is for, by this flag or in the plan")
        place = options.folder / (options.name or (Path(words[0]).stem if words else default_batch_name(plan.scenario)))
        return create_search(plan, place, text, options.configuration, options.trials, options.prune, options), plan
