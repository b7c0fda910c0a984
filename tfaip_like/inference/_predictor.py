"""`Predictor`: predicts samples with one export or several."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

from tfaip_like._export.exported_model import ExportedModel
from tfaip_like._export.pipeline import Pipeline
from tfaip_like._utils.errors import UsageError
from tfaip_like.data import ArraySource, LoaderSettings, PredictLoaderSettings
from tfaip_like.data._loader.bad_samples import BadSampleLog
from tfaip_like.data._loader.batching import Batch, collate, validate_sample
from tfaip_like.data._loader.loader import DataLoader, no_check
from tfaip_like.data._loader.sample_reader import SampleReader, apply_postprocessors
from tfaip_like.data._sample import Arrays, Mode, Sample
from tfaip_like.data._settings import BaseLoaderSettings
from tfaip_like.evaluation._evaluation import locate_sample_errors
from tfaip_like.modeling._voter import Voter
from tfaip_like.modeling._voting import Mean
from tfaip_like.params._base import field_types

logger = logging.getLogger(__name__)

SampleLike: TypeAlias = Sample | Mapping[str, Any]
"""A sample to predict, or its named inputs."""


@dataclass(frozen=True)
class PredictedBatch:
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

    def __init__(self, exports: Sequence[ExportedModel], pipeline: Pipeline, voter: Voter | None = None):
        self.exports = exports
        self.pipeline = pipeline
        self.voter = voter or Mean()
        self.seconds = [0.0] * len(exports)
        """How long each network has computed so far."""
        self._single_sample_reader = SampleReader(pipeline, (), Mode.PREDICT, seed=0)

    def __call__(
        self, samples: Iterable[SampleLike] | Arrays, settings: PredictLoaderSettings | None = None
    ) -> Iterator[Sample]:
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
        batches = self.make_data_loader(samples, settings or PredictLoaderSettings())
        with closing(batches):
            yield from self.iter_predictions(batches)

    def one(self, sample: SampleLike) -> Sample:
        """One sample, predicted at once.

        Raises:
            UsageError: when it does not fit the network, or a processor drops it.
        """
        if self._single_sample_reader.is_stream:
            raise UsageError("the pipeline makes many samples of one: predict a list with it")
        made = self._single_sample_reader.apply_processors(as_sample(sample), (0, 0, 0))
        if made is None:
            (dropped,) = self._single_sample_reader.pop_dropped()
            reason = f": {dropped.reason}" if dropped.reason else ""
            raise UsageError(f"the processor {dropped.stage} dropped the sample{reason}")
        validate_sample(made, "the sample", self._single_sample_reader.inputs, {})
        batch = collate([made], self._single_sample_reader.inputs, {})
        found = list(
            apply_postprocessors(self._single_sample_reader, enumerate(batch.samples(self.predict_batch(batch))))
        )
        if not found:
            raise UsageError("a post-processor dropped the sample")
        return found[0]

    def predict_batch(self, batch: Batch) -> Arrays:
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

    def make_data_loader(
        self,
        samples: Iterable[SampleLike] | Arrays,
        settings: PredictLoaderSettings,
        check: Callable[[], None] = no_check,
    ) -> DataLoader:
        """The batches of samples; to be closed.

        Args:
            check: called while waiting for data processes; raises to stop.
        """
        if _is_empty(samples):
            raise UsageError("there is no sample to predict")
        source = self._source(samples)
        values = {name: getattr(settings, name) for name in field_types(BaseLoaderSettings)}
        batches = DataLoader(self.pipeline, source, LoaderSettings(**values), Mode.PREDICT, 0, "predict", None, check)
        if batches.num_batches:
            batches.auto_select_num_workers(batches.num_batches)
        return batches

    def iter_predictions(
        self, batches: DataLoader, on_batch: Callable[[Batch], None] | None = None
    ) -> Iterator[Sample]:
        """The samples of batches, predicted and post-processed."""
        parts = self.predicted(batches, on_batch)
        predicted = (pair for part in parts for pair in zip(part.batch.indices, part.samples(), strict=True))
        return apply_postprocessors(batches.samples, predicted, batches.dropped)

    def _source(self, samples: Iterable[SampleLike] | Arrays) -> Any:
        if isinstance(samples, Mapping):
            return ArraySource(samples)
        return samples if isinstance(samples, ArraySource) else as_source(samples)

    def predicted(
        self, batches: DataLoader, on_batch: Callable[[Batch], None] | None = None
    ) -> Iterator[PredictedBatch]:
        """Each batch with its outputs, not yet post-processed.

        Args:
            on_batch: is shown each batch before it is predicted, also an empty one; may raise to stop.
        """
        bad_samples = BadSampleLog(None, self.pipeline.max_bad_samples)

        def note(batch: Batch) -> None:
            bad_samples.record(batch.bad)
            if on_batch is not None:
                on_batch(batch)

        for batch in batches.iter_pass():
            note(batch)
            if len(batch):
                with locate_sample_errors(batch, batches):
                    outputs = self.predict_batch(batch)
                yield PredictedBatch(batch, outputs)
        bad_samples.log_summary()


def _is_empty(samples: Iterable[SampleLike] | Arrays) -> bool:
    if isinstance(samples, Mapping):
        return bool(samples) and all(len(array) == 0 for array in samples.values())
    return isinstance(samples, Sized) and len(samples) == 0


def as_source(given: Iterable[SampleLike], transform: Callable[[Sample], Sample] | None = None) -> Any:
    """Samples as a source: by index, where they have one.

    Args:
        transform: what is done to each; a function at the top of a module, for data processes.
    """
    transform = transform or identity
    has_index = hasattr(given, "__len__") and hasattr(given, "__getitem__")
    return _IndexedSource(given, transform) if has_index else _IterableSource(given, transform)


def identity(sample: Sample) -> Sample:
    """The sample."""
    return sample


class _IterableSource:
    """Samples of any iterable."""

    def __init__(self, given: Iterable[SampleLike], transform: Callable[[Sample], Sample]):
        self._samples = given
        self._transform = transform

    def __iter__(self) -> Iterator[Sample]:
        return (self._transform(as_sample(given)) for given in self._samples)


class _IndexedSource:
    """Samples of a sequence."""

    def __init__(self, given: Any, transform: Callable[[Sample], Sample]):
        self._samples = given
        self._transform = transform
        if describe := getattr(given, "describe", None):
            self.describe = describe

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._transform(as_sample(self._samples[index]))


def as_sample(given: SampleLike) -> Sample:
    """A sample, or named inputs as one."""
    return given if isinstance(given, Sample) else Sample(inputs=given)
