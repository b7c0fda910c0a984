"""`experiments COMMAND ...`: batches of runs, from the plan to the comparison of their results."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tfaip_like._cli.command import run_program
from tfaip_like._cli.compare_runs import CompareOptions, compare
from tfaip_like._cli.experiments_change import (
    NoOptions,
    ResetOptions,
    TrustOptions,
    cancel_runs,
    reset_runs,
    update_runs,
)
from tfaip_like._cli.experiments_plan import (
    PROGRAM,
    default_batch_name,
    load_original_plan,
    load_plan,
    open_batch,
    parse_overrides,
    quote_path,
    read_batch_flags,
    with_name_template,
)
from tfaip_like._cli.experiments_search import search
from tfaip_like._cli.subcommands import Subcommand, run_subcommand
from tfaip_like._user_code.trust import allow_untrusted_code
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import TrainingError, UsageError, pluralize, truncate_list
from tfaip_like._utils.native_stderr import suppress_native_stderr
from tfaip_like._utils.operating_system import require_posix
from tfaip_like.experiments._batches.batch import Batch, BatchRun, select_runs
from tfaip_like.experiments._batches.generation import add, generate, preview
from tfaip_like.experiments._plans.plan_writer import plan_to_yaml
from tfaip_like.experiments._search.settings import SearchOptions
from tfaip_like.experiments._status.run_state import ACTIVE_STATES
from tfaip_like.experiments._status_table import (
    collect_statuses,
    format_log_tail,
    format_table,
    is_idle,
    only_runs,
    statuses_to_json,
)
from tfaip_like.experiments._submit import (
    SubmitOptions,
    require_trusted_batch,
    submit,
    wait_until_finished,
)
from tfaip_like.experiments.launchers import Launcher
from tfaip_like.params import Params
from tfaip_like.params._flags import Flag

PURPOSE = (
    "Manage batches of runs. A plan is expanded into a directory with all runs, which a local queue or a cluster "
    "trains."
)


class PlannedRunsOptions(SubmitOptions):
    """Runs to put into a batch."""

    models: list[str] = []
    """Models and the number of runs of each, instead of a plan file: class.architecture=number
    ("classifier.clu_one=10, autoencoder.classical=45")."""

    names: str | None = None
    """Template for run names, with flags in braces: "{model.graph}_{learning_rate.lr}". Default: the template of the
    plan, otherwise the name of the configuration."""

    array: int | None = None
    """Number of array tasks; each trains all runs of the plan, with different seeds. Default: the value the batch was
    generated with, otherwise one task per run."""

    run: bool = False
    """Submit the runs."""

    allowed_without_run: ClassVar[tuple[str, ...]] = ("dry_run",)
    """Flags of submit that have an effect without --run."""

    def check(self) -> None:
        super().check()
        self.require(self.array is None or self.array >= 1, "array", "must be at least 1")
        for name in self.non_default_values():
            is_useful = self.run or name in self.allowed_without_run
            self.require(is_useful, name, "requires --run; otherwise pass it to `experiments submit`")


class AddOptions(PlannedRunsOptions):
    """Runs to add to a batch, and the code they use."""

    new_code: bool = False
    """Use the current code of the scenario for these runs, instead of the snapshot in the batch."""


class GenerateOptions(PlannedRunsOptions):
    """Options for generating a batch."""

    scenario: str | None = None
    """Scenario of --models, in any form that train-scenario accepts. Default: scenario.py of the current directory."""

    description: str | None = None
    """Purpose of the batch; required here or in the plan."""

    name: str | None = None
    """Name of the batch. Default: the name of the plan file or of the scenario."""

    folder: Path = Path("batches")
    """Parent directory of batches; a batch is written to FOLDER/NAME/version_1, version_2 and so on."""

    debug: bool = False
    """Generate a small batch for a quick test: the first expert and the first repetition of each configuration, in the
    temporary directory. Needs no description."""

    allowed_without_run = ("dry_run", "jobs")

    def check(self) -> None:
        super().check()
        self.require(
            self.array is None or not self.debug,
            "array",
            "cannot be combined with --debug, which generates one run of each",
        )
        is_default = self.folder == Path("batches")
        self.require(
            is_default or not self.debug,
            "folder",
            "not available with --debug (temporary directory)",
        )


class ShowOptions(Params):
    """Options of the status table."""

    watch: bool = False
    """Refresh every two seconds (ten for runs on a cluster) until no run is queued or running."""

    json: bool = False
    """Print JSON instead of tables."""

    brief: bool = False
    """Print one line per batch, without its runs."""

    log: str | None = None
    """Name of a run; print the last lines of its log instead of the table."""

    lines: int = 20
    """Number of log lines to print with --log."""


def _generate(words: list[str], options: GenerateOptions, flags: list[Flag]) -> None:
    require_posix("experiments")
    if options.run:
        options.check_machine()  # before the batch is created
    with suppress_native_stderr(), allow_untrusted_code(options.trust_code):
        plan, text = load_plan(words, options.scenario, options.models, flags)
        if options.description is not None:
            plan = dataclasses.replace(plan, description=options.description)
        if options.names is not None:
            plan = with_name_template(plan, options.names)
        if not plan.description and not options.debug:
            raise UsageError("--description is required (here or in the plan): the purpose of the batch")
        if options.dry_run:
            echo(_format_runs(preview(plan, options.debug, options.array), plan.scenario))
            return
        # One per user: another user could not write to it.
        folder = Path(tempfile.gettempdir()) / f"batches_{os.getuid()}" if options.debug else options.folder
        name = options.name or (Path(words[0]).stem if words else default_batch_name(plan.scenario))
        batch = generate(plan, folder / name, text, options.debug, options.array, options.jobs)
    index = batch.read_index()
    configurations = truncate_list(list(dict.fromkeys(run.configuration for run in index.runs)), limit=8)
    echo(f"{batch.path}: {pluralize(len(index.runs), 'run')} of {configurations}")
    if options.run:
        _submit_runs(batch, [], options)
    else:
        echo(
            f"to run them on this machine, one at a time: experiments submit {quote_path(batch)} (see --help "
            "for other ways)"
        )


def _add(words: list[str], options: AddOptions, flags: list[Flag]) -> None:
    batch = open_batch(words, "add BATCH [PLAN]")
    require_trusted_batch(batch, options.trust_code)
    if options.run:
        options.check_machine()  # before runs are added
    with suppress_native_stderr():
        index = batch.read_index()
        if words[1:] or options.models:
            plan, text = load_plan(words[1:], None if words[1:] else index.scenario, options.models, flags)
            plan = dataclasses.replace(
                plan,
                description=plan.description or index.description,
                defaults=read_batch_flags(batch, with_common=not words[1:]),
            )
            text = plan_to_yaml(plan) if text is None else text
        else:
            plan, text = load_original_plan(batch), None
            plan = dataclasses.replace(
                plan, overrides={**plan.overrides, **parse_overrides(flags)}, description=index.description
            )
        if options.names is not None:
            plan = with_name_template(plan, options.names)
        runs = add(batch, plan, text, dry_run=options.dry_run, array=options.array, new_code=options.new_code)
    if options.dry_run:
        echo(_format_runs(runs, index.scenario))
        return
    echo(f"{batch.path}: {pluralize(len(runs), 'run')} added: {truncate_list([run.name for run in runs], limit=8)}")
    if options.run:
        _submit_runs(batch, [run.name for run in runs], options)


def _format_runs(runs: Sequence[BatchRun], scenario: str) -> str:
    """Return the flags of runs that would be generated, ready to paste after `train-scenario SCENARIO`."""
    width = max((len(run.name) for run in runs), default=0)
    lines = [f"  {run.name:<{width}}  {run.command_line}".rstrip() for run in runs]
    return "\n".join(
        [f"{pluralize(len(runs), 'run')} of train-scenario {shlex.quote(scenario)} would be generated:", *lines]
    )


def _submit(words: list[str], options: SubmitOptions, flags: list[Flag]) -> None:
    _submit_runs(open_batch(words, "submit BATCH [RUN ...]"), words[1:], options)


def _submit_runs(batch: Batch, patterns: Sequence[str], options: SubmitOptions) -> None:
    submitted = submit(batch, patterns, options)
    echo(submitted.text)
    if options.wait and not options.dry_run:
        try:
            failed = wait_until_finished(batch, submitted.selected)
        except KeyboardInterrupt:
            echo(f"stopped waiting; the runs continue. To monitor them: {PROGRAM} show {quote_path(batch)}")
            raise
        echo(format_table(collect_statuses([str(batch.path)])))
        if failed:
            raise TrainingError(f"{pluralize(len(failed), 'run')} not done: {truncate_list(failed)}")


def _show(words: list[str], options: ShowOptions, flags: list[Flag]) -> None:
    folders, patterns = _folders_and_runs(words)
    while True:
        found = collect_statuses(folders)
        found = only_runs(found, patterns) if patterns else found
        if options.log is not None:
            text = format_log_tail(found, options.log, options.lines)
        else:
            text = statuses_to_json(found) if options.json else format_table(found, options.brief)
        if options.watch and sys.stdout.isatty():
            print("\x1b[2J\x1b[H", end="")  # clear the screen
        echo(text)
        if not options.watch or is_idle(found):
            return
        is_on_cluster = any(run.job and run.state in ACTIVE_STATES for batch in found for run in batch.runs)
        time.sleep(Launcher.poll_interval_s if is_on_cluster else 2)


def _folders_and_runs(words: list[str]) -> tuple[list[str], list[str]]:
    """Split arguments into the leading directories and the names of runs after them."""
    folders = list(itertools.takewhile(lambda word: Path(word).is_dir(), words))
    return (folders, words[len(folders) :]) if folders else (words, [])


def _gather(words: list[str], options: NoOptions, flags: list[Flag]) -> None:
    from tfaip_like.experiments._gather import gather

    batch = open_batch(words, "gather BATCH FOLDER [RUN ...]")
    if len(words) < 2:
        raise UsageError(f"missing argument FOLDER. usage: {PROGRAM} gather BATCH FOLDER [RUN ...]")
    found = gather(batch, words[2:], Path(words[1]))
    for expert, name in found.items():
        echo(f"expert {expert}: {name}")
    echo(f"to predict each sample with the expert it belongs to: predict-scenario {shlex.quote(words[1])}")


def _compare(words: list[str], options: CompareOptions, flags: list[Flag]) -> None:
    batch = open_batch(words, "compare BATCH [RUN ...]")
    index = batch.read_index()
    runs = [batch.run_dir(run.name) for run in select_runs(index, words[1:])]
    # A run whose data could not be opened has no parameters, so it would differ in all of them.
    started = [run.path for run in runs if run.trainer_params.exists()]
    if not started:
        raise UsageError(
            f"{batch.path}: none of these runs has started; to start them: experiments submit {quote_path(batch)}"
        )
    earlier = [Path(index.folder, index.compare_to)] if index.compare_to else []
    compare([*started, *earlier], options)
    if len(started) < len(runs):
        print(f"({pluralize(len(runs) - len(started), 'run')} omitted: not started)", file=sys.stderr)


SCENARIO_FLAGS = "scenario parameters, applied to all runs (--trainer.epochs 3)"
COMMANDS = (
    Subcommand(
        "generate",
        "[PLAN]",
        "Generate a batch from a plan.",
        GenerateOptions,
        _generate,
        SCENARIO_FLAGS,
    ),
    Subcommand(
        "add",
        "BATCH [PLAN]",
        "Add runs to a batch: further repetitions, or the runs of another plan.",
        AddOptions,
        _add,
        SCENARIO_FLAGS,
    ),
    Subcommand(
        "submit",
        "BATCH [RUN ...]",
        "Submit a batch or some of its runs (wide, 'wide.0*') to the local queue or to a cluster.",
        SubmitOptions,
        _submit,
    ),
    Subcommand(
        "show",
        "[BATCH ... [RUN ...]]",
        "Show the status of runs, by default of all batches below the current directory.",
        ShowOptions,
        _show,
    ),
    Subcommand(
        "compare",
        "BATCH [RUN ...]",
        "Compare runs: their differing parameters and their results.",
        CompareOptions,
        _compare,
    ),
    Subcommand(
        "search",
        "PLAN",
        "Optimize the `random` values of a configuration: each run is chosen from the results of earlier ones.",
        SearchOptions,
        search,
        SCENARIO_FLAGS,
    ),
    Subcommand(
        "update",
        "BATCH RUN ...",
        "Update the code of some runs to the current code; other runs keep theirs.",
        TrustOptions,
        update_runs,
    ),
    Subcommand("reset", "BATCH RUN ...", "Reset runs, to train them again from scratch.", ResetOptions, reset_runs),
    Subcommand("cancel", "BATCH [RUN ...]", "Cancel runs; running ones save their state.", TrustOptions, cancel_runs),
    Subcommand(
        "gather",
        "BATCH FOLDER [RUN ...]",
        "Collect the best model of each expert in one directory, to predict with all of them.",
        NoOptions,
        _gather,
    ),
)


SLURM_FLAG, SLURM_WORDS = "--slurm", ("--launcher", "Slurm")
"""Short form of the choice of a launcher, and what it stands for."""


def experiments(argv: Sequence[str]) -> None:
    """Run the subcommand of a command line."""
    words = [long for word in argv for long in (SLURM_WORDS if word == SLURM_FLAG else (word,))]
    run_subcommand(PROGRAM, PURPOSE, COMMANDS, words)


def main() -> None:
    """Run the console script."""
    run_program(PROGRAM, experiments)


if __name__ == "__main__":
    main()
