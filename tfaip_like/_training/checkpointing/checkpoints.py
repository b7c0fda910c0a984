"""Checkpoints on disk: directories with the full training state, complete or absent.

checkpoints/epoch_0012/            after 12 epochs
checkpoints/epoch_0012_step_00345/ 345 steps later
    variables.npz   arrays of all variables, named GROUP:PATH
    state.json      everything else: position, history, best epoch, early stopping
    params.json     parameters of the run
    checksums.json  SHA-256 of the other files
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import ml_dtypes
import numpy as np
import numpy.typing as npt

from tfaip_like._export.scenario_loading import load_scenario_file
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.state_schema import STATE_FORMAT, SavedState
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.file_formats import FileFormat, FormatVersionError
from tfaip_like._utils.files import atomic_directory, check_links, recover_interrupted_writes
from tfaip_like._utils.json_files import Json
from tfaip_like.params._files import PARAMS_FORMAT
from tfaip_like.params._resources import resolve_resource_paths
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

VARIABLES: Literal["variables.npz"] = "variables.npz"
STATE: Literal["state.json"] = "state.json"
PARAMS: Literal["params.json"] = "params.json"
CHECKSUMS = "checksums.json"
DTYPES = "dtypes"
"""Array in `variables.npz` with the dtypes that NumPy lacks: a JSON object from array name to dtype."""
SUPERSEDED = "superseded"
REMOVAL_SUFFIX = ".old"
"""Suffix of a checkpoint that is being removed."""
NETWORK = "network"
"""Group of the network's variables: network:encoder/dense/kernel."""

CHECKSUMMED_FILES: tuple[Literal["variables.npz", "state.json", "params.json"], ...] = (VARIABLES, STATE, PARAMS)
Checksums = TypedDict("Checksums", {"variables.npz": str, "state.json": str, "params.json": str})
CHECKSUMS_FORMAT = FileFormat("list of checksums", Checksums)

Arrays = Mapping[str, npt.NDArray[Any]]
_NAME_PATTERN = re.compile(r"epoch_(\d+)(?:_step_(\d+))?")


@dataclass(frozen=True, order=True)
class Position:
    """Progress of a training run.

    Example:
        >>> str(Position(epoch=2, step=40)), Position(epoch=2, step=40).dir_name
        ('step 40 of epoch 3', 'epoch_0002_step_00040')
    """

    epoch: int
    """Completed epochs."""
    step: int
    """Completed steps of the next epoch."""

    def __str__(self) -> str:
        return f"step {self.step} of epoch {self.epoch + 1}" if self.step else f"the end of epoch {self.epoch}"

    @property
    def dir_name(self) -> str:
        """Name of a checkpoint at this position."""
        return f"epoch_{self.epoch:04d}" + (f"_step_{self.step:05d}" if self.step else "")


@dataclass(frozen=True)
class CheckpointData:
    """Contents of a checkpoint."""

    arrays: Arrays
    """Variables by name (GROUP:PATH)."""
    state: SavedState
    params: dict[str, Json]
    """Parameters of the scenario."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk."""

    path: Path

    @property
    def position(self) -> Position:
        """Progress of the run when it was saved."""
        match = _NAME_PATTERN.fullmatch(self.path.name)
        assert match
        return Position(int(match[1]), int(match[2] or 0))

    def read(self) -> CheckpointData:
        """Return its contents.

        Raises:
            FormatVersionError: if another version of this package wrote it.
            UsageError: if it is incomplete or corrupt.
        """
        # Read before the checksums are compared: an invalid key or a syntax error is more precise.
        try:
            state, params = STATE_FORMAT.read(self.path / STATE), PARAMS_FORMAT.read(self.path / PARAMS)
        except FormatVersionError:
            self._compare_checksums()  # a corrupt file may look like one of another version
            raise
        try:
            self._compare_checksums()
        except FormatVersionError as error:  # unlike the state: corrupt
            raise UsageError(str(error)) from error
        return CheckpointData(read_arrays(self.path / VARIABLES), state, params)

    def _compare_checksums(self) -> None:
        expected = CHECKSUMS_FORMAT.read(self.path / CHECKSUMS)
        for name in CHECKSUMMED_FILES:
            if _compute_checksum(self.path / name) != expected[name]:
                raise UsageError(f"{self.path / name}: checksum mismatch; the file is corrupt or was edited")

    @property
    def run_dir(self) -> OutputDir:
        """Run directory; the checkpoint may have been moved to checkpoints/superseded."""
        parents = list(self.path.absolute().parents)[:3]
        run_dirs = [parent for parent in parents if OutputDir(parent).trainer_params.exists()]
        return OutputDir(run_dirs[0] if run_dirs else parents[1])

    def load_scenario(self) -> Scenario:
        """Return the scenario with the parameters of this checkpoint; does not import Keras.

        Raises:
            UsageError: if the code of the scenario cannot be imported or does not match its parameters.
        """
        run = self.run_dir
        scenario = resolve_resource_paths(load_scenario_file(self.path / PARAMS, run), run.path)
        # The results of `adapt` are in the run directory, which may have been moved.
        return dataclasses.replace(scenario, trainer=dataclasses.replace(scenario.trainer, output_dir=run.path))


def open_checkpoint(path: Path) -> Checkpoint | None:
    """Return the checkpoint at `path`; None if there is none."""
    path = path.absolute()
    return Checkpoint(path) if _NAME_PATTERN.fullmatch(path.name) and (path / CHECKSUMS).is_file() else None


