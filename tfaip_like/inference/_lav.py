"""Load-and-validate (LAV): losses, metrics and evaluators of a loaded export."""

from __future__ import annotations

import heapq
import logging
import math
from collections import ChainMap
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from tfaip_like._export.logits import attach_logits
from tfaip_like._utils.errors import UsageError
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._loader.sample_reader import apply_postprocessors
from tfaip_like.data._sample import Arrays, Sample
from tfaip_like.evaluation._averager import HostMean, MetricAverager, batch_mean, total_loss
from tfaip_like.evaluation._bad_values import BadValue, find_bad_value, first_non_finite_row
from tfaip_like.evaluation._evaluation import (
    EvaluationResult,
    collect_summaries,
    overrides_summaries,
    predict_batches,
    run_evaluator,
)
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.modeling._context import TrainingPosition, current_position, use_position
from tfaip_like.modeling._model import Model, Tensors

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
    metrics: ExportMetrics | None = None,
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
    metrics = metrics or ExportMetrics(model)
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
            f"{_missing_output_advice(model)}, add an evaluator, or disable LAV (omit --trainer.lav_every_n)."
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


class ExportMetrics:
    """Losses and metrics of a model, computed from the outputs of an export and averaged over samples.

    Args:
        model: Model with the losses and metrics.
        is_eager: Run their Python code for each batch, for debugging.

    Attributes:
        num_samples: Number of samples so far.
        non_finite: First loss or metric that was not finite in the last batch.
    """

    def __init__(self, model: Model, is_eager: bool = False):
        self.model = model
        self._compute_means = self._batch_means if is_eager else _compile(self._batch_means)
        self._skipped_methods: dict[str, str] = {}
        """Missing output by the method of the model that needs it."""
        self.reset_state(logger.info)

    def reset_state(self, log: Callable[[str], None]) -> None:
        """Start a new pass.

        Args:
            log: Called with a message about skipped losses and metrics.
        """
        self._averager = MetricAverager(HostMean, self.model.loss_weights)
        self.num_samples = 0
        self.non_finite: str | None = None
        self._log = log

    @property
    def names(self) -> Collection[str]:
        """Return a live view of the names of the losses and metrics, which the first batch defines."""
        return ChainMap(self._averager.losses, self._averager.metrics)

    def add(self, batch: Batch, outputs: Arrays, logits: Arrays | None = None) -> npt.NDArray[Any] | None:
        """Add a batch and return the loss of each sample of shape (batch,), or None if the model returns scalars.

        Args:
            batch: Batch with inputs and targets.
            outputs: Predicted outputs.
            logits: Logits of the outputs, from which losses are computed as in training.
        """
        means, losses = self._compute_means(
            _to_tensors(batch.inputs),
            _to_tensors(batch.targets),
            _to_tensors(outputs),
            _to_tensors(logits or {}),
            _position_tensors(),
        )
        if self.num_samples == 0 and self._skipped_methods:
            # A separate inference network may lack an output for a reason, such as logits of fed targets.
            advice = f" {_missing_output_advice(self.model)}." if _has_export_network(self.model) else ""
            self._log(f"load-and-validate skips {self.describe_skipped(outputs)}.{advice}")
        named = [(name, mean) for method_means in means.values() for name, mean in method_means.items()]
        self.non_finite = next((name for name, mean in named if not np.isfinite(ops.convert_to_numpy(mean))), None)
        self._averager.update_losses(means.get("loss", {}), len(batch))
        self._averager.update_metrics(means.get("metrics", {}), len(batch))
        self.num_samples += len(batch)
        return None if losses is None else np.asarray(ops.convert_to_numpy(losses))

    def describe_skipped(self, outputs: Arrays) -> str:
        """Return a description of the skipped methods of the model with the reason.

        Args:
            outputs: Available outputs.
        """
        methods = " and ".join(f"{type(self.model).__name__}.{method}" for method in self._skipped_methods)
        lacking = " and ".join(f"no output {name!r}" for name in dict.fromkeys(self._skipped_methods.values()))
        return f"{methods}: the export has {lacking} (available: {', '.join(outputs)})"

    def find_bad_data(self, batch: Batch, outputs: Arrays, logits: Arrays) -> BadValue | None:
        """Return the value in the last batch that makes its losses or metrics non-finite, if any.

        Args:
            batch: Last batch.
            outputs: Predicted outputs of the batch.
            logits: Logits of the outputs.
        """
        if self.non_finite is None:
            return None

        def values(part: Batch) -> Mapping[str, Any]:
            rows = slice(part.indices[0], part.indices[-1] + 1)
            selected, of_selected = (
                _to_tensors({name: array[rows] for name, array in named.items()}) for named in (outputs, logits)
            )
            inputs, targets = _to_tensors(part.inputs), _to_tensors(part.targets)
            means, _ = self._batch_means(inputs, targets, selected, of_selected, _position_tensors())
            return {name: mean for method_values in means.values() for name, mean in method_values.items()}

        numbered = replace(batch, indices=range(len(batch)))
        row = first_non_finite_row(numbered, values)
        if row is None or (bad := find_bad_value(numbered.rows(row, row + 1), values)) is None:
            return None
        return replace(bad, row=row)

    def _batch_means(
        self, inputs: Tensors, targets: Tensors, outputs: Tensors, logits: Tensors, position: TrainingPosition
    ) -> tuple[dict[str, Tensors], Any | None]:
        """Return the means of losses and of metrics by method, and the total loss of each sample."""
        with use_position(lambda: position):
            return self._batch_means_at_position(inputs, targets, outputs, logits)

    def _batch_means_at_position(
        self, inputs: Tensors, targets: Tensors, outputs: Tensors, logits: Tensors
    ) -> tuple[dict[str, Tensors], Any | None]:
        means: dict[str, Tensors] = {}
        losses = None
        outputs = attach_logits(outputs, logits)
        for method, compute in (("loss", self.model.loss), ("metrics", self.model.metrics)):
            try:
                values = compute(inputs, targets, _NamedOutputs(outputs))
            except _MissingOutputError as missing:
                self._skipped_methods[method] = missing.args[0]
            else:
                means[method] = {name: batch_mean(value) for name, value in values.items()}
                if method == "loss":
                    losses = self._per_sample_loss(values)
        return means, losses

    def _per_sample_loss(self, losses: Tensors) -> Any | None:
        if not losses or any(len(loss.shape) == 0 for loss in losses.values()):
            return None
        means = {
            name: ops.mean(ops.reshape(ops.cast(loss, "float32"), (ops.shape(loss)[0], -1)), axis=1)
            for name, loss in losses.items()
        }
        return total_loss(means, self.model.loss_weights)

    def results(self) -> dict[str, float]:
        """Return the averages by name; the total `loss` first, if there are losses."""
        return self._averager.results()


