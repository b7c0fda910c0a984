"""Other code for chosen runs of a batch: a further copy of what the scenario is now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tfaip_like.batch_layout import CODE, code_name_file
from tfaip_like.errors import UsageError, some
from tfaip_like.experiments.batch import Batch, BatchRun, chosen_runs
from tfaip_like.experiments.estimate import forget_calibrations
from tfaip_like.experiments.plan_file import read_plan
from tfaip_like.experiments.resolve import scenario_of
from tfaip_like.experiments.slurm import settle
from tfaip_like.experiments.snapshot import copy_code
from tfaip_like.experiments.status import AT_WORK, status_of
from tfaip_like.files import new_folder, write_text
from tfaip_like.params.apply import Resolved, apply, checked, file_settings
from tfaip_like.params.base import class_tag, with_defaults
from tfaip_like.params.store import read_values
from tfaip_like.scenario import Scenario
from tfaip_like.trust import record_code


def update(batch: Batch, patterns: Sequence[str]) -> tuple[list[BatchRun], Path]:
    """Give chosen runs the code of their scenario as it is now; the others keep theirs.

    Returns:
        The runs, and the folder with their code.

    Raises:
        UsageError: when one of them waits or runs, or its parameters do not fit the code.
    """
    scenario = current_scenario(batch)
    with batch.changing():
        settle(batch)
        index = batch.index()
        runs = chosen_runs(index, patterns)
        states = {run.name: run.state for run in status_of(batch, index).runs}
        if busy := [run.name for run in runs if states[run.name] in AT_WORK or batch.run(run.name).is_held()]:
            raise UsageError(
                f"{batch.path}: {some(busy)} must not be waiting or running; to stop them: experiments cancel"
            )
        for run in runs:
            file = batch.params(run.name)
            checked(apply(Resolved(with_defaults(scenario)), file_settings(read_values(file), str(file))))
        forget_calibrations(batch, {run.configuration for run in runs})
        return runs, use_code_of(scenario, batch, [run.name for run in runs])


def current_scenario(batch: Batch) -> type[Scenario]:
    """Return the scenario of a batch as it is now, from where the current folder finds it.

    Raises:
        UsageError: if it is not found, or not the same class.
    """
    plan, tag = read_plan(batch.plan), batch.index().scenario
    scenario = scenario_of(plan)
    if class_tag(scenario) != tag:
        raise UsageError(f"{plan.where('scenario')}: {plan.scenario} is {class_tag(scenario)}, not {tag}")
    return scenario


def use_code_of(scenario: type[Scenario], batch: Batch, names: Iterable[str]) -> Path:
    """Copy the code of a scenario into a batch, for these runs; to be called while `batch.changing()`."""
    number = 2
    while (folder := batch.path / f"{CODE}_{number}").exists():
        number += 1
    with new_folder(folder) as aside:
        copy_code(scenario, aside)
    record_code(batch.code_files())
    for name in names:
        write_text(code_name_file(batch.path, name), f"{folder.name}\n")
    return folder
