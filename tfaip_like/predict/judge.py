"""What judges predictions: an evaluator in plain Python, in a validation and in load-and-validate alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import SupportsFloat, TypeAlias

import keras

from tfaip_like.data.batching import Batch
from tfaip_like.data.pipeline import Batches
from tfaip_like.errors import UsageError, article
from tfaip_like.evaluator import Evaluator
from tfaip_like.network import select
from tfaip_like.sample import Arrays, Sample

Predict: TypeAlias = Callable[[Arrays], Arrays]
"""Named inputs of a batch to named outputs: an `Exported`, or `predict_with` a network."""


def predict_with(network: keras.Model) -> Predict:
    """How a network in memory predicts."""

    def predict(inputs: Arrays) -> Arrays:
        outputs: Arrays = network.predict_on_batch(select(inputs, network))
        return outputs

    return predict


def predictions(
    predict: Predict, batches: Batches, each_batch: Callable[[Batch], None]
) -> Iterator[tuple[Batch, Arrays]]:
    """Each batch of one pass with its outputs.

    Args:
        each_batch: called first, with empty batches too (all of their samples were dropped).
    """
    for batch in batches.once():
        each_batch(batch)
        if len(batch):
            yield batch, predict(batch.inputs)


def judge(evaluator: Evaluator, samples: Iterable[Sample], known: Collection[str]) -> dict[str, float]:
    """What the evaluator says of predicted and post-processed samples.

    Args:
        known: names of losses and metrics, which it must not use; asked when all samples were seen.

    Raises:
        UsageError: when it returned something else than named numbers.
    """
    where = f"{type(evaluator).__name__}.evaluate"
    returned = evaluator.evaluate(samples)
    if not isinstance(returned, Mapping):
        raise UsageError(f"{where} returned {article(type(returned).__name__)}; it must return {{'name': number, ...}}")
    for name, value in returned.items():
        if name in known:
            raise UsageError(f"{where}: {name!r} is a loss or metric of the model already; choose another name")
        if not isinstance(value, SupportsFloat):
            raise UsageError(f"{where}: {name!r} is {value!r}, not a number")
    return {name: float(value) for name, value in returned.items()}
