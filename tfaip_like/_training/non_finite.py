"""Non-finite losses and gradients: detection, diagnosis and dumps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from tfaip_like._training.steps.compilation import is_invalid_argument_error
from tfaip_like._training.steps.training_model import TrainingModel, to_model_inputs
from tfaip_like._training.steps.update_check import sum_of_squares
from tfaip_like._utils.errors import TrainingError, UsageError
from tfaip_like._utils.files import atomic_directory, retry_while_disk_full
from tfaip_like._utils.json_files import format_json
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.evaluation._bad_values import LossFn, find_bad_value

if TYPE_CHECKING:
    from tfaip_like._training.components import TrainingComponents

logger = logging.getLogger(__name__)

Losses = Mapping[str, Any]
MAX_DUMPS = 10
MAX_NAMED_WEIGHTS = 5


class NonFiniteGuard:
    """Guard that stops at the first non-finite step, or reports skipped ones (`--trainer.on_nan`).

    Its methods need the current values in the variables of the model (`TrainStep.sync_to_model`).

    Args:
        components: components of the run.
    """

    def __init__(self, components: TrainingComponents):
        self.components = components
        self._reported_steps: set[int] = set()

    def check(self, epoch: int, first: int) -> None:
        """Report the first non-finite step of an epoch, unless it was reported before.

        Args:
            epoch: epoch, from 1.
            first: first non-finite step of the epoch, from 1; 0 if there was none.

        Raises:
            UsageError: if a sample is the cause.
            TrainingError: if the cause is unknown.
        """
        step = (epoch - 1) * self.components.loader.steps_per_epoch + first
        if first and step not in self._reported_steps:
            self._reported_steps.add(step)
            self._report(step, f"at epoch {epoch}, step {first} (global step {step})")

    def explain(self, error: Exception, epoch: int, read_completed_steps: Callable[[], int]) -> None:
        """Raise an error that names the sample which made a TensorFlow operation fail (`tf.gather` on CPU, say).

        Args:
            error: error of a training step.
            epoch: current epoch, from 1.
            read_completed_steps: returns the completed steps of the epoch.

        Raises:
            UsageError: if the failed step contains such a sample.
        """
        if not is_invalid_argument_error(error):
            return
        loader, completed = self.components.loader, read_completed_steps()
        # Whether the failed step was counted depends on which operation ran first.
        for number in range(max(1, completed), min(completed + 1, loader.steps_per_epoch) + 1):
            step = (epoch - 1) * loader.steps_per_epoch + number
            for batch in loader.make_step_batches(step - 1):
                if bad := find_bad_value(batch, partial(compute_losses, self.components.model)):
                    place = loader.samples.describe_sample(batch.indices[bad.row])
                    message = f"training failed at epoch {epoch}, step {number} (global step {step})"
                    raise UsageError(f"{message}.\n{bad.describe(place)}.") from error

    def count_skipped(self) -> int:
        """Return the number of skipped steps of the current epoch."""
        return int(ops.convert_to_numpy(self.components.model.non_finite.count.value))

    def log_skipped(self, epoch: int) -> None:
        """Log the number of skipped steps of a completed epoch if there are several."""
        if (count := self.count_skipped()) > 1:
            steps = self.components.loader.steps_per_epoch
            logger.warning("epoch %d: skipped %d of %d steps (non-finite loss or gradients)", epoch, count, steps)

    def _report(self, step: int, position: str) -> None:
        trainer = self.components.trainer
        loader = self.components.loader
        batches = loader.make_step_batches(step - 1)
        diagnoses = [_diagnose_batch(self.components.model, batch, loader.samples) for batch in batches]
        losses = [name for each in diagnoses for name in each.non_finite_losses]
        weights = [path for each in diagnoses for path, norm in each.norms.items() if not np.isfinite(norm)]
        kind = "gradient" if weights and not losses else "loss"
        names = f" ({', '.join(dict.fromkeys(losses or weights[:MAX_NAMED_WEIGHTS]))})" if losses or weights else ""
        text = f"non-finite {kind}{names} {position}"
        dump = self._write_dump(step, batches, diagnoses)
        saved = f"\nSamples, losses and gradients saved to {dump}." if dump else ""
        cause = next((each.data for each in diagnoses if each.data), None)
        reason = f"\n{cause}." if cause else ""
        if trainer.on_nan == "skip":
            logger.warning("%s; step skipped.%s%s", text, reason.replace("\n", " "), saved.replace("\n", " "))
        elif cause:
            raise UsageError(f"{text}.{reason}{saved}")
        else:
            raise TrainingError(
                f"{text}.{saved}\n"
                "Common causes: learning rate too high (--learning_rate.lr), exploding gradients "
                "(--optimizer.clip_global_norm 1), division by zero. --trainer.on_nan skip skips such steps."
            )

    def _write_dump(self, step: int, batches: Sequence[Batch], diagnoses: Sequence[_BatchDiagnostics]) -> Path | None:
        """Write the batches of a step and their diagnoses; return the directory, or None if nothing was written."""
        output_dir = self.components.output_dir
        if output_dir is None or len(self._reported_steps) > MAX_DUMPS:
            return None
        path = output_dir.non_finite / f"step_{step:06d}"

        def write() -> None:
            with atomic_directory(path) as staging_dir:
                for number, (batch, diagnosis) in enumerate(zip(batches, diagnoses, strict=True)):
                    arrays = {f"inputs.{name}": array for name, array in batch.inputs.items()}
                    arrays |= {f"targets.{name}": array for name, array in batch.targets.items()}
                    np.savez(staging_dir / f"batch_{number}.npz", **arrays)  # type: ignore[arg-type]
                    places = [self.components.loader.samples.describe_sample(index) for index in batch.indices]
                    report = {"samples": places, "losses": diagnosis.losses, "gradient_norms": diagnosis.norms}
                    text = format_json(report, indent=1) + "\n"
                    (staging_dir / f"batch_{number}.json").write_text(text, encoding="utf-8")

        retry_while_disk_full(path, write, self.components.interrupt.check)
        return path


@dataclass(frozen=True)
class _BatchDiagnostics:
    """Diagnosis of a batch."""

    losses: Mapping[str, Any]
    """Losses by name, scalar or per sample."""
    norms: Mapping[str, float]
    """Gradient norm of each weight that the losses depend on."""
    data: str | None
    """First bad value in the data, and its sample; None if there is none."""

    @property
    def non_finite_losses(self) -> list[str]:
        return [name for name, values in self.losses.items() if not np.isfinite(values).all()]


def compute_losses(model: TrainingModel, batch: Batch) -> Mapping[str, Any]:
    """Compute the losses of a batch in inference mode: without dropout, with stored normalization statistics."""
    fed = keras.tree.map_structure(ops.convert_to_tensor, to_model_inputs(batch))
    named: Mapping[str, Any] = model.model.loss(fed["inputs"], fed["targets"], model(fed, training=False))
    return named


def _diagnose_batch(model: TrainingModel, batch: Batch, samples: SampleReader) -> _BatchDiagnostics:
    compute = partial(compute_losses, model)
    bad = find_bad_value(batch, compute)
    data = bad.describe(samples.describe_sample(batch.indices[bad.row])) if bad else None
    try:
        values, norms = _compute_losses_and_norms(model, batch, compute)
    except Exception:  # eager operations reject values that XLA accepts
        if bad is None:
            raise
        values, norms = {}, {}
    return _BatchDiagnostics(values, norms, data)


def _compute_losses_and_norms(
    model: TrainingModel, batch: Batch, compute: LossFn
) -> tuple[dict[str, Any], dict[str, float]]:
    weights = list(model.trainable_variables)
    differentiate = {"tensorflow": _differentiate_tensorflow, "jax": _differentiate_jax, "torch": _differentiate_torch}
    losses, gradients = differentiate[keras.backend.backend()](lambda: compute(batch), weights)
    norms = {
        weight.path: float(np.sqrt(ops.convert_to_numpy(sum_of_squares(gradient))))
        for weight, gradient in zip(weights, gradients, strict=True)
        if gradient is not None
    }
    return {name: ops.convert_to_numpy(value).tolist() for name, value in losses.items()}, norms


def _sum_of_means(losses: Losses) -> Any:
    return sum((ops.mean(ops.cast(value, "float32")) for value in losses.values()), start=ops.zeros(()))


def _differentiate_tensorflow(
    compute: Callable[[], Losses], weights: Sequence[keras.Variable]
) -> tuple[Losses, Sequence[Any]]:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        losses = compute()
        total = _sum_of_means(losses)
    gradients: Sequence[Any] = tape.gradient(total, weights)
    return losses, gradients


def _differentiate_jax(
    compute: Callable[[], Losses], weights: Sequence[keras.Variable]
) -> tuple[Losses, Sequence[Any]]:
    import jax

    def total(values: Sequence[Any]) -> tuple[Any, Losses]:
        with keras.StatelessScope(list(zip(weights, values, strict=True))):
            losses = compute()
        return _sum_of_means(losses), losses

    gradients, losses = jax.grad(total, has_aux=True)([weight.value for weight in weights])
    return losses, gradients


def _differentiate_torch(
    compute: Callable[[], Losses], weights: Sequence[keras.Variable]
) -> tuple[Losses, Sequence[Any]]:
    import torch  # type: ignore[import-not-found]

    losses = compute()
    values = [weight.value for weight in weights]
    gradients: Sequence[Any] = torch.autograd.grad(_sum_of_means(losses), values, allow_unused=True)
    return losses, gradients
