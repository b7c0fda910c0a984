"""`experiments COMMAND ...`: batches of runs, from a plan to their outcomes."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfaip_like.cli.command import native_notes_hidden, run_command
from tfaip_like.cli.compare_runs import Compare, compare
from tfaip_like.cli.subcommands import Subcommand, run_subcommand
from tfaip_like.errors import TrainingError, UsageError, counted, some
from tfaip_like.experiments.batch import Batch, chosen_runs
from tfaip_like.experiments.generate import add, generate
from tfaip_like.experiments.plan import Plan
from tfaip_like.experiments.plan_file import read_plan
from tfaip_like.experiments.plan_write import plan_text
from tfaip_like.experiments.show import as_json, as_table, is_at_rest, log_text, statuses
from tfaip_like.experiments.submit import Submit, cancel, submit, wait_for
from tfaip_like.experiments.values import Given, Value
from tfaip_like.params import Params
from tfaip_like.params.flags import Flag

PROGRAM = "experiments"
PURPOSE = "Batches of runs: a plan becomes a folder with everything they need; a queue or a cluster works on it."


class Add(Submit):
    """What is put into a batch."""

    models: list[str] = []
    """Instead of a plan file: which models and how many runs of each, as class.architecture=number
    ("classifier.clu_one=10, autoencoder.classical=45")."""

    run: bool = False
    """Submit the runs at once."""


class Generate(Add):
    """How a batch is made."""

    scenario: str | None = None
    """With --models: the scenario, as train-scenario takes it."""

    description: str | None = None
    """What the batch is for; wanted of every batch, in its plan or here."""

    name: str | None = None
    """Name of the batch; by default that of the plan file or of the scenario."""

    folder: Path = Path("batches")
    """Where batches are kept: FOLDER/NAME/version_1, version_2 and so on."""

    debug: bool = False
    """Only to see that it works: the first expert and the first repetition of each configuration, in the
    temporary folder, without a description."""


class Show(Params):
    """What is shown."""

    watch: bool = False
    """Show it again every two seconds, until nothing waits or runs."""

    json: bool = False
    """Print JSON, for programs."""

    brief: bool = False
    """A line for each batch only."""

    log: str | None = None
    """The last lines of the log of this run."""

    lines: int = 20
    """How many of them."""


class SearchOptions(Submit):
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
    """Where batches are kept."""

    def check(self) -> None:
        super().check()
        self.require(self.trials is None or self.trials >= 1, "trials", "there must be at least 1")


class Nothing(Params):
    """Nothing to choose."""


def _generate(words: list[str], options: Generate, flags: list[Flag]) -> None:
    with native_notes_hidden():
        plan, text = _plan_of(words, options.scenario, options.models, flags)
        if options.description is not None:
            plan = dataclasses.replace(plan, description=options.description)
        if not plan.description and not options.debug:
            raise UsageError(
                "--description: say what this batch is for, here or in the plan; in some weeks nobody knows"
            )
        folder = Path(tempfile.gettempdir()) / "batches" if options.debug else options.folder
        name = options.name or (Path(words[0]).stem if words else _last_word(plan.scenario))
        batch = generate(plan, folder / name, text, options.debug, options.array)
    index = batch.index()
    configurations = some(list(dict.fromkeys(run.configuration for run in index.runs)), shown=8)
    print(f"{batch.path}: {counted(len(index.runs), 'run')} of {configurations}")
    if options.run:
        _submit_runs(batch, [], options)
    else:
        print(f"experiments submit {batch.path} runs them here, one at a time; --help says how else")


def _add(words: list[str], options: Add, flags: list[Flag]) -> None:
    batch = _batch(words, "add BATCH [PLAN]")
    with native_notes_hidden():
        index = batch.index()
        if words[1:] or options.models:
            plan, text = _plan_of(words[1:], None if words[1:] else index.scenario, options.models, flags)
            runs = add(batch, dataclasses.replace(plan, description=plan.description or index.description), text)
        else:
            again: Mapping[str, Value] = {flag: Given(tuple(given)) for flag, given in index.overrides.items()}
            plan = dataclasses.replace(read_plan(batch.plan), overrides={**again, **_overrides(flags)})
            runs = add(batch, dataclasses.replace(plan, description=index.description))
    print(f"{batch.path}: {counted(len(runs), 'run')} more: {some([run.name for run in runs], shown=8)}")
    if options.run:
        _submit_runs(batch, [run.name for run in runs], options)


def _submit(words: list[str], options: Submit, flags: list[Flag]) -> None:
    _submit_runs(_batch(words, "submit BATCH [RUN ...]"), words[1:], options)


def _submit_runs(batch: Batch, patterns: Sequence[str], options: Submit) -> None:
    submitted = submit(batch, patterns, options)
    print(submitted.text, flush=True)
    if options.wait and not options.dry_run:
        failed = wait_for(batch, submitted.chosen)
        print(as_table(statuses([str(batch.path)])))
        if failed:
            raise TrainingError(f"{counted(len(failed), 'run')} not done: {some(failed)}")


def _show(words: list[str], options: Show, flags: list[Flag]) -> None:
    while True:
        found = statuses(words)
        if options.log is not None:
            text = log_text(found, options.log, options.lines)
        else:
            text = as_json(found) if options.json else as_table(found, options.brief)
        print(f"\x1b[2J\x1b[H{text}" if options.watch and sys.stdout.isatty() else text, flush=True)
        if not options.watch or is_at_rest(found):
            return
        time.sleep(2)


def _search(words: list[str], options: SearchOptions, flags: list[Flag]) -> None:
    from tfaip_like.experiments import search

    search.check_that_optuna_is_there()
    if not words:
        raise UsageError(f"what is searched? {PROGRAM} search PLAN, or the folder of a search to go on with")
    if Batch(Path(words[0])).index_file.exists():
        batch = Batch(Path(words[0]))
        known = search.settings_of(batch)
        if options.trials is not None:
            dataclasses.replace(known, trials=options.trials).write(batch)
        again: Mapping[str, Value] = {name: Given(tuple(w.split())) for name, w in batch.index().overrides.items()}
        plan = dataclasses.replace(read_plan(batch.plan), overrides=again)
    else:
        with native_notes_hidden():
            plan, text, name = _plan_of(words, WhatToRun(), flags)
            plan = dataclasses.replace(plan, description=options.description or plan.description)
            if not plan.description:
                raise UsageError("--description: say what this search is for, here or in the plan")
            batch = search.begin(
                plan,
                options.folder / (options.name or name),
                text,
                options.configuration,
                options.trials,
                options.prune,
            )
    at_work = search.Search(batch, plan, options, tell=lambda line: print(line, flush=True))
    print(f"{batch.path}: {at_work.settings.trials} runs of {at_work.name}, {at_work.at_once} at a time", flush=True)
    try:
        at_work.work()
    except KeyboardInterrupt:
        print(f"{PROGRAM} search {batch.path} goes on; its runs at work go on by themselves")
        raise
    if best := at_work.best():
        print(f"best: {best[0]} {best[1]:.6g}; experiments show {batch.path} shows all")


def _gather(words: list[str], options: Nothing, flags: list[Flag]) -> None:
    from tfaip_like.experiments.gather import gather

    batch = _batch(words, "gather BATCH FOLDER [RUN ...]")
    if len(words) < 2:
        raise UsageError(f"where to? {PROGRAM} gather BATCH FOLDER [RUN ...]")
    found = gather(batch, words[2:], Path(words[1]))
    for expert, name in found.items():
        print(f"expert {expert}: {name}")
    print(f"predict-scenario {words[1]} asks for each sample the expert that it is for")


def _cancel(words: list[str], options: Nothing, flags: list[Flag]) -> None:
    batch = _batch(words, "cancel BATCH [RUN ...]")
    runs = cancel(batch, words[1:])
    print(f"{counted(len(runs), 'run')} of {batch.path} cancelled; experiments submit goes on with them")


def _compare(words: list[str], options: Compare, flags: list[Flag]) -> None:
    batch = _batch(words, "compare BATCH [RUN ...]")
    index = batch.index()
    runs = [batch.run(run.name) for run in chosen_runs(index, words[1:])]
    # Without parameters, as a run is whose data could not be opened, it would differ in all of them.
    begun = [run.path for run in runs if run.trainer_params.exists()]
    if not begun:
        raise UsageError(f"{batch.path}: none of these runs has begun; experiments submit {batch.path} starts them")
    earlier = [Path(index.folder, index.compare_to)] if index.compare_to else []
    compare([*begun, *earlier], options)
    if len(begun) < len(runs):
        print(f"({counted(len(runs) - len(begun), 'run')} left out: not begun)", file=sys.stderr)


def _plan_of(
    words: Sequence[str], scenario: str | None, models: Sequence[str], flags: Sequence[Flag]
) -> tuple[Plan, str]:
    """The plan of a file, or of a scenario and its models, and its text."""
    if len(words) > 1:
        raise UsageError(f"one plan at a time, got {' '.join(words)}")
    if words and (scenario or models):
        raise UsageError("--scenario and --models take the place of a plan file; give one or the other")
    if words:
        path = Path(words[0])
        plan, text = read_plan(path), path.read_text(encoding="utf-8")
    elif scenario and models:
        counts = _models(models)
        plan = Plan(scenario, models=counts, places={f"models.{name}": "--models" for name in counts})
        text = plan_text(plan)
    else:
        raise UsageError("which runs? Name a plan file, or give --scenario and --models")
    return dataclasses.replace(plan, overrides=_overrides(flags)), text


def _last_word(scenario: str) -> str:
    """What a batch of a scenario is called: `tutorial` for `scenarios.tutorial:Tutorial`."""
    return Path(scenario.partition(":")[0]).name.removesuffix(".py").rpartition(".")[2]


def _overrides(flags: Sequence[Flag]) -> dict[str, Value]:
    for flag in flags:
        if flag.name == "trainer.output_dir":
            raise UsageError("--trainer.output_dir: each run of a batch has a folder of its own there; leave this out")
    return {flag.name: Given(flag.words) for flag in flags}


def _models(words: Sequence[str]) -> dict[str, str]:
    """`a.b=10, c.d=2` as a mapping."""
    models: dict[str, str] = {}
    for part in " ".join(words).replace(",", " ").split():
        name, equals, count = part.partition("=")
        if not equals or name in models:
            what = "is given twice" if name in models else "write class.architecture=number"
            raise UsageError(f"--models {part}: {what}")
        models[name] = count
    return models


def _batch(words: Sequence[str], usage: str) -> Batch:
    if not words:
        raise UsageError(f"which batch? {PROGRAM} {usage}")
    batch = Batch(Path(words[0]))
    batch.index()
    return batch


OF_SCENARIO = "parameters of the scenario, for all runs (--trainer.epochs 3)"
COMMANDS = (
    Subcommand(
        "generate", "[PLAN]", "Makes a batch from a plan: its folder, ready to run.", Generate, _generate, OF_SCENARIO
    ),
    Subcommand(
        "add", "BATCH [PLAN]", "Puts more runs into a batch: the same again, or a plan's.", Add, _add, OF_SCENARIO
    ),
    Subcommand(
        "submit", "BATCH [RUN ...]", "Runs a batch, or some of it (wide, wide.0*), here or on SLURM.", Submit, _submit
    ),
    Subcommand("show", "[BATCH ...]", "Shows how far runs are, of all batches below the current folder.", Show, _show),
    Subcommand(
        "compare", "BATCH [RUN ...]", "Shows what differs between runs, and what became of them.", Compare, _compare
    ),
    Subcommand(
        "search",
        "PLAN",
        "Runs a configuration with `random` values that are chosen by what earlier runs have reached.",
        SearchOptions,
        _search,
        OF_SCENARIO,
    ),
    Subcommand("cancel", "BATCH [RUN ...]", "Stops runs; their state is saved.", Nothing, _cancel),
    Subcommand(
        "gather",
        "BATCH FOLDER [RUN ...]",
        "Puts the best network of each expert into one folder, to predict with all of them.",
        Nothing,
        _gather,
    ),
)


def experiments(argv: Sequence[str]) -> None:
    """Does what the command line says."""
    run_subcommand(PROGRAM, PURPOSE, COMMANDS, argv)


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run_command(PROGRAM, experiments, sys.argv[1:]))


if __name__ == "__main__":
    main()
