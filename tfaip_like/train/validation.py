"""Validation: how good the network is on samples it was not trained on."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from tfaip_like.data.batching import Batch
from tfaip_like.data.pipeline import Batches
from tfaip_like.data.samples import post_processed
from tfaip_like.errors import UsageError
from tfaip_like.evaluator import Evaluator
from tfaip_like.interrupt import InterruptFlag
from tfaip_like.network import predict_with
from tfaip_like.predict.bad_values import find_bad_value, first_non_finite_row
from tfaip_like.predict.judge import Judged, judge, predictions, show, shows_something
from tfaip_like.sample import Sample
from tfaip_like.summaries import Summary
from tfaip_like.train.callbacks import Interruptible, logged_values
from tfaip_like.train.execution import several_at_once
from tfaip_like.train.feed import Feed
from tfaip_like.train.training_model import TrainingModel, as_fed

logger = logging.getLogger(__name__)


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
    skips_bad_data: bool = False
    """Warn of samples without a finite loss even where their data are the reason (`--trainer.on_nan skip`)."""
    prefix: str = "val_"
    _warned: set[str] = field(default_factory=set)

    def __call__(self, num_batches: int | None = None) -> Judged:
        """Return named numbers, each with the prefix in front, and summaries.

        Args:
            num_batches: validate on the first batches only.
        """
        with self.feed.own_errors(), several_at_once(self.model, self.at_once), warnings.catch_warnings():
            # How many batches there are is not known where samples may be dropped; Keras takes the end for a mistake.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            logs = self.model.evaluate(
                self.feed.first(num_batches), verbose=0, return_dict=True, callbacks=[Interruptible(self.interrupt)]
            )
        values = logged_values(logs)
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            self._explain(f"{self.prefix}{bad[0]}")
        summaries: dict[str, Summary] = {}
        if self.evaluator is not None:
            samples = post_processed(self.batches.samples, self._predicted(num_batches))
            judged = judge(self.evaluator, samples, known=values)
            values |= judged.numbers
            summaries |= judged.summaries
        if shows_something(self.model.model) and (first := self.batches.first_of_pass()):
            outputs = predict_with(self.network)(first.inputs)
            summaries |= show(self.model.model, first, outputs, known=[*values, *summaries])
        return Judged({f"{self.prefix}{name}": value for name, value in values.items()}, summaries)

    def _explain(self, name: str) -> None:
        """Name the first sample whose losses or metrics are not finite; once, as it costs another pass.

        Raises:
            UsageError: when its data are the reason.
        """
        if name in self._warned:
            return
        self._warned.add(name)
        for batch in self.batches.once():
            self.interrupt.check()
            row = first_non_finite_row(batch, self._values_of) if len(batch) else None
            if row is None:
                continue
            place = self.batches.samples.place(batch.indices[row])
            bad = find_bad_value(batch.rows(row, row + 1), self._values_of)
            if bad is None:
                logger.warning("%s is not a finite number; the first such sample is %s", name, place)
            elif self.skips_bad_data:
                logger.warning("%s is not a finite number. %s", name, bad.at(place))
            else:
                raise UsageError(f"{name} is not a finite number.\n{bad.at(place)}.")
            return
        logger.warning("%s is not a finite number, though it is for each sample alone", name)

    def _values_of(self, batch: Batch) -> Mapping[str, Any]:
        fed = as_fed(batch)
        outputs = self.model(fed, training=False)
        arguments = fed["inputs"], fed["targets"], outputs
        return {**self.model.model.loss(*arguments), **self.model.model.metrics(*arguments)}

    def _predicted(self, num_batches: int | None) -> Iterator[Sample]:
        def check(batch: Batch) -> None:
            self.interrupt.check()

        for batch, outputs in predictions(predict_with(self.network), self.batches, check, num_batches):
            yield from batch.samples(outputs)
