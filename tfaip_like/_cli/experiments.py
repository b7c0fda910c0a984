"""`experiments COMMAND ...`: batches of runs, from a plan to their outcomes."""

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

from tfaip_like._cli.command import run_command, suppress_native_stderr
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
from tfaip_like._cli.experiments_search import SearchOptions, search
from tfaip_like._cli.subcommands import Subcommand, run_subcommand
from tfaip_like._user_code.trust import allow_untrusted_code
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import TrainingError, UsageError, pluralize, truncate_list
from tfaip_like._utils.operating_system import require_posix
from tfaip_like.experiments._batches.batch import Batch, BatchRun, select_runs
from tfaip_like.experiments._batches.generation import add, generate, preview
from tfaip_like.experiments._plans.plan_writer import plan_to_yaml
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
    CLUSTER_POLL_INTERVAL_S,
    SubmitOptions,
    require_trusted_batch,
    submit,
    wait_until_finished,
)
from tfaip_like.params import Params
from tfaip_like.params._flags import Flag

PURPOSE = "Batches of runs: a plan becomes a folder with everything they need; a queue or a cluster works on it."


class PlannedRunsOptions(SubmitOptions):
    """What is put into a batch."""

    models: list[str] = []
    """Instead of a plan file: which models and how many runs of each, as class.architecture=number
    ("classifier.clu_one=10, autoencoder.classical=45")."""

    names: str | None = None
    """Template of the names of runs, with flags in braces: "{model.graph}_{learning_rate.lr}". By default that of the
    plan, or the name of the configuration."""

    array: int | None = None
    """Array tasks, each of which trains all runs of the plan with other seeds: N times as many runs. By default as the
    batch was generated, or one task for each run."""

    run: bool = False
    """Submit the runs."""

    allowed_without_run: ClassVar[tuple[str, ...]] = ("dry_run",)
    """Flags of submit that mean something here without --run."""

    def check(self) -> None:
        super().check()
        self.require(self.array is None or self.array >= 1, "array", "must be at least 1")
        for name in self.non_default_values():
            is_useful = self.run or name in self.allowed_without_run
            self.require(is_useful, name, "is for submitting: add --run, or give it to submit")


class AddOptions(PlannedRunsOptions):
    """What is put into a batch, and its code."""

    new_code: bool = False
    """Give these runs the code of the scenario as it is now, instead of that of the batch."""


class GenerateOptions(PlannedRunsOptions):
    """How a batch is made."""

    scenario: str | None = None
    """With --models: the scenario, as train-scenario takes it; by default that in scenario.py of the current folder."""

    description: str | None = None
    """Purpose of the batch; required here or in the plan."""

    name: str | None = None
    """Name of the batch; by default that of the plan file or of the scenario."""

    folder: Path = Path("batches")
    """Where batches are kept: FOLDER/NAME/version_1, version_2 and so on."""

    debug: bool = False
    """Only to see that it works: the first expert and the first repetition of each configuration, in the
    temporary folder, without a description."""

    allowed_without_run = ("dry_run", "jobs")

    def check(self) -> None:
        super().check()
        self.require(self.array is None or not self.debug, "array", "has no effect with --debug, which has one of each")
        is_default = self.folder == Path("batches")
        self.require(is_default or not self.debug, "folder", "is not for --debug, which has the temporary folder")


class ShowOptions(Params):
    """What is shown."""

    watch: bool = False
    """Show it again every two seconds (ten, where a cluster must be asked), until nothing waits or runs."""

    json: bool = False
    """Print JSON, for programs."""

    brief: bool = False
    """Print one line per batch only."""

    log: str | None = None
    """Run whose last log lines to print."""

    lines: int = 20
    """Number of log lines to print with --log."""


def _generate(words: list[str], options: GenerateOptions, flags: list[Flag]) -> None:
    require_posix("experiments")
    if options.run:
        options.check_machine()  # before there is a batch
    with suppress_native_stderr(), allow_untrusted_code(options.trust_code):
        plan, text = load_plan(words, options.scenario, options.models, flags)
        if options.description is not None:
            plan = dataclasses.replace(plan, description=options.description)
        if options.names is not None:
            plan = with_name_template(plan, options.names)
        if not plan.description and not options.debug:
            raise UsageError("--description is missing: say what this batch is for, by this flag or in the plan")
        if options.dry_run:
            echo(_format_runs(preview(plan, options.debug, options.array), plan.scenario))
            return
        # One for each user: what is there belongs to who has made it.
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
            f"to run them on this machine, one at a time: experiments submit {quote_path(batch)} (--help "
            "lists other ways)"
        )


