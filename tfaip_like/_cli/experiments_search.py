"""`experiments search PLAN`: hyperparameter search; the results of runs determine the next ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tfaip_like._cli.experiments_plan import PROGRAM, load_original_plan, load_plan, quote_path
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.native_stderr import suppress_native_stderr
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._plans.plan import Plan
from tfaip_like.experiments._search.search import Searcher, create_search, require_optuna
from tfaip_like.experiments._search.settings import (
    SearchOptions,
    StartOnly,
    read_search_settings,
    read_submit_options,
)
from tfaip_like.experiments._submit import require_trusted_batch
from tfaip_like.params._base import non_default_fields
from tfaip_like.params._field_rules import field_rules
from tfaip_like.params._flags import Flag


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
    count, launcher = searcher.num_parallel_runs, options.launcher.display_name
    echo(f"{batch.path}: {settings.trials} runs of {searcher.name}, {count} at a time ({launcher})")
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
        return create_search(plan, folder, text, options), plan