def _missing_output_advice(model: Model) -> str:
    return f"Return the missing output from {_output_method_name(model)}"


def _output_method_name(model: Model) -> str:
    """Return the name of the method that returns the outputs of exports."""
    own = "build" if type(model).build_prediction is Model.build_prediction else "build_prediction"
    return f"{type(model).__name__}.{'build_export' if _has_export_network(model) else own}"


def _has_export_network(model: Model) -> bool:
    return type(model).build_export is not Model.build_export


@contextmanager
def _note_output_method(model: Model) -> Iterator[None]:
    """Add the method that returns the outputs to a `KeyError` of the block."""
    try:
        yield
    except KeyError as error:
        error.add_note(f"Load-and-validate uses the outputs that {_output_method_name(model)} returns.")
        raise


class _MissingOutputError(KeyError):
    """Access of a loss or metric to an output that the export lacks."""


class _NamedOutputs(dict[str, Any]):
    """Named outputs that raise `_MissingOutputError` for a missing one."""

    def __missing__(self, name: str) -> Any:
        raise _MissingOutputError(name)


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of tensors compiled, except on PyTorch: half the time in measurements."""
    compiled = function
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(function, autograph=False, reduce_retracing=True)
    elif keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(function)
    return compiled


def _position_tensors() -> TrainingPosition:
    """Return the position as arguments of a compiled function, which a new position must not compile again."""
    return TrainingPosition(*(ops.convert_to_tensor(value, "float32") for value in current_position()))


def _to_tensors(arrays: Arrays) -> dict[str, Any]:
    return {name: ops.convert_to_tensor(array) for name, array in arrays.items()}
