"""Evaluators for common tasks, ready to be put into a scenario."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tfaip_like.evaluator import Evaluator
from tfaip_like.sample import Sample
from tfaip_like.summaries import ConfusionMatrix, Summary


class Classes(Evaluator):
    """For models that choose one of several classes: which was taken for which, and the class that does worst."""

    target: str = "label"
    """The target with the number of the right class."""

    output: str = "probabilities"
    """The output with a value for each class, of which the largest counts, or with the number of the class."""

    names: list[str] = []
    """Of the classes, in the order of their numbers."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:
        targets, predictions = [], []
        for sample in samples:
            output = np.asarray(sample.outputs[self.output])
            targets.append(int(sample.targets[self.target]))
            predictions.append(int(output.argmax() if output.ndim else output))
        confusion = ConfusionMatrix(targets, predictions, self.names)
        return {"worst_class_recall": float(np.nanmin(confusion.recalls())), "confusion": confusion}
