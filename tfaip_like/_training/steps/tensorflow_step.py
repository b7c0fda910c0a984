"""Training step on TensorFlow: several steps per execution, gradient accumulation, protection from non-finite steps.

Keras' steps_per_execution counts steps wrong (keras#20861), reads the iterator within each step and compiles each step
separately. Here the batches of many steps are one stack, and the whole loop over them is compiled. Measured on two
cores (the small MLP of scripts/benchmarks/small_mlp.py): an epoch takes 1.3 s instead of 1.7 s. The number of steps to
run is a value, not a shape, so every step runs the same compiled program, however training is interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from tfaip_like._keras_ext.extended_optimizer import disable_all_reduce
from tfaip_like._training.stack_ring import Stack, StacksInFlight
from tfaip_like._training.steps.data_parallel import DataParallel
from tfaip_like._training.steps.program_cost import ProgramCost, analyze_tensorflow_program, make_stack
from tfaip_like._training.steps.training_model import TrainingModel, batch_size
from tfaip_like._training.steps.update_check import Gradients, UpdateCheck
from tfaip_like._user_code.code_errors import CodeError
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._sample import Spec

ModelInputs = Mapping[str, Any]
BatchGetter = Callable[[Any], ModelInputs]
Weights = list[keras.Variable]


class TensorFlowTrainStep:
    """Training step on TensorFlow; see `TrainStep`.

    Args:
        model: compiled training model.
        is_stacked: whether an element of the data holds the batches of all steps of an execution.
        samples: specifications of the batches.
        accumulate: batches per step (gradient accumulation).
        on_nan: see `--trainer.on_nan`.
        devices: names of the devices that share each batch; the variables are on the first one.
    """

    def __init__(
        self,
        model: TrainingModel,
        is_stacked: bool,
        samples: SampleReader,
        accumulate: int,
        on_nan: Literal["stop", "skip"],
        devices: Sequence[str] = (),
    ):
        self._model = model
        self._optimizer = model.optimizer
        disable_all_reduce(self._optimizer)
        self._is_stacked = is_stacked
        self._accumulate = accumulate
        self._check_update = UpdateCheck(model, on_nan)
        self._in_flight = StacksInFlight(lambda results: results["loss"].numpy())
        self._data_parallel = self._make_data_parallel(devices) if len(devices) > 1 else None
        # XLA compiles for a single device. With several, it compiles each replica step and the update instead.
        self._compiles_steps = model.jit_compile and not self._data_parallel and not model.run_eagerly
        if is_stacked:
            self._run = self._compile(self._run_stack, self._compiles_steps)
        else:
            self._run = self._compile(self._run_batches, self._compiles_steps, [[_batch_spec(samples)] * accumulate])

    def run(self, data: Iterator[Any], num_steps: int) -> Mapping[str, Any]:
        """Run steps; see `TrainStep.run`."""
        results: Mapping[str, Any] = {}
        if self._is_stacked:
            stack: Stack = next(data)
            results = self._run(stack.model_inputs, tf.constant(num_steps))
            self._in_flight.add(results, stack)
            return results
        for _ in range(num_steps):
            results = self._run([next(data) for _ in range(self._accumulate)])
        return results

    def sync_to_model(self) -> None:
        """Do nothing: TensorFlow updates the variables of the model in place."""

    def _make_data_parallel(self, devices: Sequence[str]) -> DataParallel:
        if name := self._model.non_additive_metric:
            raise CodeError(
                f"{type(self._model.model).__name__}.make_metrics: the state of {name!r} is not a sum over batches, "
                "which several devices require; use one device (--device.gpus 0) or an Evaluator",
                self._model.model.make_metrics,
            )
        return DataParallel(self._model, devices, self._forward, self._compile)

    def _compile(self, function: Any, jit_compile: bool | None = None, signature: Any = None) -> Any:
        if self._model.run_eagerly:
            return function
        jit_compile = self._model.jit_compile if jit_compile is None else jit_compile
        return tf.function(function, signature, autograph=False, jit_compile=jit_compile)

    def _run_stack(self, stack: ModelInputs, count: Any) -> dict[str, Any]:
        def batch_at(index: Any) -> Any:
            return tf.nest.map_structure(lambda array: self._copy(array[index]), stack)

        self._run_steps(count, lambda step: self._step(lambda part: batch_at(step * self._accumulate + part)))
        return self._model.metric_results()

    def _copy(self, tensor: Any) -> Any:
        # Without XLA, a slice shares the memory of the stack, and an assignment to a variable that of the slice; the
        # stack is overwritten.
        return tensor if self._compiles_steps else tf.raw_ops.DeepCopy(x=tensor)

    def _run_batches(self, batches: Sequence[ModelInputs]) -> dict[str, Any]:
        self._run_steps(tf.constant(1), lambda _: self._step(lambda part: batches[part]))
        return self._model.metric_results()

    def _run_steps(self, count: Any, run: Callable[[Any], None]) -> None:
        """Run `count` steps; with `on_nan` "stop" none after a non-finite one."""

        def should_continue(step: Any) -> Any:
            has_next = step < count
            return (
                has_next
                if self._check_update.skips
                else tf.logical_and(has_next, tf.equal(self._model.non_finite.first, 0))
            )

        def body(step: Any) -> Any:
            run(step)
            return (step + 1,)

        if self._model.run_eagerly:
            step = 0
            while should_continue(step):
                (step,) = body(step)
        else:
            tf.while_loop(should_continue, body, (tf.constant(0),), parallel_iterations=1)

    def _step(self, get_batch: BatchGetter) -> None:
        """Update the weights once, from `accumulate` batches."""
        restored = self._check_update.restored_variables
        before = [tf.identity(variable.value) for variable in restored]
        loss, gradients, weights = self._accumulate_gradients(get_batch)

        def update(*values: Any) -> None:
            self._apply_or_skip(weights, restored, *values)

        (self._compile(update) if self._data_parallel else update)(loss, gradients, before)

    def _apply_or_skip(
        self,
        weights: Weights,
        restored: Sequence[keras.Variable],
        loss: Any,
        gradients: Gradients,
        before: Sequence[Any],
    ) -> None:
        """Update the weights, unless loss or gradients are non-finite.

        Args:
            weights: weights to update.
            restored: variables to restore if the step is skipped.
            loss: scalar loss.
            gradients: gradients of the scaled loss, one per weight.
            before: values of `restored` before the step.
        """
        is_good, gradients = self._check_update(loss, gradients, weights)
        if self._check_update.skips:
            tf.cond(is_good, lambda: self._apply_gradients(gradients, weights), lambda: False)
            for variable, value in zip(restored, before, strict=True):
                variable.assign(tf.where(is_good, variable.value, value))
        else:
            self._apply_gradients(gradients, weights)

    def _accumulate_gradients(self, get_batch: BatchGetter) -> tuple[Any, Gradients, Weights]:
        """Return loss and gradients of a step (means over the samples of its batches), and the weights."""
        loss, size, gradients, weights = self._compute_gradients(get_batch(0))
        if self._accumulate == 1:
            return loss, gradients, weights

        def summands(loss: Any, size: Any, gradients: Gradients) -> list[Any]:
            return [size, loss * size, *(tf.convert_to_tensor(g) * tf.cast(size, g.dtype) for g in gradients)]

        def add(part: Any, *sums: Any) -> list[Any]:
            new = summands(*self._compute_gradients(get_batch(part))[:3])
            return [part + 1, *(a + b for a, b in zip(sums, new, strict=True))]

        sums = summands(loss, size, gradients)
        if self._is_stacked and not self._model.run_eagerly:
            _, *sums = tf.while_loop(
                lambda part, *_: part < self._accumulate, add, [tf.constant(1), *sums], parallel_iterations=1
            )
        else:
            for part in range(1, self._accumulate):
                _, *sums = add(part, *sums)
        size, loss, *gradients = sums
        return loss / size, [gradient / tf.cast(size, gradient.dtype) for gradient in gradients], weights

    def _compute_gradients(self, batch: ModelInputs) -> tuple[Any, Any, Gradients, Weights]:
        """Return loss and size of a batch, and the gradients of the weights that the loss depends on."""
        size = batch_size(batch)
        if self._data_parallel:
            scale = self._optimizer.scale_loss(tf.ones(()))
            loss, gradients = self._data_parallel.compute_gradients(batch, size, scale)
        else:
            with tf.GradientTape() as tape:
                loss = self._forward(batch)
                scaled = self._optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, self._model.trainable_variables)
        self._model.warn_untrained_weights(gradients)
        pairs = [(g, v) for g, v in zip(gradients, self._model.trainable_variables, strict=True) if g is not None]
        return loss, tf.cast(size, "float32"), [gradient for gradient, _ in pairs], [variable for _, variable in pairs]

    def _forward(self, batch: ModelInputs) -> Any:
        return self._model.evaluate_batch(batch, training=True)[1]

    def _apply_gradients(self, gradients: Gradients, weights: Weights) -> bool:
        self._optimizer.apply(gradients, weights)
        return True

    def analyze(self, example: ModelInputs, stack_size: int) -> ProgramCost:
        """Return the cost of a step; see `TrainStep.analyze`."""
        if not stack_size or self._model.run_eagerly:
            return ProgramCost()
        return analyze_tensorflow_program(self._run, make_stack(example, stack_size), self._accumulate)


def _batch_spec(samples: SampleReader) -> dict[str, Any]:
    """Return the type of a batch; without it, the step would be traced for several shapes."""

    def tensor_specs(specs: Mapping[str, Spec]) -> dict[str, tf.TensorSpec]:
        return {name: tf.TensorSpec((None, *spec.shape), spec.tensor_dtype) for name, spec in specs.items()}

    batch = {"inputs": tensor_specs(samples.inputs), "targets": tensor_specs(samples.targets)}
    return batch if not samples.has_weights else {**batch, "weights": tf.TensorSpec((None,), "float32")}
