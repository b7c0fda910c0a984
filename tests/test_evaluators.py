"""Evaluators that are ready to be used."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from tfaip_like import Evaluator, Sample, UsageError
from tfaip_like.evaluation import ClassificationEvaluator
from tfaip_like.evaluation._evaluation import run_evaluator
from tfaip_like.summaries import ConfusionMatrix
from tfaip_like.summaries._summaries import MAX_CLASSES


@pytest.mark.parametrize("outputs", [[0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]])
def test_classes_are_evaluated_from_labels_or_probabilities(outputs: list[object]) -> None:
    samples = [
        Sample(inputs={}, targets={"kind": np.int32(right)}, outputs={"class": np.asarray(output)})
        for right, output in zip([0, 1, 0], outputs, strict=True)
    ]
    judged = ClassificationEvaluator(target="kind", output="class", names=["cat", "dog"]).evaluate(samples)
    assert judged["worst_class_recall"] == 0.5
    confusion = judged["confusion"]
    assert isinstance(confusion, ConfusionMatrix)
    assert confusion.counts().tolist() == [[1, 1], [0, 1]]


def evaluate_classes(outputs: Any, targets: Any, names: list[str] | None = None) -> tuple[float, ConfusionMatrix]:
    pairs = zip(outputs, targets, strict=True)
    samples = [Sample({}, {"label": target}, {"probabilities": np.asarray(output)}) for output, target in pairs]
    judged = ClassificationEvaluator(names=names or []).evaluate(samples)
    recall, confusion = judged["worst_class_recall"], judged["confusion"]
    assert isinstance(recall, float)
    assert isinstance(confusion, ConfusionMatrix)
    return recall, confusion


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_sigmoid_that_is_right_has_a_recall_of_1(shape: tuple[int, ...]) -> None:
    labels = [0, 1, 1, 0, 1]
    outputs = [np.full(shape, 0.99 if label else 0.01, "float32") for label in labels]
    recall, confusion = evaluate_classes(outputs, [np.full(shape, label) for label in labels])
    assert recall == 1
    assert confusion.counts().tolist() == [[2, 0], [0, 3]]


@pytest.mark.parametrize(
    ("output", "target", "message"),
    [
        ([0.1, 0.9], -1, "target 'label' of sample 1 is -1; expected an integer class index >= 0"),
        ([0.1, 0.9], 0.5, "target 'label' of sample 1 is 0.5; expected an integer class index >= 0"),
        ([0.1, 0.9], math.nan, "target 'label' of sample 1 is nan; expected an integer class index >= 0"),
        ([0.1, 0.9], [0, 1], r"target 'label' of sample 1 has shape \(2,\)"),
        ([0.1, 0.9], 2, "target 'label' of sample 1 is 2, but output 'probabilities' has 2 classes"),
        (0.7, 2, "target 'label' of sample 1 is 2, but output 'probabilities' has 2 classes"),
        (1.7, 1, "output 'probabilities' of sample 1 is 1.7; expected the probability of class 1"),
        ([[0.1, 0.9]], 1, r"output 'probabilities' of sample 1 has shape \(1, 2\)"),
    ],
)
def test_invalid_class_labels_are_rejected_by_name(output: Any, target: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"^ClassificationEvaluator: {message}"):
        evaluate_classes([[0.4, 0.6], output], [1, target])


def test_a_nan_output_is_not_counted_as_a_class() -> None:
    recall, confusion = evaluate_classes([[0.4, 0.6], [math.nan, math.nan]], [1, 0])
    assert math.isnan(recall)
    assert confusion.counts().tolist() == [[0, 0], [0, 1]]


def test_the_memory_of_a_confusion_matrix_does_not_grow_with_the_largest_class() -> None:
    tracemalloc.start()
    recall, confusion = evaluate_classes(np.array([5, 2_000_000_000, 7]), [5, 2_000_000_000, 2_000_000_000])
    assert recall == 0.5
    assert confusion.labels() == ["5", "7", "2000000000"]
    assert confusion.counts().tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 1]]
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_confusion_matrix_of_very_many_classes_shows_the_most_frequent() -> None:
    classes = np.concatenate([np.arange(2 * MAX_CLASSES), [900, 900]])
    matrix = ConfusionMatrix(classes, np.where(classes == 901, 900, classes))
    assert len(matrix.counts()) == len(matrix.labels()) == MAX_CLASSES
    row = matrix.labels().index("900")
    assert matrix.counts()[row, row] == 3
    assert np.nanmin(matrix.per_class_recall()) == 0
    assert len(matrix.per_class_recall()) == 2 * MAX_CLASSES


def test_a_class_without_a_name_is_rejected() -> None:
    with pytest.raises(UsageError, match="'confusion' is a ConfusionMatrix with targets of class 1 but 1 name"):
        evaluate_classes([[0.4, 0.6]], [1], ["cat"])


def evaluator_returning(value: Any) -> Evaluator:
    class Answers(Evaluator):
        """Returns a value."""

        def evaluate(self, samples: Any) -> Any:
            return {"f1": value}

    return Answers()


@pytest.mark.parametrize("value", [np.ones(1), np.ones((20, 30)), "0.5", None, 1j, 10**400], ids=repr)
def test_evaluator_values_that_are_not_numbers_are_rejected_by_name(value: Any) -> None:
    with pytest.raises(UsageError, match=r"^Answers.evaluate: 'f1' is .{1,50}; expected a number or a summary of"):
        run_evaluator(evaluator_returning(value), [], reserved_names=[])


@pytest.mark.parametrize("value", [1, True, np.float16(0.5), np.array(2), math.nan])
def test_scalar_evaluator_values_are_accepted(value: Any) -> None:
    assert run_evaluator(evaluator_returning(value), [], reserved_names=[]).numbers["f1"] == pytest.approx(
        float(value), nan_ok=True
    )
