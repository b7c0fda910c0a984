"""`Predictor`: predicts samples with one export or several."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

from tfaip_like._export.exported import Exported
from tfaip_like._export.pipeline import Pipeline
from tfaip_like._utils.errors import UsageError
from tfaip_like.data import ArraySource, DataSettings, PredictData
from tfaip_like.data._loader.bad_samples import BadSamples
from tfaip_like.data._loader.batching import Batch, check_sample, collate
from tfaip_like.data._loader.loader import Batches, no_check
from tfaip_like.data._loader.sample_reader import Samples, post_processed
from tfaip_like.data._sample import Arrays, Mode, Sample
from tfaip_like.data._settings import BatchSettings
from tfaip_like.evaluation._evaluation import naming_samples
from tfaip_like.modeling._voter import Voter
from tfaip_like.modeling._voting import Mean
from tfaip_like.params._base import field_types

logger = logging.getLogger(__name__)

Given: TypeAlias = Sample | Mapping[str, Any]
"""A sample to predict, or its named inputs."""


@dataclass(frozen=True)
class Predicted:
    """A batch with its outputs, before it is post-processed."""

    batch: Batch
    outputs: Arrays

    def samples(self) -> Iterator[Sample]:
        """Its samples one by one; `index` in their meta says which one of the source each is."""
        for index, sample in zip(self.batch.indices, self.batch.samples(self.outputs), strict=True):
            yield Sample(sample.inputs, sample.targets, sample.outputs, {"index": index, **sample.meta})


class Predictor:
    """Predicts samples: the processors of a pipeline, one network or several that vote, the post-processors.

    Args:
        exports: of networks with the same inputs.
        pipeline: what is done to samples.
        voter: makes one prediction of several.
    """

    def __init__(self, exports: Sequence[Exported], pipeline: Pipeline, voter: Voter | None = None):
        self.exports = exports
        self.pipeline = pipeline
        self.voter = voter or Mean()
        self.seconds = [0.0] * len(exports)
        """How long each network has computed so far."""
        self._alone = Samples(pipeline, (), Mode.PREDICT, seed=0)

    def __call__(self, samples: Iterable[Given] | Arrays, settings: PredictData | None = None) -> Iterator[Sample]:
        """Predicted samples, in the order of `samples`; without those that a processor dropped.

        They are read a little ahead only, so there may be any number of them.

        Args:
            samples: samples or named inputs: a list, a generator, any `Source`; or arrays whose rows are samples.
            settings: how they are made into batches.

        Raises:
            UsageError: for a sample that does not fit the network.
        """
        if _is_empty(samples):
            return
        batches = self.batches_of(samples, settings or PredictData())
        with closing(batches):
            yield from self.finished(batches)

    def one(self, sample: Given) -> Sample:
        """One sample, predicted at once.

        Raises:
            UsageError: when it does not fit the network, or a processor drops it.
        """
        if self._alone.is_stream:
            raise UsageError("the pipeline makes many samples of one: predict a list with it")
        made = self._alone.processed(as_sample(sample), (0, 0, 0))
        if made is None:
            (dropped,) = self._alone.take_dropped()
            reason = f": {dropped.reason}" if dropped.reason else ""
            raise UsageError(f"the processor {dropped.stage} dropped the sample{reason}")
        check_sample(made, "the sample", self._alone.inputs, {})
        batch = collate([made], self._alone.inputs, {})
        found = list(post_processed(self._alone, enumerate(batch.samples(self.outputs_of(batch)))))
        if not found:
            raise UsageError("a post-processor dropped the sample")
        return found[0]

    def outputs_of(self, batch: Batch) -> Arrays:
        """What the networks say of a processed batch, together."""
        return self.outputs(batch.inputs)

    def outputs(self, inputs: Arrays) -> Arrays:
        """What the networks say of processed inputs, together."""
        found = []
        for number, exported in enumerate(self.exports):
            begin = time.perf_counter()
            found.append(exported(inputs))
            self.seconds[number] += time.perf_counter() - begin
        return self.voter.vote(found) if len(found) > 1 else found[0]

    def batches_of(
        self,
        samples: Iterable[Given] | Arrays,
        settings: PredictData,
        check: Callable[[], None] = no_check,
    ) -> Batches:
        """The batches of samples; to be closed.

        Args:
            check: called while waiting for data processes; raises to stop.
        """
        if _is_empty(samples):
            raise UsageError("there is no sample to predict")
        source = self._source(samples)
        values = {name: getattr(settings, name) for name in field_types(BatchSettings)}
        batches = Batches(self.pipeline, source, DataSettings(**values), Mode.PREDICT, 0, "predict", None, check)
        if batches.steps:
            batches.decide_processes(batches.steps)
        return batches

    def finished(self, batches: Batches, each_batch: Callable[[Batch], None] | None = None) -> Iterator[Sample]:
        """The samples of batches, predicted and post-processed."""
        parts = self.predicted(batches, each_batch)
        predicted = (pair for part in parts for pair in zip(part.batch.indices, part.samples(), strict=True))
        return post_processed(batches.samples, predicted, batches.dropped)

    def _source(self, samples: Iterable[Given] | Arrays) -> Any:
        if isinstance(samples, Mapping):
            return ArraySource(samples)
        return samples if isinstance(samples, ArraySource) else given_samples(samples)

    def predicted(self, batches: Batches, each_batch: Callable[[Batch], None] | None = None) -> Iterator[Predicted]:
        """Each batch with its outputs, not yet post-processed.

        Args:
            each_batch: is shown each batch before it is predicted, also an empty one; may raise to stop.
        """
        bad_samples = BadSamples(None, self.pipeline.max_bad_samples)

        def note(batch: Batch) -> None:
            bad_samples.note(batch.bad)
            if each_batch is not None:
                each_batch(batch)

        for batch in batches.once():
            note(batch)
            if len(batch):
                with naming_samples(batch, batches):
                    outputs = self.outputs_of(batch)
                yield Predicted(batch, outputs)
        bad_samples.tell()


def _is_empty(samples: Iterable[Given] | Arrays) -> bool:
    if isinstance(samples, Mapping):
        return bool(samples) and all(len(array) == 0 for array in samples.values())
    return isinstance(samples, Sized) and len(samples) == 0


def given_samples(given: Iterable[Given], change: Callable[[Sample], Sample] | None = None) -> Any:
    """Samples as a source: by index, where they have one.

    Args:
        change: what is done to each; a function at the top of a module, for data processes.
    """
    change = change or as_it_is
    has_index = hasattr(given, "__len__") and hasattr(given, "__getitem__")
    return _GivenByIndex(given, change) if has_index else _GivenOnce(given, change)


def as_it_is(sample: Sample) -> Sample:
    """The sample."""
    return sample


class _GivenOnce:
    """Samples of any iterable."""

    def __init__(self, given: Iterable[Given], change: Callable[[Sample], Sample]):
        self._given = given
        self._change = change

    def __iter__(self) -> Iterator[Sample]:
        return (self._change(as_sample(given)) for given in self._given)


class _GivenByIndex:
    """Samples of a sequence."""

    def __init__(self, given: Any, change: Callable[[Sample], Sample]):
        self._given = given
        self._change = change
        if describe := getattr(given, "describe", None):
            self.describe = describe

    def __len__(self) -> int:
        return len(self._given)

    def __getitem__(self, index: int) -> Sample:
        return self._change(as_sample(self._given[index]))


def as_sample(given: Given) -> Sample:
    """A sample, or named inputs as one."""
    return given if isinstance(given, Sample) else Sample(inputs=given)
