"""The batches of a run, each a pure function of the seed and its number.

Training reads an endless stream: pass after pass over the samples, each in an order of its own, cut
into full batches. So a batch can be made from its number alone, at any place, in constant time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tfaip_like.data.batching import Batch, check_sample, collate
from tfaip_like.data.data import Data
from tfaip_like.data.source import ArraySource
from tfaip_like.errors import UsageError, article
from tfaip_like.sample import Mode, Sample, Spec, protected
from tfaip_like.settings import TrainData, ValData


class Samples:
    """The processed samples of one mode of a scenario's data."""

    def __init__(self, data: Data, source: Sequence[Sample], mode: Mode, seed: int, limit: int | None):
        self.data = data
        self.source = source
        self.mode = mode
        self.seed = seed
        self.length = len(source) if limit is None else min(limit, len(source))
        self.processors = [processor for processor in data.processors if mode in processor.modes]
        self.is_plain = isinstance(source, ArraySource) and not self.processors
        """Whether batches can be cut from arrays, without Python work per sample."""
        for name, spec in (*data.inputs.items(), *data.targets.items()):
            if not isinstance(spec, Spec):
                raise UsageError(f"{type(data).__name__}: {name!r} is {spec!r}; write Spec(shape, dtype)")
        check_sample(self.sample(0, 0), self._place(0), data.inputs, data.targets)
        if isinstance(source, ArraySource) and self.is_plain:
            self._check_arrays(source)

    def __len__(self) -> int:
        return self.length

    def sample(self, index: int, data_pass: int) -> Sample:
        """The sample at an index as the network sees it in the given pass over the data."""
        try:
            sample = self.source[index]
            if not isinstance(sample, Sample):
                kind = article(type(sample).__name__)
                raise UsageError(f"{self._place(index)} is {kind}; a source holds Sample(inputs=..., targets=...)")
            if self.processors:
                random = np.random.default_rng((self.seed, data_pass, index))
                sample = protected(sample)
                for processor in self.processors:
                    sample = processor.process(sample, random)
                    if not isinstance(sample, Sample):
                        returned = article(type(sample).__name__)
                        raise UsageError(f"{type(processor).__name__}.process returned {returned}, not a Sample")
        except Exception as error:
            error.add_note(f"This was {self._place(index)}.")
            raise
        return sample

    def batch(self, indices: npt.NDArray[np.int64], passes: npt.NDArray[np.int64]) -> Batch:
        """The batch of these samples, each in its pass.

        Raises:
            UsageError: for a sample that does not fit its specification; names its index.
        """
        if self.is_plain:
            return self._cut(indices)
        samples = [self.sample(int(index), int(data_pass)) for index, data_pass in zip(indices, passes, strict=True)]
        try:
            return collate(samples, self.data.inputs, self.data.targets)
        except UsageError:
            for index, sample in zip(indices, samples, strict=True):
                check_sample(sample, self._place(int(index)), self.data.inputs, self.data.targets)
            raise

    def _check_arrays(self, source: ArraySource) -> None:
        """All rows at once, because batches are cut from them without a further look."""
        for arrays, specs in ((source.inputs, self.data.inputs), (source.targets, self.data.targets)):
            for name, spec in specs.items():
                if problem := spec.problem_with_values(arrays[name]):
                    raise UsageError(f"{type(self.data).__name__}.source({self.mode}): {name!r} {problem}")

    def _cut(self, indices: npt.NDArray[np.int64]) -> Batch:
        assert isinstance(self.source, ArraySource)
        inputs, targets = self.source.rows(indices)
        return Batch(
            {name: inputs[name].astype(spec.dtype, copy=False) for name, spec in self.data.inputs.items()},
            {name: targets[name].astype(spec.dtype, copy=False) for name, spec in self.data.targets.items()},
        )

    def _place(self, index: int) -> str:
        kind = "training" if self.mode is Mode.TRAIN else "validation"
        return f"{kind} sample {index} of {type(self.data).__name__}"


