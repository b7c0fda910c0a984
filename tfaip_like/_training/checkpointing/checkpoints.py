"""Checkpoints on disk: folders with everything that a training needs to go on, whole or absent.

checkpoints/epoch_0012/            after 12 epochs
checkpoints/epoch_0012_step_00345/ after 345 steps more
    variables.npz   arrays of all variables, named GROUP:NUMBER:PATH
    state.json      everything else: position, history, best, early stopping
    params.json     the parameters that it was trained with
    checksums.json  SHA-256 of each of them
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import ml_dtypes
import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import atomic_directory, check_links, recover_interrupted_writes
from tfaip_like._utils.json_files import Json, read_json, read_json_object, write_json
from tfaip_like._utils.typed_json import decode

logger = logging.getLogger(__name__)

VARIABLES: Literal["variables.npz"] = "variables.npz"
STATE: Literal["state.json"] = "state.json"
PARAMS: Literal["params.json"] = "params.json"
CHECKSUMS = "checksums.json"
DTYPES = "dtypes"
"""Array in `variables.npz` with the dtypes that numpy does not have, as JSON by the name of their array."""
SUPERSEDED = "superseded"
REMOVAL_SUFFIX = ".old"
"""How the name of a checkpoint ends that is being removed."""
NETWORK = "network"
"""How the names of the network's variables begin: network:00003:encoder/dense/kernel."""

CHECKSUMMED_FILES: tuple[Literal["variables.npz", "state.json", "params.json"], ...] = (VARIABLES, STATE, PARAMS)
Checksums = TypedDict("Checksums", {"variables.npz": str, "state.json": str, "params.json": str})

Arrays = Mapping[str, npt.NDArray[Any]]
_NAME_PATTERN = re.compile(r"epoch_(\d+)(?:_step_(\d+))?")


@dataclass(frozen=True, order=True)
class Position:
    """How far a training is."""

    epoch: int
    """Epochs that are done."""
    step: int
    """Steps that are done of the next one."""

    def __str__(self) -> str:
        return f"step {self.step} of epoch {self.epoch + 1}" if self.step else f"the end of epoch {self.epoch}"

    @property
    def folder_name(self) -> str:
        return f"epoch_{self.epoch:04d}" + (f"_step_{self.step:05d}" if self.step else "")


