"""Checkpoints: the complete state of a training after an epoch, as one folder that is whole or absent."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfaip_like.errors import UsageError
from tfaip_like.files import new_folder
from tfaip_like.keras_additions.paths import weight_paths

VARIABLES = "variables.npz"
STATE = "state.json"
NETWORK = "network"
"""How the names of the network's weights begin: network:00003:encoder/dense/kernel."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk."""

    path: Path

    @property
    def epoch(self) -> int:
        """The number of epochs that were done."""
        return int(self.path.name.removeprefix("epoch_"))


def all_checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints in a folder, oldest first."""
    return sorted((Checkpoint(path) for path in folder.glob("epoch_*")), key=lambda checkpoint: checkpoint.epoch)


def save_checkpoint(
    folder: Path,
    epoch: int,
    network: keras.Model,
    variables: Sequence[keras.Variable],
    state: Mapping[str, Any],
    keep: int,
) -> Checkpoint:
    """Writes the state after `epoch` and removes all but the latest `keep` checkpoints.

    Args:
        network: the trained network, which tells the weights among the variables.
        variables: weights, optimizer, random states: everything that a step reads.
        state: all else that the training must know to go on, as JSON values.
    """
    checkpoint = Checkpoint(folder / f"epoch_{epoch:04d}")
    with new_folder(checkpoint.path) as aside:
        arrays = {name: keras.ops.convert_to_numpy(variable.value) for name, variable in _named(network, variables)}
        np.savez(aside / VARIABLES, **arrays)
        checksum = hashlib.sha256((aside / VARIABLES).read_bytes()).hexdigest()
        (aside / STATE).write_text(json.dumps({**state, "epoch": epoch, "sha256": checksum}, indent=2) + "\n")
    for old in all_checkpoints(folder)[:-keep]:
        shutil.rmtree(old.path)
    return checkpoint


def load_checkpoint(
    checkpoint: Checkpoint, network: keras.Model, variables: Sequence[keras.Variable]
) -> dict[str, Any]:
    """Puts the values of a checkpoint into `variables`; returns its state.

    Raises:
        UsageError: when it is damaged, or the variables are not those that were saved.
    """
    try:
        state: dict[str, Any] = json.loads((checkpoint.path / STATE).read_text(encoding="utf-8"))
        content = (checkpoint.path / VARIABLES).read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"{checkpoint.path}: not a complete checkpoint: {error}") from error
    if hashlib.sha256(content).hexdigest() != state["sha256"]:
        raise UsageError(f"{checkpoint.path}: {VARIABLES} is damaged (its checksum differs)")
    with np.load(checkpoint.path / VARIABLES) as saved:
        named = dict(_named(network, variables))
        _check_same({name: saved[name].shape for name in saved.files}, named, checkpoint)
        for name, variable in named.items():
            variable.assign(saved[name])
    return state


def _named(network: keras.Model, variables: Sequence[keras.Variable]) -> list[tuple[str, keras.Variable]]:
    paths = {id(weight): path for path, weight in weight_paths(network).items()}
    named = []
    for number, variable in enumerate(variables):
        group = f"{NETWORK}:" if id(variable) in paths else ""
        # Numbered, because two variables can have the same path.
        named.append((f"{group}{number:05d}:{paths.get(id(variable), variable.path)}", variable))
    return named


def _check_same(saved: Mapping[str, Any], named: Mapping[str, keras.Variable], checkpoint: Checkpoint) -> None:
    wanted = {name: tuple(variable.shape) for name, variable in named.items()}
    for name in (*saved, *wanted):
        if saved.get(name) != wanted.get(name):
            path = name.rpartition(":")[2]
            raise UsageError(
                f"{checkpoint.path}: does not fit this scenario: {path} is {saved.get(name, 'absent')} in the "
                f"checkpoint and {wanted.get(name, 'absent')} here"
            )
