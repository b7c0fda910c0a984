"""ROC curves: computation and plots."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like.summaries import Image

Floats = npt.NDArray[np.floating[Any]]
Curve = tuple[Floats, Floats]
"""x and y of its points, in [0, 1]; x increases."""

PLOT_SIZE = 240
COLOURS = {"blue": (40, 90, 200), "orange": (230, 130, 20), "green": (30, 140, 60), "red": (200, 40, 50)}


def roc_curve(is_signal: npt.NDArray[np.bool_], scores: Floats) -> Curve:
    """Return the ROC curve: background (x) and signal efficiency (y) for decreasing thresholds."""
    order = np.argsort(-scores, kind="stable")
    last_of_equals = np.append(np.diff(scores[order]) != 0, True)
    signal = np.cumsum(is_signal[order])[last_of_equals]
    background = np.cumsum(~is_signal[order])[last_of_equals]
    return np.append(0, background / max(1, background[-1])), np.append(0, signal / max(1, signal[-1]))


def area_under_curve(curve: Curve) -> float:
    """Return the area under a curve (AUC)."""
    x, y = curve
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def background_rejection(curve: Curve, efficiency: float) -> float:
    """Return 1 / background efficiency at a signal efficiency in (0, 1]."""
    background, signal = curve
    smallest = np.min(background[background > 0], initial=1.0)
    return float(1 / max(background[np.searchsorted(signal, efficiency)], smallest))


def plot_curves(curves: Iterable[tuple[str, Curve]]) -> Image:
    """Return a plot of curves, given with the names of their colours, on a grid of tenths."""
    picture = np.full((PLOT_SIZE + 1, PLOT_SIZE + 1, 3), 255, np.uint8)
    picture[:: PLOT_SIZE // 10] = picture[:, :: PLOT_SIZE // 10] = 220
    for colour, (x, y) in curves:
        way = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        steps = np.linspace(0, way[-1], 4 * PLOT_SIZE)
        columns, rows = (np.rint(PLOT_SIZE * np.interp(steps, way, values)).astype(int) for values in (x, y))
        picture[PLOT_SIZE - rows, columns] = COLOURS[colour]
    return Image(picture)
