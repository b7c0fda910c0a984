"""Validation: how good the network is on samples it was not trained on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import SupportsFloat

import keras

from tfaip_like.data.pipeline import Batches
from tfaip_like.data.samples import post_processed
from tfaip_like.errors import UsageError, article
from tfaip_like.evaluator import Evaluator
from tfaip_like.interrupt import InterruptFlag
from tfaip_like.network import select
from tfaip_like.sample import Sample
from tfaip_like.train.callbacks import Interruptible, logged_values
from tfaip_like.train.execution import several_at_once
from tfaip_like.train.feed import Feed
from tfaip_like.train.training_model import TrainingModel


@dataclass(frozen=True)
class Validation:
    """Losses and metrics of the training network, and the evaluator's numbers of the prediction network."""

    model: TrainingModel
    network: keras.Model
    batches: Batches
    feed: Feed
    evaluator: Evaluator | None
    interrupt: InterruptFlag
    at_once: int = 1
    """Batches between two looks at Ctrl-C."""
    prefix: str = "val_"

    def __call__(self) -> dict[str, float]:
        """Named numbers, each with the prefix in front."""
        with self.feed.own_errors(), several_at_once(self.model, self.at_once), warnings.catch_warnings():
            # How many batches there are is not known where samples may be dropped; Keras takes the end for a mistake.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            logs = self.model.evaluate(
                self.feed.data, verbose=0, return_dict=True, callbacks=[Interruptible(self.interrupt)]
            )
        values = logged_values(logs)
        if self.evaluator is not None:
            values |= self._judged(self.evaluator, known=values)
        return {f"{self.prefix}{name}": value for name, value in values.items()}

    def _judged(self, evaluator: Evaluator, known: Mapping[str, float]) -> dict[str, float]:
        judged = evaluator.evaluate(self._predicted())
        where = f"{type(evaluator).__name__}.evaluate"
        if not isinstance(judged, Mapping):
            raise UsageError(
                f"{where} returned {article(type(judged).__name__)}; it must return {{'name': number, ...}}"
            )
        for name, value in judged.items():
            if name in known:
                raise UsageError(f"{where}: {name!r} is a loss or metric of the model already; choose another name")
            if not isinstance(value, SupportsFloat):
                raise UsageError(f"{where}: {name!r} is {value!r}, not a number")
        return {name: float(value) for name, value in judged.items()}

    def _predicted(self) -> Iterator[Sample]:
        for batch in self.batches.once():
            self.interrupt.check()
            if not len(batch):
                continue
            samples = batch.samples(self.network.predict_on_batch(select(batch.inputs, self.network)))
            yield from post_processed(self.batches.samples, samples)
