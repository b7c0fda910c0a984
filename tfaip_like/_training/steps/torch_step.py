"""Training step on PyTorch, executed eagerly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras

from tfaip_like._training.steps.training_model import TrainingModel


class TorchTrainStep:
    """Training step on PyTorch; see `TrainStep`. It runs one step at a time.

    Args:
        model: compiled training model with a built optimizer.
    """

    def __init__(self, model: TrainingModel):
        self._model = model
        self._weights = list(model.trainable_variables)

    def run(self, data: Iterator[Any], num_steps: int) -> Mapping[str, Any]:
        """Run steps; see `TrainStep.run`."""
        self._model.train()  # for torch layers, which have no `training` argument
        for _ in range(num_steps):
            self._run_step(keras.tree.map_structure(keras.ops.convert_to_tensor, next(data)))
        return self._model.metric_results()

    def sync_to_model(self) -> None:
        """Switch torch layers to inference; the variables are updated in place."""
        self._model.eval()

    def _run_step(self, batch: Mapping[str, Any]) -> None:
        import torch  # type: ignore[import-not-found]

        optimizer = self._model.optimizer
        self._model.zero_grad()
        _, loss = self._model.evaluate_batch(batch, training=True)
        self._model.complete_step(loss)
        optimizer.scale_loss(loss).backward()
        gradients = [weight.value.grad for weight in self._weights]
        self._model.warn_untrained_weights(gradients)
        with torch.no_grad():
            optimizer.apply(gradients, self._weights)