def _add(words: list[str], options: AddOptions, flags: list[Flag]) -> None:
    batch = open_batch(words, "add BATCH [PLAN]")
    require_trusted_batch(batch, options.trust_code)
    if options.run:
        options.check_machine()  # before there are more runs
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
    """Return a text with the flags of runs that would be generated, to be pasted after `train-scenario SCENARIO`."""
    width = max((len(run.name) for run in runs), default=0)
    lines = [f"  {run.name:<{width}}  {run.command_line}".rstrip() for run in runs]
    return "\n".join(
        [f"{pluralize(len(runs), 'run')} of train-scenario {shlex.quote(scenario)} would be made:", *lines]
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
            echo(f"stopped waiting; the runs continue. To follow them: {PROGRAM} show {quote_path(batch)}")
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
            print("\x1b[2J\x1b[H", end="")  # clears it
        echo(text)
        if not options.watch or is_idle(found):
            return
        is_on_cluster = any(run.job and run.state in ACTIVE_STATES for batch in found for run in batch.runs)
        time.sleep(CLUSTER_POLL_INTERVAL_S if is_on_cluster else 2)


def _folders_and_runs(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the folders that come first, and the runs that are named after them."""
    folders = list(itertools.takewhile(lambda word: Path(word).is_dir(), words))
    return (folders, words[len(folders) :]) if folders else (words, [])


def _gather(words: list[str], options: NoOptions, flags: list[Flag]) -> None:
    from tfaip_like.experiments._gather import gather

    batch = open_batch(words, "gather BATCH FOLDER [RUN ...]")
    if len(words) < 2:
        raise UsageError(f"expected a folder for the networks: {PROGRAM} gather BATCH FOLDER [RUN ...]")
    found = gather(batch, words[2:], Path(words[1]))
    for expert, name in found.items():
        echo(f"expert {expert}: {name}")
    echo(f"predict-scenario {words[1]} asks for each sample the expert that it is for")


def _compare(words: list[str], options: CompareOptions, flags: list[Flag]) -> None:
    batch = open_batch(words, "compare BATCH [RUN ...]")
    index = batch.read_index()
    runs = [batch.run_dir(run.name) for run in select_runs(index, words[1:])]
    # Without parameters, as a run is whose data could not be opened, it would differ in all of them.
    begun = [run.path for run in runs if run.trainer_params.exists()]
    if not begun:
        raise UsageError(
            f"{batch.path}: none of these runs has started; to start them: experiments submit {quote_path(batch)}"
        )
    earlier = [Path(index.folder, index.compare_to)] if index.compare_to else []
    compare([*begun, *earlier], options)
    if len(begun) < len(runs):
        print(f"({pluralize(len(runs) - len(begun), 'run')} left out: not started)", file=sys.stderr)


SCENARIO_FLAGS = "parameters of the scenario, for all runs (--trainer.epochs 3)"
COMMANDS = (
    Subcommand(
        "generate",
        "[PLAN]",
        "Makes a batch from a plan: its folder, ready to run.",
        GenerateOptions,
        _generate,
        SCENARIO_FLAGS,
    ),
    Subcommand(
        "add",
        "BATCH [PLAN]",
        "Puts more runs into a batch: the same again, or a plan's.",
        AddOptions,
        _add,
        SCENARIO_FLAGS,
    ),
    Subcommand(
        "submit",
        "BATCH [RUN ...]",
        "Runs a batch, or some of it (wide, wide.0*), here or on SLURM.",
        SubmitOptions,
        _submit,
    ),
    Subcommand(
        "show",
        "[BATCH ... [RUN ...]]",
        "Shows how far runs are, of all batches below the current folder or of those named.",
        ShowOptions,
        _show,
    ),
    Subcommand(
        "compare",
        "BATCH [RUN ...]",
        "Shows what differs between runs, and what became of them.",
        CompareOptions,
        _compare,
    ),
    Subcommand(
        "search",
        "PLAN",
        "Runs a configuration with `random` values that are chosen by what earlier runs have reached.",
        SearchOptions,
        search,
        SCENARIO_FLAGS,
    ),
    Subcommand(
        "update",
        "BATCH RUN ...",
        "Gives runs the code as it is now; the other runs keep theirs.",
        TrustOptions,
        update_runs,
    ),
    Subcommand(
        "reset", "BATCH RUN ...", "Makes runs new again, to train them from their beginning.", ResetOptions, reset_runs
    ),
    Subcommand("cancel", "BATCH [RUN ...]", "Stops runs; their state is saved.", TrustOptions, cancel_runs),
    Subcommand(
        "gather",
        "BATCH FOLDER [RUN ...]",
        "Puts the best network of each expert into one folder, to predict with all of them.",
        NoOptions,
        _gather,
    ),
)


def experiments(argv: Sequence[str]) -> None:
    """Run the command that the command line names."""
    run_subcommand(PROGRAM, PURPOSE, COMMANDS, argv)


def main() -> None:
    """Run the console script."""
    sys.exit(run_command(PROGRAM, experiments, sys.argv[1:]))


if __name__ == "__main__":
    main()
