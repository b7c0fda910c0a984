"""Classification report of scikit-learn, with curves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like.data._sample import Sample
from tfaip_like.evaluation._classification import ClassificationEvaluator
from tfaip_like.evaluation._packages import import_extra, make_axes
from tfaip_like.summaries import Figure, Summary, Text

MAX_CURVES = 10
"""Maximum number of classes with a curve; the most frequent ones."""


class ClassificationReport(ClassificationEvaluator):
    """Classification report of scikit-learn: F1, AUC, calibration, a table of classes, and curves.

    Adds to the values of `ClassificationEvaluator`: `balanced_accuracy` and `macro_f1`; for scores of classes also
    `top_K_accuracy` and `roc_auc` (mean over the classes, each against the others), and for probabilities `log_loss`
    and `brier_score`. Summaries: `report` (with the accuracy), `roc`, `pr` and `calibration` (of the predicted class).

    Samples with NaN outputs are not counted. Requires the extra `evaluation`; keeps all outputs in memory.

    Example:
        >>> outputs = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]
        >>> samples = [Sample(targets={"label": i}, outputs={"probabilities": p}) for i, p in zip((0, 0, 1), outputs)]
        >>> round(ClassificationReport().evaluate(samples)["macro_f1"], 3)
        0.667
    """

    top_k: int = 5
    """Number of classes with the largest scores among which the right one counts for `top_K_accuracy`; for at least two
    classes more."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:
        outputs: list[npt.NDArray[Any]] = []
        targets: list[int] = []
        predictions: list[int] = []
        values = super().evaluate(self._collect(samples, outputs, targets, predictions))
        metrics = import_extra("sklearn.metrics")
        labels = np.array(targets)
        if not len(labels):
            return values
        return {
            **values,
            "balanced_accuracy": float(
                metrics.recall_score(labels, predictions, labels=np.unique(labels), average="macro")
            ),
            "macro_f1": float(metrics.f1_score(labels, predictions, average="macro", zero_division=0)),
            "report": self._table(
                metrics.classification_report(labels, predictions, output_dict=True, zero_division=0)
            ),
            **self._score_values(labels, outputs),
        }

    def _collect(
        self,
        samples: Iterable[Sample],
        outputs: list[npt.NDArray[Any]],
        targets: list[int],
        predictions: list[int],
    ) -> Iterator[Sample]:
        for number, sample in enumerate(samples):
            output = np.asarray(sample.outputs[self.output])
            if not np.isnan(output).any():
                predictions.append(self._predicted_class(output, number))
                targets.append(self._true_class(np.asarray(sample.targets[self.target]), output, number))
                outputs.append(output.reshape(-1))
            yield sample

    def _table(self, report: Mapping[str, Any]) -> Text:
        columns = ("precision", "recall", "f1-score", "support")
        rows: list[list[str]] = [
            [self._name(label), *(f"{values[column]:.4g}" for column in columns)]
            for label, values in report.items()
            if isinstance(values, Mapping)
        ]
        accuracy = report.get("accuracy")  # absent if it is the micro average
        rows += [] if accuracy is None else [["accuracy", "", "", f"{accuracy:.4g}", rows[-1][-1]]]
        return Text.table(["class", *columns], rows)

    def _name(self, label: str) -> str:
        return self.names[int(label)] if label.isdecimal() and int(label) < len(self.names) else label

    def _score_values(
        self, labels: npt.NDArray[np.int64], outputs: list[npt.NDArray[Any]]
    ) -> Mapping[str, float | Summary]:
        """Return the values that need scores of the classes; none if the outputs are class indices."""
        scores = np.array(outputs)
        if not np.issubdtype(scores.dtype, np.floating):
            return {}
        scores = scores.astype(np.float64)
        if scores.shape[1] == 1:
            scores = np.concatenate([1 - scores, scores], axis=1)
        metrics, classes = import_extra("sklearn.metrics"), np.arange(scores.shape[1])
        values: dict[str, float | Summary] = {}
        if 1 < self.top_k < len(classes):
            top = metrics.top_k_accuracy_score(labels, scores, k=self.top_k, labels=classes)
            values[f"top_{self.top_k}_accuracy"] = float(top)
        # A class without samples, or with all of them, has no curve.
        present = [number for number in np.unique(labels).tolist() if (labels != number).any()]
        if present:
            is_class = labels[:, None] == np.array(present)
            values["roc_auc"] = float(metrics.roc_auc_score(is_class, scores[:, present], average="macro"))
            values |= self._curves(labels, scores, present)
        if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
            scores /= scores.sum(axis=1, keepdims=True)
            values["log_loss"] = float(metrics.log_loss(labels, scores, labels=classes))
            values["brier_score"] = float(metrics.brier_score_loss(labels, scores, labels=classes, scale_by_half=True))
            values["calibration"] = _calibration(labels, scores)
        return values

    def _curves(
        self, labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64], present: list[int]
    ) -> dict[str, float | Summary]:
        metrics = import_extra("sklearn.metrics")
        shown = [1] if scores.shape[1] == 2 else sorted(present, key=lambda number: -(labels == number).sum())
        figures: dict[str, float | Summary] = {}
        for name, display in (("roc", metrics.RocCurveDisplay), ("pr", metrics.PrecisionRecallDisplay)):
            figure, axes = make_axes()
            for number in shown[:MAX_CURVES]:
                display.from_predictions(labels == number, scores[:, number], ax=axes, name=self._name(str(number)))
            figures[name] = Figure(figure)
        return figures


def _calibration(labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> Figure:
    """Return the fraction of right predictions by the probability of the predicted class."""
    predicted = scores.argmax(axis=1)
    figure, axes = make_axes()
    import_extra("sklearn.calibration").CalibrationDisplay.from_predictions(
        predicted == labels, scores.max(axis=1), n_bins=10, pos_label=True, ax=axes, name="predicted class"
    )
    return Figure(figure)
