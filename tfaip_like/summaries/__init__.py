"""Summaries: images, figures, PR curves, histograms, confusion matrices and text logged by a model or an evaluator."""

from tfaip_like.summaries._summaries import ConfusionMatrix, Figure, Histogram, Image, PRCurve, Summary, Text

__all__ = ["ConfusionMatrix", "Figure", "Histogram", "Image", "PRCurve", "Summary", "Text"]
