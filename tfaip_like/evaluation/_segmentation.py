"""Evaluator for semantic segmentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._sample import Sample
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.evaluation._packages import import_extra
from tfaip_like.summaries import Summary, Text


class SegmentationEvaluator(Evaluator):
    """Segmentation evaluator on scikit-learn: IoU, Dice coefficient and pixel accuracy.

    Values: `mean_iou` and `mean_dice` over the classes that occur, `worst_class_iou` and `pixel_accuracy`; the summary
    `classes` is a table. Pixels of all samples are counted together.

    Requires the extra `evaluation`. Memory does not depend on the number of samples.

    Example:
        >>> sample = Sample(targets={"mask": [[0, 1], [1, 1]]}, outputs={"mask": [[0, 0], [1, 1]]})
        >>> round(SegmentationEvaluator(names=["sky", "ground"]).evaluate([sample])["mean_iou"], 4)
        0.5833
    """

    target: str = "mask"
    """Target with the class of each pixel, an integer array of any shape."""

    output: str = "mask"
    """Output with the class of each pixel (integers of the same shape), or one score per class on an additional last
    axis."""

    names: list[str] = []
    """Class names in the order of their indices; required if the output has no scores."""

    ignored_class: int | None = None
    """Class of the target whose pixels are not counted; by default all are."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:
        counts: npt.NDArray[np.int64] | None = None
        for number, sample in enumerate(samples):
            target, output = np.asarray(sample.targets[self.target]), np.asarray(sample.outputs[self.output])
            num_classes = len(self.names) or (output.shape[-1] if output.ndim > target.ndim else 0)
            predicted = output.argmax(axis=-1) if output.ndim > target.ndim else output
            self._check(number, target, predicted, num_classes)
            kept = target != (-1 if self.ignored_class is None else self.ignored_class)
            pairs = target[kept].astype(np.int64) * num_classes + predicted[kept].astype(np.int64)
            added = np.bincount(pairs, minlength=num_classes**2)
            counts = added if counts is None else counts + added
        return {} if counts is None else self._evaluate(counts)

    def _check(self, number: int, target: npt.NDArray[Any], predicted: npt.NDArray[Any], num_classes: int) -> None:
        if not num_classes:
            raise UsageError("SegmentationEvaluator: the output has no scores of classes; set `names`")
        if target.shape != predicted.shape:
            raise UsageError(
                f"SegmentationEvaluator: target {self.target!r} of sample {number} has shape {target.shape}, but "
                f"output {self.output!r} has the classes of shape {predicted.shape}"
            )
        counted = target[target != self.ignored_class] if self.ignored_class is not None else target
        for kind, name, values in (("target", self.target, counted), ("output", self.output, predicted)):
            if values.size and not (values.min() >= 0 and values.max() < num_classes):
                wrong = values.min() if values.min() < 0 else values.max()
                raise UsageError(
                    f"SegmentationEvaluator: {kind} {name!r} of sample {number} contains class {wrong}; expected 0 to "
                    f"{num_classes - 1}"
                )

    def _evaluate(self, counts: npt.NDArray[np.int64]) -> Mapping[str, float | Summary]:
        metrics = import_extra("sklearn.metrics")
        num_classes = round(len(counts) ** 0.5)
        # Each pair of classes is one weighted sample.
        truth, predicted = (values.ravel() for values in np.indices((num_classes, num_classes)))
        matrix = counts.reshape(num_classes, num_classes)
        present = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
        arguments: dict[str, Any] = {"labels": present, "average": None, "sample_weight": counts, "zero_division": 0}
        iou = metrics.jaccard_score(truth, predicted, **arguments)
        dice = metrics.f1_score(truth, predicted, **arguments)
        names = self.names or [str(number) for number in range(num_classes)]
        rows = [
            [names[number], f"{a:.4g}", f"{b:.4g}", int(matrix[number].sum())]
            for number, a, b in zip(present.tolist(), iou, dice, strict=True)
        ]
        return {
            "mean_iou": float(iou.mean()),
            "mean_dice": float(dice.mean()),
            "worst_class_iou": float(iou.min()),
            "pixel_accuracy": float(metrics.accuracy_score(truth, predicted, sample_weight=counts)),
            "classes": Text.table(["class", "IoU", "Dice", "pixels"], rows),
        }
