"""Evaluators: metrics and summaries computed from predictions."""

from tfaip_like.evaluation._classification import ClassificationEvaluator
from tfaip_like.evaluation._classification_report import ClassificationReport
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.evaluation._regression import RegressionEvaluator
from tfaip_like.evaluation._segmentation import SegmentationEvaluator
from tfaip_like.evaluation._text import TextEvaluator

__all__ = [
    "ClassificationEvaluator",
    "ClassificationReport",
    "Evaluator",
    "RegressionEvaluator",
    "SegmentationEvaluator",
    "TextEvaluator",
]
