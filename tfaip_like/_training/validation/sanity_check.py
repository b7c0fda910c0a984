"""Everything that follows the steps of an epoch, tried on a few samples before the first step.

A typo in an evaluator, a layer that cannot be exported or a value that no checkpoint can hold is found here, and not
after an epoch that took hours.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from tfaip_like._training import state
from tfaip_like._training.checkpointing.checkpoints import VARIABLES, read_arrays, write_arrays
from tfaip_like._training.components import TrainingComponents
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._training.validation.lav import LavValidation
from tfaip_like._training.validation.validation import Validation
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.temp_dirs import temporary_directory

logger = logging.getLogger(__name__)


def run_sanity_check(components: TrainingComponents) -> None:
    """Validate, show, export and save once, on the first batch of each; the training starts as if it had not happened.

    Raises:
        UsageError: when a value cannot be saved and restored.
        Exception: whatever the user's code raises, with a note that says when.
    """
    epoch_finalizer = components.epoch_finalizer
    validations: list[Validation | LavValidation] = [*epoch_finalizer.lavs.values()]
    if epoch_finalizer.validation is not None:
        validations.insert(0, epoch_finalizer.validation)
    try:
        with epoch_finalizer.use_exported_weights():
            validated: dict[str, float] = {}
            for validation in validations:
                validated |= validation(num_batches=1).numbers
            epoch_finalizer.check_monitor(validated)
            if components.output_dir is not None:
                epoch_finalizer.exports.verify_current()
        check_checkpoint_roundtrip(components.model)
    except Exception as error:
        error.add_note(
            "Found before the first step, on the first batch; --trainer.sanity_check false skips this check."
        )
        raise
    finally:
        epoch_finalizer.exports.discard_current()


def check_checkpoint_roundtrip(model: TrainingModel) -> None:
    """Write the state, read it back and restore it; the model keeps its state, bit for bit.

    Raises:
        UsageError: for a variable that comes back with other bits, or not at all.
    """
    arrays = state.capture(model)
    with temporary_directory() as output_dir:
        write_arrays(Path(output_dir, VARIABLES), arrays)
        read = read_arrays(Path(output_dir, VARIABLES))
    missing = state.restore_network(model.network, read) + (state.restore_optimizer(model.optimizer, read) or [])
    state.restore_random(model, read)
    back = state.capture(model)
    changed = [name for name in arrays if not _is_identical(arrays[name], back[name])]
    if missing or changed:
        raise UsageError(
            f"{(missing or changed)[0]}: this variable cannot be saved in a checkpoint and restored, so the training "
            "could not be resumed; another dtype for its layer may help"
        )


def _is_identical(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
