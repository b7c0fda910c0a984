"""Generation of a batch from a plan, and addition of runs to one."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tfaip_like._runs.batch_layout import RUNS
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.reader import run_folders
from tfaip_like._scenario_lookup import scenario_of_file
from tfaip_like._user_code.trust import record_code
from tfaip_like._utils.errors import UsageError, counted, some
from tfaip_like._utils.escaping import is_printable, printable
from tfaip_like._utils.files import encoded, locked, new_folder, write_text
from tfaip_like._utils.json_files import json_text
from tfaip_like.experiments._batches.batch import Batch, BatchIndex, BatchRun
from tfaip_like.experiments._batches.job_script import job_script
from tfaip_like.experiments._batches.snapshot import copy_code
from tfaip_like.experiments._plans.models import with_models
from tfaip_like.experiments._plans.names import stem_of, unique_names
from tfaip_like.experiments._plans.plan import Plan, PlannedRun
from tfaip_like.experiments._plans.plan_writing import plan_text
from tfaip_like.experiments._plans.resolution import ResolvedRun, Resolver, scenario_of
from tfaip_like.experiments._plans.values import Flags, flags_of
from tfaip_like.experiments._update import current_scenario, use_code_of
from tfaip_like.params._base import class_tag
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A run of a plan with its name and its parameters."""

    run: BatchRun
    params: Scenario

    def text(self) -> str:
        """Return the contents of its file of parameters."""
        return json_text(self.params.to_dict(), indent=1) + "\n"


