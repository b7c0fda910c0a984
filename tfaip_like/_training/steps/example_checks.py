"""Checks of a model on an example batch, before anything is compiled."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from tfaip_like._keras_ext import range_checks
from tfaip_like._runs.output_dir import BOOKKEEPING_COLUMNS
from tfaip_like._user_code.code_errors import CodeError, qualified_method_name
from tfaip_like._utils.errors import UsageError, short_error_message, with_article
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import SAMPLE_WEIGHT
from tfaip_like.evaluation._metric_values import EXAMPLE_ARGUMENTS, name_results, to_arguments
from tfaip_like.modeling._model import Model, Tensors

logger = logging.getLogger(__name__)

NON_FINITE = "non_finite"
RESERVED_NAMES = ("loss", NON_FINITE, *BOOKKEEPING_COLUMNS)
RESERVED_PREFIXES = ("val_", "lav_", "compare_")
"""Prefixes of the values of validations and of the comparison with another run."""


def check_rows(model: Model, outputs: Tensors, batch_size: int) -> None:
    """Check the batch axis of outputs, including those of unknown symbolic shape (see `network.check_batch_axis`)."""
    for name, output in outputs.items():
        shape = tuple(ops.shape(output))
        if shape[:1] != (batch_size,):
            raise CodeError(
                f"{type(model).__name__}.build: output {name!r} has shape {shape} for a batch of {batch_size}; the "
                "first axis must be the batch axis",
                model.build,
            )


def compute_and_validate(
    model: Model,
    method: Literal["loss", "metrics"],
    tensors: tuple[Tensors, Tensors, Tensors],
    batch_size: int,
    objects: Collection[str] = (),
) -> Mapping[str, Any]:
    """Return the named losses or metrics of a batch.

    They are computed for the doubled batch too: in a batch of three, a per-class loss of three classes has the same
    shape as a per-sample loss.

    Args:
        model: model.
        method: method to call.
        tensors: inputs, targets and outputs of the batch.
        batch_size: number of samples of the batch.
        objects: names of the metric objects of the model.
    """
    compute = getattr(model, method)
    values = _validate_named_values(compute, compute(*tensors), batch_size, objects)
    try:
        doubled = [
            {name: ops.concatenate([tensor, tensor]) for name, tensor in dict(named).items()} for named in tensors
        ]
        doubled_values = compute(*doubled)
    except Exception as error:  # it may support a fixed batch size only
        logger.debug("%s failed for a batch of %d samples: %s", method, 2 * batch_size, error)
        return values
    _validate_named_values(compute, doubled_values, 2 * batch_size, objects)
    return values


def _validate_named_values(
    compute: Callable[..., Any], values: object, batch_size: int, objects: Collection[str]
) -> Mapping[str, Any]:
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
        if name in objects:
            error = _arguments_error(value)
        elif method == "metrics" and isinstance(value, tuple):
            error = _weighted_values_error(name, value, batch_size)
        else:
            error = _values_error(method, name, value, batch_size)
        if error:
            raise CodeError(f"{where}: {name!r} {error}", compute)
    if missing := [name for name in objects if name not in values]:
        raise CodeError(
            f"{where} returned no arguments for the metric {missing[0]!r} of `make_metrics`; expected values such as "
            f"{EXAMPLE_ARGUMENTS}",
            compute,
        )
    return values


def _is_tensor(value: object) -> bool:
    return hasattr(value, "shape") and not isinstance(value, keras.metrics.Metric)


def _values_error(method: str, name: str, value: Any, batch_size: int) -> str:
    if method == "metrics" and isinstance(value, keras.metrics.Metric):
        return (
            "is a metric object; return it from `make_metrics`, and the arguments of its update_state here: "
            f"{{{name!r}: (targets[...], outputs[...])}}"
        )
    if not _is_tensor(value):
        return f"is {with_article(type(value).__name__)}, not a tensor; {_FUNCTION_HINTS[method]}"
    shape = tuple(ops.shape(value))
    if shape in ((), (batch_size,)):
        return ""
    return (
        f"has shape {shape} for a batch of {batch_size}; expected a scalar or shape ({batch_size},); reduce over the "
        "remaining axes"
    )


def _weighted_values_error(name: str, value: tuple[Any, ...], batch_size: int) -> str:
    if len(value) != 2 or not all(map(_is_tensor, value)):
        kinds = ", ".join(type(part).__name__ for part in value)
        return f"is a tuple ({kinds}); expected (values, weights), or an object with this name in `make_metrics`"
    values, weights = (tuple(ops.shape(part)) for part in value)
    if len(weights) > 0 and weights[0] == batch_size and values[: len(weights)] == weights:
        return ""
    return (
        f"has values of shape {values} and weights of shape {weights} for a batch of {batch_size}; expected weights of "
        "the shape of the values, or of their first axes"
    )


def _arguments_error(value: Any) -> str:
    wrong = [with_article(type(part).__name__) for part in to_arguments(value) if not _is_tensor(part)]
    if not wrong:
        return ""
    return f"has {wrong[0]} in its arguments; expected a tuple of tensors for update_state, such as {EXAMPLE_ARGUMENTS}"


_FUNCTION_HINTS = {
    "loss": "use a function such as keras.losses.sparse_categorical_crossentropy(targets[...], outputs[...])",
    "metrics": "use a function such as keras.metrics.sparse_categorical_accuracy(targets[...], outputs[...])",
}


def build_metric_objects(
    model: Model, objects: Mapping[str, keras.metrics.Metric], values: Mapping[str, Any]
) -> list[str]:
    """Create the variables of the metric objects with an update from an example batch; return the result names.

    Args:
        model: model with the objects.
        objects: metric objects by name.
        values: values of `Model.metrics` for the batch.

    Raises:
        CodeError: if an object does not accept its arguments, or its result is neither a scalar nor a vector.
    """
    names: list[str] = []
    for name, metric in objects.items():
        where, arguments = f"{type(model).__name__}.metrics: {name!r}", to_arguments(values[name])
        try:
            metric.update_state(*arguments)
            result = metric.result()
        except Exception as error:  # of any metric
            shapes = ", ".join(str(tuple(ops.shape(argument))) for argument in arguments)
            raise CodeError(
                f"{where}: {type(metric).__name__} does not accept its arguments, of the shapes {shapes}: "
                f"{short_error_message(error)}",
                model.metrics,
            ) from error
        metric.reset_state()
        if not _is_tensor(result) or len(result.shape) > 1:
            got = f"of shape {tuple(result.shape)}" if _is_tensor(result) else with_article(type(result).__name__)
            message = f"{where}: the result of {type(metric).__name__} is {got}; expected a scalar or a vector"
            raise CodeError(message, model.make_metrics)
        names += name_results(name, result)
    return names


def find_non_additive(objects: Mapping[str, keras.metrics.Metric], values: Mapping[str, Any]) -> str | None:
    """Return the first metric object whose variables are not sums over batches, if any.

    The sums of several devices are added. Updated twice with the same batch, a sum is twice as large.

    Args:
        objects: metric objects by name; they are reset.
        values: values of `Model.metrics` for a batch.
    """

    def add_batch(name: str) -> list[Any]:
        objects[name].update_state(*to_arguments(values[name]))
        return [np.asarray(ops.convert_to_numpy(variable.value), "float64") for variable in objects[name].variables]

    for name, metric in objects.items():
        metric.reset_state()
        once, twice = add_batch(name), add_batch(name)
        metric.reset_state()
        if not all(np.allclose(2 * a, b, rtol=1e-5) for a, b in zip(once, twice, strict=True)):
            return name
    return None


def check_finite(model: Model, losses: Mapping[str, Any], example: Batch, recorder: range_checks.RangeRecorder) -> None:
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


def check_sample_weights(model: Model, losses: Mapping[str, Any], targets: Tensors) -> None:
    """Check that losses can be weighted, if the data have sample weights."""
    if SAMPLE_WEIGHT not in targets:
        return
    if len(targets[SAMPLE_WEIGHT].shape) != 1:
        shape = tuple(targets[SAMPLE_WEIGHT].shape[1:])
        raise UsageError(f"target {SAMPLE_WEIGHT!r} has shape {shape}; expected one number per sample, Spec(())")
    for name, value in losses.items():
        if len(value.shape) == 0:
            raise CodeError(
                f"{type(model).__name__}.loss: {name!r} is a scalar; the target {SAMPLE_WEIGHT!r} requires one value "
                "per sample",
                model.loss,
            )


def check_names(model: Model, losses: Collection[str], metrics: Collection[str]) -> None:
    """Check the names of losses and of results of metrics.

    Raises:
        UsageError: if one is reserved or not unique, or a loss weight has no loss.
    """
    cls = type(model).__name__
    if duplicates := [name for name, count in Counter(metrics).items() if count > 1]:
        raise CodeError(f"{cls}.metrics: two results are named {duplicates[0]!r}; rename a metric", model.metrics)
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
