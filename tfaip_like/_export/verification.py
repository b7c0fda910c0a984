"""Verification that an export has the same outputs as the network in memory.

Exports have silently differed from it (keras#20985), so they are compared for a batch of real data.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
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

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Difference:
    """Largest difference between an output of an export and that of the network."""

    output: str
    size: float
    """Relative difference of floats; 1 for different integers; infinite if they cannot be compared."""
    text: str
    """Description for messages."""


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
    predictable = _select_predictable_rows(exported, batch)
    if not len(predictable):
        log("export not verified: no sample of the first batch can be predicted")
        return 0.0
    differences = compare_outputs(exported, lambda: load_export(path, trust_code=True), network, predictable, log)
    wrong = [difference.text for difference in differences if difference.size > _tolerance(network)]
    if wrong:
        raise TrainingError(
            f"export verification failed: outputs differ from the trained network: {'; '.join(wrong)}.\n"
            "The export is discarded, as its predictions would be wrong. Common cause: a custom layer that behaves "
            "differently when TensorFlow compiles it (Python values that change between calls, or a missing `training` "
            "argument)."
        )
    return max((difference.size for difference in differences), default=0.0)


def _select_predictable_rows(exported: ExportedModel, batch: Batch) -> Batch:
    """Return the samples before the first one that the export rejects, or those after it if it is the first."""
    while len(batch):
        try:
            exported(batch.inputs)
        except SampleError as error:
            batch = batch.rows(0, error.row) if error.row else batch.rows(1, len(batch))
        else:
            break
    return batch


def compare_outputs(
    exported: ExportedModel,
    reload_export: Callable[[], ExportedModel],
    network: keras.Model,
    batch: Batch,
    log: Callable[[str], None] = logger.info,
) -> list[Difference]:
    """Return the difference of each output that is deterministic, that is, equal in two calls of the network.

    Ambiguous outputs (such as the argmax of two equal scores) may differ, and so may values computed from them. They
    are recognized by perturbing the weights within the tolerance: an ambiguous output changes too.

    Args:
        exported: Loaded export.
        reload_export: Loads the export again, to perturb its weights.
        network: Network that was exported.
        batch: Batch of real samples.
        log: Called with a message about outputs that are not compared.
    """
    tolerance = _tolerance(network)
    with preserve_network_state(network):
        predict = make_predict_fn(network)
        expected, again = _to_arrays(predict(batch.inputs)), _to_arrays(predict(batch.inputs))
    actual = exported(batch.inputs)
    differences = [
        Difference(
            name, float("inf"), f"only {'the network' if name in expected else 'the export'} has output {name!r}"
        )
        for name in sorted(expected.keys() ^ actual.keys())
    ]

    @cache
    def perturbed_outputs() -> list[dict[str, Array]]:
        return list(_predict_with_perturbed_weights(reload_export(), batch.inputs, tolerance))

    for name in sorted(expected.keys() & actual.keys()):
        first, second, answer = expected[name], again[name], actual[name]
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


def _tolerance(network: keras.Model) -> float:
    return TOLERANCES.get(network.compute_dtype, TOLERANCE)


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
