"""The exports that the words of a command line name: exports, runs, and checkpoints, which are exported first."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._cli.start import start
from tfaip_like._export.layout import export_folder
from tfaip_like._export.scenario_loading import rebuilt_scenario
from tfaip_like._training.checkpointing.checkpoint_scenario import scenario_of_checkpoint
from tfaip_like._training.checkpointing.checkpoints import all_checkpoints, checkpoint_at
from tfaip_like._utils.errors import UsageError, some
from tfaip_like._utils.temporary import temporary_directory
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Device

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedExport:
    """An export that a command line names."""

    name: Path
    """The folder that a person knows: of an export, or of a checkpoint."""
    path: Path
    """The folder of the export."""


def named_scenario(word: str) -> Scenario:
    """Return the scenario of the export, run or checkpoint that a word of a command line names.

    Raises:
        UsageError: when there is none, or its code cannot be imported here.
    """
    checkpoint = checkpoint_at(Path(word))
    if checkpoint is None:
        return rebuilt_scenario(_export_folder(Path(word)))
    return scenario_of_checkpoint(checkpoint)


def names_checkpoints(words: Sequence[str]) -> bool:
    """Return whether any word names a checkpoint: Keras is needed to export it."""
    return any(checkpoint_at(Path(word)) is not None for word in words)


@contextmanager
def named_exports(words: Sequence[str], device: Device) -> Iterator[list[NamedExport]]:
    """Yield the exports that the words of a command line name; those of checkpoints last as long as the block.

    Args:
        device: what exports the checkpoints.

    Raises:
        UsageError: for a word that names none.
    """
    with temporary_directory() as folder:
        if names_checkpoints(words):
            start(device)
        exports = [_named_export(Path(word), folder / str(number)) for number, word in enumerate(words)]
        try:
            yield exports
        except UsageError as error:
            text = str(error)
            for export in exports:
                text = text.replace(str(export.path), str(export.name))
            error.args = (text,)
            raise


def _named_export(path: Path, new_export: Path) -> NamedExport:
    checkpoint = checkpoint_at(path)
    if checkpoint is None:
        export = _export_folder(path)
        return NamedExport(export, export)
    from tfaip_like._training.checkpoint_export import export_checkpoint

    export_checkpoint(checkpoint, new_export)
    logger.info("%s: the model at %s", path, checkpoint.position)
    return NamedExport(path, new_export)


def _export_folder(path: Path) -> Path:
    """Return the export that a folder means; of checkpoints, one must be chosen."""
    kept = [checkpoint.path.name for checkpoint in all_checkpoints(path if path.is_dir() else path.parent)]
    if kept and not path.is_dir():
        raise UsageError(f"{path}: there is no such checkpoint; kept are {some(kept)}")
    if kept:
        raise UsageError(f"{path}: holds {len(kept)} checkpoints; name one: {path / kept[-1]}")
    return export_folder(path)
