"""Curves of a training in a notebook, drawn again after each epoch."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfaip_like._utils.lazy_imports import LazyModule
from tfaip_like._utils.packages import is_installed

ipython_display: Any = LazyModule("IPython.display")
figures: Any = LazyModule("matplotlib.figure")

MAX_PANELS = 3
PANEL_SIZE = (4.0, 3.0)
"""Width and height in inches."""


def can_draw_curves() -> bool:
    """Return whether this process is the kernel of a notebook, and matplotlib is installed."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel") and is_installed("matplotlib")


class LiveCurve(keras.callbacks.Callback):
    """Callback that draws losses and metrics below the cell that trains.

    Args:
        history: rows of the history before this process.
    """

    def __init__(self, history: Sequence[Mapping[str, float]] = ()):
        super().__init__()
        self._rows = [dict(row) for row in history]
        self._handle: Any = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Draw the curves with the values of the epoch."""
        self._rows.append({"epoch": epoch + 1, **(logs or {})})
        image = ipython_display.Image(data=draw_curves(self._rows))
        if self._handle is None:
            self._handle = ipython_display.display(image, display_id=True)
        else:
            self._handle.update(image)


def draw_curves(rows: Sequence[Mapping[str, float]]) -> bytes:
    """Return a PNG image of the loss and the first metrics, each with its validation.

    Args:
        rows: rows of the history.
    """
    names = [name for name in rows[-1] if f"val_{name}" in rows[-1] or name == "loss"]
    panels = sorted(dict.fromkeys(names), key=lambda name: name != "loss")[:MAX_PANELS]
    width, height = PANEL_SIZE
    figure = figures.Figure(figsize=(width * len(panels), height), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for key in (name, f"val_{name}", f"lav_{name}"):
            points = [(row["epoch"], row[key]) for row in rows if key in row and math.isfinite(row[key])]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=key)
        axes.set_xlabel("epoch")
        axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
