"""Validation of the first sample, and of array-backed data as a whole, before a training."""

from __future__ import annotations

import numpy as np

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import UsageError
from tfaip_like.data._loader.batch_processing import first_batch_processor, validate_process_batch
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._sources.arrays import ArraySource


def validate_first_sample(samples: SampleReader, index: int) -> None:
    """Raise `UsageError` if the first sample does not match its specification.

    Array-backed data are checked as a whole, because their batches are not checked later.
    """
    _check_floats(samples)
    if not samples.is_stream and samples.data.on_bad_sample == "raise":
        first = samples.sample(index)
        if first is not None:
            samples.check(first, index)
            _validate_process_batch(samples, index)
    if isinstance(samples.source, ArraySource) and samples.is_array_backed:
        for arrays, specs in ((samples.source.inputs, samples.inputs), (samples.source.targets, samples.targets)):
            for name, spec in specs.items():
                if error := spec.dtype_validation_error(arrays[name]):
                    message = f"{type(samples.data).__name__}.source({samples.mode}): {name!r} {error}"
                    raise CodeError(message, samples.data.source)


def _validate_process_batch(samples: SampleReader, index: int) -> None:
    """Check that each `process_batch` returns the same as `process` for a sample that no processor drops."""
    first = first_batch_processor(samples.processors)
    if first == len(samples.processors):
        return
    sample = samples.read_source(index)
    for number, processor in enumerate(samples.processors):
        result = samples.apply_processors(sample, (0, index, 0), number, number + 1)
        assert result is not None
        if number >= first:
            validate_process_batch(processor, sample, result)
        sample = result


def _check_floats(samples: SampleReader) -> None:
    """Raise `UsageError` if array-backed data contain floats that their Spec cannot represent (NaN, too large)."""
    if not (isinstance(samples.source, ArraySource) and samples.is_array_backed):
        return
    for arrays, specs in ((samples.source.inputs, samples.inputs), (samples.source.targets, samples.targets)):
        for name, spec in specs.items():
            if name in arrays and arrays[name].dtype.kind == "f":
                rows, error = spec.find_unrepresentable_floats(arrays[name])
                selected = np.intersect1d(np.array(rows, np.int64), np.asarray(samples.indices))
                if len(selected):
                    raise UsageError(f"{samples.describe_sample(int(selected[0]))}: {name!r} {error}")
