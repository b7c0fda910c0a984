"""LAV: an export, loaded and validated."""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from tfaip_like._export.logits import attach_logits
from tfaip_like._utils.errors import UsageError
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import Batches
from tfaip_like.data._loader.sample_reader import post_processed
from tfaip_like.data._sample import Arrays, Sample
from tfaip_like.evaluation._bad_values import BadValue, find_bad_value, first_non_finite_row
from tfaip_like.evaluation._evaluation import Judged, judge, predictions, show, shows_something
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.modeling._model import Model, Tensors

logger = logging.getLogger(__name__)


class Network(Protocol):
    """What is validated: an export, or a network in memory."""

    def with_logits(self, inputs: Mapping[str, Any]) -> tuple[Arrays, Mapping[str, Any]]:
        """Return the outputs for a batch, and the logits that `logits.attach_logits` takes."""


def load_and_validate(
    network: Network,
    batches: Batches,
    model: Model,
    evaluator: Evaluator | None,
    each_batch: Callable[[Batch], None] = lambda batch: None,
    tell: Callable[[str], None] = logger.info,
    each_sample: Callable[[Sample], None] | None = None,
    worst: Worst | None = None,
    averages: Averages | None = None,
    num_batches: int | None = None,
) -> Judged:
    """Losses, metrics and the evaluator's numbers of an export, by name, in one pass over the data; and summaries.

    `loss` is the weighted sum of the losses, as in training but without regularisation. What needs outputs
    that only the training network has is left out.

    Args:
        each_batch: is shown each batch before it is predicted; may raise to stop.
        tell: is told what is left out.
        each_sample: is given each sample, predicted and post-processed.
        worst: takes the loss of each sample.
        averages: of an earlier pass with the same model, to save the time for compiling it.
        num_batches: validate on the first batches only.

    Raises:
        UsageError: when there is no sample to validate on, nothing that could be measured, or the
            evaluator returned something else than named numbers.
    """
    averages = averages or Averages(model)
    averages.begin(tell)
    first: list[tuple[Batch, Arrays]] = []

    def predicted() -> Iterator[tuple[int, Sample]]:
        for batch, (outputs, logits) in predictions(network.with_logits, batches, each_batch, num_batches):
            if averages.count == 0:
                first.append((batch, outputs))
            losses = averages.add(batch, outputs, logits)
            if bad := averages.bad_value(batch, outputs, logits):
                place = batches.samples.place(batch.indices[bad.row])
                raise UsageError(f"{averages.non_finite} is not a finite number.\n{bad.at(place)}.")
            if worst is not None and losses is not None:
                worst.add(batch, losses)
            yield from zip(batch.indices, batch.samples(outputs), strict=True)
        if averages.count == 0:
            raise UsageError("no sample is left to validate on: all of them were dropped or bad")

    samples = predicted()
    finished = post_processed(batches.samples, samples, batches.dropped)
    if each_sample is not None:
        finished = _shown_to(each_sample, finished)
    judged = Judged({})
    if evaluator is not None:
        with _explained(model):
            judged = judge(evaluator, finished, known=averages.sums)
    for _ in samples if each_sample is None else finished:  # those that nobody has asked for
        pass
    values = averages.values() | dict(judged.numbers)
    if not values:
        raise UsageError(
            f"load-and-validate has nothing to measure: it leaves out {averages.left_out(first[0][1])}, "
            "and there is no evaluator.\n"
            f"{_advice(model)}, or add an evaluator; without --trainer.lav_every_n a training skips load-and-validate."
        )
    with _explained(model):
        shown = show(model, *first[0], known=[*values, *judged.summaries]) if shows_something(model) else {}
    return Judged(values, {**judged.summaries, **shown})


def _shown_to(look: Callable[[Sample], None], samples: Iterator[Sample]) -> Iterator[Sample]:
    for sample in samples:
        look(sample)
        yield sample


class Worst:
    """The samples with the largest losses.

    Args:
        count: how many of them are kept.
    """

    def __init__(self, count: int):
        self.count = count
        self._found: list[tuple[float, int]] = []

    def add(self, batch: Batch, losses: npt.NDArray[Any]) -> None:
        """Takes the losses of the samples of a batch."""
        found = zip(map(float, losses), batch.indices, strict=True)
        # What is no number is worst of all.
        self._found = heapq.nlargest(
            self.count,
            [*self._found, *found],
            key=lambda one: (math.isnan(one[0]), one[0] if one[0] == one[0] else 0.0),
        )

    def listed(self) -> list[tuple[float, int]]:
        """Loss and index in the source of each, the worst first."""
        return list(self._found)


