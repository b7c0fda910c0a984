"""`experiments search PLAN`: a batch whose runs are chosen one after the other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tfaip_like._cli.command import native_notes_hidden
from tfaip_like._cli.experiments_plan import PROGRAM, again, last_word, plan_of, quoted
from tfaip_like._utils.console import say
from tfaip_like._utils.errors import UsageError
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._plans.plan import Plan
from tfaip_like.experiments._search.search import Searcher, begin, check_that_optuna_is_there
from tfaip_like.experiments._search.settings import settings_of, submission_of
from tfaip_like.experiments._submit import Submit, check_batch
from tfaip_like.params._flags import Flag


class Search(Submit):
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


BEGINNING = ("configuration", "prune", "description", "name", "folder")
"""Flags that say how a search begins."""


def search(words: list[str], options: Search, flags: list[Flag]) -> None:
    """Begins a search, or goes on with one, until all its runs are decided."""
    check_that_optuna_is_there()
    if not words:
        raise UsageError(f"expected a plan file, or the folder of a search to resume: {PROGRAM} search PLAN")
    options.check_machine()  # before there is a batch
    batch, plan = _taken_up(words, options, flags) or _begun(words, options, flags)
    settings = settings_of(batch)
    if not options.given():  # as it was begun
        options = dataclasses.replace(options, **submission_of(batch, settings).given())
    searcher = Searcher(batch, plan, options, tell=say)
    where = "on the cluster" if options.slurm else "here"
    say(f"{batch.path}: {settings.trials} runs of {searcher.name}, {searcher.at_once} at a time {where}")
    try:
        searcher.work()
    except KeyboardInterrupt:
        say(f"search stopped; its runs continue. To resume it: {PROGRAM} search {quoted(batch)}")
        raise
    if best := searcher.best():
        say(f"best: {best[0]} {best[1]:.6g}; {PROGRAM} show {batch.path} shows all")


def _taken_up(words: list[str], options: Search, flags: list[Flag]) -> tuple[Batch, Plan] | None:
    """The search in a folder; None if the word is no folder of a batch."""
    batch = Batch(Path(words[0]))
    if not batch.index_file.exists():
        return None
    check_batch(batch, options.trust_code)
    settings = settings_of(batch)
    given = [flag.name for flag in flags] + [n for n in BEGINNING if getattr(options, n) != getattr(Search(), n)]
    if given:
        raise UsageError(f"--{given[0]}: a search resumes with its original settings; only --trials can be changed")
    if options.trials is not None:
        dataclasses.replace(settings, trials=options.trials).write(batch)
    return batch, again(batch)


def _begun(words: list[str], options: Search, flags: list[Flag]) -> tuple[Batch, Plan]:
    """A new search."""
    with native_notes_hidden():
        plan, text = plan_of(words, None, (), flags)
        plan = dataclasses.replace(plan, description=options.description or plan.description)
        if not plan.description:
            raise UsageError("--description is missing: say what this search is for, by this flag or in the plan")
        place = options.folder / (options.name or (Path(words[0]).stem if words else last_word(plan.scenario)))
        return begin(plan, place, text, options.configuration, options.trials, options.prune, options), plan