def list_checkpoints(checkpoint_dir: Path) -> list[Checkpoint]:
    """Return the checkpoints in a directory, oldest first.

    Raises:
        UsageError: if the directory is a broken link; names its target.
    """
    check_links(checkpoint_dir)
    checkpoints = [Checkpoint(path) for path in checkpoint_dir.glob("epoch_*") if _NAME_PATTERN.fullmatch(path.name)]
    return sorted(checkpoints, key=lambda checkpoint: checkpoint.position)


def load_latest_valid(checkpoint_dir: Path) -> tuple[Checkpoint, CheckpointData] | None:
    """Return the latest valid checkpoint and its contents; None if there are no checkpoints.

    Corrupt checkpoints are skipped with a warning.

    Raises:
        FormatVersionError: if a newer version of this package wrote the latest.
        UsageError: if all of them are corrupt.
    """
    for removal_dir in checkpoint_dir.glob(f".epoch_*{REMOVAL_SUFFIX}"):
        shutil.rmtree(removal_dir, ignore_errors=True)
    recover_interrupted_writes(checkpoint_dir)
    checkpoints = list_checkpoints(checkpoint_dir)
    for checkpoint in reversed(checkpoints):
        try:
            return checkpoint, checkpoint.read()
        except FormatVersionError:
            raise
        except UsageError as problem:
            logger.warning("%s; falling back to the previous checkpoint", problem)
    if checkpoints:
        raise UsageError(
            f"{checkpoint_dir}: all checkpoints are corrupt ({', '.join(c.path.name for c in checkpoints)})"
        )
    return None


def write_checkpoint(checkpoint_dir: Path, position: Position, content: CheckpointData) -> Checkpoint:
    """Write a checkpoint atomically: it appears once it is complete and on disk.

    Args:
        checkpoint_dir: directory of all checkpoints of the run.
        position: progress of the run, which names the checkpoint.
        content: state to save.
    """
    checkpoint = Checkpoint(checkpoint_dir / position.dir_name)
    with atomic_directory(checkpoint.path) as staging_dir:
        write_arrays(staging_dir / VARIABLES, content.arrays)
        STATE_FORMAT.write(staging_dir / STATE, content.state, indent=1)
        PARAMS_FORMAT.write(staging_dir / PARAMS, content.params, indent=1)
        checksums: Checksums = {name: _compute_checksum(staging_dir / name) for name in CHECKSUMMED_FILES}  # type: ignore[assignment]
        CHECKSUMS_FORMAT.write(staging_dir / CHECKSUMS, checksums, indent=1)
    return checkpoint


def prune_checkpoints(checkpoint_dir: Path, num_latest: int, kept: Collection[Position]) -> None:
    """Remove all checkpoints except the latest ones and those to keep.

    Args:
        checkpoint_dir: directory of all checkpoints of the run.
        num_latest: number of latest checkpoints to keep, at least 1.
        kept: positions of further checkpoints to keep.
    """
    for checkpoint in list_checkpoints(checkpoint_dir)[:-num_latest]:
        if checkpoint.position not in kept:
            # Renamed first: a partly removed directory must not look like a checkpoint.
            removal_dir = checkpoint_dir / f".{checkpoint.path.name}{REMOVAL_SUFFIX}"
            shutil.rmtree(removal_dir, ignore_errors=True)  # left by a process that was killed
            os.rename(checkpoint.path, removal_dir)
            shutil.rmtree(removal_dir, ignore_errors=True)


def supersede_later_checkpoints(checkpoint_dir: Path, position: Position) -> tuple[Path, int]:
    """Move the checkpoints after `position` to `superseded/`, or the first free `superseded_N/`.

    Returns:
        That directory, and the number of checkpoints moved.
    """
    later = [checkpoint for checkpoint in list_checkpoints(checkpoint_dir) if checkpoint.position > position]
    superseded_dir, number = checkpoint_dir / SUPERSEDED, 1
    while superseded_dir.exists():
        number += 1
        superseded_dir = checkpoint_dir / f"{SUPERSEDED}_{number}"
    if later:
        superseded_dir.mkdir()
    for checkpoint in later:
        os.rename(checkpoint.path, superseded_dir / checkpoint.path.name)
    return superseded_dir, len(later)


def write_arrays(file: Path, arrays: Arrays) -> None:
    """Write named arrays of any Keras dtype to an .npz file.

    NumPy cannot store bfloat16 and the other dtypes of ml_dtypes: their bits are written as integers, and the names of
    their dtypes in an extra array.
    """
    plain: dict[str, npt.NDArray[Any]] = {}
    dtypes: dict[str, str] = {}
    for name, array in arrays.items():
        if array.dtype.isbuiltin == 2:  # registered by another package
            dtypes[name] = array.dtype.name
            array = array.view(f"u{array.dtype.itemsize}")
        plain[name] = array
    if dtypes:
        plain[DTYPES] = np.array(json.dumps(dtypes))
    with file.open("wb") as stream:
        np.savez(stream, **plain)  # type: ignore[arg-type]


def read_arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays that `write_arrays` wrote, with their original dtypes.

    Raises:
        UsageError: if the file is truncated or corrupt.
    """
    try:
        with np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"{file}: truncated or corrupt: {reason}") from error
    dtypes = json.loads(str(arrays.pop(DTYPES))) if DTYPES in arrays else {}
    for name, dtype in dtypes.items():
        arrays[name] = arrays[name].view(getattr(ml_dtypes, dtype))
    return arrays


def _compute_checksum(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{file}: cannot read: {error.strerror}") from error
