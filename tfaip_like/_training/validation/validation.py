"""Validation: how good the network is on samples it was not trained on."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import keras

from tfaip_like._keras_ext.ranges import check_width
from tfaip_like._training.callbacks import logged_values
from tfaip_like._training.steps.training_model import TrainingModel, as_fed
from tfaip_like._training.steps.validation_step import Step, make_validation_step
from tfaip_like._training.validation.examples import Examples
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like.data._loader.bad_samples import BadSamples
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import Batches
from tfaip_like.data._loader.sample_reader import post_processed
from tfaip_like.data._sample import Arrays, Sample
from tfaip_like.evaluation._bad_values import find_bad_value, first_non_finite_row
from tfaip_like.evaluation._evaluation import Judged, judge, show, shows_something
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.modeling._model import Tensors
from tfaip_like.modeling._network import predict_with
from tfaip_like.summaries import Summary

logger = logging.getLogger(__name__)

Stepped: TypeAlias = tuple[Batch, Tensors]
"""A batch that was validated, and the outputs of the training network."""


@dataclass(frozen=True)
class Validation:
    """Losses and metrics of the training network, and the evaluator's numbers of the prediction network.

    Each sample is read, processed and predicted once.
    """

    model: TrainingModel
    network: keras.Model
    """That predicts; often it is that of `model`."""
    batches: Batches
    bad_samples: BadSamples
    evaluator: Evaluator | None
    examples: Examples
    interrupt: InterruptFlag
    skips_bad_data: bool = False
    """Warn of samples without a finite loss even where their data are the reason (`--trainer.on_nan skip`)."""
    prefix: str = "val_"
    _warned: set[str] = field(default_factory=set)
    _steps: dict[bool | str, Step] = field(default_factory=dict)
    """By how they are compiled, which may change when XLA cannot compile the model."""

    def __call__(self, num_batches: int | None = None) -> Judged:
        """Return named numbers, each with the prefix in front, and summaries.

        Args:
            num_batches: validate on the first batches only, as a trial.
        """
        self.model.reset_metrics()
        first: list[tuple[Batch, Arrays]] = []
        stepped = self._stepped(num_batches, first)
        samples = self.examples.of(self._finished(stepped), is_trial=num_batches is not None)
        known = ["loss", *self.model.loss_trackers, *self.model.metric_trackers]
        judged = Judged({})
        if self.evaluator is not None:
            judged = judge(self.evaluator, samples, known)
        for _ in itertools.islice(samples, self.examples.left()):
            pass
        for _ in stepped:  # what nobody has asked for
            pass
        values = self._values(is_empty=not first)
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            self._explain(f"{self.prefix}{bad[0]}")
        summaries: dict[str, Summary] = dict(judged.summaries)
        values |= judged.numbers
        if shows_something(self.model.model):
            summaries |= show(self.model.model, *first[0], known=[*values, *summaries])
        return Judged({f"{self.prefix}{name}": value for name, value in values.items()}, summaries)

    def _stepped(self, num_batches: int | None, first: list[tuple[Batch, Arrays]]) -> Iterator[Stepped]:
        """Validate batch by batch.

        Args:
            first: gets the first batch with its prediction.
        """
        step = self._step()
        for batch in itertools.islice(self.batches.once(), num_batches):
            self.bad_samples.note(batch.bad)
            if len(batch):
                check_width("input", batch.inputs)
                check_width("target", batch.targets)
                outputs = step(as_fed(batch))
                if not first:
                    first.append((batch, self._predicted(batch, outputs)))
                yield batch, outputs
            self.interrupt.reach("validation")
            self.interrupt.check()

    def _finished(self, stepped: Iterator[Stepped]) -> Iterator[Sample]:
        """Yield predicted samples after the post-processors."""
        indexed = (
            pair
            for batch, outputs in stepped
            for pair in zip(batch.indices, batch.samples(self._predicted(batch, outputs)), strict=True)
        )
        return post_processed(self.batches.samples, indexed, self.batches.dropped)

    def _predicted(self, batch: Batch, outputs: Tensors) -> Arrays:
        if self.network is self.model.network:
            return {name: keras.ops.convert_to_numpy(output) for name, output in outputs.items()}
        return predict_with(self.network)(batch.inputs)

    def _step(self) -> Step:
        key = self.model.jit_compile
        if key not in self._steps:
            samples = self.batches.samples
            self._steps[key] = make_validation_step(self.model, samples.inputs, samples.targets)
        return self._steps[key]

    def _values(self, is_empty: bool) -> dict[str, float]:
        if is_empty:
            raise UsageError("no sample is left to validate on: all of them were dropped or bad")
        return logged_values({metric.name: metric.result() for metric in self.model.metrics})

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
