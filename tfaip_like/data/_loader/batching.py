"""Samples to batches: stacked where shapes are fixed, padded where they are not."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._loader.dropped_samples import DroppedSample
from tfaip_like.data._sample import Arrays, Sample, Spec, to_unmasked_array

Specs = Mapping[str, Spec]

SAMPLE_NOTE_PREFIX = "This was"
"""Prefix of the note that names the sample of an exception."""


@dataclass(frozen=True)
class BadSample:
    """A sample that could not be made."""

    index: int
    place: str
    """Which one it is, for a person: its number, its file."""
    reason: str


@dataclass(frozen=True)
class Batch:
    """Named arrays with a batch axis, and the samples' meta."""

    inputs: Arrays
    targets: Arrays
    weights: npt.NDArray[np.float32] | None = None
    """How much the loss of each sample counts; None for 1."""
    meta: Sequence[Mapping[str, Any]] = ()
    indices: Sequence[int] = ()
    """Of its samples in the source."""
    bad: Sequence[BadSample] = ()
    """Samples that were left out because they could not be made."""
    dropped: Sequence[DroppedSample] = ()
    """Samples that processors dropped."""

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def samples(self, outputs: Arrays) -> Iterator[Sample]:
        """Its samples one by one, with the outputs of the network for this batch."""
        for i in range(len(self)):
            yield Sample(
                inputs={name: array[i] for name, array in self.inputs.items()},
                targets={name: array[i] for name, array in self.targets.items()},
                outputs={name: array[i] for name, array in outputs.items()},
                meta=self.meta[i] if self.meta else {},
            )

    def rows(self, begin: int, end: int) -> Batch:
        """Return a batch of some of its samples, without what was left out of it."""

        def cut(arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
            return {name: array[begin:end] for name, array in arrays.items()}

        return Batch(
            inputs=cut(self.inputs),
            targets=cut(self.targets),
            weights=None if self.weights is None else self.weights[begin:end],
            meta=self.meta[begin:end],
            indices=self.indices[begin:end],
        )

    def split_into_steps(self, size: int) -> Batch:
        """Its samples as batches of `size`: arrays with one more axis in front."""

        def cut(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return array.reshape(-1, size, *array.shape[1:])

        return replace(
            self,
            inputs={name: cut(array) for name, array in self.inputs.items()},
            targets={name: cut(array) for name, array in self.targets.items()},
            weights=None if self.weights is None else cut(self.weights),
        )

    def unstack(self) -> Iterator[Batch]:
        """The batches that `cut` put together."""
        for i in range(len(self)):
            yield Batch(
                {name: array[i] for name, array in self.inputs.items()},
                {name: array[i] for name, array in self.targets.items()},
                None if self.weights is None else self.weights[i],
            )

    def zero_pad_to(self, length: int) -> Batch:
        """Its arrays with as many zeros behind them as make their first axis so long."""

        def fill(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            if len(array) == length:
                return array
            filled = np.zeros((length, *array.shape[1:]), array.dtype)
            filled[: len(array)] = array
            return filled

        return replace(
            self,
            inputs={name: fill(array) for name, array in self.inputs.items()},
            targets={name: fill(array) for name, array in self.targets.items()},
            weights=None if self.weights is None else fill(self.weights),
        )

    def nbytes(self) -> int:
        """Size of its arrays."""
        return sum(array.nbytes for array in (*self.inputs.values(), *self.targets.values()))


def collate(samples: Sequence[Sample], inputs: Specs, targets: Specs) -> Batch:
    """A batch of samples; arrays with an axis of unknown length are padded at their end.

    Raises:
        UsageError: when a sample does not fit its specification; names the array, not the sample.
    """
    return Batch(
        inputs={
            name: _collate_arrays("input", name, spec, [sample.inputs for sample in samples])
            for name, spec in inputs.items()
        },
        targets={
            name: _collate_arrays("target", name, spec, [_with_meta(sample) for sample in samples])
            for name, spec in targets.items()
        },
        meta=[sample.meta for sample in samples],
    )


def _with_meta(sample: Sample) -> Mapping[str, Any]:
    """Return the targets of a sample, and what of its meta may be declared as one; see `target_of`."""
    return ChainMap(dict(sample.targets), dict(sample.meta)) if sample.meta else sample.targets


def _collate_arrays(kind: str, name: str, spec: Spec, named: Sequence[Mapping[str, Any]]) -> npt.NDArray[Any]:
    arrays = []
    for values in named:
        if name not in values:
            have = ", ".join(values) or "none"
            raise UsageError(f"{kind} {name!r} is missing (the sample has {have})")
        if problem := spec.validation_error(values[name]):
            raise UsageError(f"{kind} {name!r} {problem}")
        arrays.append(to_unmasked_array(values[name]))
    if spec.is_static:
        return np.stack(arrays).astype(spec.dtype, copy=False)
    shape = np.max([array.shape for array in arrays], axis=0)
    joined = np.full((len(arrays), *shape), spec.padding, dtype=spec.dtype)
    for row, array in zip(joined, arrays, strict=True):
        row[tuple(slice(length) for length in array.shape)] = array
    return joined


def validate_sample(sample: Sample, where: str, inputs: Specs, targets: Specs) -> None:
    """Raises `UsageError` when a sample does not fit its specification, with its place and what is wrong."""
    try:
        collate([sample], inputs, targets)
    except UsageError as problem:
        raise UsageError(f"{where}: {problem}") from problem


def add_sample_note(error: Exception, place: str) -> None:
    """Note which sample an exception is about, unless it says so itself or somebody nearer to the sample has."""
    is_named = any(note.startswith(SAMPLE_NOTE_PREFIX) for note in getattr(error, "__notes__", ()))
    if not is_named and place not in str(error):
        error.add_note(f"{SAMPLE_NOTE_PREFIX} {place}.")
