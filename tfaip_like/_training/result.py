"""Result of a training run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.packages import require_packages
from tfaip_like.inference._loading import load_predictor
from tfaip_like.inference._predictor import Predictor

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class TrainResult:
    """Outcome of a training run.

    Example:
        >>> result = train(Digits(trainer=Trainer(output_dir=Path("runs/digits"))))  # doctest: +SKIP
        >>> result.to_frame()["val_accuracy"].max()  # doctest: +SKIP
        0.978
        >>> result.best_predictor().one({"image": image}).outputs["class"]  # doctest: +SKIP
        7
    """

    history: Sequence[Mapping[str, float]]
    """Logged values at the end of each epoch (`epoch` counts from 1), and of validations within it (`epoch` 1.5)."""
    best_epoch: float | None
    """Best epoch by the monitored metric; None if it was never measured or always NaN."""
    best_value: float | None
    """Monitored value of the best epoch."""
    network: keras.Model
    """Prediction network after the last epoch."""
    stopped_early: str | None = None
    """Reason for early stopping; None if all epochs were trained."""
    output_dir: Path | None = None
    """Run directory; None if nothing was saved."""

    def to_frame(self) -> Any:
        """Return the history as a pandas `DataFrame` with a row for each evaluation.

        Raises:
            UsageError: if pandas is not installed.
        """
        require_packages("TrainResult.to_frame", ("pandas",), "pandas")
        return importlib.import_module("pandas").DataFrame(list(self.history))

    def best_predictor(self) -> Predictor:
        """Return a predictor with the best model, `best/` of the run directory.

        Raises:
            UsageError: if nothing was saved, or the monitored metric was never measured.
        """
        return load_predictor(self._require_output_dir().best)

    def last_predictor(self) -> Predictor:
        """Return a predictor with the model of the last epoch, `export/` of the run directory.

        Raises:
            UsageError: if nothing was saved.
        """
        return load_predictor(self._require_output_dir().export)

    def _require_output_dir(self) -> OutputDir:
        if self.output_dir is None:
            raise UsageError("the run has saved no model: train with Trainer.output_dir")
        return OutputDir(self.output_dir)
