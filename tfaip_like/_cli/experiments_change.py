"""`experiments cancel`, `update` and `reset`: change what becomes of the runs of a batch."""

from __future__ import annotations

import sys

from tfaip_like._cli.command import native_notes_hidden
from tfaip_like._cli.experiments_plan import PROGRAM, batch_of
from tfaip_like._user_code.trust import trusting
from tfaip_like._utils.console import say
from tfaip_like._utils.errors import UsageError, counted, some
from tfaip_like.experiments._cancel import cancel
from tfaip_like.experiments._reset import reset
from tfaip_like.experiments._search.settings import continuing_command
from tfaip_like.experiments._submit import check_batch
from tfaip_like.experiments._update import update
from tfaip_like.params import Params
from tfaip_like.params._flags import Flag


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
        say(f"{counted(len(cancelled.runs), 'run')} of {batch.path} cancelled; to resume: {continuing_command(batch)}")
        if cancelled.problem:
            print(
                f"({cancelled.problem}; running jobs stop by themselves within seconds, pending ones as soon as they "
                "start)",
                file=sys.stderr,
            )
    else:
        say(f"{batch.path}: nothing to cancel: none of these runs is waiting or running")


def update_runs(words: list[str], options: Trust, flags: list[Flag]) -> None:
    """Give runs the code as it is now."""
    batch = batch_of(words, "update BATCH RUN ...")
    if not words[1:]:
        raise UsageError(f"expected the runs to update: {PROGRAM} update BATCH RUN ... ('*' for all)")
    check_batch(batch, options.trust_code)
    with native_notes_hidden(), trusting(options.trust_code):
        runs, folder = update(batch, words[1:])
    say(f"{folder}: the code as it is now, for {counted(len(runs), 'run')}: {some([run.name for run in runs])}")
    if begun := [run.name for run in runs if batch.run(run.name).holds_a_run()]:
        say(f"already started, so they resume with the new code: {some(begun)}; {PROGRAM} reset lets them start again")


def reset_runs(words: list[str], options: Reset, flags: list[Flag]) -> None:
    """Make runs new again."""
    batch = batch_of(words, "reset BATCH RUN ...")
    runs = reset(batch, words[1:], options.delete)
    where = "deleted" if options.delete else f"moved to {batch.path / 'reset'}"
    if not runs:
        say(f"{batch.path}: nothing to reset: none of these runs has started")
        return
    say(
        f"{counted(len(runs), 'run')} of {batch.path} reset, files {where}; to train again: {continuing_command(batch)}"
    )
