"""Update of the code that selected runs of a batch use."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from tfaip_like._runs.batch_layout import CODE_DIR, run_code_name_path
from tfaip_like._runs.git import GIT_STATE_FILENAME
from tfaip_like._user_code.trust import record_trusted_code
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like._utils.files import atomic_directory, atomic_write_text
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like.experiments._batches.batch import Batch, BatchRun, select_runs
from tfaip_like.experiments._batches.snapshot import copy_code
from tfaip_like.experiments._plans.plan_reader import read_plan
from tfaip_like.experiments._plans.resolution import load_plan_scenario
from tfaip_like.experiments._resources.estimate import remove_calibrations
from tfaip_like.experiments._status.batch_status import read_status
from tfaip_like.experiments._status.run_state import ACTIVE_STATES
from tfaip_like.experiments.launchers._recorded import resolve_interrupted_submissions
from tfaip_like.params._apply import ResolvedParams, apply_settings, settings_from_file, validate_resolved
from tfaip_like.params._base import default_instance, qualified_name
from tfaip_like.params._files import read_param_file
from tfaip_like.scenario import Scenario


def update(batch: Batch, patterns: Sequence[str]) -> tuple[list[BatchRun], Path]:
    """Make selected runs use a snapshot of the current code of their scenario.

    Args:
        batch: batch of the runs.
        patterns: names of runs or configurations; all runs if empty.

    Returns:
        The selected runs, and the directory of the snapshot.

    Raises:
        UsageError: if a run is active, or its parameters are not valid with the current code.
    """
    scenario = load_current_scenario(batch)
    with batch.lock():
        resolve_interrupted_submissions(batch)
        index = batch.read_index()
        runs = select_runs(index, patterns)
        states = {run.name: run.state for run in read_status(batch, index).runs}
        if busy := [
            run.name for run in runs if states[run.name] in ACTIVE_STATES or batch.run_dir(run.name).is_locked()
        ]:
            raise UsageError(f"{batch.path}: active runs: {truncate_list(busy)}; stop them with `experiments cancel`")
        for run in runs:
            file = batch.params_path(run.name)
            validate_resolved(
                apply_settings(
                    ResolvedParams(default_instance(scenario)), settings_from_file(read_param_file(file), str(file))
                )
            )
        remove_calibrations(batch, {run.configuration for run in runs})
        return runs, add_code_snapshot(scenario, batch, [run.name for run in runs])


def load_current_scenario(batch: Batch) -> type[Scenario]:
    """Import the scenario of a batch from its current code instead of the snapshot.

    Raises:
        UsageError: if it is not found, or is another class.
    """
    plan, tag = read_plan(batch.plan_path), batch.read_index().scenario
    scenario = load_plan_scenario(plan)
    if qualified_name(scenario) != tag:
        raise UsageError(f"{plan.location_of('scenario')}: {plan.scenario} is {qualified_name(scenario)}, not {tag}")
    return scenario


def add_code_snapshot(scenario: type[Scenario], batch: Batch, names: Iterable[str]) -> Path:
    """Make runs of a batch use a snapshot of the current code; the caller holds `batch.lock()`.

    Args:
        scenario: scenario class, imported from its current code.
        batch: batch of the runs.
        names: names of the runs.

    Returns:
        The directory of the snapshot: a new one, or an existing one with the same contents.
    """
    number = 2
    while (folder := batch.path / f"{CODE_DIR}_{number}").exists():
        number += 1
    copies = [batch.code_dir, *(batch.path / f"{CODE_DIR}_{earlier}" for earlier in range(2, number))]
    with temporary_directory() as staging_dir:
        copy_code(scenario, staging_dir / CODE_DIR)
        identical = [copy for copy in copies if _is_same(copy, staging_dir / CODE_DIR)]
        if not identical:
            with atomic_directory(folder) as new:
                shutil.copytree(staging_dir / CODE_DIR, new, dirs_exist_ok=True)
            record_trusted_code(batch.code_files())
    folder = identical[0] if identical else folder
    for name in names:
        if folder == batch.code_dir:
            run_code_name_path(batch.path, name).unlink(missing_ok=True)
        else:
            atomic_write_text(run_code_name_path(batch.path, name), f"{folder.name}\n")
    return folder


def _is_same(copy: Path, other: Path) -> bool:
    """Return whether two snapshots contain the same code, regardless of their git states."""
    files = _code_files(copy)
    return files == _code_files(other) and all(filecmp.cmp(copy / file, other / file, shallow=False) for file in files)


def _code_files(folder: Path) -> set[Path]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {file for file in files if "__pycache__" not in file.parts and file != Path(GIT_STATE_FILENAME)}
