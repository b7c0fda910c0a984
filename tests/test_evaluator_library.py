"""Evaluators on scikit-learn and jiwer: their values, and errors that name sample and array."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from tfaip_like import Evaluator, Sample, UsageError
from tfaip_like.evaluation import ClassificationReport, RegressionEvaluator, SegmentationEvaluator, TextEvaluator
from tfaip_like.evaluation import _packages as packages
from tfaip_like.evaluation._evaluation import run_evaluator
from tfaip_like.summaries import Figure, Histogram, Text


def samples(targets: Any, outputs: Any, target: str = "y", output: str = "y") -> Iterator[Sample]:
    for true, predicted in zip(targets, outputs, strict=True):
        yield Sample(targets={target: np.asarray(true)}, outputs={output: np.asarray(predicted)})


def numbers(evaluator: Evaluator, targets: Any, outputs: Any) -> dict[str, float]:
    """Return the numbers; summaries are checked too."""
    return dict(run_evaluator(evaluator, samples(targets, outputs), reserved_names=[]).numbers)


def test_a_classification_report_has_the_values_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    labels = random.choice([0, 1, 2, 3], 60, p=[0.6, 0.2, 0.1, 0.1])
    scores = random.dirichlet(np.ones(5), 60)  # the last class does not occur
    predicted = scores.argmax(axis=1)
    evaluator = ClassificationReport(target="y", output="y", top_k=2, names=["a", "b", "c", "d", "e"])
    found = run_evaluator(evaluator, samples(labels, scores), reserved_names=[])
    assert found.numbers == pytest.approx(
        {
            "worst_class_recall": min(sklearn_metrics.recall_score(labels, predicted, average=None, labels=range(4))),
            "balanced_accuracy": sklearn_metrics.recall_score(labels, predicted, average=None, labels=range(4)).mean(),
            "macro_f1": sklearn_metrics.f1_score(labels, predicted, average="macro"),
            "top_2_accuracy": np.mean([y in row.argsort()[-2:] for y, row in zip(labels, scores, strict=True)]),
            "roc_auc": np.mean([sklearn_metrics.roc_auc_score(labels == k, scores[:, k]) for k in range(4)]),
            "log_loss": -np.log(scores[np.arange(60), labels]).mean(),
            "brier_score": ((scores - np.eye(5)[labels]) ** 2).sum(axis=1).mean() / 2,
        }
    )
    assert set(found.summaries) == {"confusion", "report", "roc", "pr", "calibration"}
    assert isinstance(found.summaries["roc"], Figure)
    report = found.summaries["report"]
    assert isinstance(report, Text)
    assert "| a | " in report.markdown
    accuracy = sklearn_metrics.accuracy_score(labels, predicted)
    assert f"| accuracy |  |  | {accuracy:.4g} | 60 |" in report.markdown


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_report_accepts_probabilities_of_class_1(shape: tuple[int, ...]) -> None:
    labels, scores = np.array([0, 1, 1, 0]), np.array([0.2, 0.4, 0.9, 0.6], "float32")
    found = numbers(ClassificationReport(target="y", output="y"), labels, [np.full(shape, p) for p in scores])
    assert found["roc_auc"] == sklearn_metrics.roc_auc_score(labels, scores)
    assert found["brier_score"] == pytest.approx(sklearn_metrics.brier_score_loss(labels, scores))


def test_a_report_of_logits_or_class_indices_has_no_values_of_probabilities() -> None:
    evaluator = ClassificationReport(target="y", output="y")
    of_logits = numbers(evaluator, [0, 1, 1], [[2.0, -1.0], [0.0, 3.0], [1.0, 0.5]])
    assert "roc_auc" in of_logits
    assert "log_loss" not in of_logits
    of_indices = numbers(evaluator, [0, 1, 1], [0, 1, 0])
    assert of_indices["balanced_accuracy"] == 0.75
    assert "roc_auc" not in of_indices


def test_a_report_of_a_single_class_has_no_curves_and_of_nan_no_values() -> None:
    evaluator = ClassificationReport(target="y", output="y")
    assert "roc_auc" not in numbers(evaluator, [1, 1], [[0.1, 0.9], [0.2, 0.8]])
    of_nan = numbers(evaluator, [1], [[math.nan, math.nan]])
    assert list(of_nan) == ["worst_class_recall"]
    assert math.isnan(of_nan["worst_class_recall"])


@pytest.mark.parametrize("shape", [(40,), (40, 3), (40, 2, 2)])
def test_regression_has_the_values_of_scikit_learn(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(2)
    targets = random.normal(size=shape)
    outputs = targets + random.normal(0, 0.1, shape)
    found = run_evaluator(RegressionEvaluator(), samples(targets, outputs), reserved_names=[])
    a, b = targets.reshape(40, -1), outputs.reshape(40, -1)
    assert found.numbers == pytest.approx(
        {
            "mean_absolute_error": sklearn_metrics.mean_absolute_error(a, b),
            "root_mean_squared_error": sklearn_metrics.root_mean_squared_error(a, b),
            "median_absolute_error": sklearn_metrics.median_absolute_error(a, b),
            "r2": sklearn_metrics.r2_score(a, b),
            "max_error": np.abs(a - b).max(),
        }
    )
    assert isinstance(found.summaries["residuals"], Histogram)
    assert isinstance(found.summaries["residuals_by_output"], Figure)


def test_a_regression_output_that_is_nan_makes_the_values_nan() -> None:
    assert all(math.isnan(value) for value in numbers(RegressionEvaluator(), [1.0, 2.0], [math.nan, 2.0]).values())


def test_regression_rejects_an_output_of_another_shape() -> None:
    message = r"RegressionEvaluator: target 'y' of sample 1 has shape \(\), but output 'y' has shape \(1,\)"
    with pytest.raises(UsageError, match=message):
        numbers(RegressionEvaluator(), [1.0, 2.0], [1.0, [2.0]])


@pytest.mark.parametrize("as_scores", [False, True])
def test_segmentation_has_the_values_of_scikit_learn(as_scores: bool) -> None:
    random = np.random.default_rng(3)
    targets, predicted = random.integers(0, 3, (2, 10, 4, 5))  # of the names, the last does not occur
    outputs = np.eye(4)[predicted] if as_scores else predicted
    evaluator = SegmentationEvaluator(target="y", output="y", names=["sky", "sea", "land", "ice"])
    iou = sklearn_metrics.jaccard_score(targets.ravel(), predicted.ravel(), average=None)
    assert numbers(evaluator, targets, outputs) == pytest.approx(
        {
            "mean_iou": iou.mean(),
            "mean_dice": sklearn_metrics.f1_score(targets.ravel(), predicted.ravel(), average="macro"),
            "worst_class_iou": iou.min(),
            "pixel_accuracy": np.mean(targets == predicted),
        }
    )


def test_pixels_of_an_ignored_class_are_not_counted() -> None:
    evaluator = SegmentationEvaluator(target="y", output="y", names=["a", "b"], ignored_class=255)
    assert numbers(evaluator, [[0, 1, 255]], [[0, 1, 0]])["mean_iou"] == 1


@pytest.mark.parametrize(
    ("names", "target", "output", "message"),
    [
        ([], [0, 1], [0, 1], "the output has no scores of classes; set `names`"),
        (["a", "b"], [0, 1], [0, 2], "output 'y' of sample 0 contains class 2; expected 0 to 1"),
        (["a", "b"], [0, -1], [0, 1], "target 'y' of sample 0 contains class -1; expected 0 to 1"),
        (["a", "b"], [0, 1], [0, 1, 1], r"target 'y' of sample 0 has shape \(2,\), but output 'y' has the classes of"),
    ],
)
def test_segmentation_rejects_wrong_classes_by_name(names: list[str], target: Any, output: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"SegmentationEvaluator: {message}"):
        numbers(SegmentationEvaluator(target="y", output="y", names=names), [target], [output])


def test_text_has_error_rates_and_alignments_of_the_worst_texts() -> None:
    evaluator = TextEvaluator(target="y", output="y", num_worst=1)
    texts = ["good day", "hello world", ""], ["good day", "helo wurld", "x"]
    found = run_evaluator(evaluator, samples(*texts), reserved_names=[])
    assert found.numbers == pytest.approx(
        {"character_error_rate": 3 / 19, "word_error_rate": 3 / 4, "wrong_texts": 2 / 3}
    )
    worst = found.summaries["worst_texts"]
    assert isinstance(worst, Text)
    assert worst.markdown == "```\nREF: hello world\nHYP: hel*o wurld\n        D   S\n```"


def test_the_true_text_may_be_in_the_meta() -> None:
    sample = Sample(meta={"text": "a"}, outputs={"text": "a"})
    assert TextEvaluator().evaluate([sample])["wrong_texts"] == 0


@pytest.mark.parametrize(
    ("target", "output", "message"),
    [
        ("a", [1, 2], "output 'y' of sample 0 is a ndarray; expected a text"),
        (3, "a", "target 'y' of sample 0 is an int; expected a text"),
        ("", "a", "all texts of target 'y' are empty"),
    ],
)
def test_text_rejects_other_values_by_name(target: Any, output: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"TextEvaluator: {message}"):
        numbers(TextEvaluator(target="y", output="y"), [target], [output])


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(UsageError, match=r"no_such is not installed; pip install 'tfaip_like\[evaluation\]'"):
        packages.import_extra("no_such.module")
