"""Batches, and collation of samples: stacking of fixed shapes, padding of variable ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like.data._loader.dropped_samples import DroppedSample
from tfaip_like.data._sample import Arrays, Sample, Spec, to_text_array, to_unmasked_array

Specs = Mapping[str, Spec]
Allocator = Callable[[tuple[int, ...], np.dtype[Any]], npt.NDArray[Any]]
"""Function that returns an array of a shape and a dtype, with undefined values, like `numpy.empty`."""

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
        return self._select(slice(begin, end), self.meta[begin:end], self.indices[begin:end])

    def take(self, positions: npt.NDArray[np.int64]) -> Batch:
        """Return the samples at some positions as a batch, without bad and dropped samples."""
        numbers = positions.tolist()
        meta = [self.meta[number] for number in numbers] if self.meta else ()
        return self._select(positions, meta, [self.indices[number] for number in numbers])

    def _select(
        self, rows: slice | npt.NDArray[np.int64], meta: Sequence[Mapping[str, Any]], indices: Sequence[int]
    ) -> Batch:
        return Batch(
            inputs={name: array[rows] for name, array in self.inputs.items()},
            targets={name: array[rows] for name, array in self.targets.items()},
            weights=None if self.weights is None else self.weights[rows],
            meta=meta,
            indices=indices,
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
        weights = self.weights
        if weights is not None and written.weights is not None:
            written.weights[...] = weights
            weights = written.weights
        return replace(self, inputs=written.inputs, targets=written.targets, weights=weights)

    def with_metadata(self, batches: Sequence[Batch]) -> Batch:
        """Return the stack of some batches with their weights and their bad and dropped samples."""
        weights = [batch.weights for batch in batches if batch.weights is not None]
        return replace(
            self,
            weights=self.weights if self.weights is not None or not weights else np.stack(weights),
            bad=[bad for batch in batches for bad in batch.bad],
            dropped=[dropped for batch in batches for dropped in batch.dropped],
        )

    def nbytes(self) -> int:
        """Return the size of the inputs and targets in bytes."""
        return sum(array.nbytes for array in (*self.inputs.values(), *self.targets.values()))


def copy_to_stack(batches: Iterator[Batch], count: int, stack: Batch) -> Batch:
    """Copy batches of equal shape to the first rows of a stack.

    Args:
        batches: batches, of which the next `count` are taken.
        count: number of batches.
        stack: arrays of shape (at least `count`, batch size, ...).

    Returns:
        These rows of the stack.
    """
    rows = stack.rows(0, count)
    return rows.with_metadata([next(batches).copy_to(out) for out in rows.unstack()])


def allocate_stack(count: int, size: int, inputs: Specs, targets: Specs, allocate: Allocator) -> Batch:
    """Return `count` batches of `size` samples without unknown axes, stacked, with undefined values."""

    def make(specs: Specs) -> dict[str, npt.NDArray[Any]]:
        return {name: allocate((count, size, *spec.static_shape), spec.numpy_dtype) for name, spec in specs.items()}

    return Batch(make(inputs), make(targets))


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Return the samples of batches of equal names and shapes as one batch, without loss weights and meta."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        inputs={name: np.concatenate([batch.inputs[name] for batch in batches]) for name in batches[0].inputs},
        targets={name: np.concatenate([batch.targets[name] for batch in batches]) for name in batches[0].targets},
        indices=[index for batch in batches for index in batch.indices],
    )


def collate(
    samples: Sequence[Sample],
    inputs: Specs,
    targets: Specs,
    allocate: Allocator = np.empty,
    out: Batch | None = None,
) -> Batch:
    """Collate samples to a batch; axes of unknown length are padded at their end.

    Args:
        samples: samples of the batch, at least one.
        inputs: specification of each input.
        targets: specification of each target.
        allocate: allocates the arrays of the batch.
        out: batch to overwrite, of samples without unknown axes; by default a new one.

    Raises:
        UsageError: if an array does not match its specification; names the array, not the sample.
    """

    def make(kind: str, specs: Specs, outs: Arrays) -> dict[str, npt.NDArray[Any]]:
        arrays = {}
        for name, spec in specs.items():
            values = [_get_value(kind, name, sample) for sample in samples]
            arrays[name] = _collate_values(f"{kind} {name!r}", spec, values, allocate, outs.get(name))
        return arrays

    return Batch(
        make("input", inputs, {} if out is None else out.inputs),
        make("target", targets, {} if out is None else out.targets),
        meta=[sample.meta for sample in samples],
    )


def _get_value(kind: str, name: str, sample: Sample) -> Any:
    """Return an input, or a target or else the entry of the meta; see `get_target`."""
    values = sample.inputs if kind == "input" else sample.targets
    if name not in values:
        supplement = sample.meta if kind == "target" else {}
        if name in supplement:
            return supplement[name]
        have = ", ".join(dict.fromkeys([*values, *supplement])) or "none"
        raise UsageError(f"{kind} {name!r} is missing (available: {have})")
    return values[name]


def _collate_values(
    what: str, spec: Spec, values: list[Any], allocate: Allocator, out: npt.NDArray[Any] | None
) -> npt.NDArray[Any]:
    dtype, scalar, shape = spec.numpy_dtype, spec.numpy_dtype.type, spec.shape
    if spec.is_text:
        allocate = np.empty  # objects cannot lie in shared memory
    arrays = values
    # Arrays that are just what the specification says, as most are, need no further check or conversion.
    if spec.is_text or not all(
        (type(v) is np.ndarray or type(v) is scalar) and v.dtype == dtype and v.shape == shape for v in values
    ):
        arrays = [_validate_value(what, spec, value) for value in values]
    if spec.is_static:
        out = allocate((len(arrays), *spec.static_shape), dtype) if out is None else out
        _fill(out, arrays)
        return out
    longest: list[int] = np.max([array.shape for array in arrays], axis=0).tolist()
    out = allocate((len(arrays), *longest), dtype)
    out[...] = "" if spec.is_text else spec.padding
    for row, array in zip(out, arrays, strict=True):
        row[tuple(slice(length) for length in array.shape)] = array
    return out


def _validate_value(what: str, spec: Spec, value: Any) -> npt.NDArray[Any]:
    if error := spec.validation_error(value):
        raise UsageError(f"{what} {error}")
    array = to_unmasked_array(value)
    return to_text_array(array) if spec.is_text else array


def _fill(out: npt.NDArray[Any], arrays: list[npt.NDArray[Any]]) -> None:
    if any(array.dtype != out.dtype for array in arrays):
        # Different dtypes are promoted before they are converted.
        arrays = list(np.stack(arrays).astype(out.dtype, copy=False))
    if out.ndim == 1:
        out[:] = [array.item() for array in arrays] if out.dtype == object else arrays
    else:
        for row, array in zip(out, arrays, strict=True):
            row[...] = array


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