class Averages:
    """Running averages of the losses and metrics of a model over samples.

    Args:
        model: whose losses and metrics they are.
        is_eager: run their Python code for each batch, for a debugger.

    Attributes:
        sums: of each over all samples so far.
        count: of these samples.
        non_finite: the first loss or metric that was not finite in the last batch.
    """

    def __init__(self, model: Model, is_eager: bool = False):
        self.model = model
        self._means = self._means_of_batch if is_eager else _compiled(self._means_of_batch)
        self._left_out: dict[str, str] = {}
        """Method of the model -> the output that it needs and there is not."""
        self.begin(logger.info)

    def begin(self, tell: Callable[[str], None]) -> None:
        """Begins a pass.

        Args:
            tell: is told what is left out.
        """
        self.sums: dict[str, float] = {}
        self.count = 0
        self.non_finite: str | None = None
        self._losses: list[str] = []
        self._tell = tell

    def add(self, batch: Batch, outputs: Arrays, logits: Arrays | None = None) -> npt.NDArray[Any] | None:
        """Takes a batch and what was predicted for it; the loss of each sample, where the model knows it.

        Args:
            logits: of the outputs, from which losses are computed as in training; see `Exported.with_logits`.
        """
        means, losses = self._means(
            _tensors(batch.inputs), _tensors(batch.targets), _tensors(outputs), _tensors(logits or {})
        )
        if self.count == 0:
            self._losses = list(means.get("loss", {}))
            if self._left_out:
                # A network of its own for prediction may lack it for a reason: logits of fed targets, say.
                advice = f" {_advice(self.model)}." if _exports_another_network(self.model) else ""
                self._tell(f"load-and-validate leaves out {self.left_out(outputs)}.{advice}")
        self.non_finite = None
        for of_method in means.values():
            for name, mean in of_method.items():
                if not np.isfinite(ops.convert_to_numpy(mean)):
                    self.non_finite = self.non_finite or name
                total = len(batch) * float(ops.convert_to_numpy(mean))
                self.sums[name] = self.sums.get(name, 0.0) + total
        self.count += len(batch)
        return None if losses is None else np.asarray(ops.convert_to_numpy(losses))

    def left_out(self, outputs: Arrays) -> str:
        """Return which methods of the model are left out, and why.

        Args:
            outputs: those that there are.
        """
        methods = " and ".join(f"{type(self.model).__name__}.{method}" for method in self._left_out)
        lacking = " and ".join(f"no output {name!r}" for name in dict.fromkeys(self._left_out.values()))
        return f"{methods}, as the export has {lacking}, only {', '.join(outputs)}"

    def bad_value(self, batch: Batch, outputs: Arrays, logits: Arrays) -> BadValue | None:
        """Return what is wrong with the data of the last batch, if its losses or metrics are not finite."""
        if self.non_finite is None:
            return None

        def values(part: Batch) -> Mapping[str, Any]:
            rows = slice(part.indices[0], part.indices[-1] + 1)
            tensors = [_tensors({name: array[rows] for name, array in named.items()}) for named in (outputs, logits)]
            means, _ = self._means_of_batch(_tensors(part.inputs), _tensors(part.targets), *tensors)
            return {name: mean for of_method in means.values() for name, mean in of_method.items()}

        numbered = replace(batch, indices=range(len(batch)))
        row = first_non_finite_row(numbered, values)
        if row is None or (bad := find_bad_value(numbered.rows(row, row + 1), values)) is None:
            return None
        return replace(bad, row=row)

    def _means_of_batch(
        self, inputs: Tensors, targets: Tensors, outputs: Tensors, logits: Tensors
    ) -> tuple[dict[str, Tensors], Any | None]:
        """The means of losses and of metrics, and the sum of all losses for each sample."""
        means: dict[str, Tensors] = {}
        losses = None
        outputs = attach_logits(outputs, logits)
        for method, compute in (("loss", self.model.loss), ("metrics", self.model.metrics)):
            try:
                values = compute(inputs, targets, _Outputs(outputs))
            except _NoSuchOutputError as missing:
                self._left_out[method] = missing.args[0]
            else:
                means[method] = {name: ops.mean(ops.cast(value, "float32")) for name, value in values.items()}
                if method == "loss":
                    losses = self._of_each_sample(values)
        return means, losses

    def _of_each_sample(self, losses: Tensors) -> Any | None:
        parts = []
        for name, loss in losses.items():
            if len(loss.shape) == 0:
                return None
            weight = self.model.loss_weights.get(name, 1.0)
            parts.append(weight * ops.mean(ops.reshape(ops.cast(loss, "float32"), (ops.shape(loss)[0], -1)), axis=1))
        return sum(parts) if parts else None

    def values(self) -> dict[str, float]:
        """The averages; `loss` first, the sum that a training minimises, if there are losses."""
        means = {name: total / self.count for name, total in self.sums.items()}
        if not self._losses:
            return means
        weights = self.model.loss_weights
        return {"loss": sum(weights.get(name, 1.0) * means[name] for name in self._losses), **means}


def _advice(model: Model) -> str:
    """Return what gives exports one more output."""
    return f"Let {_method_of_outputs(model)} return it too"


def _method_of_outputs(model: Model) -> str:
    """Return the method that decides which outputs an export has."""
    own = "build" if type(model).build_prediction is Model.build_prediction else "build_prediction"
    return f"{type(model).__name__}.{'build_export' if _exports_another_network(model) else own}"


def _exports_another_network(model: Model) -> bool:
    return type(model).build_export is not Model.build_export


@contextmanager
def _explained(model: Model) -> Iterator[None]:
    """Note for a `KeyError` of the block who decides which outputs there are."""
    try:
        yield
    except KeyError as error:
        error.add_note(f"Load-and-validate has the outputs that {_method_of_outputs(model)} returns.")
        raise


class _NoSuchOutputError(KeyError):
    """Raised where a loss or metric asks for an output that there is not."""


class _Outputs(dict[str, Any]):
    """Named outputs that tell which one is missing."""

    def __missing__(self, name: str) -> Any:
        raise _NoSuchOutputError(name)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors, compiled where that is known how to: measured, half the time."""
    compiled = function
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(function, autograph=False, reduce_retracing=True)
    elif keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(function)
    return compiled


def _tensors(arrays: Arrays) -> dict[str, Any]:
    return {name: ops.convert_to_tensor(array) for name, array in arrays.items()}
