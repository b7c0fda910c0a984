"""Keras model to train: a scenario's network with its named losses and metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from tfaip_like._keras_ext import range_checks
from tfaip_like._keras_ext.broadcasting import check_accidental_broadcasting
from tfaip_like._keras_ext.non_finite_metric import FirstNonFiniteStep
from tfaip_like._runs.output_dir import BOOKKEEPING_COLUMNS, GRADIENT_NORM
from tfaip_like._user_code.code_errors import CodeError, qualified_method_name
from tfaip_like._utils.errors import UsageError, truncate_list, with_article
from tfaip_like.data._loader.batching import Batch
from tfaip_like.evaluation._averager import MetricAverager, batch_mean, total_loss
from tfaip_like.modeling._context import TrainingPosition, use_position
from tfaip_like.modeling._model import Model, Tensors
from tfaip_like.modeling._network import select_inputs

logger = logging.getLogger(__name__)

NON_FINITE = "non_finite"
RESERVED_NAMES = ("loss", NON_FINITE, *BOOKKEEPING_COLUMNS)
RESERVED_PREFIXES = ("val_", "lav_", "compare_")
"""Prefixes of the values of validations and of the comparison with another run."""


class TrainingModel(keras.Model):
    """Keras model that minimizes the weighted sum of the losses of a `Model` and averages its metrics.

    A batch is `{"inputs": {...}, "targets": {...}}`; losses and metrics get all of it.

    Args:
        network: network from named inputs to named outputs.
        model: provides losses and metrics.
        example: batch on which losses and metrics are computed eagerly, which yields their names and finds errors
            before anything is compiled.
        steps_per_epoch: steps of an epoch, for `context.epoch`.

    Attributes:
        completed_steps: number of complete steps of the run, which the compiled steps count.

    Raises:
        UsageError: if there are no trainable weights, a loss or metric is neither scalar nor per sample, or names
            collide.
    """

    def __init__(self, network: keras.Model, model: Model, example: Batch, steps_per_epoch: int = 1):
        super().__init__(name="training")
        if not network.trainable_weights:
            raise CodeError(f"{type(model).__name__}.build: the network has no trainable weights", model.build)
        self.network = network
        self.model = model
        self._range_watch = range_checks.RangeRecorder()
        inputs, targets = _to_tensors(example.inputs), _to_tensors(example.targets)
        with range_checks.RangeRecorder() as recorder:
            outputs = self._call_network(inputs, targets, training=False)
        _check_rows(model, outputs, len(example))
        try:
            recorded_outputs = _AccessRecorder(outputs)
            with recorder:
                losses = _compute_and_validate(model, "loss", (inputs, targets, recorded_outputs), len(example))
            self._unused_outputs = [name for name in outputs if name not in recorded_outputs.names]
            metrics = _compute_and_validate(model, "metrics", (inputs, targets, outputs), len(example))
        except KeyError as error:
            names = {"inputs": inputs, "targets": targets, "outputs": outputs}
            error.add_note("Available: " + "; ".join(f"{kind} {', '.join(have)}" for kind, have in names.items()) + ".")
            raise
        for compute in (model.loss, model.metrics):
            check_accidental_broadcasting(compute, inputs, targets, outputs)
        _check_names(model, losses, metrics)
        _check_finite(model, losses, example, recorder)
        self._averager = MetricAverager(_make_keras_mean, model.loss_weights, losses, metrics)
        # As attributes of the model, they are reset and saved with its metrics.
        self.loss_trackers, self.metric_trackers = self._averager.losses, self._averager.metrics
        self.non_finite = FirstNonFiniteStep(NON_FINITE)
        """Also counts steps: its `steps` is the progress of the epoch, however an execution ended."""
        self.gradient_norm = keras.metrics.Mean(name=GRADIENT_NORM)
        self._steps_per_epoch = steps_per_epoch
        self.completed_steps = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="completed_steps"
        )
        self._has_warned_untrained = False
        self.built = True

    def warn_untrained_weights(self, gradients: Sequence[Any]) -> None:
        """Warn once about weights that no loss depends on.

        Args:
            gradients: gradients of the trainable variables; None where no loss depends on one.

        Raises:
            UsageError: if no loss depends on any weight.
        """
        weights = self.trainable_variables
        untrained = [weight.path for weight, gradient in zip(weights, gradients, strict=True) if gradient is None]
        if untrained and len(untrained) == len(weights):
            message = f"{type(self.model).__name__}.loss does not depend on any trainable weight"
            raise CodeError(message, self.model.loss)
        if untrained and not self._has_warned_untrained:
            names = ", ".join(self._unused_outputs)
            logger.warning(
                "%d of %d weights get no gradient and keep their values: %s%s",
                len(untrained),
                len(weights),
                truncate_list(untrained),
                f" (outputs not used by any loss: {names})" if names else "",
            )
        self._has_warned_untrained = True

    def call(self, x: Mapping[str, Tensors], training: bool = False) -> Tensors:
        """Return the outputs of the network."""
        with range_checks.RangeRecorder() as self._range_watch:
            return self._call_network(x["inputs"], x["targets"], training)

    def _call_network(self, inputs: Tensors, targets: Tensors, training: bool) -> Tensors:
        # Only the targets in `feed_targets`: a target may have the name of an input (an autoencoder's image).
        fed = {name: targets[name] for name in self.model.feed_targets}
        outputs: Tensors = self.network(select_inputs({**inputs, **fed}, self.network), training=training)
        return outputs

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the total loss: weighted losses of the model plus losses of layers (regularization)."""
        losses = self.model.loss(x["inputs"], x["targets"], y_pred)
        # Losses of layers may be float16, or per sample.
        layer_losses = sum(map(batch_mean, self.losses), start=ops.zeros(()))
        means = {
            name: batch_mean(self._apply_class_weights(name, ops.cast(value, "float32"), x))
            for name, value in losses.items()
        }
        self._averager.update_losses(means, batch_size(x))
        total = total_loss(means, self.model.loss_weights, start=layer_losses)
        return self._range_watch.mask_invalid_samples(total)

    def evaluate_batch(self, batch: Mapping[str, Any], training: bool) -> tuple[Tensors, Any]:
        """Return the outputs and the total loss of a batch, and update all averages.

        Args:
            batch: model inputs.
            training: run the network in training mode.
        """
        with use_position(lambda: self._position(training)):
            outputs: Tensors = self(batch, training=training)
            loss = self.compute_loss(x=batch, y_pred=outputs, training=training)
            self.metrics[0].update_state(loss, sample_weight=batch_size(batch))  # Keras' own mean of the loss
            self.compute_metrics(batch, None, outputs)
        return outputs, loss

    def _position(self, training: bool) -> TrainingPosition:
        """Return the position of the step that is running, or in validation of the last one, as tensors."""
        step = self.completed_steps.value + 1 if training else self.completed_steps.value
        epoch, rest = step // self._steps_per_epoch, step % self._steps_per_epoch
        fraction = ops.cast(rest, "float32") / self._steps_per_epoch
        return TrainingPosition(ops.cast(step, "float32"), ops.cast(epoch, "float32") + fraction)

    def complete_step(self, value: Any) -> None:
        """Count a step; called once in each compiled step.

        Args:
            value: loss of the step, or NaN if it must not be applied.
        """
        self.non_finite.update_state(value)
        self.completed_steps.assign(self.completed_steps.value + 1)

    def _apply_class_weights(self, name: str, value: Any, x: Mapping[str, Any]) -> Any:
        if "weights" not in x:
            return value
        if len(value.shape) == 0:
            raise UsageError(
                f"--train.balance loss: {type(self.model).__name__}.loss returns a scalar for {name!r}; "
                "class weights require one value per sample"
            )
        return value * x["weights"]

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Update the metrics; return the averages of all losses and metrics of the epoch so far."""
        values = self.model.metrics(x["inputs"], x["targets"], y_pred)
        self._averager.update_metrics({name: batch_mean(value) for name, value in values.items()}, batch_size(x))
        return self.metric_results()

    def metric_results(self) -> dict[str, Any]:
        """Return the averages of all losses and metrics of the epoch so far, by name."""
        return {metric.name: metric.result() for metric in self.metrics}


def _make_keras_mean(name: str) -> keras.metrics.Metric:
    return keras.metrics.Mean(name=name)


def select_logged_metrics(results: Mapping[str, Any]) -> dict[str, float]:
    """Return the results of the metrics to log, the loss first.

    Raises:
        UsageError: if there are none, because there was no sample.
    """
    if "loss" not in results:
        raise UsageError("validation set is empty: every sample was dropped or failed")
    hidden = ("loss", NON_FINITE, GRADIENT_NORM)
    shown = {name: float(value) for name, value in results.items() if name not in hidden}
    return {"loss": float(results["loss"]), **shown}


class _AccessRecorder(dict[str, Any]):
    """Dict of tensors that records which of them were accessed."""

    def __init__(self, tensors: Tensors):
        super().__init__(tensors)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)

    def values(self) -> Any:
        self.names.update(self)
        return super().values()

    def items(self) -> Any:
        self.names.update(self)
        return super().items()


def to_model_inputs(batch: Batch) -> dict[str, Any]:
    """Return a batch as input of the training model."""
    model_inputs: dict[str, Any] = {"inputs": dict(batch.inputs), "targets": dict(batch.targets)}
    return model_inputs if batch.weights is None else {**model_inputs, "weights": batch.weights}


def _to_tensors(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: ops.convert_to_tensor(array) for name, array in arrays.items()}


def batch_size(x: Mapping[str, Any]) -> Any:
    """Return the number of samples of a batch; may be a tensor while tracing."""
    return ops.shape(next(iter(x["inputs"].values())))[0]


def _check_rows(model: Model, outputs: Tensors, batch_size: int) -> None:
    """Check the batch axis of outputs, including those of unknown symbolic shape (see `network.check_batch_axis`)."""
    for name, output in outputs.items():
        shape = tuple(ops.shape(output))
        if shape[:1] != (batch_size,):
            raise CodeError(
                f"{type(model).__name__}.build: output {name!r} has shape {shape} for a batch of {batch_size}; the "
                "first axis must be the batch axis",
                model.build,
            )


def _compute_and_validate(
    model: Model, method: Literal["loss", "metrics"], tensors: tuple[Tensors, Tensors, Tensors], batch_size: int
) -> Mapping[str, Any]:
    """Return the named losses or metrics of a batch.

    They are computed for the doubled batch too: in a batch of three, a per-class loss of three classes has the same
    shape as a per-sample loss.
    """
    compute = getattr(model, method)
    values = _validate_named_values(compute, compute(*tensors), batch_size)
    try:
        doubled = [
            {name: ops.concatenate([tensor, tensor]) for name, tensor in dict(named).items()} for named in tensors
        ]
        doubled_values = compute(*doubled)
    except Exception as error:  # it may support a fixed batch size only
        logger.debug("%s failed for a batch of %d samples: %s", method, 2 * batch_size, error)
        return values
    _validate_named_values(compute, doubled_values, 2 * batch_size)
    return values


def _validate_named_values(compute: Callable[..., Any], values: object, batch_size: int) -> Mapping[str, Any]:
    """Return the values of `loss` or `metrics` after checking their types and shapes."""
    where, method = qualified_method_name(compute), compute.__name__
    if not isinstance(values, Mapping):
        got = with_article(type(values).__name__)
        raise CodeError(f"{where} returned {got}; it must return {{'name': tensor, ...}}", compute)
    if method == "loss" and not values:
        raise CodeError(f"{where} returned an empty dict; at least one loss is required", compute)
    for name, value in values.items():
        if not isinstance(name, str) or not name:
            raise CodeError(f"{where}: {name!r} is not a valid name; it must return {{'name': tensor, ...}}", compute)
        if isinstance(value, keras.metrics.Metric) or not hasattr(value, "shape"):
            got = with_article(type(value).__name__)
            raise CodeError(f"{where}: {name!r} is {got}, not a tensor; {_FUNCTION_HINTS[method]}", compute)
        shape = tuple(ops.shape(value))
        if shape not in ((), (batch_size,)):
            raise CodeError(
                f"{where}: {name!r} has shape {shape} for a batch of {batch_size}; expected a scalar or shape "
                f"({batch_size},); reduce over the remaining axes",
                compute,
            )
    return values


_FUNCTION_HINTS = {
    "loss": "use a function such as keras.losses.sparse_categorical_crossentropy(targets[...], outputs[...])",
    "metrics": "use a function such as keras.metrics.sparse_categorical_accuracy(targets[...], outputs[...])",
}


def _check_finite(
    model: Model, losses: Mapping[str, Any], example: Batch, recorder: range_checks.RangeRecorder
) -> None:
    """Check that each loss is finite for at least one sample of the first batch, unless its data are not."""
    arrays = (*example.inputs.values(), *example.targets.values())
    if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
        return
    for name, value in losses.items():
        values = ops.convert_to_numpy(ops.cast(value, "float32"))
        if not np.isfinite(values).any():
            out_of_range = recorder.first_out_of_range("id") or recorder.first_out_of_range("label")
            reason = f": {out_of_range}" if out_of_range else _UNKNOWN_REASON
            raise CodeError(
                f"{type(model).__name__}.loss: {name!r} is {values.flat[0]} for each sample of the first batch{reason}",
                model.loss,
            )


_UNKNOWN_REASON = ", although its data are finite; check for a division by 0 or a logarithm of 0"


def _check_names(model: Model, losses: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    cls = type(model).__name__
    for name in (*losses, *metrics):
        if name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES):
            method = model.loss if name in losses else model.metrics
            raise CodeError(
                f"{cls}: {name!r} is reserved by the trainer and cannot be the name of a loss or metric", method
            )
        if name in losses and name in metrics:
            raise CodeError(
                f"{cls}: {name!r} is both a loss and a metric; remove the metric, losses are always logged",
                model.metrics,
            )
    unknown = [name for name in model.loss_weights if name not in losses]
    if unknown:
        raise UsageError(f"--model.loss_weights.{unknown[0]}: {cls} has no such loss; available: {', '.join(losses)}")
