"""Training step of a user's `Model.train_step` on PyTorch, executed eagerly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tfaip_like._training.steps.custom_step import RunningStep
from tfaip_like._training.steps.torch_step import TorchTrainStep


class TorchCustomStep(TorchTrainStep):
    """Training step of `Model.train_step` on PyTorch; see `TorchTrainStep`."""

    def _run_step(self, batches: Sequence[Mapping[str, Any]]) -> None:
        import torch  # type: ignore[import-not-found]

        model, optimizers = self._model, self._model.optimizer
        restored: list[keras.Variable] = []
        if self._check_update.skips:
            restored = [
                *self._check_update.restored_variables,
                *model.trainable_variables,
                *optimizers.variables,
            ]
        before = [variable.value.detach().clone() for variable in restored]
        step = _RunningStep(model)
        loss = step.run(batches).detach()
        with torch.no_grad():
            optimizers.complete_step()
            loss = torch.where(step.is_good, loss, torch.nan)
            is_good = self._check_update.record(loss, torch.sqrt(step.squared_norm))
            if not is_good:
                for variable, value in zip(restored, before, strict=True):
                    variable.assign(value)


class _RunningStep(RunningStep):
    def differentiate(self, function: Callable[[], Any], variables: list[keras.Variable]) -> tuple[Any, list[Any]]:
        import torch

        value = function()
        gradients = torch.autograd.grad(value, [variable.value for variable in variables], allow_unused=True)
        return value.detach(), list(gradients)

    def gradient(self, function: Callable[[Any], Any], x: Any) -> Any:
        import torch

        if not x.requires_grad:
            x = x.detach().requires_grad_()
        total = function(x).sum()
        if not total.requires_grad:  # it depends neither on x nor on a weight
            return torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(total, x, create_graph=True, materialize_grads=True)
        return gradient

    def apply(self, optimizer: keras.optimizers.Optimizer, gradients: list[Any], weights: list[keras.Variable]) -> None:
        import torch

        with torch.no_grad():
            super().apply(optimizer, gradients, weights)
