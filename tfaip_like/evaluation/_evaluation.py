"""Evaluators and summaries, shared by validation and load-and-validate."""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import SupportsFloat, TypeVar

from tfaip_like._user_code.code_errors import CodeError, qualified_method_name
from tfaip_like._utils.errors import UsageError, with_article
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._sample import Arrays, Sample
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.modeling._model import Model
from tfaip_like.summaries import Summary

T = TypeVar("T")


@dataclass(frozen=True)
class EvaluationResult:
    """Named numbers and summaries that an evaluator returned."""

    numbers: Mapping[str, float]
    summaries: Mapping[str, Summary] = field(default_factory=dict)


class SampleError(UsageError):
    """Sample that the network cannot predict: an id out of range, or NaN in an input.

    Attributes:
        reason: Description of the problem.
        row: Row of the sample in the batch.
    """

    def __init__(self, path: Path, reason: str, row: int):
        super().__init__(f"{path}: {reason}: sample {row} of the batch")
        self.reason = reason
        self.row = row


@contextmanager
def locate_sample_errors(batch: Batch, batches: DataLoader) -> Iterator[None]:
    """Describe the sample of a `SampleError` by its place in the data instead of its row in the batch."""
    try:
        yield
    except SampleError as error:
        raise UsageError(f"{error.reason}: {batches.samples.describe_sample(batch.indices[error.row])}") from None


def predict_batches(
    predict: Callable[[Arrays], T],
    batches: DataLoader,
    on_batch: Callable[[Batch], None],
    num_batches: int | None = None,
) -> Iterator[tuple[Batch, T]]:
    """Yield each non-empty batch of one pass with its prediction.

    Args:
        predict: Function from the inputs of a batch to its prediction.
        batches: Data loader.
        on_batch: Called before each prediction, also for empty batches (all samples dropped).
        num_batches: Number of batches; None for all.
    """
    for batch in itertools.islice(batches.iter_pass(), num_batches):
        on_batch(batch)
        if len(batch):
            with locate_sample_errors(batch, batches):
                predicted = predict(batch.inputs)
            yield batch, predicted


def run_evaluator(evaluator: Evaluator, samples: Iterable[Sample], reserved_names: Collection[str]) -> EvaluationResult:
    """Return the result of an evaluator.

    Args:
        evaluator: Evaluator to run.
        samples: Predicted and postprocessed samples.
        reserved_names: Names of losses and metrics, which the evaluator must not use, like `loss`; may be filled
            while the samples are consumed.

    Raises:
        UsageError: If it does not return named numbers and valid summaries.
    """
    where = f"{type(evaluator).__name__}.evaluate"
    returned = _call_evaluator(evaluator, samples)
    if not isinstance(returned, Mapping):
        message = f"{where} returned {with_article(type(returned).__name__)}; it must return {{'name': number, ...}}"
        raise CodeError(message, evaluator.evaluate)
    for name in returned:
        if not isinstance(name, str) or not name:
            message = f"{where}: {name!r} is not a valid name; it must return {{'name': number, ...}}"
            raise CodeError(message, evaluator.evaluate)
        if name == "loss" or name in reserved_names:
            message = f"{where}: {name!r} is already a loss or metric of the model; choose another name"
            raise CodeError(message, evaluator.evaluate)
    summaries = {name: value for name, value in returned.items() if isinstance(value, Summary)}
    _check_summaries(evaluator.evaluate, summaries)
    numbers = {
        name: _to_float(evaluator.evaluate, name, value) for name, value in returned.items() if name not in summaries
    }
    return EvaluationResult(numbers, summaries)


def _call_evaluator(evaluator: Evaluator, samples: Iterable[Sample]) -> object:
    """Return the result of an evaluator; a `KeyError` gets a note with the available names."""
    first: list[Sample] = []

    def recorded() -> Iterator[Sample]:
        for sample in samples:
            if not first:
                first.append(sample)
            yield sample

    try:
        return evaluator.evaluate(recorded())
    except KeyError as error:
        sample = first[0] if first else Sample()
        groups = {"inputs": sample.inputs, "targets": sample.targets, "outputs": sample.outputs}
        if not all(name in values for values in groups.values() for name in error.args):
            available = "; ".join(f"{group}: {', '.join(values)}" for group, values in groups.items() if values)
            error.add_note(f"Available in each sample: {available or 'nothing'}.")
        raise


def _to_float(evaluate: Callable[..., object], name: str, value: object) -> float:
    """Return a value of an evaluator as a float; strings and arrays with axes are rejected."""
    if isinstance(value, SupportsFloat):
        with suppress(TypeError, ValueError, OverflowError):
            return float(value)
    message = (
        f"{qualified_method_name(evaluate)}: {name!r} is {reprlib.repr(value)}; expected a number or a "
        "summary of tfaip_like.summaries"
    )
    raise CodeError(message, evaluate)


def overrides_summaries(model: Model) -> bool:
    """Return whether the class of a model overrides `summaries`."""
    return type(model).summaries is not Model.summaries


def collect_summaries(
    model: Model, batch: Batch, outputs: Arrays, reserved_names: Collection[str]
) -> dict[str, Summary]:
    """Return the summaries of a model for a batch.

    Args:
        model: Model whose `summaries` is called.
        batch: First validation batch.
        outputs: Outputs of the prediction network for the batch.
        reserved_names: Names of other numbers and summaries, which must not be used.

    Raises:
        UsageError: If it does not return named, valid summaries.
    """
    returned = model.summaries(batch.inputs, batch.targets, outputs)
    return _check_model_summaries(model.summaries, returned, reserved_names)


def collect_activation_summaries(
    model: Model, batch: Batch, outputs: Arrays, activations: Arrays, reserved_names: Collection[str]
) -> dict[str, Summary]:
    """Return the summaries of a model for recorded activations.

    Args:
        model: Model whose `activation_summaries` is called.
        batch: First validation batch.
        outputs: Outputs of the prediction network for the batch.
        activations: Recorded activations for the batch, by name.
        reserved_names: Names of other numbers and summaries, which must not be used.

    Raises:
        UsageError: If it does not return named, valid summaries.
    """
    try:
        returned = model.activation_summaries(batch.inputs, batch.targets, outputs, activations)
    except KeyError as error:
        error.add_note(f"Recorded activations: {', '.join(activations) or 'none'}.")
        raise
    return _check_model_summaries(model.activation_summaries, returned, reserved_names)


def _check_model_summaries(
    method: Callable[..., object], returned: object, reserved_names: Collection[str]
) -> dict[str, Summary]:
    where = qualified_method_name(method)
    if not isinstance(returned, Mapping):
        actual = with_article(type(returned).__name__)
        raise CodeError(f"{where} returned {actual}; it must return {{'name': summary, ...}}", method)
    for name, value in returned.items():
        if name in reserved_names:
            raise CodeError(f"{where}: {name!r} is already in use; choose another name", method)
        if not isinstance(value, Summary):
            actual = with_article(type(value).__name__)
            message = f"{where}: {name!r} is {actual}; expected a summary of tfaip_like.summaries, such as Image(...)"
            raise CodeError(message, method)
    _check_summaries(method, returned)
    return dict(returned)


def _check_summaries(method: Callable[..., object], summaries: Mapping[str, Summary]) -> None:
    for name, summary in summaries.items():
        if validation_error := summary.validation_error():
            raise CodeError(f"{qualified_method_name(method)}: {name!r} {validation_error}", method)
