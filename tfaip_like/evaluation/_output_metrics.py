"""Losses and metrics of a model, computed from given outputs (load-and-validate)."""

from __future__ import annotations

import logging
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from tfaip_like._keras_ext.logits import attach_logits
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import Arrays, without_texts
from tfaip_like.evaluation._averager import HostMean, MetricAverager, batch_mean, total_loss
from tfaip_like.evaluation._bad_values import BadValue, find_bad_value, first_non_finite_row
from tfaip_like.evaluation._metric_values import (
    MetricValues,
    make_metric_objects,
    name_results,
    sort_metric_values,
    weight_samples,
)
from tfaip_like.modeling._context import TrainingPosition, current_position, use_position
from tfaip_like.modeling._model import Model, Tensors

logger = logging.getLogger(__name__)


class OutputMetrics:
    """Losses and metrics of a model, computed from outputs and averaged over samples.

    Args:
        model: Model with the losses and metrics.
        is_eager: Run their Python code for each batch, for debugging.

    Attributes:
        num_samples: Number of samples so far.
        non_finite: First loss or metric that was not finite in the last batch.
    """

    def __init__(self, model: Model, is_eager: bool = False):
        self.model = model
        self._objects = make_metric_objects(model)
        self._compute = self._batch_values if is_eager else _compile(self._batch_values)
        self._skipped_methods: dict[str, str] = {}
        """Missing output by the method of the model that needs it."""
        self.reset_state(logger.info)

    def reset_state(self, log: Callable[[str], None]) -> None:
        """Start a new pass.

        Args:
            log: Called with a message about skipped losses and metrics.
        """
        self._averager = MetricAverager(HostMean, self.model.loss_weights)
        for metric in self._objects.values():
            metric.reset_state()
        self._object_results: dict[str, float] = {}
        self.num_samples = 0
        self.non_finite: str | None = None
        self._log = log

    @property
    def names(self) -> Collection[str]:
        """Return a live view of the names of the losses and metrics, which the first batch defines."""
        return ChainMap[str, Any](self._averager.losses, self._averager.metrics, self._object_results)

    def add(self, batch: Batch, outputs: Arrays, logits: Arrays | None = None) -> npt.NDArray[Any] | None:
        """Add a batch and return the loss of each sample of shape (batch,), or None if the model returns scalars.

        Args:
            batch: Batch with inputs and targets.
            outputs: Predicted outputs.
            logits: Logits of the outputs, from which losses are computed as in training.
        """
        values = self._compute(
            _to_tensors(batch.inputs),
            _to_tensors(without_texts(batch.targets)),
            _to_tensors(without_texts(outputs)),
            _to_tensors(logits or {}),
            _position_tensors(),
        )
        if self.num_samples == 0 and self._skipped_methods:
            # A separate inference network may lack an output for a reason, such as logits of fed targets.
            advice = f" {missing_output_advice(self.model)}." if _has_export_network(self.model) else ""
            self._log(f"load-and-validate skips {self.describe_skipped(outputs)}.{advice}")
        self.non_finite = next(
            (name for name, mean in values.means().items() if not np.isfinite(ops.convert_to_numpy(mean))), None
        )
        self._averager.update_losses(values.losses, len(batch))
        self._averager.update_metrics(values.metrics.means)
        for name, arguments in values.metrics.arguments.items():
            self._objects[name].update_state(*arguments)
            if self.num_samples == 0:
                self._object_results |= name_results(name, self._objects[name].result())
        self.num_samples += len(batch)
        return None if values.per_sample is None else np.asarray(ops.convert_to_numpy(values.per_sample))

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
                _to_tensors({name: array[rows] for name, array in without_texts(named).items()})
                for named in (outputs, logits)
            )
            inputs, targets = _to_tensors(part.inputs), _to_tensors(without_texts(part.targets))
            return self._batch_values(inputs, targets, selected, of_selected, _position_tensors()).means()

        numbered = replace(batch, indices=range(len(batch)))
        row = first_non_finite_row(numbered, values)
        if row is None or (bad := find_bad_value(numbered.rows(row, row + 1), values)) is None:
            return None
        return replace(bad, row=row)

    def _batch_values(
        self, inputs: Tensors, targets: Tensors, outputs: Tensors, logits: Tensors, position: TrainingPosition
    ) -> _BatchValues:
        with use_position(lambda: position):
            outputs = attach_logits(outputs, logits)
            losses = self._call("loss", inputs, targets, outputs)
            metrics = self._call("metrics", inputs, targets, outputs)
        weighted = {name: weight_samples(value, targets) for name, value in losses.items()}
        return _BatchValues(
            {name: batch_mean(value) for name, value in weighted.items()},
            sort_metric_values(metrics, self._objects, ops.shape(next(iter(inputs.values())))[0], targets),
            self._per_sample_loss(weighted),
        )

    def _call(self, method: str, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Mapping[str, Any]:
        """Return the values of a method of the model; none if it needs an output that the export lacks."""
        try:
            values: Mapping[str, Any] = getattr(self.model, method)(inputs, targets, _NamedOutputs(outputs))
        except _MissingOutputError as missing:
            self._skipped_methods[method] = missing.args[0]
            return {}
        return values

    def _per_sample_loss(self, losses: Tensors) -> Any | None:
        if not losses or any(len(loss.shape) == 0 for loss in losses.values()):
            return None
        means = {
            name: ops.mean(ops.reshape(ops.cast(loss, "float32"), (ops.shape(loss)[0], -1)), axis=1)
            for name, loss in losses.items()
        }
        return total_loss(means, self.model.loss_weights)

    def results(self) -> dict[str, float]:
        """Return the results by name; the total `loss` first, if there are losses."""
        results = self._averager.results()
        for name, metric in self._objects.items():
            results |= {
                each: float(value)
                for each, value in name_results(name, metric.result()).items()
                if each in self._object_results
            }
        return results


def missing_output_advice(model: Model) -> str:
    """Return what to do about an output that a loss or metric needs."""
    return f"Return the missing output from {output_method_name(model)}"


def output_method_name(model: Model) -> str:
    """Return the name of the method that returns the outputs of exports."""
    own = "build" if type(model).build_prediction is Model.build_prediction else "build_prediction"
    return f"{type(model).__name__}.{'build_export' if _has_export_network(model) else own}"


def _has_export_network(model: Model) -> bool:
    return type(model).build_export is not Model.build_export


class _BatchValues(NamedTuple):
    """Losses and metrics of a batch."""

    losses: Mapping[str, Any]
    """Mean of each loss."""
    metrics: MetricValues
    per_sample: Any | None
    """Total loss of each sample; None if a loss is a scalar."""

    def means(self) -> dict[str, Any]:
        """Return the means of losses and metrics by name."""
        return {**self.losses, **{name: mean for name, (mean, _) in self.metrics.means.items()}}


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
