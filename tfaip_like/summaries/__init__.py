"""Summaries: images, figures, curves, histograms and tables that a model or an evaluator shows."""

from tfaip_like.summaries._summaries import ConfusionMatrix, Figure, Histogram, Image, PRCurve, Summary, Text

__all__ = ["ConfusionMatrix", "Figure", "Histogram", "Image", "PRCurve", "Summary", "Text"]