class TrainBatches:
    """The endless stream of full training batches, by their step."""

    def __init__(self, samples: Samples, settings: TrainData, samples_per_epoch: int | None, seed: int):
        self.samples = samples
        self.batch_size = settings.batch_size
        self.shuffle = settings.shuffle
        self.seed = seed
        if samples_per_epoch is not None and samples_per_epoch < self.batch_size:
            raise UsageError(
                f"--trainer.samples_per_epoch {samples_per_epoch}: less than one batch (--train.batch_size "
                f"{self.batch_size})"
            )
        self.steps_per_epoch = max(1, (samples_per_epoch or len(samples)) // self.batch_size)
        self._orders: dict[int, npt.NDArray[np.int64]] = {}

    def batch(self, step: int) -> Batch:
        """The batch of the `step`-th step of the run, counted from 0."""
        return self.samples.batch(*self._positions(step, 1))

    def stacked(self, step: int, count: int) -> Batch:
        """`count` batches from `step` on as arrays with one more axis in front (plain samples only)."""
        batch = self.samples.batch(*self._positions(step, count))
        return Batch(
            {name: array.reshape(count, self.batch_size, *array.shape[1:]) for name, array in batch.inputs.items()},
            {name: array.reshape(count, self.batch_size, *array.shape[1:]) for name, array in batch.targets.items()},
        )

    def non_finite(self, step: int) -> str | None:
        """Where the data of a step hold NaN or infinity, in words; None if they do not."""
        batch = self.batch(step)
        indices, _ = self._positions(step, 1)
        for kind, arrays in (("input", batch.inputs), ("target", batch.targets)):
            for name, array in arrays.items():
                if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                    first = next(i for i, row in enumerate(array) if not np.isfinite(row).all())
                    return f"{kind} {name!r} of training sample {indices[first]}"
        return None

    def _positions(self, step: int, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Index and pass of each sample of `count` batches."""
        position = np.arange(step * self.batch_size, (step + count) * self.batch_size)
        passes, places = np.divmod(position, len(self.samples))
        if not self.shuffle:
            return places, passes
        indices = places.copy()
        for data_pass in np.unique(passes):
            now = passes == data_pass
            indices[now] = self._order(int(data_pass))[places[now]]
        return indices, passes

    def _order(self, data_pass: int) -> npt.NDArray[np.int64]:
        """The order of the samples in one pass; the last two are kept, since a batch may lie in both."""
        if data_pass not in self._orders:
            while len(self._orders) > 1:
                del self._orders[next(iter(self._orders))]
            self._orders[data_pass] = np.random.default_rng((self.seed, data_pass)).permutation(len(self.samples))
        return self._orders[data_pass]


class ValBatches:
    """The validation batches: every sample once, in order; the last batch may be smaller."""

    def __init__(self, samples: Samples, settings: ValData):
        self.samples = samples
        self.batch_size = settings.batch_size
        self.steps = -(-len(samples) // self.batch_size)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        indices = np.arange(step * self.batch_size, min((step + 1) * self.batch_size, len(self.samples)))
        return self.samples.batch(indices, np.zeros_like(indices))

    def __iter__(self) -> Iterator[Batch]:
        return (self.batch(step) for step in range(self.steps))


def open_training(data: Data, settings: TrainData, samples_per_epoch: int | None, seed: int) -> TrainBatches:
    """Opens the training data.

    Raises:
        UsageError: when there is none, or its first sample does not fit its specification.
    """
    source = _source(data, Mode.TRAIN)
    if not source:
        raise UsageError(f"{type(data).__name__}.source({Mode.TRAIN}) has no samples to train on")
    samples = Samples(data, source, Mode.TRAIN, seed, settings.limit)
    return TrainBatches(samples, settings, samples_per_epoch, seed)


def open_validation(data: Data, settings: ValData, seed: int) -> ValBatches | None:
    """Opens the validation data; None if the scenario has none."""
    source = _source(data, Mode.EVALUATE)
    if not source:
        return None
    return ValBatches(Samples(data, source, Mode.EVALUATE, seed, settings.limit), settings)


def _source(data: Data, mode: Mode) -> Sequence[Sample] | None:
    source = data.source(mode)
    if source is None or (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        return source
    raise UsageError(
        f"{type(data).__name__}.source({mode}) returned a {type(source).__name__}; it must have a length and an "
        "index: a list of Sample, an ArraySource, or a class of your own with __len__ and __getitem__"
    )
