"""Interface of the training step, which each backend implements, and the choice among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import keras

from tfaip_like._training.steps.compilation import compile_model
from tfaip_like._training.steps.program_cost import ProgramCost
from tfaip_like._training.steps.training_model import TrainingModel, to_model_inputs
from tfaip_like._utils.errors import UsageError
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.settings import Trainer


class TrainStep(Protocol):
    """Training step of a backend: reads batches, updates the weights and the metrics of the epoch.

    Between `run` and `sync_to_model` the variables of the model may be out of date: a backend may hold their values
    elsewhere. The steps that are complete are counted inside the compiled steps, in `TrainingModel.non_finite.steps`,
    so the count is exact after any exception.
    """

    def run(self, data: Iterator[Any], num_steps: int) -> Mapping[str, Any]:
        """Run steps; may return before the device has finished.

        Args:
            data: elements of `TrainingFeed.open`; as many as the steps need are read.
            num_steps: number of steps of this execution.

        Returns:
            The average of each loss and metric over the epoch so far, by name.

        Raises:
            Exception: of the data pipeline; no step has begun that is not complete.
        """

    def sync_to_model(self) -> None:
        """Write the current values to the variables of the model."""

    def analyze(self, example: Mapping[str, Any], stack_size: int) -> ProgramCost:
        """Return the cost of a step, from the program that the first execution would otherwise compile or trace.

        Args:
            example: model inputs of the first batch.
            stack_size: batches in an element of the data; 0 if elements are single batches, whose shapes may differ.
        """


def compile_train_step(
    model: TrainingModel,
    optimizer: keras.optimizers.Optimizer,
    trainer: Trainer,
    loader: DataLoader,
    example: Batch,
    devices: Sequence[str] = (),
    pads_lengths: bool = False,
) -> TrainStep:
    """Compile the training model, and return the training step of the backend.

    Args:
        model: training model.
        optimizer: optimizer, already built.
        trainer: its `jit_compile`, `force_eager` and `on_nan` apply.
        loader: training loader.
        example: its first batch.
        devices: names of the devices that share each batch (TensorFlow).
        pads_lengths: whether batches of variable lengths are padded to a few shapes.

    Raises:
        UsageError: if `jit_compile` is requested but not supported, or no loss depends on any weight.
    """
    compile_model(model, optimizer, trainer, loader, pads_lengths)
    backend = keras.backend.backend()
    if model.trained is not None:
        _check_supported(model, trainer, loader, devices)
    if backend == "jax":
        from tfaip_like._training.steps.jax_custom_step import JaxCustomStep
        from tfaip_like._training.steps.jax_step import JaxTrainStep

        inputs = to_model_inputs(example)
        jax_step = JaxTrainStep if model.trained is None else JaxCustomStep
        return jax_step(model, loader.yields_stacked_steps, loader.accumulate, trainer.on_nan, inputs)
    if backend == "torch":
        from tfaip_like._training.steps.torch_custom_step import TorchCustomStep
        from tfaip_like._training.steps.torch_step import TorchTrainStep

        torch_step = TorchTrainStep if model.trained is None else TorchCustomStep
        return torch_step(model, loader.accumulate, trainer.on_nan)
    from tfaip_like._training.steps.tensorflow_custom_step import TensorFlowCustomStep
    from tfaip_like._training.steps.tensorflow_step import TensorFlowTrainStep

    tensorflow_step = TensorFlowTrainStep if model.trained is None else TensorFlowCustomStep
    return tensorflow_step(
        model, loader.yields_stacked_steps, loader.samples, loader.accumulate, trainer.on_nan, devices
    )


def _check_supported(model: TrainingModel, trainer: Trainer, loader: DataLoader, devices: Sequence[str]) -> None:
    """Raise `UsageError` for settings that a `train_step` of the model cannot follow."""
    origin = f"{type(model.model).__name__}.train_step"
    if len(devices) > 1:
        raise UsageError(f"--device.gpus: {origin} updates the weights on one device; choose one")
    if trainer.precision == "mixed_float16":
        raise UsageError(f"--trainer.precision mixed_float16: {origin} has no loss scale; use mixed_bfloat16")
    if loader.samples.has_weights:
        raise UsageError(f"--train.balance loss: {origin} ignores class weights; use --train.balance sample")
