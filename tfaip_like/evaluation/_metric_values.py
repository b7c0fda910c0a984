"""Values of `Model.metrics`: per-sample values, weighted means, and arguments of metric objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tfaip_like._user_code.code_errors import CodeError, qualified_method_name
from tfaip_like._utils.errors import with_article
from tfaip_like._utils.lazy_keras import keras, ops
from tfaip_like.data._sample import SAMPLE_WEIGHT
from tfaip_like.modeling._model import Model, Tensors

if TYPE_CHECKING:
    from keras.metrics import Metric

EXAMPLE_ARGUMENTS = "{'auc': (targets['label'], outputs['probability'])}"


class WeightedMean(NamedTuple):
    """Mean of the values of a batch, and the sum of their weights, with which it counts in the epoch."""

    mean: Any
    weight: Any


class MetricValues(NamedTuple):
    """Values of a batch that `Model.metrics` returned, by how they are averaged."""

    means: Mapping[str, WeightedMean]
    arguments: Mapping[str, tuple[Any, ...]]
    """Arguments of `update_state` of each metric object."""


def make_metric_objects(model: Model) -> dict[str, Metric]:
    """Return the metric objects of a model by name.

    Raises:
        CodeError: if `Model.make_metrics` does not return named metrics.
    """
    objects, where = model.make_metrics(), qualified_method_name(model.make_metrics)
    if not isinstance(objects, Mapping):
        got = with_article(type(objects).__name__)
        raise CodeError(f"{where} returned {got}; it must return {{'name': keras.metrics.Metric}}", model.make_metrics)
    for name, metric in objects.items():
        if not isinstance(metric, keras.metrics.Metric):
            got = with_article(type(metric).__name__)
            raise CodeError(f"{where}: {name!r} is {got}; expected a keras.metrics.Metric", model.make_metrics)
    return dict(objects)


def sort_metric_values(
    values: Mapping[str, Any], objects: Mapping[str, Metric], num_samples: Any, targets: Tensors
) -> MetricValues:
    """Return the means of a batch, and the arguments of the metric objects.

    Args:
        values: values of `Model.metrics`.
        objects: metric objects by name.
        num_samples: number of samples of the batch; may be a tensor.
        targets: targets of the batch, which may have sample weights.
    """
    arguments = {name: to_arguments(value) for name, value in values.items() if name in objects}
    means = {name: _weighted_mean(value, num_samples, targets) for name, value in values.items() if name not in objects}
    return MetricValues(means, arguments)


def to_arguments(value: Any) -> tuple[Any, ...]:
    """Return the arguments of `update_state` in a value of `Model.metrics`: a tuple, or a single tensor."""
    return value if isinstance(value, tuple) else (value,)


def weight_samples(values: Any, targets: Tensors) -> Any:
    """Return losses of shape (batch,), multiplied by the sample weights if there are any."""
    if SAMPLE_WEIGHT not in targets:
        return values
    return ops.cast(values, "float32") * ops.cast(targets[SAMPLE_WEIGHT], "float32")


def name_results(name: str, result: Any) -> dict[str, Any]:
    """Return the result of a metric object: one value, or NAME_0, NAME_1, ... for a vector, such as one per class."""
    if len(result.shape) == 0:
        return {name: result}
    return {f"{name}_{number}": result[number] for number in range(result.shape[0])}


def flatten_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors of losses or metrics by name, those of a tuple as `NAME[0]`, `NAME[1]`, ..."""
    return {
        f"{name}[{number}]" if isinstance(value, tuple) else name: part
        for name, value in values.items()
        for number, part in enumerate(to_arguments(value))
    }


def _weighted_mean(value: Any, num_samples: Any, targets: Tensors) -> WeightedMean:
    if not isinstance(value, tuple):
        value = ops.cast(value, "float32")
        if SAMPLE_WEIGHT not in targets or len(value.shape) == 0:
            return WeightedMean(ops.mean(value), num_samples)
        value = (value, targets[SAMPLE_WEIGHT])
    values, weights = (ops.cast(part, "float32") for part in value)
    if remaining := tuple(range(len(weights.shape), len(values.shape))):
        values = ops.mean(values, axis=remaining)
    weight = ops.sum(weights)
    return WeightedMean(ops.divide_no_nan(ops.sum(values * weights), weight), weight)
