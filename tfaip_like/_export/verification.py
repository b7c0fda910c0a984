"""Verification that an export has the same outputs as the network in memory.

Exports have silently differed from it (keras#20985), so they are compared for a batch of real data.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np

from tfaip_like._export.exported_model import ExportedModel, load_export
from tfaip_like._keras_ext.random_states import preserve_network_state
from tfaip_like._utils.errors import TrainingError
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import Arrays
from tfaip_like.evaluation._evaluation import SampleError
from tfaip_like.modeling._network import make_predict_fn

logger = logging.getLogger(__name__)

DIFFERENCE_COLUMN = "export_difference"
TOLERANCE = 1e-4
TOLERANCES = {"float16": 1e-2, "bfloat16": 5e-2}
"""Tolerances in lower precision, where results depend on how operations are fused."""
NUM_PERTURBATIONS = 8
"""Number of random perturbations of the weights, enough to flip an ambiguous output almost certainly."""
_NOT_VERIFIED = "export not verified: no sample of the first batch can be predicted"

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Difference:
    """Largest difference between an output of an export and that of the network."""

    output: str
    size: float
    """Relative difference of floats; 1 for different integers; infinite if they cannot be compared."""
    text: str
    """Description for messages."""


@dataclass(frozen=True)
class ExpectedOutputs:
    """Outputs of a network in memory for a batch, in two calls: those that differ are not deterministic."""

    batch: Batch
    first: Mapping[str, Array]
    second: Mapping[str, Array]
    tolerance: float
    """Relative difference that is allowed."""

    @classmethod
    def of_network(cls, network: keras.Model, batch: Batch) -> ExpectedOutputs:
        """Predict a batch; the state of the network is preserved."""
        predict = make_predict_fn(network)
        with preserve_network_state(network):
            first, second = _to_arrays(predict(batch.inputs)), _to_arrays(predict(batch.inputs))
        return cls(batch, first, second, TOLERANCES.get(network.compute_dtype, TOLERANCE))

    def rows(self, begin: int, end: int) -> ExpectedOutputs:
        """Return those of a part of the batch."""
        first, second = (
            {name: output[begin:end] for name, output in outputs.items()} for outputs in (self.first, self.second)
        )
        return dataclasses.replace(self, batch=self.batch.rows(begin, end), first=first, second=second)


def check_export(
    path: Path,
    network: keras.Model,
    batch: Batch,
    loaded: ExportedModel | None = None,
    log: Callable[[str], None] = logger.info,
) -> float:
    """Compare the outputs of an export with those of its network for a batch; the network's state is preserved.

    Args:
        path: Export directory.
        network: Network that was exported.
        batch: Batch of real samples.
        loaded: Export, if already loaded.
        log: Called with a message about outputs that are not compared.

    Returns:
        Largest relative difference: about 1e-7 if only rounding differs.

    Raises:
        TrainingError: If an output differs.
    """
    exported = loaded or load_export(path, trust_code=True)
    predictable = select_predictable_rows(exported, batch)
    if not len(predictable):
        log(_NOT_VERIFIED)
        return 0.0
    return check_outputs(path, exported, ExpectedOutputs.of_network(network, predictable), log)


def check_outputs(
    path: Path, exported: ExportedModel, expected: ExpectedOutputs, log: Callable[[str], None] = logger.info
) -> float:
    """Compare the outputs of an export with those of its network; see `check_export`.

    Args:
        path: Export directory.
        exported: Loaded export.
        expected: Outputs of the network.
        log: Called with a message about outputs that are not compared.
    """
    begin, end = _find_predictable_rows(exported, expected.batch)
    if begin == end:
        log(_NOT_VERIFIED)
        return 0.0
    differences = compare_outputs(exported, lambda: load_export(path, trust_code=True), expected.rows(begin, end), log)
    wrong = [difference.text for difference in differences if difference.size > expected.tolerance]
    if wrong:
        raise TrainingError(
            f"export verification failed: outputs differ from the trained network: {'; '.join(wrong)}.\n"
            "The export is discarded, as its predictions would be wrong. Common cause: a custom layer that behaves "
            "differently when TensorFlow compiles it (Python values that change between calls, or a missing `training` "
            "argument)."
        )
    return max((difference.size for difference in differences), default=0.0)


def select_predictable_rows(exported: ExportedModel, batch: Batch) -> Batch:
    """Return the samples before the first one that an export rejects, or those after it if it is the first."""
    return batch.rows(*_find_predictable_rows(exported, batch))


def _find_predictable_rows(exported: ExportedModel, batch: Batch) -> tuple[int, int]:
    begin, end = 0, len(batch)
    while begin < end:
        try:
            exported(batch.rows(begin, end).inputs)
        except SampleError as error:
            begin, end = (begin, begin + error.row) if error.row else (begin + 1, end)
        else:
            break
    return begin, end


def compare_outputs(
    exported: ExportedModel,
    reload_export: Callable[[], ExportedModel],
    expected: ExpectedOutputs,
    log: Callable[[str], None] = logger.info,
) -> list[Difference]:
    """Return the difference of each output that is deterministic.

    Ambiguous outputs (such as the argmax of two equal scores) may differ, and so may values computed from them. They
    are recognized by perturbing the weights within the tolerance: an ambiguous output changes too.

    Args:
        exported: Loaded export.
        reload_export: Loads the export again, to perturb its weights.
        expected: Outputs of the network.
        log: Called with a message about outputs that are not compared.
    """
    inputs, tolerance = expected.batch.inputs, expected.tolerance
    actual = exported(inputs)
    differences = [
        Difference(
            name, float("inf"), f"only {'the network' if name in expected.first else 'the export'} has output {name!r}"
        )
        for name in sorted(expected.first.keys() ^ actual.keys())
    ]

    @cache
    def perturbed_outputs() -> list[dict[str, Array]]:
        return list(_predict_with_perturbed_weights(reload_export(), inputs, tolerance))

    for name in sorted(expected.first.keys() & actual.keys()):
        first, second, answer = expected.first[name], expected.second[name], actual[name]
        if first.shape != second.shape or _relative_difference(first, second).max(initial=0) > tolerance:
            log(f"output {name!r} not verified: it changes between calls (random numbers or state)")
        elif first.shape != answer.shape or first.dtype != answer.dtype:
            text = f"output {name!r} has shape {first.shape} and dtype {first.dtype}, but {answer.shape} and "
            differences.append(Difference(name, float("inf"), f"{text}{answer.dtype} in the export"))
        else:
            distance = _relative_difference(first, answer)
            if distance.max(initial=0) > tolerance:
                for perturbed in perturbed_outputs():
                    perturbed_distance = (
                        _relative_difference(answer, perturbed[name])
                        if perturbed[name].shape == answer.shape
                        else np.inf
                    )
                    distance = np.where(perturbed_distance < distance, distance, 0)
            differences.append(_largest_difference(name, distance, first, answer))
    return differences


def _predict_with_perturbed_weights(
    exported: ExportedModel, inputs: Arrays, amount: float
) -> Iterator[dict[str, Array]]:
    random = np.random.default_rng(0)
    weights = [v for v in getattr(exported.saved_model, "variables", ()) if v.dtype.is_floating]
    originals = [weight.numpy() for weight in weights]
    for _ in range(NUM_PERTURBATIONS):
        for weight, original in zip(weights, originals, strict=True):
            scale = amount * max(np.abs(original).max(initial=0), amount)
            weight.assign(original + (scale * random.standard_normal(original.shape)).astype(original.dtype))
        yield exported(inputs)


def _relative_difference(expected: Array, answer: Array) -> Array:
    """Return the difference of each element, relative to the expected element or the median, whichever is larger.

    The maximum as a scale would hide all differences in outputs with a mask value of -1e9.
    """
    if not (_is_float(expected) and _is_float(answer)):
        return np.asarray(expected != answer, dtype="float64")
    a, b = expected.astype("float64"), answer.astype("float64")
    sizes = np.abs(a[np.isfinite(a) & (a != 0)])
    scale = np.maximum(np.abs(a), np.median(sizes) if sizes.size else 1.0)
    with np.errstate(invalid="ignore"):
        distance = np.asarray(np.abs(a - b) / scale)
    distance[~np.isfinite(distance)] = np.inf
    distance[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
    return distance


def _is_float(array: Array) -> bool:
    return bool(keras.backend.is_float_dtype(str(array.dtype)))


def _largest_difference(name: str, distance: Array, expected: Array, answer: Array) -> Difference:
    if not distance.size:
        return Difference(name, 0.0, "")
    index = np.unravel_index(np.argmax(distance), distance.shape)
    location = f"{list(map(int, index))}: {expected[index]}, {answer[index]} in the export"
    size = float(distance[index])
    if _is_float(expected):
        return Difference(name, size, f"output {name!r} by up to {size:.2g} (relative), at {location}")
    count = int((distance > 0).sum())
    return Difference(name, size, f"output {name!r} in {count} of {distance.size} elements, first at {location}")


def _to_arrays(outputs: Arrays) -> dict[str, Array]:
    return {name: np.asarray(output) for name, output in outputs.items()}
