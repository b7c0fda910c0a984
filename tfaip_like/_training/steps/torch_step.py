"""Training step on PyTorch, executed eagerly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import keras

from tfaip_like._training.steps.program_cost import ProgramCost, analyze_torch_step
from tfaip_like._training.steps.training_model import TrainingModel, batch_size
from tfaip_like._training.steps.update_check import Gradients, UpdateCheck


class TorchTrainStep:
    """Training step on PyTorch; see `TrainStep`.

    Args:
        model: compiled training model with a built optimizer.
        accumulate: batches per step (gradient accumulation).
        on_nan: see `--trainer.on_nan`.
    """

    def __init__(self, model: TrainingModel, accumulate: int, on_nan: Literal["stop", "skip"]):
        self._model = model
        self._accumulate = accumulate
        self._check_update = UpdateCheck(model, on_nan)
        self._weights = list(model.trainable_variables)

    def run(self, data: Iterator[Any], num_steps: int) -> Mapping[str, Any]:
        """Run steps; see `TrainStep.run`."""
        self._model.train()  # for torch layers, which have no `training` argument
        for number in range(num_steps):
            if number and not self._check_update.skips and int(self._model.non_finite.result()):
                break
            batches = [next(data) for _ in range(self._accumulate)]
            self._run_step([keras.tree.map_structure(keras.ops.convert_to_tensor, batch) for batch in batches])
        return self._model.metric_results()

    def sync_to_model(self) -> None:
        """Switch torch layers to inference; the variables are updated in place."""
        self._model.eval()

    def _run_step(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Update the weights once."""
        import torch  # type: ignore[import-not-found]

        restored = self._check_update.restored_variables
        before = [variable.value.detach().clone() for variable in restored]
        loss, gradients = self._accumulate_gradients(batches)
        self._model.warn_untrained_weights(gradients)
        with torch.no_grad():
            is_good, gradients = self._check_update(loss, gradients, self._weights)
            if not self._check_update.skips or is_good:
                self._model.optimizer.apply(gradients, self._weights)
            else:
                for variable, value in zip(restored, before, strict=True):
                    variable.assign(value)

    def _accumulate_gradients(self, batches: Sequence[Mapping[str, Any]]) -> tuple[Any, Gradients]:
        """Return loss and gradients of a step, means over the samples of its batches."""
        if len(batches) == 1:
            return self._compute_gradients(batches[0])
        sizes = [batch_size(batch) for batch in batches]
        losses, sums = [], [None] * len(self._weights)
        for batch, size in zip(batches, sizes, strict=True):
            loss, gradients = self._compute_gradients(batch)
            losses.append(loss * size)
            for number, gradient in enumerate(gradients):
                if gradient is not None:
                    sums[number] = gradient * size if sums[number] is None else sums[number] + gradient * size
        total = sum(sizes)
        return sum(losses) / total, [None if gradient is None else gradient / total for gradient in sums]

    def _compute_gradients(self, batch: Mapping[str, Any]) -> tuple[Any, Gradients]:
        """Return the loss of a batch, and the gradients of the scaled loss."""
        self._model.zero_grad()
        _, loss = self._model.evaluate_batch(batch, training=True)
        self._model.optimizer.scale_loss(loss).backward()
        return loss.detach(), [weight.value.grad for weight in self._weights]

    def analyze(self, example: Mapping[str, Any], stack_size: int) -> ProgramCost:
        """Return the cost of a step; see `TrainStep.analyze`."""
        return analyze_torch_step(self._model, example, self._accumulate)
