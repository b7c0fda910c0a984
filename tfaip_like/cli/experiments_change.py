"""`experiments cancel`, `update` and `reset`: change what becomes of the runs of a batch."""

from __future__ import annotations

import sys

from tfaip_like.cli.command import native_notes_hidden
from tfaip_like.cli.experiments_plan import PROGRAM, batch_of
from tfaip_like.console import say
from tfaip_like.errors import UsageError, counted, some
from tfaip_like.experiments.cancel import cancel
from tfaip_like.experiments.reset import reset
from tfaip_like.experiments.search_settings import continuing_command
from tfaip_like.experiments.submit import check_batch
from tfaip_like.experiments.update import update
from tfaip_like.params import Params
from tfaip_like.params.flags import Flag
from tfaip_like.trust import trusting


class Trust(Params):
    """Whose code is run."""

    trust_code: bool = False
    """Run the code of a batch that somebody else made; it is recorded as trusted."""


class Reset(Params):
    """What becomes of what runs have left."""

    delete: bool = False
    """Delete it, instead of moving it to reset/ of the batch."""


class Nothing(Params):
    """Nothing to choose."""


def cancel_runs(words: list[str], options: Trust, flags: list[Flag]) -> None:
    """Stop runs."""
    batch = batch_of(words, "cancel BATCH [RUN ...]")
    cancelled = cancel(batch, words[1:], options.trust_code)
    if cancelled.runs:
        how = f"{continuing_command(batch)} continues them"
        say(f"{counted(len(cancelled.runs), 'run')} of {batch.path} cancelled; {how}")
        if cancelled.problem:
            print(
                f"({cancelled.problem}; on the cluster they stop by themselves within seconds, those that wait when "
                "their turn comes)",
                file=sys.stderr,
            )
    else:
        say(f"{batch.path}: nothing to cancel, none of these runs waits or runs")


def update_runs(words: list[str], options: Trust, flags: list[Flag]) -> None:
    """Give runs the code as it is now."""
    batch = batch_of(words, "update BATCH RUN ...")
    if not words[1:]:
        raise UsageError(f"which runs? {PROGRAM} update BATCH RUN ... ('*' for all)")
    check_batch(batch, options.trust_code)
    with native_notes_hidden(), trusting(options.trust_code):
        runs, folder = update(batch, words[1:])
    say(f"{folder}: the code as it is now, for {counted(len(runs), 'run')}: {some([run.name for run in runs])}")
    if begun := [run.name for run in runs if batch.run(run.name).holds_a_run()]:
        say(f"already begun, so they continue with it: {some(begun)}; {PROGRAM} reset makes them new again")


def reset_runs(words: list[str], options: Reset, flags: list[Flag]) -> None:
    """Make runs new again."""
    batch = batch_of(words, "reset BATCH RUN ...")
    runs = reset(batch, words[1:], options.delete)
    where = "deleted" if options.delete else f"moved to {batch.path / 'reset'}"
    what = f"what they had left was {where}; {continuing_command(batch)} trains them from their beginning"
    say(f"{counted(len(runs), 'run')} of {batch.path} reset{f'; {what}' if runs else ''}")
