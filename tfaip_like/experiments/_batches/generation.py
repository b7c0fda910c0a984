"""Generation of a batch from a plan, and addition of runs to an existing batch."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tfaip_like._runs.batch_layout import RUNS_DIR
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.reader import find_run_dirs
from tfaip_like._scenario_lookup import import_scenario_class
from tfaip_like._user_code.trust import record_trusted_code
from tfaip_like._utils.errors import UsageError, pluralize, truncate_list
from tfaip_like._utils.escaping import escape_text, is_printable
from tfaip_like._utils.files import atomic_directory, atomic_write_text, encode_text
from tfaip_like._utils.json_files import format_json
from tfaip_like._utils.locks import file_lock
from tfaip_like._utils.operating_system import require_posix
from tfaip_like.experiments._batches.batch import Batch, BatchIndex, BatchRun
from tfaip_like.experiments._batches.job_script import make_job_script
from tfaip_like.experiments._batches.snapshot import copy_code
from tfaip_like.experiments._plans.flag_values import Flags, flatten_flags
from tfaip_like.experiments._plans.named_models import expand_models
from tfaip_like.experiments._plans.plan import Plan, PlannedRun
from tfaip_like.experiments._plans.plan_writer import plan_to_yaml
from tfaip_like.experiments._plans.resolution import ResolvedRun, Resolver, load_plan_scenario
from tfaip_like.experiments._plans.run_names import make_base_name, make_unique_names
from tfaip_like.experiments._update import add_code_snapshot, load_current_scenario
from tfaip_like.params._base import qualified_name
from tfaip_like.params._files import PARAMS_FORMAT
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedRun:
    """Planned run with its name and resolved parameters."""

    run: BatchRun
    params: Scenario

    def text(self) -> str:
        """Return the contents of its parameter file."""
        return format_json(PARAMS_FORMAT.encode(self.params.to_dict()), indent=1) + "\n"


def generate(
    plan: Plan,
    folder: Path,
    text: str | None = None,
    debug: bool = False,
    array: int | None = None,
    jobs: int | None = None,
    runs: Sequence[PlannedRun] | None = None,
) -> Batch:
    """Generate a batch; its directory is created atomically.

    Args:
        plan: configurations and their variations.
        folder: parent directory; the batch is its next version: `version_1`, `version_2`, ...
        text: text of the plan file, which is stored in the batch; by default the plan is written as YAML.
        debug: generate only the first expert and the first repetition of each run.
        array: number of array tasks (at least 1), each of which trains all runs of the plan with different seeds; by
            default each run is a task.
        jobs: default number of parallel runs (at least 1) for `submit`.
        runs: initial runs; by default all runs of the plan.

    Raises:
        UsageError: if the plan is invalid or the directory cannot be written.

    Example:
        >>> from tfaip_like.experiments import Configuration, Plan
        >>> plan = Plan("scenarios.tutorial", {"wide": Configuration({"model.units": 512})}, description="wider")
        >>> generate(plan, Path("batches/wide"))  # doctest: +SKIP
        Batch(path=PosixPath('batches/wide/version_1'))
    """
    require_posix("experiments")
    if not is_printable(folder.name):
        raise UsageError(f"--name {escape_text(folder.name)}: must not contain line breaks or control characters")
    scenario = load_plan_scenario(plan)
    _check_compare_to(plan)
    prepared = prepare_runs(expand_plan(plan, scenario, debug, array) if runs is None else runs, plan, scenario, ())
    index = BatchIndex(
        scenario=qualified_name(scenario),
        description=plan.description,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        folder=str(Path.cwd()),
        runs=tuple(item.run for item in prepared),
        overrides={flag: words.words for flag, words in flatten_flags(plan.overrides, "").items()},
        compare_to=plan.compare_to,
        names=plan.names,
        debug=debug,
        jobs=jobs,
        array=array,
        command=sys.argv,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / ".lock"):
            path = next_version_dir(folder)
            with atomic_directory(path) as staging_dir:
                _write_batch_files(
                    Batch(staging_dir), scenario, index, prepared, plan_to_yaml(plan) if text is None else text
                )
    except OSError as error:
        raise UsageError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
    batch = Batch(path)
    record_trusted_code(batch.code_files())
    return batch


def preview(plan: Plan, debug: bool = False, array: int | None = None) -> list[BatchRun]:
    """Return the runs that `generate` would create; write nothing.

    Args:
        plan: configurations and their variations.
        debug: see `generate`.
        array: see `generate`.

    Raises:
        UsageError: if the plan is invalid.
    """
    scenario = load_plan_scenario(plan)
    _check_compare_to(plan)
    return [item.run for item in prepare_runs(expand_plan(plan, scenario, debug, array), plan, scenario, ())]


def _check_compare_to(plan: Plan) -> None:
    if plan.compare_to is not None:
        try:
            find_run_dirs(Path(plan.compare_to))
        except UsageError as error:
            raise UsageError(f"{plan.location_of('compare_to')}: compare_to: {error}") from error


def add(
    batch: Batch,
    plan: Plan,
    text: str | None = None,
    runs: Sequence[PlannedRun] | None = None,
    dry_run: bool = False,
    array: int | None = None,
    new_code: bool = False,
) -> list[BatchRun]:
    """Add the runs of a plan to a batch, with its code snapshot; existing runs are not changed.

    Runs that exist already are repeated, with different seeds and consecutive numbers.

    Args:
        batch: batch of the scenario that the plan names.
        plan: configurations and their variations.
        text: text of a new plan file, which is stored next to the first one.
        runs: runs to add; by default all runs of the plan.
        dry_run: write nothing.
        array: number of array tasks, see `generate`; by default that of the batch.
        new_code: use the current code of the scenario instead of the snapshot.

    Returns:
        The added runs.

    Raises:
        UsageError: if the plan is invalid or names another scenario.
    """
    require_posix("experiments")
    tag = batch.read_index().scenario
    if not _is_name_of_scenario(plan.scenario, tag):
        raise UsageError(
            f"{plan.location_of('scenario')}: {plan.scenario} is not the scenario of this batch ({tag}); "
            "create a separate batch with `experiments generate`"
        )
    scenario = load_current_scenario(batch) if new_code else load_batch_scenario(batch)
    with batch.lock():
        index = batch.read_index()
        plan = dataclasses.replace(plan, names=plan.names or index.names)
        if runs is None:
            first_task = 1 + max((run.task or 0 for run in index.runs), default=0)
            runs = expand_plan(plan, scenario, index.debug, array or index.array, first_task)
        prepared = prepare_runs(runs, plan, scenario, index.runs)
        if dry_run:
            return [item.run for item in prepared]
        for item in prepared:
            atomic_write_text(batch.params_path(item.run.name), item.text())
        if new_code:
            add_code_snapshot(scenario, batch, [item.run.name for item in prepared])
        if text is not None:
            number = 2
            while (path := batch.path / f"plan_{number}.yaml").exists():
                number += 1
            atomic_write_text(path, text)
        # Last, so that the files of every listed run exist.
        batch.write_index(dataclasses.replace(index, runs=(*index.runs, *(item.run for item in prepared))))
    return [item.run for item in prepared]


def load_batch_scenario(batch: Batch) -> type[Scenario]:
    """Import the scenario class of a batch from its code snapshot."""
    sys.path.insert(0, str(batch.code_dir.resolve()))  # before the current directory
    return import_scenario_class(batch.read_index().scenario, OutputDir(batch.path))


def expand_plan(
    plan: Plan, scenario: type[Scenario], debug: bool = False, array: int | None = None, first_task: int = 1
) -> list[PlannedRun]:
    """Return the runs of a plan, once for each array task.

    Args:
        plan: configurations and their variations.
        scenario: class that the named models of the plan refer to.
        debug: see `generate`.
        array: see `generate`.
        first_task: number of the first array task.
    """
    runs = expand_models(plan, scenario).runs()
    if debug:
        return list(_select_debug_runs(runs))
    if array is None:
        return runs
    return [
        dataclasses.replace(
            run, repeat=task * run.repeats + run.repeat, repeats=run.repeats * array, task=first_task + task
        )
        for task in range(array)
        for run in runs
    ]


def prepare_runs(
    runs: Sequence[PlannedRun], plan: Plan, scenario: type[Scenario], existing: Sequence[BatchRun]
) -> list[PreparedRun]:
    """Return planned runs with their names and validated parameters.

    Args:
        runs: runs to prepare.
        plan: plan of the runs, for the name template and the description.
        scenario: class whose parameters are resolved.
        existing: runs that are in the batch already; their names and seeds are not used again.

    Raises:
        UsageError: if the plan is invalid, or a flag of the command line has no effect in any run.
    """
    resolver = Resolver(scenario)
    repeated = Counter(_repeat_key(run.configuration, run.expert, run.flags) for run in existing)
    resolved = []
    for run in runs:
        once = resolver(run)
        repeat = run.repeat + repeated[_repeat_key(run.configuration, run.expert, _words_by_flag(once.flags))]
        resolved.append((repeat, once if repeat == run.repeat else resolver(run, repeat)))
    prepared = []
    stems = [
        make_base_name(plan, run, resolved_run.params) for run, (_, resolved_run) in zip(runs, resolved, strict=True)
    ]
    names = make_unique_names(stems, [run.name for run in existing])
    for name, run, (repeat, resolved_run) in zip(names, runs, resolved, strict=True):
        tree = resolved_run.params
        best, _ = type(tree.model).best
        batch_run = BatchRun(
            name=name,
            configuration=run.configuration,
            flags=_words_by_flag(resolved_run.flags),
            epochs=tree.trainer.epochs,
            monitor=tree.early_stopping.monitor or best,
            expert=run.expert,
            version=run.version,
            repeat=repeat,
            task=run.task,
            random_seed=resolved_run.random_seed,
        )
        prepared.append(PreparedRun(batch_run, _with_batch_settings(tree, batch_run, plan.description)))
    _report_ignored_flags(
        {item.run.name: resolved_run for item, (_, resolved_run) in zip(prepared, resolved, strict=True)}
    )
    return prepared


def _words_by_flag(flags: Flags) -> dict[str, tuple[str, ...]]:
    return {flag: value.words for flag, value in flags.items()}


def _report_ignored_flags(runs: Mapping[str, ResolvedRun]) -> None:
    """Warn about flags without effect; reject a command-line flag without effect in any run."""
    names: dict[tuple[str, str, str], list[str]] = {}
    for name, run in runs.items():
        for flag, (where, reason) in run.ignored.items():
            names.setdefault((flag, where, reason), []).append(name)
    for (flag, where, reason), of in names.items():
        if not where and len(of) == len(runs):
            raise UsageError(f"--{flag} has no effect: {reason}")
        prefix = f"{where}: " if where else ""
        which = of[0] if len(of) == 1 else f"{pluralize(len(of), 'run')} ({truncate_list(of)})"
        logger.warning("%s--%s has no effect in %s: %s", prefix, flag, which, reason)


def next_version_dir(folder: Path) -> Path:
    """Return the path of the next version of a batch."""
    numbers = [int(path.name.removeprefix("version_")) for path in folder.glob("version_*") if path.name[8:].isdigit()]
    return folder / f"version_{max(numbers, default=0) + 1}"


def _write_batch_files(
    batch: Batch, scenario: type[Scenario], index: BatchIndex, prepared: Iterable[PreparedRun], text: str
) -> None:
    for folder in (batch.jobs_dir, batch.path / RUNS_DIR, batch.path / "logs", batch.queue_dir):
        folder.mkdir()
    for item in prepared:
        batch.params_path(item.run.name).write_bytes(encode_text(item.text()))
    git = copy_code(scenario, batch.code_dir)
    if git.diff:
        batch.git_diff.write_bytes(encode_text(git.diff))
    batch.plan_path.write_bytes(encode_text(text))
    batch.job_script_path.write_bytes(encode_text(make_job_script(Path(index.folder))))
    batch.write_index(dataclasses.replace(index, git_commit=git.commit))


def _with_batch_settings(tree: Scenario, run: BatchRun, description: str) -> Scenario:
    """Return the parameters of a run with its run directory and description."""
    description = tree.trainer.description or description
    if run.version is not None:
        description = f"{description} ({run.configuration}, version {run.version})".lstrip()
    trainer = dataclasses.replace(tree.trainer, output_dir=run.output_dir, description=description)
    return dataclasses.replace(tree, trainer=trainer)


def _select_debug_runs(planned: Iterable[PlannedRun]) -> Iterable[PlannedRun]:
    """Yield the first repetition of the first expert of each configuration."""
    first: dict[str, str | None] = {}
    for run in planned:
        if run.repeat == 1 and first.setdefault(run.configuration, run.expert) == run.expert:
            yield run


def _repeat_key(configuration: str, expert: str | None, flags: Mapping[str, Sequence[str]]) -> str:
    return format_json([configuration, expert, sorted(flags.items())])


def _is_name_of_scenario(name: str, tag: str) -> bool:
    """Return whether the scenario of a plan (a module, a class in it or a path) can be the class `tag`."""
    module, _, cls = name.partition(":")
    known, _, known_class = tag.partition(":")
    names = {known, known.removesuffix(".scenario")}
    if "/" in module or module.endswith(".py"):
        module, names = Path(module).stem, {name.rpartition(".")[2] for name in names}
    return module in names and cls in ("", known_class)
