"""Validation during training."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import keras

from tfaip_like._keras_ext.range_checks import check_int32_overflow
from tfaip_like._training.steps.training_model import TrainingModel, select_logged_metrics, to_model_inputs
from tfaip_like._training.steps.validation_step import ValidationStep, make_validation_step
from tfaip_like._training.validation.examples import ExamplePrinter
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like.data._loader.bad_samples import BadSampleLog
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._loader.postprocessing import apply_postprocessors
from tfaip_like.data._sample import Arrays, Sample
from tfaip_like.evaluation._bad_values import find_bad_value, first_non_finite_row
from tfaip_like.evaluation._evaluation import (
    EvaluationResult,
    collect_activation_summaries,
    collect_summaries,
    overrides_summaries,
    run_evaluator,
)
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.evaluation._metric_values import flatten_values
from tfaip_like.modeling._activation_network import ActivationNetwork
from tfaip_like.modeling._model import Tensors
from tfaip_like.modeling._network import make_predict_fn
from tfaip_like.summaries import Summary

logger = logging.getLogger(__name__)

ValidatedBatch: TypeAlias = tuple[Batch, Tensors]
"""Validated batch, and its outputs of the training network."""


class BatchObserver:
    """Observer of the batches of a validation, counted from 0."""

    def on_batch_begin(self, number: int) -> None:
        """Run before a batch."""

    def on_batch_end(self, number: int, read_metrics: Callable[[], Mapping[str, float]]) -> None:
        """Run after a batch.

        Args:
            number: number of the batch.
            read_metrics: returns the averages over the batches so far; it waits for the device.
        """


@dataclass(frozen=True)
class Validation:
    """Validation: losses and metrics of the training network, evaluator metrics of the prediction network.

    Each sample is read, processed and predicted once.
    """

    model: TrainingModel
    network: keras.Model
    """Prediction network; often the training network."""
    loader: DataLoader
    bad_samples: BadSampleLog
    evaluator: Evaluator | None
    examples: ExamplePrinter
    interrupt: InterruptFlag
    skips_bad_data: bool = False
    """Warn about non-finite losses even if the data are the cause (`--trainer.on_nan skip`)."""
    activations: Sequence[ActivationNetwork] = ()
    """Networks with the activations that they record for `Model.activation_summaries`."""
    prefix: str = "val_"
    _warned: set[str] = field(default_factory=set)
    _steps: dict[bool | str, ValidationStep] = field(default_factory=dict)
    """Steps by `jit_compile`, which changes when XLA cannot compile the model."""

    def __call__(self, num_batches: int | None = None, observer: BatchObserver | None = None) -> EvaluationResult:
        """Return metrics (with prefix) and summaries.

        Args:
            num_batches: number of batches to validate on, as a dry run; None uses all.
            observer: sees each batch.

        Raises:
            UsageError: if there is no sample, or a sample's data cause a non-finite loss or metric.
        """
        self.model.reset_metrics()
        first: list[tuple[Batch, Arrays]] = []
        validated_batches = self._iter_validated_batches(num_batches, first, observer or BatchObserver())
        samples = self.examples.print_while_iterating(
            self._iter_predicted_samples(validated_batches), is_dry_run=num_batches is not None
        )
        reserved_names = ["loss", *self.model.loss_trackers, *self.model.metric_names]
        evaluation = EvaluationResult({})
        if self.evaluator is not None:
            evaluation = run_evaluator(self.evaluator, samples, reserved_names)
        for _ in itertools.islice(samples, self.examples.count_remaining()):
            pass
        for _ in validated_batches:  # batches whose samples were not consumed
            pass
        values = self._metric_results(is_empty=not first)
        if non_finite := [name for name, value in values.items() if not math.isfinite(value)]:
            self._diagnose_non_finite(f"{self.prefix}{non_finite[0]}")
        summaries: dict[str, Summary] = dict(evaluation.summaries)
        values |= evaluation.numbers
        if overrides_summaries(self.model.model):
            summaries |= collect_summaries(self.model.model, *first[0], reserved_names=[*values, *summaries])
        if self.activations:
            batch, outputs = first[0]
            summaries |= collect_activation_summaries(
                self.model.model, batch, outputs, self._read_activations(batch), [*values, *summaries]
            )
        return EvaluationResult({f"{self.prefix}{name}": value for name, value in values.items()}, summaries)

    def _iter_validated_batches(
        self, num_batches: int | None, first: list[tuple[Batch, Arrays]], observer: BatchObserver
    ) -> Iterator[ValidatedBatch]:
        """Validate batch by batch, and yield the batches.

        Args:
            num_batches: number of batches; None uses all.
            first: list to which the first batch and its predictions are appended.
            observer: sees each batch.
        """
        step, number = self._get_step(), 0
        for batch in itertools.islice(self.loader.iter_pass(), num_batches):
            self.bad_samples.record(batch.bad)
            if len(batch):
                check_int32_overflow("input", batch.inputs)
                check_int32_overflow("target", batch.targets)
                observer.on_batch_begin(number)
                outputs = step(to_model_inputs(batch))
                observer.on_batch_end(number, lambda: select_logged_metrics(self.model.metric_results()))
                number += 1
                if not first:
                    first.append((batch, self._predict(batch, outputs)))
                yield batch, outputs
            self.interrupt.report_phase("validation")
            self.interrupt.check()

    def _iter_predicted_samples(self, validated_batches: Iterator[ValidatedBatch]) -> Iterator[Sample]:
        """Yield predicted samples after postprocessing."""
        indexed = (
            pair
            for batch, outputs in validated_batches
            for pair in zip(batch.indices, batch.samples(self._predict(batch, outputs)), strict=True)
        )
        return apply_postprocessors(self.loader.samples, indexed, self.loader.dropped)

    def _predict(self, batch: Batch, outputs: Tensors) -> Arrays:
        if self.network is self.model.network:
            return {name: keras.ops.convert_to_numpy(output) for name, output in outputs.items()}
        return make_predict_fn(self.network)(batch.inputs)

    def _read_activations(self, batch: Batch) -> Arrays:
        fed = {name: batch.targets[name] for name in self.model.model.feed_targets}
        recorded: dict[str, Any] = {}
        for network in self.activations:
            recorded |= network.read({**batch.inputs, **fed})
        return recorded

    def _get_step(self) -> ValidationStep:
        key = self.model.jit_compile
        if key not in self._steps:
            samples = self.loader.samples
            self._steps[key] = make_validation_step(self.model, samples.inputs, samples.targets)
        return self._steps[key]

    def _metric_results(self, is_empty: bool) -> dict[str, float]:
        if is_empty:
            raise UsageError("validation set is empty: every sample was dropped or failed")
        return select_logged_metrics(self.model.metric_results())

    def _diagnose_non_finite(self, name: str) -> None:
        """Report the first sample with a non-finite loss or metric; once per name, because it takes another pass.

        Raises:
            UsageError: if its data are the cause.
        """
        if name in self._warned:
            return
        self._warned.add(name)
        for batch in self.loader.iter_pass():
            self.interrupt.check()
            row = first_non_finite_row(batch, self._compute_losses_and_metrics) if len(batch) else None
            if row is None:
                continue
            place = self.loader.samples.describe_sample(batch.indices[row])
            bad = find_bad_value(batch.rows(row, row + 1), self._compute_losses_and_metrics)
            if bad is None:
                logger.warning("%s is not finite; first such sample: %s", name, place)
            elif self.skips_bad_data:
                logger.warning("%s is not finite. %s", name, bad.describe(place))
            else:
                raise UsageError(f"{name} is not finite.\n{bad.describe(place)}.")
            return
        logger.warning("%s is not finite, although it is finite for each single sample", name)

    def _compute_losses_and_metrics(self, batch: Batch) -> Mapping[str, Any]:
        inputs = to_model_inputs(batch)
        outputs = self.model(inputs, training=False)
        arguments = inputs["inputs"], inputs["targets"], outputs
        return {**self.model.model.loss(*arguments), **flatten_values(self.model.model.metrics(*arguments))}
