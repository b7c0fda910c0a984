"""Validation: how good the network is on samples it was not trained on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import keras

from tfaip_like.data.batching import Batch
from tfaip_like.data.pipeline import Batches
from tfaip_like.data.samples import post_processed
from tfaip_like.evaluator import Evaluator
from tfaip_like.interrupt import InterruptFlag
from tfaip_like.network import predict_with
from tfaip_like.predict.judge import Judged, judge, predictions, show, shows_something
from tfaip_like.sample import Sample
from tfaip_like.summaries import Summary
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

    def __call__(self) -> Judged:
        """Named numbers, each with the prefix in front, and summaries."""
        with self.feed.own_errors(), several_at_once(self.model, self.at_once), warnings.catch_warnings():
            # How many batches there are is not known where samples may be dropped; Keras takes the end for a mistake.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            logs = self.model.evaluate(
                self.feed.data, verbose=0, return_dict=True, callbacks=[Interruptible(self.interrupt)]
            )
        values = logged_values(logs)
        summaries: dict[str, Summary] = {}
        if self.evaluator is not None:
            judged = judge(self.evaluator, post_processed(self.batches.samples, self._predicted()), known=values)
            values |= judged.numbers
            summaries |= judged.summaries
        if shows_something(self.model.model) and (first := self.batches.first_of_pass()):
            outputs = predict_with(self.network)(first.inputs)
            summaries |= show(self.model.model, first, outputs, known=[*values, *summaries])
        return Judged({f"{self.prefix}{name}": value for name, value in values.items()}, summaries)

    def _predicted(self) -> Iterator[Sample]:
        def check(batch: Batch) -> None:
            self.interrupt.check()

        for batch, outputs in predictions(predict_with(self.network), self.batches, check):
            yield from batch.samples(outputs)
