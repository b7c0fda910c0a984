"""Training step on JAX: a pure function of the values of all variables, compiled by XLA.

The batches of many steps are one stack, and the whole loop over them is compiled, as on TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import keras
from jax import numpy as jnp
from jax.extend.core import Literal as JaxLiteral

from tfaip_like._training.stack_ring import Stack, StacksInFlight
from tfaip_like._training.steps.program_cost import ProgramCost, analyze_jax_program, make_stack
from tfaip_like._training.steps.rematerialization import is_rematerialized
from tfaip_like._training.steps.training_model import TrainingModel, batch_size
from tfaip_like._training.steps.update_check import Gradients, UpdateCheck

ModelInputs = Mapping[str, Any]
BatchGetter = Callable[[Any], ModelInputs]
"""Returns a batch of a step by its number within it."""
Values = list[Any]
State = tuple[Values, Values, Values]
"""Values of the trainable variables, of those that the forward pass changes, and of the optimizer."""


class JaxTrainStep:
    """Training step on JAX; see `TrainStep`. It holds the values of the variables between executions.

    Args:
        model: compiled training model with a built optimizer.
        is_stacked: whether an element of the data holds the batches of all steps of an execution.
        accumulate: batches per step (gradient accumulation).
        on_nan: see `--trainer.on_nan`.
        example: model inputs, for shapes and dtypes.

    Raises:
        UsageError: if no loss depends on any weight.
    """

    def __init__(
        self,
        model: TrainingModel,
        is_stacked: bool,
        accumulate: int,
        on_nan: Literal["stop", "skip"],
        example: ModelInputs,
    ):
        self._model = model
        self._optimizer = model.optimizer
        self._is_stacked = is_stacked
        self._accumulate = accumulate
        self._check_update = UpdateCheck(model, on_nan)
        self._trainable = list(model.trainable_variables)
        self._mutable = [*model.non_trainable_variables, *model.metrics_variables]
        restored = {id(variable) for variable in self._check_update.restored_variables}
        self._restored = [id(variable) in restored for variable in self._mutable]
        self._first_non_finite = next(n for n, v in enumerate(self._mutable) if v is model.non_finite.first)
        self._state: State | None = None
        self._in_flight = StacksInFlight(jax.block_until_ready)
        self._is_compiled = bool(model.jit_compile) and not model.run_eagerly
        run: Callable[..., tuple[State, Mapping[str, Any]]] = self._run_stack if is_stacked else self._run_batches
        options = _compiler_options(model.network)
        self._run = jax.jit(run, donate_argnums=0, compiler_options=options) if self._is_compiled else run
        gradients = self._trace_nonzero_gradients(example)
        model.warn_untrained_weights(gradients)
        self._has_gradient = [gradient is not None for gradient in gradients]

    def run(self, data: Iterator[Any], num_steps: int) -> Mapping[str, Any]:
        """Run steps; see `TrainStep.run`."""
        if self._is_stacked:
            stack: Stack = next(data)
            return self._execute(stack.model_inputs, num_steps, stack)
        results: Mapping[str, Any] = {}
        for _ in range(num_steps):
            results = self._execute([next(data) for _ in range(self._accumulate)], 1)
        return results

    def _execute(self, batches: Any, num_steps: int, stack: Stack | None = None) -> Mapping[str, Any]:
        self._state, results = self._run(self._state or self._read_state(), batches, jnp.int32(num_steps))
        self._in_flight.add(results, stack)
        return results

    def sync_to_model(self) -> None:
        """Write the current values to the variables of the model."""
        if self._state is None:
            return
        for variables, values in zip(self._variables, self._state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        self._state = None  # read again: validation, or a resumed run, may assign others

    @property
    def _variables(self) -> tuple[Sequence[keras.Variable], Sequence[keras.Variable], Sequence[keras.Variable]]:
        return self._trainable, self._mutable, self._optimizer.variables

    def _read_state(self) -> State:
        trainable, mutable, optimizer = ([variable.value for variable in group] for group in self._variables)
        return trainable, mutable, optimizer

    def _scope(self, *values: Values, collect_losses: bool = False) -> keras.StatelessScope:
        """Return a scope in which the first groups of variables have these values."""
        groups = zip(self._variables, values, strict=False)
        pairs = [pair for variables, group in groups for pair in zip(variables, group, strict=True)]
        return keras.StatelessScope(pairs, collect_losses=collect_losses)

    def _run_stack(self, state: State, stack: ModelInputs, count: Any) -> tuple[State, Mapping[str, Any]]:
        def batch_at(step: Any, part: Any) -> ModelInputs:
            index = step * self._accumulate + part
            batch: ModelInputs = jax.tree.map(lambda array: self._copy(array[index]), stack)
            return batch

        return self._run_steps(state, count, batch_at)

    def _copy(self, array: Any) -> Any:
        # Without XLA, a slice of a NumPy array shares the memory of the stack, which is overwritten.
        return array if self._is_compiled else jnp.array(array)

    def _run_batches(self, state: State, batches: Sequence[ModelInputs], count: Any) -> tuple[State, Mapping[str, Any]]:
        return self._run_steps(state, count, lambda step, part: batches[part])

    def _run_steps(
        self, state: State, count: Any, get_batch: Callable[[Any, Any], ModelInputs]
    ) -> tuple[State, Mapping[str, Any]]:
        """Run `count` steps; with `on_nan` "stop" none after a non-finite one."""

        def should_continue(carry: tuple[Any, State]) -> Any:
            step, (_, mutable, _) = carry
            has_next = step < count
            return has_next if self._check_update.skips else has_next & (mutable[self._first_non_finite] == 0)

        def body(carry: tuple[Any, State]) -> tuple[Any, State]:
            step, state = carry
            return step + 1, self._step(state, lambda part: get_batch(step, part))

        state = self._loop(should_continue, body, (jnp.int32(0), state))[1]
        with self._scope(*state):
            return state, self._model.metric_results()

    def _loop(self, should_continue: Callable[[Any], Any], body: Callable[[Any], Any], carry: Any) -> Any:
        if self._is_compiled:
            return jax.lax.while_loop(should_continue, body, carry)
        while should_continue(carry):
            carry = body(carry)
        return carry

    def _step(self, state: State, get_batch: BatchGetter) -> State:
        """Return the state after an update of the weights from `accumulate` batches."""
        trainable, before, optimizer = state
        loss, gradients, mutable = self._accumulate_gradients(state, get_batch)
        with self._scope(trainable, mutable, optimizer) as scope:
            is_good, gradients = self._check_update(loss, gradients, self._trainable)
        mutable = self._current_values(scope)

        def apply() -> tuple[Values, Values]:
            updated: tuple[Values, Values] = self._optimizer.stateless_apply(optimizer, gradients, trainable)
            return updated

        if not self._check_update.skips:
            trainable, optimizer = apply()
        else:
            trainable, optimizer = jax.lax.cond(is_good, apply, lambda: (trainable, optimizer))
            mutable = [
                jnp.where(is_good, value, old) if restored else value
                for value, old, restored in zip(mutable, before, self._restored, strict=True)
            ]
        return trainable, mutable, optimizer

    def _current_values(self, scope: keras.StatelessScope) -> Values:
        return [scope.get_current_value(variable) for variable in self._mutable]

    def _accumulate_gradients(self, state: State, get_batch: BatchGetter) -> tuple[Any, Gradients, Values]:
        """Return loss and gradients of a step (means over the samples of its batches), and the mutable values."""
        trainable, mutable, optimizer = state
        batch = get_batch(0)
        loss, gradients, mutable = self._compute_gradients(trainable, mutable, optimizer, batch)
        if self._accumulate == 1:
            return loss, gradients, mutable

        def summands(loss: Any, gradients: Gradients, batch: ModelInputs) -> Values:
            size = jnp.float32(batch_size(batch))
            return [size, loss * size, *(None if g is None else g * size.astype(g.dtype) for g in gradients)]

        def add(carry: tuple[Any, Values, Values]) -> tuple[Any, Values, Values]:
            part, sums, mutable = carry
            batch = get_batch(part)
            loss, gradients, mutable = self._compute_gradients(trainable, mutable, optimizer, batch)
            new = summands(loss, gradients, batch)
            return part + 1, [a if a is None else a + b for a, b in zip(sums, new, strict=True)], mutable

        carry = (1, summands(loss, gradients, batch), mutable)
        if self._is_stacked:
            carry = self._loop(lambda carry: carry[0] < self._accumulate, add, carry)
        else:
            for _ in range(1, self._accumulate):
                carry = add(carry)
        _, (size, loss, *gradients), mutable = carry
        return loss / size, [None if g is None else g / size.astype(g.dtype) for g in gradients], mutable

    def _compute_gradients(
        self, trainable: Values, mutable: Values, optimizer: Values, batch: ModelInputs
    ) -> tuple[Any, Gradients, Values]:
        """Return the loss of a batch, the gradients of the scaled loss, and the new values of the mutable variables."""
        compute = jax.grad(self._scaled_loss, has_aux=True)
        gradients, (loss, mutable) = compute(trainable, mutable, optimizer, batch)
        pairs = zip(gradients, self._has_gradient, strict=True)
        return loss, [gradient if has_gradient else None for gradient, has_gradient in pairs], mutable

    def _scaled_loss(
        self, trainable: Values, mutable: Values, optimizer: Values, batch: ModelInputs
    ) -> tuple[Any, tuple[Any, Values]]:
        """Return the loss of a batch, scaled for float16; and the loss and the new values of the mutable variables."""
        with self._scope(trainable, mutable, optimizer, collect_losses=True) as scope:
            _, loss = self._model.evaluate_batch(batch, training=True)
            scaled = self._optimizer.scale_loss(loss)
        return scaled, (loss, self._current_values(scope))

    def _trace_nonzero_gradients(self, example: Mapping[str, Any]) -> list[Any]:
        """Return a non-None value for each trainable variable that the loss depends on, None for the others.

        On JAX, the gradient of an unused weight is an array of zeros. The step is traced, not executed.
        """
        trainable, mutable, optimizer = self._read_state()

        def loss(trainable: Values) -> Any:
            return self._scaled_loss(trainable, mutable, optimizer, example)[0]

        traced = jax.make_jaxpr(jax.grad(loss))(trainable).jaxpr
        producers = {variable: equation for equation in traced.eqns for variable in equation.outvars}

        def is_zero(value: Any) -> bool:
            if isinstance(value, JaxLiteral):
                return bool(value.val == 0)
            equation = producers.get(value)
            copies = ("broadcast_in_dim", "convert_element_type", "reshape")
            return equation is not None and equation.primitive.name in copies and is_zero(equation.invars[0])

        return [None if is_zero(gradient) else gradient for gradient in traced.outvars]

    def analyze(self, example: ModelInputs, stack_size: int) -> ProgramCost:
        """Return the cost of a step; see `TrainStep.analyze`."""
        if not stack_size or not self._is_compiled:
            return ProgramCost()
        arguments = (self._read_state(), make_stack(example, stack_size), jnp.int32(1))
        return analyze_jax_program(self._run, arguments, self._accumulate)


def _compiler_options(network: keras.Model) -> dict[str, Any]:
    """Return the options of XLA.

    XLA drops the barriers of `jax.checkpoint` on a CPU before it merges common subexpressions, so that recomputed
    activations become the kept ones again. Measured with JAX 0.10, six blocks of four layers: 110 MB with and without
    rematerialization; 43 MB if the barriers stay.
    """
    if jax.default_backend() == "cpu" and is_rematerialized(network):
        return {"xla_disable_hlo_passes": "cse_barrier_expander"}
    return {}