def generate(
    plan: Plan,
    folder: Path,
    text: str | None = None,
    debug: bool = False,
    array: int | None = None,
    jobs: int | None = None,
    runs: Sequence[PlannedRun] | None = None,
) -> Batch:
    """Generate a batch: its folder appears when it is complete.

    Args:
        folder: a version of it, `version_1`, `version_2` and so on, is the batch.
        text: the plan as it was written, which is kept in the batch, to be read again by `add`.
        debug: only the first expert and the first repetition of each run.
        array: number of array tasks, each of which trains all runs of the plan with other seeds; by default each run
            is a task.
        jobs: runs at a time, where `submit` is not given another number.
        runs: those to begin with; by default all of the plan.

    Raises:
        UsageError: for every mistake in the plan, and where the folder cannot be written.
    """
    if not is_printable(folder.name):
        raise UsageError(f"--name {printable(folder.name)}: must not hold line breaks or other control characters")
    scenario = scenario_of(plan)
    _check_earlier_run(plan)
    prepared = prepare(planned(plan, scenario, debug, array) if runs is None else runs, plan, scenario, ())
    index = BatchIndex(
        scenario=class_tag(scenario),
        description=plan.description,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        folder=str(Path.cwd()),
        runs=tuple(one.run for one in prepared),
        overrides={flag: words.words for flag, words in flags_of(plan.overrides, "").items()},
        compare_to=plan.compare_to,
        names=plan.names,
        debug=debug,
        jobs=jobs,
        array=array,
        command=sys.argv,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock"):
            path = next_version(folder)
            with new_folder(path) as aside:
                _fill(Batch(aside), scenario, index, prepared, plan_text(plan) if text is None else text)
    except OSError as error:
        raise UsageError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
    batch = Batch(path)
    record_code(batch.code_files())
    return batch


def preview(plan: Plan, debug: bool = False, array: int | None = None) -> list[BatchRun]:
    """Return the runs of a batch of this plan; nothing is written.

    Raises:
        UsageError: for every mistake in the plan.
    """
    scenario = scenario_of(plan)
    _check_earlier_run(plan)
    return [one.run for one in prepare(planned(plan, scenario, debug, array), plan, scenario, ())]


def _check_earlier_run(plan: Plan) -> None:
    if plan.compare_to is not None:
        try:
            run_folders(Path(plan.compare_to))
        except UsageError as error:
            raise UsageError(f"{plan.where('compare_to')}: compare_to: {error}") from error


def add(
    batch: Batch,
    plan: Plan,
    text: str | None = None,
    runs: Sequence[PlannedRun] | None = None,
    dry_run: bool = False,
    array: int | None = None,
    new_code: bool = False,
) -> list[BatchRun]:
    """Add the runs of a plan to a batch, with the code that the batch has; what is there stays as it is.

    Runs that are there already are repeated, with other seeds and further numbers.

    Args:
        text: of a new plan, which is kept beside the first.
        array: number of array tasks, see `generate`; by default as many as the batch was generated with.
        new_code: give them the code of the scenario as it is now instead.
        runs: those of the plan; by default all.
        dry_run: writes nothing.

    Raises:
        UsageError: for every mistake in the plan, and for one of another scenario.
    """
    tag = batch.index().scenario
    if not _may_be_called(plan.scenario, tag):
        raise UsageError(
            f"{plan.where('scenario')}: {plan.scenario} is not the scenario of this batch ({tag}); "
            "`experiments generate` makes a batch of it"
        )
    scenario = current_scenario(batch) if new_code else scenario_of_batch(batch)
    with batch.changing():
        index = batch.index()
        plan = dataclasses.replace(plan, names=plan.names or index.names)
        if runs is None:
            first_task = 1 + max((run.task or 0 for run in index.runs), default=0)
            runs = planned(plan, scenario, index.debug, array or index.array, first_task)
        prepared = prepare(runs, plan, scenario, index.runs)
        if dry_run:
            return [one.run for one in prepared]
        for one in prepared:
            write_text(batch.params(one.run.name), one.text())
        if new_code:
            use_code_of(scenario, batch, [one.run.name for one in prepared])
        if text is not None:
            number = 2
            while (path := batch.path / f"plan_{number}.yaml").exists():
                number += 1
            write_text(path, text)
        # Last: whoever reads the list finds the files.
        batch.write_index(dataclasses.replace(index, runs=(*index.runs, *(one.run for one in prepared))))
    return [one.run for one in prepared]


def scenario_of_batch(batch: Batch) -> type[Scenario]:
    """Return the scenario of a batch, from the code that its runs have."""
    sys.path.insert(0, str(batch.code.resolve()))  # before that of the current folder
    return scenario_of_file(batch.index().scenario, OutputDir(batch.path))


def planned(
    plan: Plan, scenario: type[Scenario], debug: bool = False, array: int | None = None, first_task: int = 1
) -> list[PlannedRun]:
    """Return the runs of a plan, once for each array task."""
    runs = with_models(plan, scenario).runs()
    if debug:
        return list(_first_of_each(runs))
    if array is None:
        return runs
    return [
        dataclasses.replace(
            run, repeat=task * run.repeats + run.repeat, repeats=run.repeats * array, task=first_task + task
        )
        for task in range(array)
        for run in runs
    ]


def prepare(
    runs: Sequence[PlannedRun], plan: Plan, scenario: type[Scenario], existing: Sequence[BatchRun]
) -> list[Prepared]:
    """Return planned runs with their names and checked parameters, to be added to those that exist.

    Raises:
        UsageError: for a mistake in the plan, and for a flag of the command line without effect in all runs.
    """
    resolver = Resolver(scenario)
    repeated = Counter(_kind(run.configuration, run.expert, run.flags) for run in existing)
    resolved = []
    for run in runs:
        once = resolver(run)
        repeat = run.repeat + repeated[_kind(run.configuration, run.expert, _words(once.flags))]
        resolved.append((repeat, once if repeat == run.repeat else resolver(run, repeat)))
    prepared = []
    stems = [stem_of(plan, run, found.params) for run, (_, found) in zip(runs, resolved, strict=True)]
    names = unique_names(stems, [run.name for run in existing])
    for name, run, (repeat, found) in zip(names, runs, resolved, strict=True):
        tree = found.params
        best, _ = type(tree.model).best
        batch_run = BatchRun(
            name=name,
            configuration=run.configuration,
            flags=_words(found.flags),
            epochs=tree.trainer.epochs,
            monitor=tree.early_stopping.monitor or best,
            expert=run.expert,
            version=run.version,
            repeat=repeat,
            task=run.task,
            random_seed=found.random_seed,
        )
        prepared.append(Prepared(batch_run, _in_batch(tree, batch_run, plan.description)))
    _report_ignored({one.run.name: found for one, (_, found) in zip(prepared, resolved, strict=True)})
    return prepared


def _words(flags: Flags) -> dict[str, tuple[str, ...]]:
    return {flag: value.words for flag, value in flags.items()}


def _report_ignored(runs: Mapping[str, ResolvedRun]) -> None:
    """Warn of flags without effect; refuse one of the command line that has none in any run."""
    names: dict[tuple[str, str, str], list[str]] = {}
    for name, run in runs.items():
        for flag, (where, reason) in run.ignored.items():
            names.setdefault((flag, where, reason), []).append(name)
    for (flag, where, reason), of in names.items():
        if not where and len(of) == len(runs):
            raise UsageError(f"--{flag}: has no effect: {reason}")
        prefix = f"{where}: " if where else ""
        which = of[0] if len(of) == 1 else f"{counted(len(of), 'run')} ({some(of)})"
        logger.warning("%s--%s has no effect in %s: %s", prefix, flag, which, reason)


def next_version(folder: Path) -> Path:
    """Return the folder of the next version of a batch."""
    numbers = [int(path.name.removeprefix("version_")) for path in folder.glob("version_*") if path.name[8:].isdigit()]
    return folder / f"version_{max(numbers, default=0) + 1}"


def _fill(batch: Batch, scenario: type[Scenario], index: BatchIndex, prepared: Iterable[Prepared], text: str) -> None:
    for folder in (batch.jobs, batch.path / RUNS, batch.path / "logs", batch.queue):
        folder.mkdir()
    for one in prepared:
        batch.params(one.run.name).write_bytes(encoded(one.text()))
    git = copy_code(scenario, batch.code)
    if git.diff:
        batch.git_diff.write_bytes(encoded(git.diff))
    batch.plan.write_bytes(encoded(text))
    batch.script.write_bytes(encoded(job_script(Path(index.folder))))
    batch.write_index(dataclasses.replace(index, git_commit=git.commit))


def _in_batch(tree: Scenario, run: BatchRun, description: str) -> Scenario:
    """Return the parameters of a run with its output folder and its description."""
    description = tree.trainer.description or description
    if run.version is not None:
        description = f"{description} ({run.configuration}, version {run.version})".lstrip()
    trainer = dataclasses.replace(tree.trainer, output_dir=run.output_dir, description=description)
    return dataclasses.replace(tree, trainer=trainer)


def _first_of_each(planned: Iterable[PlannedRun]) -> Iterable[PlannedRun]:
    """For a debug batch: one expert and one repetition."""
    first: dict[str, str | None] = {}
    for run in planned:
        if run.repeat == 1 and first.setdefault(run.configuration, run.expert) == run.expert:
            yield run


def _kind(configuration: str, expert: str | None, flags: Mapping[str, Sequence[str]]) -> str:
    return json_text([configuration, expert, sorted(flags.items())])


def _may_be_called(name: str, tag: str) -> bool:
    """Return whether what a plan calls its scenario can be the class `tag`: a module, a class in it or a path."""
    module, _, cls = name.partition(":")
    known, _, known_class = tag.partition(":")
    names = {known, known.removesuffix(".scenario")}
    if "/" in module or module.endswith(".py"):
        module, names = Path(module).stem, {name.rpartition(".")[2] for name in names}
    return module in names and cls in ("", known_class)
