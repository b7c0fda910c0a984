"""Evaluator for classification."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._sample import Sample
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.summaries import ConfusionMatrix, Summary

DECISION_THRESHOLD = 0.5


class ClassificationEvaluator(Evaluator):
    """Classification evaluator: confusion matrix and worst-class recall.

    Samples with NaN outputs are not counted in the matrix, and make the recall NaN.

    Example:
        >>> samples = [Sample(targets={"label": i}, outputs={"probabilities": [0.1, 0.9]}) for i in (0, 1, 1)]
        >>> ClassificationEvaluator().evaluate(samples)["worst_class_recall"]
        0.0
    """

    target: str = "label"
    """Target with the class index."""

    output: str = "probabilities"
    """Output with one score per class (the largest wins), the probability of class 1 in binary classification (of
    shape () or (1,)), or the class index as an integer."""

    names: list[str] = []
    """Class names in the order of their indices; by default the indices."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:
        targets, predictions = [], []
        has_nan = False
        for number, sample in enumerate(samples):
            output = np.asarray(sample.outputs[self.output])
            if np.isnan(output).any():
                has_nan = True
                continue
            predictions.append(self._predicted_class(output, number))
            targets.append(self._true_class(np.asarray(sample.targets[self.target]), output, number))
        confusion = ConfusionMatrix(targets, predictions, self.names)
        if validation_error := confusion.validation_error():  # more classes than names
            raise UsageError(f"ClassificationEvaluator: 'confusion' {validation_error}")
        per_class_recall = confusion.per_class_recall()
        is_known = not has_nan and not np.isnan(per_class_recall).all()
        return {
            "worst_class_recall": float(np.nanmin(per_class_recall)) if is_known else math.nan,
            "confusion": confusion,
        }

    def _predicted_class(self, output: npt.NDArray[Any], number: int) -> int:
        if output.ndim == 1 and output.size > 1:
            return int(output.argmax())
        if output.size != 1:
            raise UsageError(
                f"ClassificationEvaluator: output {self.output!r} of sample {number} has shape {output.shape}; "
                "expected (classes,) or a scalar"
            )
        value = output.item()
        if not np.issubdtype(output.dtype, np.floating):
            return int(value)
        if not -1e-3 <= value <= 1 + 1e-3:
            raise UsageError(
                f"ClassificationEvaluator: output {self.output!r} of sample {number} is {value:.4g}; expected "
                "the probability of class 1 (a float in [0, 1]) or a class index (an integer)"
            )
        return int(value > DECISION_THRESHOLD)

    def _true_class(self, target: npt.NDArray[Any], output: npt.NDArray[Any], number: int) -> int:
        where = f"ClassificationEvaluator: target {self.target!r} of sample {number}"
        if target.size != 1:
            raise UsageError(f"{where} has shape {target.shape}; expected a scalar class index")
        label = target.item()
        if not (math.isfinite(label) and label >= 0 and label == int(label)):
            raise UsageError(f"{where} is {label}; expected an integer class index >= 0")
        is_float = np.issubdtype(output.dtype, np.floating)
        count = output.size if output.size > 1 else 2 if is_float else None
        if count is not None and label >= count:
            raise UsageError(f"{where} is {int(label)}, but output {self.output!r} has {count} classes")
        return int(label)
