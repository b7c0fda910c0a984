"""Losses and gradients that are no finite numbers: which step, why, and with which samples."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from tfaip_like._training import state
from tfaip_like._training.steps.execution import is_invalid_argument_error
from tfaip_like._training.steps.training_model import TrainingModel, to_model_inputs
from tfaip_like._utils.errors import TrainingError, UsageError
from tfaip_like._utils.files import atomic_directory, retry_while_disk_full
from tfaip_like._utils.json_files import format_json
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.evaluation._bad_values import LossFn, find_bad_value

if TYPE_CHECKING:
    from tfaip_like._training.components import TrainingComponents

logger = logging.getLogger(__name__)

MAX_DUMPS = 10
MAX_NAMED_WEIGHTS = 5


class NonFiniteGuard:
    """Stops the training at the first such step, or tells of those that were left out (`--trainer.on_nan`)."""

    def __init__(self, components: TrainingComponents):
        self.components = components
        self._reported_steps: set[int] = set()

    def check_logs(self, epoch: int, first: int) -> None:
        """Takes the first such step of an epoch (both from 1; 0 if there was none).

        Raises:
            TrainingError, UsageError: to stop; says whose mistake it probably is.
        """
        step = (epoch - 1) * self.components.loader.steps_per_epoch + first
        if first and step not in self._reported_steps:
            self._reported_steps.add(step)
            self._report(step, f"first at step {first} of epoch {epoch} (step {step} of the run).")

    def explain(self, error: Exception, epoch: int) -> None:
        """Name the sample whose value made an operation of TensorFlow raise: `tf.gather` of an id on a CPU, say.

        Raises:
            UsageError: when there is one in the first step that is not done.
        """
        if not is_invalid_argument_error(error):
            return
        batches, counted = self.components.loader, state.completed_steps(self.components.model)
        # Whether the step that failed has been counted depends on which operation ran first.
        for number in range(max(1, counted), min(counted + 1, batches.steps_per_epoch) + 1):
            step = (epoch - 1) * batches.steps_per_epoch + number
            for batch in batches.make_step_batches(step - 1):
                if bad := find_bad_value(batch, partial(compute_losses, self.components.model)):
                    place = batches.samples.describe_sample(batch.indices[bad.row])
                    when = f"step {number} of epoch {epoch} (step {step} of the run)"
                    raise UsageError(f"{when} failed.\n{bad.at(place)}.") from error

    def check_running_epoch(self, epoch: int) -> None:
        """The same, before the state of a running epoch is saved."""
        self.check_logs(epoch, int(ops.convert_to_numpy(self.components.model.non_finite.first.value)))

    def count_skipped(self, epoch: int) -> int:
        """How many steps of an epoch that is done were left out; told, if they are more than the first."""
        state.synchronise(self.components.model)
        count = int(ops.convert_to_numpy(self.components.model.non_finite.count.value))
        if count > 1:
            steps = self.components.loader.steps_per_epoch
            logger.warning("%d of %d steps of epoch %d were left out: no finite number", count, steps, epoch)
        return count

    def _report(self, step: int, when: str) -> None:
        trainer = self.components.trainer
        state.synchronise(self.components.model)
        loader = self.components.loader
        batches = loader.make_step_batches(step - 1)
        found = [_diagnose_batch(self.components.model, batch, loader.samples) for batch in batches]
        losses = [name for one in found for name in one.non_finite_losses]
        weights = [path for one in found for path, norm in one.norms.items() if not np.isfinite(norm)]
        kind = "gradient" if weights and not losses else "loss"
        names = f" ({', '.join(dict.fromkeys(losses or weights[:MAX_NAMED_WEIGHTS]))})" if losses or weights else ""
        text = f"the {kind} is no longer a finite number{names}: {when}"
        dump = self._write_dump(step, batches, found)
        kept = f"\nIts samples, losses and gradients are in {dump}." if dump else ""
        place = next((one.data for one in found if one.data), None)
        reason = f"\n{place}." if place else ""
        if trainer.on_nan == "skip":
            logger.warning("%s It is left out.%s%s", text, reason.replace("\n", " "), kept.replace("\n", " "))
        elif place:
            raise UsageError(f"{text}{reason}{kept}")
        else:
            raise TrainingError(
                f"{text}{kept}\n"
                "Often the learning rate is too high (--learning_rate.lr), gradients explode "
                "(--optimizer.clip_global_norm 1), or the model divides by 0; --trainer.on_nan skip goes on without."
            )

    def _write_dump(self, step: int, batches: Sequence[Batch], found: Sequence[_BatchDiagnostics]) -> Path | None:
        """Writes the batches of the step and what was found in them."""
        output_dir = self.components.output_dir
        if output_dir is None or len(self._reported_steps) > MAX_DUMPS:
            return None
        path = output_dir.non_finite / f"step_{step:06d}"

        def write() -> None:
            with atomic_directory(path) as staging_dir:
                for number, (batch, one) in enumerate(zip(batches, found, strict=True)):
                    arrays = {f"inputs.{name}": array for name, array in batch.inputs.items()}
                    arrays |= {f"targets.{name}": array for name, array in batch.targets.items()}
                    np.savez(staging_dir / f"batch_{number}.npz", **arrays)  # type: ignore[arg-type]
                    places = [self.components.loader.samples.describe_sample(index) for index in batch.indices]
                    report = {"samples": places, "losses": one.losses, "gradient_norms": one.norms}
                    text = format_json(report, indent=1) + "\n"
                    (staging_dir / f"batch_{number}.json").write_text(text, encoding="utf-8")

        retry_while_disk_full(path, write, self.components.interrupt.check)
        return path


@dataclass(frozen=True)
class _BatchDiagnostics:
    """A batch, looked at closely."""

    losses: Mapping[str, Any]
    """Named losses, one number each or one per sample."""
    norms: Mapping[str, float]
    """Norm of the gradient of each weight, where the backend tells."""
    data: str | None
    """What is wrong with the data of the batch, and where."""

    @property
    def non_finite_losses(self) -> list[str]:
        return [name for name, values in self.losses.items() if not np.isfinite(values).all()]


def compute_losses(model: TrainingModel, batch: Batch) -> Mapping[str, Any]:
    """Compute the named losses of a batch as in prediction: without dropout, leaving statistics of normalisation."""
    fed = to_model_inputs(batch)
    named: Mapping[str, Any] = model.model.loss(fed["inputs"], fed["targets"], model(fed, training=False))
    return named


def _diagnose_batch(model: TrainingModel, batch: Batch, samples: SampleReader) -> _BatchDiagnostics:
    compute = partial(compute_losses, model)
    bad = find_bad_value(batch, compute)
    data = bad.at(samples.describe_sample(batch.indices[bad.row])) if bad else None
    try:
        values, norms = _compute_losses_and_norms(model, batch, compute)
    except Exception:  # an operation refuses eagerly what XLA computed with
        if bad is None:
            raise
        values, norms = {}, {}
    return _BatchDiagnostics(values, norms, data)


def _compute_losses_and_norms(
    model: TrainingModel, batch: Batch, compute: LossFn
) -> tuple[dict[str, Any], dict[str, float]]:
    norms = {}
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            named = compute(batch)
            total = tf.add_n([tf.reduce_mean(tf.cast(value, "float32")) for value in named.values()])
        for variable, gradient in zip(
            model.trainable_variables, tape.gradient(total, model.trainable_variables), strict=True
        ):
            if gradient is not None:
                norms[variable.path] = float(tf.norm(tf.convert_to_tensor(gradient)))
    else:
        named = compute(batch)
    return {name: ops.convert_to_numpy(value).tolist() for name, value in named.items()}, norms