@dataclass(frozen=True)
class CheckpointData:
    """What a checkpoint holds."""

    arrays: Arrays
    state: Mapping[str, Any]
    """JSON values; see `SavedState`."""
    params: Mapping[str, Json]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk."""

    path: Path

    @property
    def position(self) -> Position:
        """Where the training was."""
        match = _NAME_PATTERN.fullmatch(self.path.name)
        assert match
        return Position(int(match[1]), int(match[2] or 0))

    def read(self) -> CheckpointData:
        """What it holds.

        Raises:
            UsageError: when it is damaged.
        """
        expected = decode(Checksums, read_json(self.path / CHECKSUMS), str(self.path / CHECKSUMS))
        # Read first: a file that is not valid says in which line.
        state, params = read_json_object(self.path / STATE), read_json_object(self.path / PARAMS)
        for name in CHECKSUMMED_FILES:
            if _compute_checksum(self.path / name) != expected[name]:
                raise UsageError(f"{self.path / CHECKSUMS}: {name}: its checksum differs: it is damaged, or was edited")
        return CheckpointData(read_arrays(self.path / VARIABLES), state, params)


def open_checkpoint(path: Path) -> Checkpoint | None:
    """Return the checkpoint that a folder is; None if it is none."""
    path = path.absolute()
    return Checkpoint(path) if _NAME_PATTERN.fullmatch(path.name) and (path / CHECKSUMS).is_file() else None


def list_checkpoints(checkpoint_dir: Path) -> list[Checkpoint]:
    """Return the checkpoints in a folder, oldest first.

    Raises:
        UsageError: if the folder is a link to nowhere; names its target.
    """
    check_links(checkpoint_dir)
    found = [Checkpoint(path) for path in checkpoint_dir.glob("epoch_*") if _NAME_PATTERN.fullmatch(path.name)]
    return sorted(found, key=lambda checkpoint: checkpoint.position)


def load_latest_valid(checkpoint_dir: Path) -> tuple[Checkpoint, CheckpointData] | None:
    """The newest checkpoint that is whole, with a warning for each that is not; None if there is none at all.

    Raises:
        UsageError: when all of them are damaged.
    """
    for removal_dir in checkpoint_dir.glob(f".epoch_*{REMOVAL_SUFFIX}"):
        shutil.rmtree(removal_dir, ignore_errors=True)
    recover_interrupted_writes(checkpoint_dir)
    checkpoints = list_checkpoints(checkpoint_dir)
    for checkpoint in reversed(checkpoints):
        try:
            return checkpoint, checkpoint.read()
        except UsageError as problem:
            logger.warning("%s; the one before is used", problem)
    if checkpoints:
        raise UsageError(
            f"{checkpoint_dir}: all checkpoints are damaged ({', '.join(c.path.name for c in checkpoints)})"
        )
    return None


def write_checkpoint(checkpoint_dir: Path, position: Position, content: CheckpointData) -> Checkpoint:
    """Writes a checkpoint; it appears when it is complete and on disk."""
    checkpoint = Checkpoint(checkpoint_dir / position.folder_name)
    with atomic_directory(checkpoint.path) as aside:
        write_arrays(aside / VARIABLES, content.arrays)
        for name, values in ((STATE, content.state), (PARAMS, content.params)):
            write_json(aside / name, values, indent=1)
        write_json(aside / CHECKSUMS, {name: _compute_checksum(aside / name) for name in CHECKSUMMED_FILES}, indent=1)
    return checkpoint


def prune_checkpoints(checkpoint_dir: Path, num_latest: int, kept_epochs: set[int]) -> None:
    """Removes all checkpoints but the latest ones and those after the epochs that are kept for good."""
    for checkpoint in list_checkpoints(checkpoint_dir)[:-num_latest]:
        position = checkpoint.position
        if position.step or position.epoch not in kept_epochs:
            # Renamed first: a folder that is only partly removed must not look like a checkpoint.
            removal_dir = checkpoint_dir / f".{checkpoint.path.name}{REMOVAL_SUFFIX}"
            shutil.rmtree(removal_dir, ignore_errors=True)  # what a kill has left of an earlier one
            os.rename(checkpoint.path, removal_dir)
            shutil.rmtree(removal_dir, ignore_errors=True)


def supersede_later_checkpoints(checkpoint_dir: Path, position: Position) -> tuple[Path, int]:
    """Moves checkpoints that come after a position into `superseded/`, or `superseded_2/` and so on where there is
    one; where to, and how many there were."""
    later = [checkpoint for checkpoint in list_checkpoints(checkpoint_dir) if checkpoint.position > position]
    aside, number = checkpoint_dir / SUPERSEDED, 1
    while aside.exists():
        number += 1
        aside = checkpoint_dir / f"{SUPERSEDED}_{number}"
    if later:
        aside.mkdir()
    for checkpoint in later:
        os.rename(checkpoint.path, aside / checkpoint.path.name)
    return aside, len(later)


def write_arrays(file: Path, arrays: Arrays) -> None:
    """Write named arrays of any dtype that Keras has.

    numpy's files know nothing of bfloat16 and the other dtypes of ml_dtypes: their bits are written as integers, and
    their names in one more array.
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
    """Return the named arrays of a checkpoint, with the dtypes that they had."""
    try:
        with np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"{file}: is not complete, or broken: {reason}") from error
    dtypes = json.loads(str(arrays.pop(DTYPES))) if DTYPES in arrays else {}
    for name, dtype in dtypes.items():
        arrays[name] = arrays[name].view(getattr(ml_dtypes, dtype))
    return arrays


def _compute_checksum(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from error
