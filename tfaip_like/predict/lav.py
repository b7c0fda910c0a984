"""LAV: an export, loaded and validated."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from tfaip_like.data.batching import Batch
from tfaip_like.data.pipeline import Batches
from tfaip_like.data.samples import post_processed
from tfaip_like.errors import UsageError
from tfaip_like.evaluator import Evaluator
from tfaip_like.model import Model, Tensors
from tfaip_like.predict.exported import Exported
from tfaip_like.predict.judge import Judged, judge, predictions, show, shows_something
from tfaip_like.sample import Arrays, Sample
from tfaip_like.summaries import Summary

logger = logging.getLogger(__name__)


def load_and_validate(
    exported: Exported,
    batches: Batches,
    model: Model,
    evaluator: Evaluator | None,
    each_batch: Callable[[Batch], None] = lambda batch: None,
    tell: Callable[[str], None] = logger.info,
) -> Judged:
    """Losses, metrics and the evaluator's numbers of an export, by name, in one pass over the data; and summaries.

    `loss` is the weighted sum of the losses, as in training but without regularisation. What needs outputs
    that only the training network has is left out.

    Args:
        each_batch: is shown each batch before it is predicted; may raise to stop.
        tell: is told what is left out.

    Raises:
        UsageError: when there is no sample to validate on, nothing that could be measured, or the
            evaluator returned something else than named numbers.
    """
    averages = Averages(model, tell)
    shown: dict[str, Summary] = {}

    def predicted() -> Iterator[Sample]:
        for batch, outputs in predictions(exported, batches, each_batch):
            if averages.count == 0 and shows_something(model):
                shown.update(show(model, batch, outputs, known=[]))
            averages.add(batch, outputs)
            yield from batch.samples(outputs)
        if averages.count == 0:
            raise UsageError("no sample is left to validate on: all of them were dropped or bad")

    samples = predicted()
    judged = Judged({})
    if evaluator is not None:
        judged = judge(evaluator, post_processed(batches.samples, samples), known=averages.sums)
    for _ in samples:  # those that nobody has asked for
        pass
    values = averages.values() | dict(judged.numbers)
    if not values:
        raise UsageError(
            f"there is nothing to measure in load-and-validate: losses and metrics of {type(model).__name__} need "
            "outputs that its prediction network does not have, and the scenario has no evaluator"
        )
    return Judged(values, {**shown, **judged.summaries})


class Averages:
    """Running averages of the losses and metrics of a model over samples.

    Attributes:
        sums: of each over all samples so far.
        count: of these samples.
    """

    def __init__(self, model: Model, tell: Callable[[str], None]):
        self.model = model
        self.sums: dict[str, float] = {}
        self.count = 0
        self._losses: list[str] = []
        self._left_out: dict[str, str] = {}
        """Method of the model -> the output that it needs and there is not."""
        self._means = _compiled(self._means_of_batch)
        self._tell = tell

    def add(self, batch: Batch, outputs: Arrays) -> None:
        """Takes a batch and what was predicted for it."""
        means = self._means(_tensors(batch.inputs), _tensors(batch.targets), _tensors(outputs))
        if self.count == 0:
            self._losses = list(means.get("loss", {}))
            for method, missing in self._left_out.items():
                self._tell(
                    f"load-and-validate leaves {type(self.model).__name__}.{method} out: it needs the output "
                    f"{missing!r}, but the prediction network has {', '.join(outputs)}"
                )
        for of_method in means.values():
            for name, mean in of_method.items():
                total = len(batch) * float(ops.convert_to_numpy(mean))
                self.sums[name] = self.sums.get(name, 0.0) + total
        self.count += len(batch)

    def _means_of_batch(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> dict[str, Tensors]:
        means: dict[str, Tensors] = {}
        for method, compute in (("loss", self.model.loss), ("metrics", self.model.metrics)):
            try:
                values = compute(inputs, targets, _Outputs(outputs))
            except _NoSuchOutputError as missing:
                self._left_out[method] = missing.args[0]
            else:
                means[method] = {name: ops.mean(ops.cast(value, "float32")) for name, value in values.items()}
        return means

    def values(self) -> dict[str, float]:
        """The averages; `loss` first, the sum that a training minimises, if there are losses."""
        means = {name: total / self.count for name, total in self.sums.items()}
        if not self._losses:
            return means
        weights = self.model.loss_weights
        return {"loss": sum(weights.get(name, 1.0) * means[name] for name in self._losses), **means}


class _NoSuchOutputError(KeyError):
    """Raised where a loss or metric asks for an output that there is not."""


class _Outputs(dict[str, Any]):
    """Named outputs that tell which one is missing."""

    def __missing__(self, name: str) -> Any:
        raise _NoSuchOutputError(name)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors, compiled where that is known how to: measured, half the time."""
    compiled = function
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(function, autograph=False, reduce_retracing=True)
    elif keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(function)
    return compiled


def _tensors(arrays: Arrays) -> dict[str, Any]:
    return {name: ops.convert_to_tensor(array) for name, array in arrays.items()}
