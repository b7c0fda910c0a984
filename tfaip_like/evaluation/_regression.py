"""Evaluator for regression."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._sample import Sample
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.evaluation._packages import import_extra, make_axes
from tfaip_like.summaries import Figure, Histogram, Summary

MAX_POINTS = 1000
"""Maximum number of points in the picture of the residuals."""


class RegressionEvaluator(Evaluator):
    """Regression evaluator on scikit-learn: errors, R2 and residuals.

    Values: `mean_absolute_error`, `root_mean_squared_error`, `median_absolute_error`, `max_error` and `r2`; means over
    the components of a vector. Summaries: `residuals` (a histogram of target - output) and `residuals_by_output`.

    Requires the extra `evaluation`; keeps all outputs in memory.

    Example:
        >>> samples = [Sample(targets={"y": y}, outputs={"y": y + 0.5}) for y in (0.0, 1.0, 3.0)]
        >>> RegressionEvaluator().evaluate(samples)["mean_absolute_error"]
        0.5
    """

    target: str = "y"
    """Target with the true value, of any shape."""

    output: str = "y"
    """Output with the predicted value, of the same shape."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:
        targets, outputs = [], []
        for number, sample in enumerate(samples):
            target, output = np.asarray(sample.targets[self.target]), np.asarray(sample.outputs[self.output])
            if target.shape != output.shape:
                raise UsageError(
                    f"RegressionEvaluator: target {self.target!r} of sample {number} has shape {target.shape}, but "
                    f"output {self.output!r} has shape {output.shape}"
                )
            targets.append(target.reshape(-1))
            outputs.append(output.reshape(-1))
        return _evaluate(np.array(targets, np.float64), np.array(outputs, np.float64))


def _evaluate(targets: Any, outputs: Any) -> Mapping[str, float | Summary]:
    functions = {
        "mean_absolute_error": "mean_absolute_error",
        "root_mean_squared_error": "root_mean_squared_error",
        "median_absolute_error": "median_absolute_error",
        "r2": "r2_score",
    }
    if not (np.isfinite(targets).all() and np.isfinite(outputs).all()):
        return dict.fromkeys([*functions, "max_error"], np.nan)
    metrics = import_extra("sklearn.metrics")
    figure, axes = make_axes()
    metrics.PredictionErrorDisplay.from_predictions(
        targets.ravel(), outputs.ravel(), ax=axes, subsample=min(MAX_POINTS, targets.size), random_state=0
    )
    return {
        **{name: float(getattr(metrics, function)(targets, outputs)) for name, function in functions.items()},
        "max_error": float(metrics.max_error(targets.ravel(), outputs.ravel())),
        "residuals": Histogram(targets - outputs),
        "residuals_by_output": Figure(figure),
    }
