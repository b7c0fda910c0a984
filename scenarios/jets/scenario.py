"""Jet tagging: classification of the initial particle. Tables in many files, imbalanced classes, missing values.

Without --data.files, synthetic jets are generated on first use in --data.folder (by scenarios.jets.draw):

train-scenario scenarios.jets --trainer.output_dir runs/jets --train.balance sample
train-scenario scenarios.jets --data.files 'mine/*.parquet' --data.features pt eta --data.classes light charm bottom tau
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tfaip_like import ArraySource, Data, Evaluator, Model, Sample, Scenario
from tfaip_like.data import Source, TrainLoaderSettings, ValLoaderSettings
from tfaip_like.schedules import CosineDecay, Schedule
from tfaip_like.settings import Trainer
from tfaip_like.summaries import ConfusionMatrix, Summary, Text

from .curves import COLOURS, area_under_curve, background_rejection, plot_curves, roc_curve
from .data import Jets
from .draw import CLASSES
from .model import Tagger, fit_scaling


class TaggingEvaluator(Evaluator):
    """Accuracy and one-vs-rest ROC curve of each class, and background rejections of the signal class."""

    signal: str = "bottom"
    """Signal class of the background rejections (1 / background efficiency)."""

    efficiency: float = 0.7
    """Signal efficiency of the background rejections, in (0, 1]."""

    classes: list[str] = CLASSES
    """Class names; set from --data.classes."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:
        pairs = [(sample.targets["class"], sample.outputs["probabilities"]) for sample in samples]
        labels, probabilities = map(np.array, zip(*pairs, strict=True))
        answers = probabilities.argmax(axis=1)
        numbers: dict[str, float] = {}
        curves, rows = [], []
        for number, (name, colour) in enumerate(zip(self.classes, itertools.cycle(COLOURS), strict=False)):
            if (of_class := labels == number).any():
                curves.append((colour, roc_curve(of_class, probabilities[:, number])))
                numbers[f"accuracy_{name}"] = float((answers[of_class] == number).mean())
                numbers[f"auc_{name}"] = area_under_curve(curves[-1][1])
                rows.append([name, colour, f"{numbers[f'auc_{name}']:.4f}"])
        for kind in ("accuracy", "auc"):
            of_kind = [value for name, value in numbers.items() if name.startswith(kind)]
            numbers[f"mean_{kind}"] = float(np.mean(of_kind))
        return {
            **numbers,
            **self._rejections(labels, probabilities),
            "roc": plot_curves(curves),
            "curves": Text.table(["class", "curve", "AUC"], rows),
            "confusion": ConfusionMatrix(labels, answers, self.classes),
        }

    def _rejections(self, labels: npt.NDArray[Any], probabilities: npt.NDArray[Any]) -> dict[str, float]:
        """Return the rejection of each other class, by the likelihood ratio of the signal and that class."""
        signal = self.classes.index(self.signal)
        rejections = {}
        for other, name in enumerate(self.classes):
            chosen = np.isin(labels, (signal, other))
            is_signal = labels[chosen] == signal
            if is_signal.any() and not is_signal.all():
                of_signal, of_other = (probabilities[chosen, number] for number in (signal, other))
                curve = roc_curve(is_signal, of_signal / np.maximum(of_signal + of_other, 1e-30))
                rejections[f"rejection_{name}"] = background_rejection(curve, self.efficiency)
        return rejections

    def check(self) -> None:
        self.require(0 < self.efficiency <= 1, "efficiency", "must be in (0, 1]")


class JetTagging(Scenario):
    """Classification of jets by their initial particle."""

    data: Data = Jets()
    model: Model = Tagger()
    evaluator: Evaluator | None = TaggingEvaluator()
    train: TrainLoaderSettings = TrainLoaderSettings(batch_size=256)
    val: ValLoaderSettings = ValLoaderSettings(batch_size=1024)
    trainer: Trainer = Trainer(epochs=10)
    learning_rate: Schedule = CosineDecay(lr=3e-3)

    def adapt(self, train: Source | None, folder: Path) -> Self:
        data, model, evaluator = self.data, self.model, self.evaluator
        assert isinstance(data, Jets)
        assert isinstance(train, ArraySource)
        if isinstance(model, Tagger):
            scaling = model.scaling or fit_scaling(train, data)
            model = dataclasses.replace(model, classes=len(data.classes), scaling=scaling)
        if isinstance(evaluator, TaggingEvaluator):
            evaluator = dataclasses.replace(evaluator, classes=data.classes)
        return dataclasses.replace(self, model=model, evaluator=evaluator)

    def check(self) -> None:
        super().check()
        if isinstance(self.evaluator, TaggingEvaluator) and isinstance(self.data, Jets):
            classes = self.data.classes
            known = self.evaluator.signal in classes
            self.require(known, "evaluator.signal", f"must be one of --data.classes ({', '.join(classes)})")
