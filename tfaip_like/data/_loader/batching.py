"""Batches, and collation of samples: stacking of fixed shapes, padding of variable ones."""

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
"""Prefix of the exception note that names the sample."""


@dataclass(frozen=True)
class BadSample:
    """Sample whose processing failed."""

    index: int
    place: str
    """Human-readable description of the sample: its index and file."""
    reason: str


@dataclass(frozen=True)
class Batch:
    """Named arrays with a batch axis, and the metadata of their samples."""

    inputs: Arrays
    targets: Arrays
    weights: npt.NDArray[np.float32] | None = None
    """Loss weight of each sample, shape (batch,); None for 1."""
    meta: Sequence[Mapping[str, Any]] = ()
    indices: Sequence[int] = ()
    """Indices of the samples in the source."""
    bad: Sequence[BadSample] = ()
    """Samples that were skipped because their processing failed."""
    dropped: Sequence[DroppedSample] = ()
    """Samples that processors dropped."""

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def samples(self, outputs: Arrays) -> Iterator[Sample]:
        """Yield the samples of the batch with the given outputs, each of shape (batch, ...)."""
        for i in range(len(self)):
            yield Sample(
                inputs={name: array[i] for name, array in self.inputs.items()},
                targets={name: array[i] for name, array in self.targets.items()},
                outputs={name: array[i] for name, array in outputs.items()},
                meta=self.meta[i] if self.meta else {},
            )

    def rows(self, begin: int, end: int) -> Batch:
        """Return the samples from `begin` up to `end` as a batch, without bad and dropped samples."""

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
        """Reshape the arrays from (steps * size, ...) to (steps, size, ...)."""

        def cut(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return array.reshape(-1, size, *array.shape[1:])

        return replace(
            self,
            inputs={name: cut(array) for name, array in self.inputs.items()},
            targets={name: cut(array) for name, array in self.targets.items()},
            weights=None if self.weights is None else cut(self.weights),
        )

    def unstack(self) -> Iterator[Batch]:
        """Yield the batches of a stack."""
        for i in range(len(self)):
            yield Batch(
                {name: array[i] for name, array in self.inputs.items()},
                {name: array[i] for name, array in self.targets.items()},
                None if self.weights is None else self.weights[i],
            )

    def copy_to(self, out: Batch) -> Batch:
        """Copy the arrays to the first rows of others; return those rows, with the metadata of this batch."""
        written = out.rows(0, len(self))
        for name, array in self.inputs.items():
            written.inputs[name][...] = array
        for name, array in self.targets.items():
            written.targets[name][...] = array
        if self.weights is not None:
            assert written.weights is not None
            written.weights[...] = self.weights
        return replace(self, inputs=written.inputs, targets=written.targets, weights=written.weights)

    def nbytes(self) -> int:
        """Return the size of the inputs and targets in bytes."""
        return sum(array.nbytes for array in (*self.inputs.values(), *self.targets.values()))


def collate(samples: Sequence[Sample], inputs: Specs, targets: Specs) -> Batch:
    """Collate samples to a batch; axes of unknown length are padded at their end.

    Args:
        samples: samples of the batch, at least one.
        inputs: specification of each input.
        targets: specification of each target.

    Raises:
        UsageError: if an array does not match its specification; names the array, not the sample.
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
    """Return the targets of a sample, supplemented by its meta; see `get_target`."""
    return ChainMap(dict(sample.targets), dict(sample.meta)) if sample.meta else sample.targets


def _collate_arrays(kind: str, name: str, spec: Spec, named: Sequence[Mapping[str, Any]]) -> npt.NDArray[Any]:
    arrays = []
    for values in named:
        if name not in values:
            have = ", ".join(values) or "none"
            raise UsageError(f"{kind} {name!r} is missing (available: {have})")
        if error := spec.validation_error(values[name]):
            raise UsageError(f"{kind} {name!r} {error}")
        arrays.append(to_unmasked_array(values[name]))
    if spec.is_static:
        return np.stack(arrays).astype(spec.dtype, copy=False)
    shape = np.max([array.shape for array in arrays], axis=0)
    padded = np.full((len(arrays), *shape), spec.padding, dtype=spec.dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[tuple(slice(length) for length in array.shape)] = array
    return padded


def validate_sample(sample: Sample, where: str, inputs: Specs, targets: Specs) -> None:
    """Raise `UsageError` if a sample does not match its specification.

    Args:
        sample: processed sample.
        where: description of the sample, for the message.
        inputs: specification of each input.
        targets: specification of each target.
    """
    try:
        collate([sample], inputs, targets)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def add_sample_note(error: Exception, place: str) -> None:
    """Add a note that names the sample, unless the exception or one of its notes already does."""
    is_named = any(note.startswith(SAMPLE_NOTE_PREFIX) for note in getattr(error, "__notes__", ()))
    if not is_named and place not in str(error):
        error.add_note(f"{SAMPLE_NOTE_PREFIX} {place}.")
