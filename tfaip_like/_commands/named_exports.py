"""Exports that a user names: exports, runs, and checkpoints, which are exported first."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._commands.runtime import initialize_runtime
from tfaip_like._export.layout import resolve_export_dir
from tfaip_like._export.scenario_loading import load_scenario, load_scenario_file
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.checkpoints import SUPERSEDED, list_checkpoints, open_checkpoint
from tfaip_like._user_code.trust import allow_untrusted_code
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like._utils.lazy_keras import usable_backend
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like.params._resources import resolve_resource_paths
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Device

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResolvedExport:
    """Export that a user names."""

    name: Path
    """Directory to name in messages: of the export, or of the checkpoint that was exported."""
    path: Path
    """Directory of the export."""


def load_named_scenario(path: Path) -> Scenario:
    """Return the scenario of an export, run or checkpoint.

    Raises:
        UsageError: if it does not exist, or its code cannot be imported.
    """
    checkpoint = open_checkpoint(path)
    if checkpoint is None:
        return load_scenario(_export_dir(path))
    return checkpoint.load_scenario()


def default_device(scenario: Scenario) -> Device:
    """Return the device settings for an export: those of the training without its GPUs, with an installed backend."""
    backend = usable_backend(scenario.device.backend, default=Device().backend)
    return dataclasses.replace(scenario.device, gpus=None, backend=backend)  # type: ignore[arg-type]


def load_trained_scenario(path: Path, trust_code: bool) -> Scenario:
    """Return the scenario of a run, an export or a checkpoint with the parameters of its training.

    Args:
        path: run directory, export or checkpoint.
        trust_code: import code from the directory even if another user wrote it.

    Raises:
        UsageError: if it does not exist, or its code cannot be imported.
    """
    run = OutputDir(path)
    with allow_untrusted_code(trust_code):
        if not run.trainer_params.exists():
            return load_named_scenario(path)
        scenario = resolve_resource_paths(load_scenario_file(run.trainer_params, run), path)
        return dataclasses.replace(scenario, trainer=dataclasses.replace(scenario.trainer, output_dir=path))


def contains_checkpoint(paths: Sequence[Path]) -> bool:
    """Return whether any path is a checkpoint, which Keras must export."""
    return any(open_checkpoint(path) is not None for path in paths)


@contextmanager
def open_exports(paths: Sequence[Path], device: Device) -> Iterator[list[ResolvedExport]]:
    """Yield the exports of some paths; exports of checkpoints are deleted after the block.

    Args:
        paths: run directories, exports or checkpoints.
        device: device that exports the checkpoints.

    Raises:
        UsageError: if a path is none of them.
    """
    with temporary_directory() as folder:
        if contains_checkpoint(paths):
            initialize_runtime(device)
        current = without_superseded(paths)
        exports = [_resolve_export(path, folder / str(number)) for number, path in enumerate(current)]
        try:
            yield exports
        except UsageError as error:
            text = str(error)
            for export in exports:
                text = text.replace(str(export.path), str(export.name))
            error.args = (text,)
            raise


def without_superseded(paths: Sequence[Path]) -> Sequence[Path]:
    """Return the paths without directories of superseded checkpoints, which `RUN/checkpoints/*` includes."""
    chosen = [path for path in paths if not (path.name.startswith(SUPERSEDED) and list_checkpoints(path))]
    for path in paths if chosen else ():
        if path not in chosen:
            logger.info("%s: skipped; its checkpoints are superseded", path)
    return chosen or paths


def _resolve_export(path: Path, new_export: Path) -> ResolvedExport:
    checkpoint = open_checkpoint(path)
    if checkpoint is None:
        export = _export_dir(path)
        return ResolvedExport(export, export)
    from tfaip_like._training.checkpoint_export import export_checkpoint

    export_checkpoint(checkpoint, new_export)
    logger.info("%s: the model at %s", path, checkpoint.position)
    return ResolvedExport(path, new_export)


def _export_dir(path: Path) -> Path:
    """Return the export in a directory; raise `UsageError` for a directory of several checkpoints."""
    kept = [checkpoint.path.name for checkpoint in list_checkpoints(path if path.is_dir() else path.parent)]
    if kept and not path.is_dir():
        raise UsageError(f"{path}: no such checkpoint; available: {truncate_list(kept)}")
    if kept:
        raise UsageError(f"{path}: contains {len(kept)} checkpoints; specify one, such as {path / kept[-1]}")

    return resolve_export_dir(path)
