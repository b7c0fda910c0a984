"""Dry run of validation, export and checkpoint on one batch before the first step.

It finds a typo in an evaluator, a layer that cannot be exported, or a value that cannot be saved before an epoch of
hours is spent.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from tfaip_like._training import variables
from tfaip_like._training.checkpointing.checkpoints import VARIABLES, read_arrays, write_arrays
from tfaip_like._training.components import TrainingComponents
from tfaip_like._training.exports import exported_weights
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.temp_dirs import temporary_directory

logger = logging.getLogger(__name__)


def run_sanity_check(components: TrainingComponents) -> None:
    """Validate, export and save once, on the first batch of each dataset; the training state is unchanged.

    Raises:
        UsageError: if a value cannot be saved and restored.
        Exception: any exception of user code, with a note on the sanity check.
    """
    try:
        with exported_weights(components.networks.training, components.optimizer):
            validated: dict[str, float] = {}
            for validation in components.validations.all:
                validated |= validation(num_batches=1).numbers
            components.selection.check_monitor(validated)
            if components.output_dir is not None:
                components.exports.verify_current()
        check_checkpoint_roundtrip(components.model)
    except Exception as error:
        error.add_note(
            "Raised by the sanity check on the first batch, before training; --trainer.sanity_check false skips it."
        )
        raise
    finally:
        components.exports.discard_current()


def check_checkpoint_roundtrip(model: TrainingModel) -> None:
    """Write, read and restore the training state; the model is unchanged, bit for bit.

    Raises:
        UsageError: if a variable is lost or changed.
    """
    arrays = variables.capture(model)
    with temporary_directory() as temp_dir:
        write_arrays(Path(temp_dir, VARIABLES), arrays)
        read = read_arrays(Path(temp_dir, VARIABLES))
    missing = variables.restore_network(model.network, read)
    missing += variables.restore_optimizer(model.optimizer, read) or []
    variables.restore_random(model, read)
    restored = variables.capture(model)
    changed = [name for name in arrays if not _is_identical(arrays[name], restored[name])]
    if missing or changed:
        raise UsageError(
            f"{(missing or changed)[0]}: this variable cannot be saved to and restored from a checkpoint, so the run "
            "could not be resumed; try another dtype for its layer"
        )


def _is_identical(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
