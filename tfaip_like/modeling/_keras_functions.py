"""Losses and metrics by the names of Keras, as functions that return one value per sample."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.lazy_keras import keras, ops
from tfaip_like.modeling._model import Tensors

ALIASES = ("mse", "mae", "mape", "msle", "bce", "kld")
"""Short names of losses, which are also metrics."""

Kind = Literal["losses", "metrics"]


def compute_keras_functions(
    kind: Kind, specs: Sequence[str], targets: Tensors, outputs: Tensors, from_logits: bool
) -> dict[str, Any]:
    """Return the values of losses or metrics, by their names if they are of a single output, else by `OUTPUT_NAME`.

    Args:
        kind: `losses` or `metrics`, a module of Keras.
        specs: Names in Keras, as `NAME` or `OUTPUT=NAME`.
        targets: Targets of the batch by name.
        outputs: Outputs of the network by name.
        from_logits: Whether the outputs are logits.
    """
    chosen = list(_split_specs(kind, specs, outputs))
    has_prefix = len({output for output, _ in chosen}) > 1
    values = {}
    for output, name in chosen:
        target = _select_target(kind, output, targets, outputs)
        function = find_keras_function(kind, _resolve_accuracy(name, target, outputs[output]))
        if from_logits:
            function = _with_logits(function)
        value = function(*_align_ranks(target, outputs[output]))
        values[f"{output}_{name}" if has_prefix else name] = _average_over_sample(value)
    return values


def _split_specs(kind: Kind, specs: Sequence[str], outputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the output and the name of each `NAME` or `OUTPUT=NAME`."""
    for spec in specs:
        output, separator, name = spec.rpartition("=")
        if not separator and len(outputs) == 1:
            (output,) = outputs
        if output not in outputs:
            raise UsageError(
                f"--model.keras_{kind} {spec}: expected OUTPUT=NAME with one of the outputs {', '.join(outputs)}"
            )
        yield output, name


def _select_target(kind: Kind, output: str, targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    """Return the target of an output: that of its name, or the only one."""
    if output in targets:
        return targets[output]
    if len(targets) == 1 and not set(targets) & set(outputs):
        return next(iter(targets.values()))
    raise UsageError(
        f"--model.keras_{kind}: output {output!r} has no target of its name; targets: {', '.join(targets) or 'none'}.\n"
        "Set `output_names` to the names of targets, or override `loss` and `metrics`."
    )


def find_keras_function(kind: Kind, name: str) -> Callable[..., Any]:
    """Return the function of targets and outputs of Keras with a name, such as `mse` or `MeanSquaredError`.

    `get` of Keras creates an object for many names, whose variables a compiled step cannot create.

    Raises:
        UsageError: If Keras has no function of the name.
    """
    module = getattr(keras, kind)
    functions: dict[str, Callable[..., Any]] = {
        each.replace("_", ""): getattr(module, each)
        for each in set(dir(module)) - {"get", "serialize", "deserialize"}
        if inspect.isfunction(getattr(module, each))
    } | {alias: keras.losses.get(alias) for alias in ALIASES}
    wanted = name.replace("_", "").lower()
    if wanted in functions:
        return functions[wanted]
    if inspect.isclass(getattr(module, name, None)):
        raise UsageError(f"--model.keras_{kind} {name}: not an average over samples; compute it in an `Evaluator`")
    near = difflib.get_close_matches(wanted, functions, n=1)
    hint = f"; did you mean {functions[near[0]].__name__}?" if near else ""
    raise UsageError(f"--model.keras_{kind} {name}: not in keras.{kind}{hint}")


def _resolve_accuracy(name: str, target: Any, output: Any) -> str:
    """Return the accuracy that `fit` chooses for the shapes if a metric is called `accuracy`."""
    if name not in ("accuracy", "acc"):
        return name
    if output.shape[-1] == 1 or len(output.shape) == 1:
        return "binary_accuracy"
    return "sparse_categorical_accuracy" if len(target.shape) < len(output.shape) else "categorical_accuracy"


def _with_logits(function: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """Return a loss or metric that takes logits, if it depends on them."""
    parameters = inspect.signature(function).parameters
    if "from_logits" in parameters:
        return lambda target, output: function(target, output, from_logits=True)
    if "threshold" in parameters:  # binary_accuracy: a logit of 0 is a probability of 0.5
        return lambda target, output: function(target, output, threshold=0.0)
    return function


def _align_ranks(target: Any, output: Any) -> tuple[Any, Any]:
    """Return a target and an output of the same rank if they differ in a last axis of length 1, as `fit` does.

    Other losses take a target with one axis less: the index of a class.
    """
    if len(output.shape) == len(target.shape) + 1 and output.shape[-1] == 1:
        target = ops.expand_dims(target, -1)
    elif len(target.shape) == len(output.shape) + 1 and target.shape[-1] == 1:
        target = ops.squeeze(target, -1)
    return target, output


def _average_over_sample(value: Any) -> Any:
    """Return the mean over all axes but the batch."""
    rank = len(value.shape)
    return ops.mean(value, axis=tuple(range(1, rank))) if rank > 1 else value
