"""`Predictor`: inference with one export or an ensemble of exports."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

from tfaip_like._export.exported_model import ExportedModel
from tfaip_like._utils.errors import UsageError
from tfaip_like.data import ArraySource, LoaderSettings, Pipeline, PredictLoaderSettings
from tfaip_like.data._loader.bad_samples import BadSampleLog
from tfaip_like.data._loader.batching import Batch, collate, validate_sample
from tfaip_like.data._loader.loader import DataLoader, no_check
from tfaip_like.data._loader.postprocessing import apply_postprocessors
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._sample import Arrays, Mode, Sample
from tfaip_like.data._settings import BaseLoaderSettings
from tfaip_like.evaluation._evaluation import locate_sample_errors
from tfaip_like.modeling._voting import Mean, Voter
from tfaip_like.params._base import field_types

logger = logging.getLogger(__name__)

SampleLike: TypeAlias = Sample | Mapping[str, Any]
"""Sample to predict, or its inputs by name."""


@dataclass(frozen=True)
class PredictedBatch:
    """Batch with its outputs, before postprocessing."""

    batch: Batch
    outputs: Arrays

    def samples(self) -> Iterator[Sample]:
        """Yield the samples; `index` in their meta is the index in the source."""
        for index, sample in zip(self.batch.indices, self.batch.samples(self.outputs), strict=True):
            yield Sample(sample.inputs, sample.targets, sample.outputs, {"index": index, **sample.meta})


class Predictor:
    """Inference pipeline: processors, one network or an ensemble, postprocessors.

    Created by `load_predictor`.

    Args:
        exports: Exports of networks with the same inputs.
        pipeline: Processors and postprocessors.
        voter: Rule that combines the outputs of several networks; `Mean` by default.

    Example::

        predictor = load_predictor("runs/tutorial")
        for sample in predictor({"image": images}):
            print(sample.outputs["class"])
    """

    def __init__(self, exports: Sequence[ExportedModel], pipeline: Pipeline, voter: Voter | None = None):
        self.exports = exports
        self.pipeline = pipeline
        self.voter = voter or Mean()
        self.seconds = [0.0] * len(exports)
        """Total computing time of each network in seconds."""
        self._single_sample_reader = SampleReader(pipeline, (), Mode.PREDICT, seed=0)

    def __call__(
        self, samples: Iterable[SampleLike] | Arrays, settings: PredictLoaderSettings | None = None
    ) -> Iterator[Sample]:
        """Yield the predicted samples in the order of `samples`, without those that a processor dropped.

        Samples are read lazily, so an unlimited stream can be predicted.

        Args:
            samples: Samples or named inputs (a list, a generator, any `Source`), or named arrays of shape
                (num_samples, ...).
            settings: Batch size and number of workers.

        Raises:
            UsageError: If a sample does not match the inputs of the network.
        """
        if _is_empty(samples):
            return
        batches = self.make_data_loader(samples, settings or PredictLoaderSettings())
        with closing(batches):
            yield from self.iter_predictions(batches)

    def one(self, sample: SampleLike) -> Sample:
        """Return one sample, predicted immediately in this process.

        Args:
            sample: Sample, or its inputs by name, without a batch axis.

        Raises:
            UsageError: If it does not match the inputs of the network, or a processor drops it.
        """
        reader = self._single_sample_reader
        if reader.is_stream:
            raise UsageError(
                "the pipeline contains a StreamProcessor: use predictor(samples) instead of predictor.one(sample)"
            )
        processed = reader.apply_processors(as_sample(sample), (0, 0, 0))
        if processed is None:
            (dropped,) = reader.pop_dropped()
            reason = f": {dropped.reason}" if dropped.reason else ""
            raise UsageError(f"the processor {dropped.stage} dropped the sample{reason}")
        validate_sample(processed, "the sample", reader.inputs, {})
        batch = collate([processed], reader.inputs, {})
        predicted = list(apply_postprocessors(reader, enumerate(batch.samples(self.predict_batch(batch)))))
        if not predicted:
            raise UsageError("a postprocessor dropped the sample")
        return predicted[0]

    def predict_batch(self, batch: Batch) -> Arrays:
        """Return the combined outputs of the networks for a processed batch."""
        return self.outputs(batch.inputs)

    def outputs(self, inputs: Arrays) -> Arrays:
        """Return the combined outputs of the networks.

        Args:
            inputs: Processed inputs by name, each of shape (batch, ...).
        """
        outputs = []
        for number, exported in enumerate(self.exports):
            begin = time.perf_counter()
            outputs.append(exported(inputs))
            self.seconds[number] += time.perf_counter() - begin
        return self.voter.vote(outputs) if len(outputs) > 1 else outputs[0]

    def make_data_loader(
        self,
        samples: Iterable[SampleLike] | Arrays,
        settings: PredictLoaderSettings,
        check: Callable[[], None] = no_check,
    ) -> DataLoader:
        """Return a data loader over the samples; the caller must close it.

        Args:
            samples: See `__call__`.
            settings: Batch size and number of workers.
            check: Called while waiting for data workers; may raise to stop.

        Raises:
            UsageError: If there are no samples.
        """
        if _is_empty(samples):
            raise UsageError("no samples to predict")
        source = self._source(samples)
        values = {name: getattr(settings, name) for name in field_types(BaseLoaderSettings)}
        batches = DataLoader(self.pipeline, source, LoaderSettings(**values), Mode.PREDICT, 0, "predict", None, check)
        if batches.num_batches:
            batches.auto_select_num_workers(batches.num_batches)
        return batches

    def iter_predictions(
        self, batches: DataLoader, on_batch: Callable[[Batch], None] | None = None
    ) -> Iterator[Sample]:
        """Yield the predicted and postprocessed samples of a data loader.

        Args:
            batches: Data loader.
            on_batch: See `predict_batches`.
        """
        indexed = (
            (index, sample)
            for predicted in self.predict_batches(batches, on_batch)
            for index, sample in zip(predicted.batch.indices, predicted.samples(), strict=True)
        )
        return apply_postprocessors(batches.samples, indexed, batches.dropped)

    def _source(self, samples: Iterable[SampleLike] | Arrays) -> Any:
        if isinstance(samples, Mapping):
            return ArraySource(samples)
        return samples if isinstance(samples, ArraySource) else as_source(samples)

    def predict_batches(
        self, batches: DataLoader, on_batch: Callable[[Batch], None] | None = None
    ) -> Iterator[PredictedBatch]:
        """Yield each non-empty batch with its outputs, before postprocessing.

        Args:
            batches: Data loader.
            on_batch: Called with each batch before its prediction, also for empty batches; may raise to stop.
        """
        bad_samples = BadSampleLog(None, self.pipeline.max_bad_samples)

        for batch in batches.iter_pass():
            bad_samples.record(batch.bad)
            if on_batch is not None:
                on_batch(batch)
            if len(batch):
                with locate_sample_errors(batch, batches):
                    outputs = self.predict_batch(batch)
                yield PredictedBatch(batch, outputs)
        bad_samples.log_summary()


def _is_empty(samples: Iterable[SampleLike] | Arrays) -> bool:
    if isinstance(samples, Mapping):
        return bool(samples) and all(len(array) == 0 for array in samples.values())
    return isinstance(samples, Sized) and len(samples) == 0


def as_source(samples: Iterable[SampleLike], transform: Callable[[Sample], Sample] | None = None) -> Any:
    """Return samples as a source, which is random-access if they are.

    Args:
        samples: Samples or named inputs.
        transform: Function applied to each sample; a top-level function, which data workers can import.
    """
    transform = transform or identity
    is_random_access = hasattr(samples, "__len__") and hasattr(samples, "__getitem__")
    return _IndexedSource(samples, transform) if is_random_access else _IterableSource(samples, transform)


def identity(sample: Sample) -> Sample:
    """Return the sample unchanged."""
    return sample


class _IterableSource:
    """Source of the samples of an iterable."""

    def __init__(self, samples: Iterable[SampleLike], transform: Callable[[Sample], Sample]):
        self._samples = samples
        self._transform = transform

    def __iter__(self) -> Iterator[Sample]:
        return (self._transform(as_sample(sample)) for sample in self._samples)


class _IndexedSource:
    """Source of the samples of a sequence."""

    def __init__(self, samples: Any, transform: Callable[[Sample], Sample]):
        self._samples = samples
        self._transform = transform
        if describe := getattr(samples, "describe", None):
            self.describe = describe

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._transform(as_sample(self._samples[index]))


def as_sample(sample: SampleLike) -> Sample:
    """Return a sample, or named inputs as a sample."""
    return sample if isinstance(sample, Sample) else Sample(inputs=sample)
