"""Processors that process whole batches: the last ones of a pipeline that define `process_batch`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like.data._processors import Processor
from tfaip_like.data._sample import Arrays, Sample, Spec


def first_batch_processor(processors: Sequence[Processor]) -> int:
    """Return the number of the first processor from which on all process whole batches."""
    number = len(processors)
    while number and _processes_batches(processors[number - 1]):
        number -= 1
    return number


def _processes_batches(processor: Processor) -> bool:
    """Return whether a processor defines `process_batch`; a later `process` of a subclass would not agree with it."""
    for base in type(processor).__mro__:
        if "process_batch" in vars(base) or "process" in vars(base):
            return base is not Processor and "process_batch" in vars(base)
    return False


def stack_samples(samples: Sequence[Sample]) -> tuple[Arrays, Arrays]:
    """Return the stacked inputs and targets; raise ValueError if the samples differ in names, shapes or dtypes."""
    return _stack([sample.inputs for sample in samples]), _stack([sample.targets for sample in samples])


def _stack(named: Sequence[Mapping[str, Any]]) -> Arrays:
    stacked = {}
    for name in named[0]:
        arrays = [np.asarray(values[name]) for values in named if len(values) == len(named[0])]
        if len({(array.dtype, array.shape) for array in arrays}) != 1 or len(arrays) != len(named):
            raise ValueError(f"samples differ in {name!r}")
        stacked[name] = np.stack(arrays)
    return stacked


def fit_to_specs(arrays: Arrays, specs: Mapping[str, Spec], count: int) -> Arrays:
    """Return the arrays of a batch of samples with the dtypes of their specs; raise ValueError if they do not fit."""
    for name, spec in specs.items():
        if arrays[name].shape != (count, *spec.shape) or spec.dtype_validation_error(arrays[name]):
            raise ValueError(f"{name!r} does not match its Spec")
    return {name: spec.convert(arrays[name]) for name, spec in specs.items()}


def validate_process_batch(processor: Processor, sample: Sample, expected: Sample) -> None:
    """Check that `process_batch` returns the same as `process`.

    Args:
        processor: processor that defines it.
        sample: sample before the processor.
        expected: result of `process`.

    Raises:
        CodeError: if it does not.
    """
    returned = processor.process_batch(*stack_samples([sample, sample]))
    name = f"{type(processor).__name__}.process_batch"
    if not (isinstance(returned, tuple) and len(returned) == 2):
        raise CodeError(f"{name} must return inputs and targets", processor.process_batch)
    for kind, arrays, named in zip(("input", "target"), returned, stack_samples([expected] * 2), strict=True):
        for key in {**arrays, **named}:
            same = key in arrays and key in named and arrays[key].dtype == named[key].dtype
            if not same or not np.array_equal(arrays[key], named[key], equal_nan=named[key].dtype.kind in "fc"):
                raise CodeError(f"{name} and `process` differ in {kind} {key!r}", processor.process_batch)
