"""ROC curves: as numbers, and drawn into a picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like.summaries import Image

Floats = npt.NDArray[np.floating[Any]]
Curve = tuple[Floats, Floats]
"""x and y of its points, from 0 to 1; x rises."""

PLOT_SIZE = 240
COLOURS = {"blue": (40, 90, 200), "orange": (230, 130, 20), "green": (30, 140, 60), "red": (200, 40, 50)}


def roc_curve(is_signal: npt.NDArray[np.bool_], scores: Floats) -> Curve:
    """Part of the background and part of the signal above each threshold, which falls."""
    order = np.argsort(-scores, kind="stable")
    last_of_equals = np.append(np.diff(scores[order]) != 0, True)
    signal = np.cumsum(is_signal[order])[last_of_equals]
    background = np.cumsum(~is_signal[order])[last_of_equals]
    return np.append(0, background / max(1, background[-1])), np.append(0, signal / max(1, signal[-1]))


def area_under_curve(curve: Curve) -> float:
    """The area below a curve."""
    x, y = curve
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def background_rejection(curve: Curve, efficiency: float) -> float:
    """How many background samples there are for each that passes where this part of the signal does."""
    background, signal = curve
    smallest = np.min(background[background > 0], initial=1.0)
    return float(1 / max(background[np.searchsorted(signal, efficiency)], smallest))


def plot_curves(curves: Iterable[tuple[str, Curve]]) -> Image:
    """Curves, each with the name of its colour, on a grid of tenths."""
    picture = np.full((PLOT_SIZE + 1, PLOT_SIZE + 1, 3), 255, np.uint8)
    picture[:: PLOT_SIZE // 10] = picture[:, :: PLOT_SIZE // 10] = 220
    for colour, (x, y) in curves:
        way = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        steps = np.linspace(0, way[-1], 4 * PLOT_SIZE)
        columns, rows = (np.rint(PLOT_SIZE * np.interp(steps, way, values)).astype(int) for values in (x, y))
        picture[PLOT_SIZE - rows, columns] = COLOURS[colour]
    return Image(picture)
