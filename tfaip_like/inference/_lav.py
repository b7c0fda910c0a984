"""Load-and-validate (LAV): losses, metrics and evaluators of a loaded export."""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._loader.postprocessing import apply_postprocessors
from tfaip_like.data._sample import Arrays, Sample
from tfaip_like.evaluation._evaluation import (
    EvaluationResult,
    collect_summaries,
    overrides_summaries,
    predict_batches,
    run_evaluator,
)
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.evaluation._output_metrics import OutputMetrics, missing_output_advice, output_method_name
from tfaip_like.modeling._model import Model

logger = logging.getLogger(__name__)


class NetworkWithLogits(Protocol):
    """Protocol of a validated network: an export, or a network in memory."""

    def predict_with_logits(self, inputs: Mapping[str, Any]) -> tuple[Arrays, Mapping[str, Any]]:
        """Return the outputs for a batch, and the logits for `attach_logits`."""


def load_and_validate(
    network: NetworkWithLogits,
    batches: DataLoader,
    model: Model,
    evaluator: Evaluator | None,
    on_batch: Callable[[Batch], None] = lambda batch: None,
    log: Callable[[str], None] = logger.info,
    on_sample: Callable[[Sample], None] | None = None,
    worst: TopLosses | None = None,
    metrics: OutputMetrics | None = None,
    num_batches: int | None = None,
) -> EvaluationResult:
    """Return the losses, metrics, evaluator results and summaries of an export, in one pass over the data.

    `loss` is the weighted sum of the losses, as in training but without regularization. Losses and metrics that need
    outputs that only the training network has are skipped.

    Args:
        network: Export, or network in memory.
        batches: Data loader of the validation data.
        model: Model with the losses, metrics and summaries.
        evaluator: Evaluator to run, if any.
        on_batch: Called with each batch before its prediction; may raise to stop.
        log: Called with a message about skipped losses and metrics.
        on_sample: Called with each predicted and postprocessed sample.
        worst: Collects the samples with the largest losses.
        metrics: Losses and metrics of an earlier pass with the same model, which saves compiling them again.
        num_batches: Number of batches; None for all.

    Raises:
        UsageError: If there are no samples, nothing can be computed, a value is not finite, or the evaluator does
            not return named numbers.
    """
    metrics = metrics or OutputMetrics(model)
    metrics.reset_state(log)
    first: list[tuple[Batch, Arrays]] = []

    def predicted() -> Iterator[tuple[int, Sample]]:
        for batch, (outputs, logits) in predict_batches(network.predict_with_logits, batches, on_batch, num_batches):
            if metrics.num_samples == 0:
                first.append((batch, outputs))
            losses = metrics.add(batch, outputs, logits)
            if bad := metrics.find_bad_data(batch, outputs, logits):
                place = batches.samples.describe_sample(batch.indices[bad.row])
                raise UsageError(f"{metrics.non_finite} is not finite.\n{bad.describe(place)}.")
            if worst is not None and losses is not None:
                worst.add(batch, losses)
            yield from zip(batch.indices, batch.samples(outputs), strict=True)
        if metrics.num_samples == 0:
            raise UsageError("validation set is empty: every sample was dropped or failed")

    samples = predicted()
    postprocessed = apply_postprocessors(batches.samples, samples, batches.dropped)
    if on_sample is not None:
        postprocessed = _call_for_each(on_sample, postprocessed)
    evaluated = EvaluationResult({})
    if evaluator is not None:
        with _note_output_method(model):
            evaluated = run_evaluator(evaluator, postprocessed, reserved_names=metrics.names)
    for _ in samples if on_sample is None else postprocessed:  # those that the evaluator did not consume
        pass
    values = metrics.results() | dict(evaluated.numbers)
    if not values:
        raise UsageError(
            f"load-and-validate: nothing to compute: skipped {metrics.describe_skipped(first[0][1])}, "
            "and there is no evaluator.\n"
            f"{missing_output_advice(model)}, add an evaluator, or disable LAV (omit --trainer.lav_every_n)."
        )
    with _note_output_method(model):
        model_summaries = (
            collect_summaries(model, *first[0], reserved_names=[*values, *evaluated.summaries])
            if overrides_summaries(model)
            else {}
        )
    return EvaluationResult(values, {**evaluated.summaries, **model_summaries})


def _call_for_each(on_sample: Callable[[Sample], None], samples: Iterator[Sample]) -> Iterator[Sample]:
    for sample in samples:
        on_sample(sample)
        yield sample


class TopLosses:
    """Samples with the largest losses.

    Args:
        count: Number of samples to keep.
    """

    def __init__(self, count: int):
        self.count = count
        self._largest: list[tuple[float, int]] = []

    def add(self, batch: Batch, losses: npt.NDArray[Any]) -> None:
        """Add a batch.

        Args:
            batch: Batch of samples.
            losses: Loss of each sample, of shape (batch,).
        """
        pairs = zip(map(float, losses), batch.indices, strict=True)
        # NaN is the worst of all.
        self._largest = heapq.nlargest(
            self.count,
            [*self._largest, *pairs],
            key=lambda pair: (math.isnan(pair[0]), 0.0 if math.isnan(pair[0]) else pair[0]),
        )

    def sorted(self) -> list[tuple[float, int]]:
        """Return the loss and the index in the source of each kept sample, in descending order."""
        return list(self._largest)


@contextmanager
def _note_output_method(model: Model) -> Iterator[None]:
    """Add the method that returns the outputs to a `KeyError` of the block."""
    try:
        yield
    except KeyError as error:
        error.add_note(f"Load-and-validate uses the outputs that {output_method_name(model)} returns.")
        raise
