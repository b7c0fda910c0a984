"""Averages of losses and metrics over samples, in training, validation and load-and-validate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from tfaip_like._utils.lazy_keras import ops
from tfaip_like.evaluation._metric_values import WeightedMean


class Mean(Protocol):
    """Weighted running mean; `keras.metrics.Mean`, or `HostMean`."""

    def update_state(self, values: Any, sample_weight: Any = None) -> Any:
        """Add a value with a weight."""

    def result(self) -> Any:
        """Return the mean of all values so far."""


class HostMean:
    """Weighted running mean in float64, on the host.

    Its precision does not depend on the backend, and it needs no variables. Each value is converted to a Python float,
    so a non-finite value makes the mean non-finite.

    Example:
        >>> mean = HostMean()
        >>> mean.update_state(1.0, sample_weight=3)
        >>> mean.update_state(5.0, sample_weight=1)
        >>> mean.result()
        2.0
    """

    def __init__(self, name: str = ""):
        self.name = name
        self._total = 0.0
        self._weight = 0.0

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Add a value.

        Args:
            values: scalar, or scalar tensor of any dtype.
            sample_weight: number of samples that the value is the mean of, or sum of their weights; 1 by default.
        """
        weight = 1.0 if sample_weight is None else float(sample_weight)
        self._total += weight * float(ops.convert_to_numpy(values))
        self._weight += weight

    def result(self) -> float:
        """Return the mean; 0 without any value, as `keras.metrics.Mean` does."""
        return self._total / self._weight if self._weight else 0.0


class MetricAverager:
    """Averages of the named losses and metrics of a model over samples.

    The value of a batch is its mean, in float32; it is weighted with the number of samples of the batch, a metric also
    with the sum of other weights. NaN and infinity propagate. The dtype and place of the running sums are those of
    `make_mean`: float32 variables inside the compiled step (`keras.metrics.Mean`), or float64 on the host (`HostMean`).

    Args:
        make_mean: returns a running mean by name.
        loss_weights: factors of the losses in the total loss, by name; 1 by default.
        losses: names of the losses, if known in advance; others are added at their first update.
        metrics: names of the metrics, likewise.

    Attributes:
        losses: running mean of each loss.
        metrics: running mean of each metric.

    Example:
        >>> averager = MetricAverager(HostMean, {"b": 10.0})
        >>> averager.update_losses({"a": 1.0, "b": 2.0}, num_samples=3)
        >>> averager.update_losses({"a": 5.0, "b": 2.0}, num_samples=1)
        >>> averager.results()
        {'loss': 22.0, 'a': 2.0, 'b': 2.0}
    """

    def __init__(
        self,
        make_mean: Callable[[str], Mean],
        loss_weights: Mapping[str, float],
        losses: Iterable[str] = (),
        metrics: Iterable[str] = (),
    ):
        self._make_mean = make_mean
        self._loss_weights = loss_weights
        self.losses: dict[str, Mean] = {name: make_mean(name) for name in losses}
        self.metrics: dict[str, Mean] = {name: make_mean(name) for name in metrics}

    def update_losses(self, means: Mapping[str, Any], num_samples: Any) -> None:
        """Add the losses of a batch.

        Args:
            means: mean of each loss over the batch.
            num_samples: number of samples of the batch; may be a tensor.
        """
        self._update(self.losses, {name: WeightedMean(mean, num_samples) for name, mean in means.items()})

    def update_metrics(self, means: Mapping[str, WeightedMean]) -> None:
        """Add the metrics of a batch.

        Args:
            means: mean of each metric over the batch with its weight; both may be tensors.
        """
        self._update(self.metrics, means)

    def _update(self, running: dict[str, Mean], means: Mapping[str, WeightedMean]) -> None:
        for name, (mean, weight) in means.items():
            if name not in running:
                running[name] = self._make_mean(name)
            running[name].update_state(mean, sample_weight=weight)

    def results(self) -> dict[str, Any]:
        """Return the averages by name; the total `loss` first, if there are losses."""
        losses = {name: mean.result() for name, mean in self.losses.items()}
        metrics = {name: mean.result() for name, mean in self.metrics.items()}
        return {**({"loss": total_loss(losses, self._loss_weights)} if losses else {}), **losses, **metrics}


def batch_mean(values: Any) -> Any:
    """Return the mean of the values of a batch in float32, which half precision would overflow or round.

    Args:
        values: scalar, or one value per sample.
    """
    return ops.mean(ops.cast(values, "float32"))


def total_loss(losses: Mapping[str, Any], weights: Mapping[str, float], start: Any = 0) -> Any:
    """Return the weighted sum of losses: means of a batch, averages, or values per sample.

    Args:
        losses: losses by name.
        weights: factors by name; 1 by default.
        start: value to which they are added in their order, such as the losses of layers.

    Example:
        >>> total_loss({"a": 1.0, "b": 2.0}, {"b": 10.0})
        21.0
    """
    return sum((weights.get(name, 1.0) * value for name, value in losses.items()), start=start)
