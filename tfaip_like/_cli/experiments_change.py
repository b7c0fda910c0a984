"""`experiments cancel`, `update` and `reset`: change the state or the code of runs."""

from __future__ import annotations

import sys

from tfaip_like._cli.experiments_plan import PROGRAM, open_batch
from tfaip_like._user_code.trust import allow_untrusted_code
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import UsageError, pluralize, truncate_list
from tfaip_like._utils.native_stderr import suppress_native_stderr
from tfaip_like.experiments._cancel import cancel
from tfaip_like.experiments._reset import reset
from tfaip_like.experiments._search.settings import resume_command
from tfaip_like.experiments._submit import require_trusted_batch
from tfaip_like.experiments._update import update
from tfaip_like.params import Params
from tfaip_like.params._flags import Flag


class TrustOptions(Params):
    """Trust in the code of a batch."""

    trust_code: bool = False
    """Run the code of another user's batch, and record it as trusted."""


class ResetOptions(Params):
    """Handling of the results of reset runs."""

    delete: bool = False
    """Delete the results instead of moving them to reset/ of the batch."""


class NoOptions(Params):
    """No options."""


def cancel_runs(words: list[str], options: TrustOptions, flags: list[Flag]) -> None:
    """Cancel queued and running runs."""
    batch = open_batch(words, "cancel BATCH [RUN ...]")
    cancelled = cancel(batch, words[1:], options.trust_code)
    if cancelled.runs:
        echo(f"{pluralize(len(cancelled.runs), 'run')} of {batch.path} cancelled; to resume: {resume_command(batch)}")
        if cancelled.problem:
            print(
                f"({cancelled.problem}; running jobs stop by themselves within seconds, pending jobs stop as soon "
                "as they start)",
                file=sys.stderr,
            )
    else:
        echo(f"{batch.path}: nothing to cancel: none of these runs is queued or running")


def update_runs(words: list[str], options: TrustOptions, flags: list[Flag]) -> None:
    """Make runs use the current code of their scenario."""
    batch = open_batch(words, "update BATCH RUN ...")
    if not words[1:]:
        raise UsageError(f"missing argument RUN. usage: {PROGRAM} update BATCH RUN ... ('*' for all)")
    require_trusted_batch(batch, options.trust_code)
    with suppress_native_stderr(), allow_untrusted_code(options.trust_code):
        runs, folder = update(batch, words[1:])
    echo(f"{folder}: current code, used by {pluralize(len(runs), 'run')}: {truncate_list([run.name for run in runs])}")
    if started := [run.name for run in runs if batch.run_dir(run.name).has_run()]:
        echo(
            f"{truncate_list(started)}: already started, will resume with the new code; to train from scratch "
            f"instead: {PROGRAM} reset"
        )


def reset_runs(words: list[str], options: ResetOptions, flags: list[Flag]) -> None:
    """Reset runs, so that they train from scratch."""
    batch = open_batch(words, "reset BATCH RUN ...")
    runs = reset(batch, words[1:], options.delete)
    outcome = "deleted" if options.delete else f"moved to {batch.path / 'reset'}"
    if not runs:
        echo(f"{batch.path}: nothing to reset: none of these runs has started")
        return
    echo(
        f"{pluralize(len(runs), 'run')} of {batch.path} reset, files {outcome}; to train again: {resume_command(batch)}"
    )
