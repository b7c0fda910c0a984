"""Other code for chosen runs of a batch: a further copy of what the scenario is now."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from tfaip_like._runs.batch_layout import CODE, code_name_file
from tfaip_like._runs.git import COPIED
from tfaip_like._user_code.trust import record_code
from tfaip_like._utils.errors import UsageError, some
from tfaip_like._utils.files import new_folder, write_text
from tfaip_like._utils.temporary import temporary_directory
from tfaip_like.experiments._batches.batch import Batch, BatchRun, chosen_runs
from tfaip_like.experiments._batches.snapshot import copy_code
from tfaip_like.experiments._launchers.slurm import settle
from tfaip_like.experiments._plans.plan_file import read_plan
from tfaip_like.experiments._plans.resolution import scenario_of
from tfaip_like.experiments._resources.estimate import forget_calibrations
from tfaip_like.experiments._status import AT_WORK, status_of
from tfaip_like.params._apply import Resolved, apply, checked, file_settings
from tfaip_like.params._base import class_tag, with_defaults
from tfaip_like.params._store import read_values
from tfaip_like.scenario import Scenario


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
    """Give runs of a batch the code of a scenario as it is now; to be called while `batch.changing()`.

    Returns:
        The folder with it: a new copy, or one that is there already and holds the same.
    """
    number = 2
    while (folder := batch.path / f"{CODE}_{number}").exists():
        number += 1
    copies = [batch.code, *(batch.path / f"{CODE}_{earlier}" for earlier in range(2, number))]
    with temporary_directory() as aside:
        copy_code(scenario, aside / CODE)
        same = [copy for copy in copies if _is_same(copy, aside / CODE)]
        if not same:
            with new_folder(folder) as new:
                shutil.copytree(aside / CODE, new, dirs_exist_ok=True)
            record_code(batch.code_files())
    folder = same[0] if same else folder
    for name in names:
        if folder == batch.code:
            code_name_file(batch.path, name).unlink(missing_ok=True)
        else:
            write_text(code_name_file(batch.path, name), f"{folder.name}\n")
    return folder


def _is_same(copy: Path, other: Path) -> bool:
    """Return whether two copies hold the same code, whatever was committed of it."""
    files = _code_files(copy)
    return files == _code_files(other) and all(filecmp.cmp(copy / file, other / file, shallow=False) for file in files)


def _code_files(folder: Path) -> set[Path]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {file for file in found if "__pycache__" not in file.parts and file != Path(COPIED)}
