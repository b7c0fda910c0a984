"""Exports that positional arguments name: exports, runs, and checkpoints, which are exported first."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._cli.runtime import initialize_runtime
from tfaip_like._export.layout import resolve_export_dir
from tfaip_like._export.scenario_loading import load_scenario
from tfaip_like._training.checkpointing.checkpoints import SUPERSEDED, list_checkpoints, open_checkpoint
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Device

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResolvedExport:
    """Export that a positional argument names."""

    name: Path
    """Directory to name in messages: of the export, or of the checkpoint that was exported."""
    path: Path
    """Directory of the export."""


def load_named_scenario(word: str) -> Scenario:
    """Return the scenario of the export, run or checkpoint that a positional argument names.

    Raises:
        UsageError: if it does not exist, or its code cannot be imported.
    """
    checkpoint = open_checkpoint(Path(word))
    if checkpoint is None:
        return load_scenario(_export_dir(Path(word)))
    return checkpoint.load_scenario()


def contains_checkpoint(words: Sequence[str]) -> bool:
    """Return whether any positional argument names a checkpoint, which Keras must export."""
    return any(open_checkpoint(Path(word)) is not None for word in words)


@contextmanager
def open_exports(words: Sequence[str], device: Device) -> Iterator[list[ResolvedExport]]:
    """Yield the exports that positional arguments name; exports of checkpoints are deleted after the block.

    Args:
        words: run directories, exports or checkpoints.
        device: device that exports the checkpoints.

    Raises:
        UsageError: if an argument names no export.
    """
    with temporary_directory() as folder:
        if contains_checkpoint(words):
            initialize_runtime(device)
        paths = without_superseded([Path(word) for word in words])
        exports = [_resolve_export(path, folder / str(number)) for number, path in enumerate(paths)]
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
