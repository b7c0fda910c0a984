"""Evaluators: metrics and summaries computed from predictions."""

from tfaip_like.evaluation._classification import ClassificationEvaluator
from tfaip_like.evaluation._evaluator import Evaluator

__all__ = ["ClassificationEvaluator", "Evaluator"]
