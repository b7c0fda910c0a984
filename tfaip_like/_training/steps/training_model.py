"""Keras model to train: a scenario's network with its named losses and metrics."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from tfaip_like._keras_ext import range_checks
from tfaip_like._keras_ext.broadcasting import check_accidental_broadcasting
from tfaip_like._keras_ext.non_finite_metric import FirstNonFiniteStep
from tfaip_like._runs.output_dir import GRADIENT_NORM
from tfaip_like._training.steps.example_checks import (
    NON_FINITE,
    build_metric_objects,
    check_finite,
    check_names,
    check_rows,
    check_sample_weights,
    compute_and_validate,
    find_non_additive,
)
from tfaip_like._training.steps.train_step_trial import TrainedWeights, try_train_step
from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import without_texts
from tfaip_like.evaluation._averager import MetricAverager, batch_mean, total_loss
from tfaip_like.evaluation._metric_values import make_metric_objects, name_results, sort_metric_values, weight_samples
from tfaip_like.modeling._context import TrainingPosition, use_position
from tfaip_like.modeling._model import Model, Tensors
from tfaip_like.modeling._network import select_inputs
from tfaip_like.modeling._training_step import TrainingBatch, TrainingStep

logger = logging.getLogger(__name__)


class TrainingModel(keras.Model):
    """Keras model that minimizes the weighted sum of the losses of a `Model` and averages its metrics.

    A batch is `{"inputs": {...}, "targets": {...}}`; losses and metrics get all of it.

    Args:
        network: network from named inputs to named outputs.
        model: provides losses and metrics.
        example: batch on which losses and metrics are computed eagerly, which yields their names and finds errors
            before anything is compiled.
        steps_per_epoch: steps of an epoch, for `context.epoch`.
        optimizer_names: names of the optimizers of `Model.train_step`.

    Attributes:
        completed_steps: number of complete steps of the run, which the compiled steps count.
        metric_objects: objects of `Model.make_metrics` by name.
        metric_names: names of the results of the metrics.
        non_additive_metric: metric object that cannot be computed on several devices, if any.
        step_seed: seed generator of `Model.train_step`, if the model has it.
        trained: weights that `Model.train_step` trains; None without it.

    Raises:
        UsageError: if there are no trainable weights, a loss or metric is neither scalar nor per sample, or names
            collide.
    """

    def __init__(
        self,
        network: keras.Model,
        model: Model,
        example: Batch,
        steps_per_epoch: int = 1,
        optimizer_names: Sequence[str] = ("",),
    ):
        super().__init__(name="training")
        if not network.trainable_weights:
            raise CodeError(f"{type(model).__name__}.build: the network has no trainable weights", model.build)
        self.network = network
        self.model = model
        self._range_watch = range_checks.RangeRecorder()
        inputs, targets = _to_tensors(example.inputs), _to_tensors(without_texts(example.targets))
        with range_checks.RangeRecorder() as recorder:
            outputs = self._call_network(inputs, targets, training=False)
        check_rows(model, outputs, len(example))
        metric_objects = make_metric_objects(model)
        try:
            recorded_outputs = _AccessRecorder(outputs)
            with recorder:
                losses = compute_and_validate(model, "loss", (inputs, targets, recorded_outputs), len(example))
            self._unused_outputs = [name for name in outputs if name not in recorded_outputs.names]
            metrics = compute_and_validate(
                model, "metrics", (inputs, targets, outputs), len(example), metric_objects.keys()
            )
        except KeyError as error:
            names = {"inputs": inputs, "targets": targets, "outputs": outputs}
            error.add_note("Available: " + "; ".join(f"{kind} {', '.join(have)}" for kind, have in names.items()) + ".")
            raise
        for compute in (model.loss, model.metrics):
            check_accidental_broadcasting(compute, inputs, targets, outputs)
        check_sample_weights(model, losses, targets)
        results = build_metric_objects(model, metric_objects, metrics)
        means = [name for name in metrics if name not in metric_objects]
        check_names(model, losses, [*means, *results])
        check_finite(model, losses, example, recorder)
        self._averager = MetricAverager(_make_keras_mean, model.loss_weights, losses, means)
        # As attributes of the model, they are reset and saved with its metrics.
        self.loss_trackers, self.metric_trackers = self._averager.losses, self._averager.metrics
        self.metric_objects = metric_objects
        self.trained: TrainedWeights | None = None
        if model.has_train_step():
            self.step_seed = keras.random.SeedGenerator(name="step_seed")
            batch, expected = TrainingBatch(inputs, targets), [*losses, *means]
            self.trained = try_train_step(model, network, batch, list(optimizer_names), expected, self.step_seed)
            if metric_objects:
                message = f"{type(model).__name__}: make_metrics cannot be combined with train_step; use an Evaluator"
                raise CodeError(message, model.make_metrics)
            if untrained := self.trained.untrained(network.trainable_variables):
                logger.warning("train_step does not train %s", truncate_list(untrained))
        self.metric_names = [*means, *results]
        self.non_additive_metric = find_non_additive(metric_objects, metrics)
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
            name: batch_mean(
                self._apply_class_weights(name, weight_samples(ops.cast(value, "float32"), x["targets"]), x)
            )
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

    def run_train_step(self, batch: Mapping[str, Any], step: TrainingStep) -> Any:
        """Run `Model.train_step`, and update all averages; return the weighted sum of the losses.

        Args:
            batch: model inputs.
            step: step of the backend.
        """
        with use_position(lambda: self._position(training=True)):
            values = self.model.train_step(TrainingBatch(batch["inputs"], batch["targets"]), step)
        size = batch_size(batch)
        losses = {name: batch_mean(ops.cast(values[name], "float32")) for name in self._averager.losses}
        self._averager.update_losses(losses, size)
        metrics = {name: values[name] for name in self._averager.metrics}
        self._averager.update_metrics(sort_metric_values(metrics, {}, size, batch["targets"]).means)
        loss = total_loss(losses, self.model.loss_weights, start=ops.zeros(()))
        self.metrics[0].update_state(loss, sample_weight=size)
        return loss

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
        returned = self.model.metrics(x["inputs"], x["targets"], y_pred)
        values = sort_metric_values(returned, self.metric_objects, batch_size(x), x["targets"])
        self._averager.update_metrics(values.means)
        for name, arguments in values.arguments.items():
            self.metric_objects[name].update_state(*arguments)
        return self.metric_results()

    def metric_results(self) -> dict[str, Any]:
        """Return the results of all losses and metrics of the epoch so far, by name."""
        names = {id(metric): name for name, metric in self.metric_objects.items()}
        results: dict[str, Any] = {}
        for metric in self.metrics:
            results |= name_results(names.get(id(metric), metric.name), metric.result())
        return results

    def metric_variables_by_path(self) -> Iterator[tuple[str, keras.Variable]]:
        """Yield the variables of all metrics, with paths that do not depend on the names that Keras generates."""
        names = {id(metric): name for name, metric in self.metric_objects.items()}
        for metric in self.metrics:
            for variable in metric.variables:
                yield f"{names.get(id(metric), metric.name)}/{variable.name}", variable


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
    model_inputs: dict[str, Any] = {"inputs": dict(batch.inputs), "targets": without_texts(batch.targets)}
    return model_inputs if batch.weights is None else {**model_inputs, "weights": batch.weights}


def _to_tensors(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: ops.convert_to_tensor(array) for name, array in arrays.items()}


def batch_size(x: Mapping[str, Any]) -> Any:
    """Return the number of samples of a batch; may be a tensor while tracing."""
    return ops.shape(next(iter(x["inputs"].values())))[0]
