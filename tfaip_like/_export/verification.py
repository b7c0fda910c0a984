"""Check that an export predicts what the network in memory does.

Exports have differed from it silently (keras#20985), so it is looked at, with a batch of real data.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np

from tfaip_like._export.exported_model import ExportedModel, load_export
from tfaip_like._utils.errors import TrainingError
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import Arrays
from tfaip_like.evaluation._evaluation import SampleError
from tfaip_like.modeling._network import make_predict_fn

logger = logging.getLogger(__name__)

DIFFERENCE_COLUMN = "export_difference"
TOLERANCE = 1e-4
TOLERANCES = {"float16": 1e-2, "bfloat16": 5e-2}
"""Where layers compute in fewer digits, results depend on how operations were put together."""
NUM_PERTURBATIONS = 8
"""With so many changes of the weights, an answer that hangs in the balance tips with all but certainty."""

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Difference:
    """Where an output of an export is furthest from that of the network."""

    output: str
    size: float
    """Relative for floats; 1 for integers that are not the same, infinite where nothing can be compared."""
    text: str
    """What it is, for a person."""


def check_export(
    path: Path,
    network: keras.Model,
    batch: Batch,
    loaded: ExportedModel | None = None,
    log: Callable[[str], None] = logger.info,
) -> float:
    """Compare an export with the network that it was made of, on one batch; leave the network as it was.

    Args:
        loaded: the export, where it is loaded already.
        log: called with what is not compared and why.

    Returns:
        The largest difference: about 1e-7 where only roundings differ.

    Raises:
        TrainingError: when an output differs.
    """
    exported = loaded or load_export(path, trust_code=True)
    answered = _select_predictable_rows(exported, batch)
    if not len(answered):
        log("no sample of the first batch can be predicted, so the export is not checked")
        return 0.0
    found = compare_outputs(exported, lambda: load_export(path, trust_code=True), network, answered, log)
    wrong = [difference.text for difference in found if difference.size > _tolerance(network)]
    if wrong:
        raise TrainingError(
            f"the export differs from the trained network: {'; '.join(wrong)}.\n"
            "Its predictions would be wrong, so it is not kept. Most often a custom layer behaves differently when "
            "TensorFlow compiles it: Python values that change between calls, or `training` that is not passed on."
        )
    return max((difference.size for difference in found), default=0.0)


def _select_predictable_rows(exported: ExportedModel, batch: Batch) -> Batch:
    """The samples before the first that the export refuses, or else behind it: the training reports that one."""
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
    """Return the difference of each output that is the same when the network is called twice.

    An answer that hangs in the balance (the class of two that are equally likely) may differ, and all that
    follows from it. It is known by this: it also tips when the weights change by as little as is tolerated.

    Args:
        reload_export: loads the export once more, to change its weights.
    """
    tolerance = _tolerance(network)
    with preserve_state(network):
        predict = make_predict_fn(network)
        expected, again = _to_arrays(predict(batch.inputs)), _to_arrays(predict(batch.inputs))
    answers = exported(batch.inputs)
    found = [
        Difference(name, float("inf"), f"{_describe_location(name in expected)} has an output {name!r}")
        for name in sorted(expected.keys() ^ answers.keys())
    ]

    @cache
    def perturbed_outputs() -> list[dict[str, Array]]:
        return list(_predict_with_perturbed_weights(reload_export(), batch.inputs, tolerance))

    for name in sorted(expected.keys() & answers.keys()):
        one, two, answer = expected[name], again[name], answers[name]
        if one.shape != two.shape or _relative_difference(one, two).max(initial=0) > tolerance:
            log(f"output {name!r} changes from call to call (random numbers, or a state), so it is not checked")
        elif one.shape != answer.shape or one.dtype != answer.dtype:
            text = f"output {name!r} has shape {one.shape} and dtype {one.dtype}, in the export {answer.shape} and "
            found.append(Difference(name, float("inf"), f"{text}{answer.dtype}"))
        else:
            distance = _relative_difference(one, answer)
            if distance.max(initial=0) > tolerance:
                for changed in perturbed_outputs():
                    may_be = (
                        _relative_difference(answer, changed[name]) if changed[name].shape == answer.shape else np.inf
                    )
                    distance = np.where(may_be < distance, distance, 0)
            found.append(_largest_difference(name, distance, one, answer))
    return found


def _tolerance(network: keras.Model) -> float:
    return TOLERANCES.get(network.compute_dtype, TOLERANCE)


@contextmanager
def preserve_state(network: keras.Model) -> Iterator[None]:
    """Puts random states and the like back as they were: a check must not change how a training goes on."""
    trainable = {id(variable) for variable in network.trainable_variables}
    variables = [variable for variable in network.variables if id(variable) not in trainable]
    variables.append(_global_generator_state())
    before = [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def _global_generator_state() -> keras.Variable:
    """Return the state of what draws for `keras.random` without a seed, which Keras has in no public place."""
    from keras.src.random import seed_generator

    return seed_generator.global_seed_generator().state


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
    """How far each number is from what is expected.

    Relative to the number, or to the median of all where that is larger: the largest would hide everything
    behind a mask of -1e9.
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
    at = f"{list(map(int, index))}: {expected[index]}, in the export {answer[index]}"
    size = float(distance[index])
    if _is_float(expected):
        return Difference(name, size, f"output {name!r} by {size:.2g} of its size, most at {at}")
    count = int((distance > 0).sum())
    return Difference(name, size, f"output {name!r} in {count} of {distance.size} numbers, first at {at}")


def _describe_location(in_network: bool) -> str:
    return "only the network" if in_network else "only the export"


def _to_arrays(outputs: Arrays) -> dict[str, Array]:
    return {name: np.asarray(output) for name, output in outputs.items()}
