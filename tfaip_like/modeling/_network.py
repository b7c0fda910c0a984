"""From a scenario's model and data to Keras networks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras

from tfaip_like._keras_ext import range_checks, regularizers
from tfaip_like._keras_ext.call_sites import record_call_sites
from tfaip_like._user_code.code_errors import CodeError, attribute_errors_to, attribute_frame, qualified_method_name
from tfaip_like._utils.errors import with_article
from tfaip_like.data import Data
from tfaip_like.data._sample import Arrays
from tfaip_like.modeling._model import Model, Tensors

logger = logging.getLogger(__name__)

PROBE_BATCH_SIZE = 10_007
PROBE_LENGTH = 997

range_checks.install()
regularizers.install()


@dataclass(frozen=True)
class Networks:
    """The networks of one model; they share their weights."""

    training: keras.Model
    """Named inputs (and fed targets) to named outputs, as trained."""
    prediction: keras.Model
    """Named inputs to named outputs, as validated; the same object where one network does both."""
    extra: Mapping[str, keras.Model] = field(default_factory=dict)
    """More networks to export, by name."""
    export: keras.Model | None = None
    """Another network that is exported in place of the prediction network."""

    @property
    def exported(self) -> keras.Model:
        """The network that exports hold."""
        return self.prediction if self.export is None else self.export


def reset_keras(precision: str) -> None:
    """Number layers from the start: a second network must not have other paths of weights than the first.

    Args:
        precision: the dtype policy of the layers from here on.
    """
    shows_all_frames = not keras.config.is_traceback_filtering_enabled()
    keras.utils.clear_session(free_memory=False)
    if shows_all_frames:  # which was forgotten
        keras.config.disable_traceback_filtering()
    keras.config.set_dtype_policy(precision)


@record_call_sites()
def build_networks(model: Model, data: Data) -> Networks:
    """Builds the networks of a model for the inputs of its data.

    Raises:
        UsageError: when the model returns what is no network, or predicts with untrained weights.
    """
    specs, targets = data.validate_specs("inputs"), data.validate_specs("targets")
    for name in specs:
        if "/" in name or not name:
            raise CodeError(
                f"{type(data).__name__}.inputs: {name!r} cannot be the name of an input, Keras needs one without '/'",
                attribute_frame(type(data), "inputs"),
            )
    inputs = {name: keras.Input(spec.shape, dtype=spec.dtype, name=name) for name, spec in specs.items()}
    if not inputs:
        message = f"{type(data).__name__}.inputs is empty: the network needs at least one input"
        raise CodeError(message, attribute_frame(type(data), "inputs"))
    fed = {}
    names = [model.feed_targets] if isinstance(model.feed_targets, str) else model.feed_targets
    for name in names:
        if name not in targets or name in inputs:
            raise CodeError(
                f"{type(model).__name__}.feed_targets: {name!r} must be a target of {type(data).__name__} "
                f"({', '.join(targets) or 'it has none'}) and not the name of an input",
                attribute_frame(type(model), "feed_targets"),
            )
        fed[name] = keras.Input(targets[name].shape, dtype=targets[name].dtype, name=name)
    training = _make_network(model.build, {**inputs, **fed}, _call_build_method(model.build, {**inputs, **fed}))
    predicted = _call_build_method(model.build_prediction, inputs, training)
    if predicted is None:
        if fed:
            raise CodeError(
                f"{type(model).__name__} feeds targets to its network (feed_targets), which prediction does not have: "
                "write build_prediction",
                attribute_frame(type(model), "feed_targets"),
            )
        prediction = training
    else:
        prediction = _make_network(model.build_prediction, inputs, predicted)
        _check_trained(model.build_prediction, prediction, training)
    export = None
    if (outputs := _call_build_method(model.build_export, inputs, prediction)) is not None:
        export = _make_network(model.build_export, inputs, outputs)
        _check_trained(model.build_export, export, training)
    return Networks(training, prediction, _build_auxiliary_models(model, training), export)


def _call_build_method(
    method: Callable[..., Tensors | None], inputs: Tensors, *networks: keras.Model
) -> Tensors | None:
    """Return what a method of the model makes of the inputs, and of a network that is there already."""
    with _list_names_on_key_error(inputs, *networks):
        return method(inputs, *networks)


@contextmanager
def _list_names_on_key_error(inputs: Tensors, *networks: keras.Model) -> Iterator[None]:
    """List the names that there are for a `KeyError` of the block: an input or output that is misspelt."""
    try:
        yield
    except KeyError as error:
        outputs = [name for network in networks for name in network.output]
        lists = {"inputs": list(inputs), "outputs of the network that it is given": outputs}
        if not all(name in names for names in (inputs, outputs) if names for name in error.args):
            error.add_note("\n".join(f"The {what} are {', '.join(names)}." for what, names in lists.items() if names))
        raise


def _build_auxiliary_models(model: Model, trained: keras.Model) -> dict[str, keras.Model]:
    with _list_names_on_key_error({}, trained):
        networks = model.auxiliary_models(trained)
    where = f"{type(model).__name__}.auxiliary_models"
    if not isinstance(networks, Mapping) or not all(isinstance(n, keras.Model) for n in networks.values()):
        message = (
            f"{where} returned {_describe_wrong_type(networks, keras.Model)}; it must return "
            f"{{'name': keras.Model(...), ...}}"
        )
        raise CodeError(message, model.auxiliary_models)
    for name, network in networks.items():
        check_batch_axis(f"{where}, {name!r}", network, model.auxiliary_models)
    return dict(networks)


def check_batch_axis(origin: str, network: keras.Model, *code: object) -> None:
    """Check that the first axis of each output grows with the batch, as samples take their rows from it.

    Args:
        origin: of the network, for the message.
        code: that built it, see `CodeError`.

    Raises:
        CodeError: when one does not; names it.
    """
    # Without computing anything: so large a batch is no other axis by chance.
    shapes = _infer_output_shapes(network, PROBE_BATCH_SIZE)
    for name, shape in shapes.items():
        if not shape or shape[0] != PROBE_BATCH_SIZE:
            given = network.output[name].shape if isinstance(network.output, Mapping) else shape
            raise CodeError(
                f"{origin}: output {name!r} has no batch axis (shape {given}); a sample needs a row of its own, and "
                "numbers of a whole batch belong into loss or metrics",
                *code,
            )


def _infer_output_shapes(network: keras.Model, batch: int) -> dict[str, tuple[int | None, ...]]:
    """Shapes of the outputs for a batch of that size, by name; without those that cannot be known."""

    def shape(tensor: keras.KerasTensor) -> tuple[int, ...]:
        return (batch, *(PROBE_LENGTH if size is None else size for size in tensor.shape[1:]))

    if not isinstance(getattr(network, "input", None), Mapping | Sequence | keras.KerasTensor):
        return {}  # written as a class, without a graph
    inputs = keras.tree.map_structure(lambda tensor: keras.KerasTensor(shape(tensor), tensor.dtype), network.input)
    try:
        specs = network.compute_output_spec(inputs)
    except Exception as error:  # of any layer: not every one can tell its shape for every length
        logger.debug("the shapes of the outputs of %s are not known: %s", network.name, error)
        return {}
    found = {}
    for path, spec in keras.tree.flatten_with_path(specs):
        name = str(path[-1]) if path else network.output_names[0]
        if not spec.shape or spec.shape[0] is not None:
            found[name] = spec.shape
    return found


def select_inputs(values: Tensors, network: keras.Model) -> dict[str, object]:
    """The values that a network takes as its inputs (an extra one could silently feed the wrong input)."""
    return {name: values[name] for name in input_names(network)}


def make_predict_fn(network: keras.Model) -> Callable[[Arrays], Arrays]:
    """Return how a network in memory predicts a batch."""
    compute = _trace_for_any_shape(network)

    def predict(inputs: Arrays) -> Arrays:
        outputs: Arrays = compute(select_inputs(inputs, network))
        return outputs

    return predict


def _trace_for_any_shape(network: keras.Model) -> Callable[[Any], Any]:
    """Return inference with a network, on TensorFlow with one trace for batches of all shapes.

    Keras traces anew for the first shapes that it meets. An LSTM that was traced for one shape and one that was traced
    for any differ in the last bit, so what a batch gives would depend on what was predicted before it: a resumed run
    would log other numbers.
    """
    if keras.backend.backend() != "tensorflow" or network.run_eagerly:
        return network.predict_on_batch  # type: ignore[no-any-return]
    if not hasattr(network, _TRACE_ATTRIBUTE):
        import tensorflow as tf

        specs = {tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name) for tensor in network.inputs}
        traced = tf.function(
            lambda inputs: network(inputs, training=False),
            input_signature=[specs],
            jit_compile=network.jit_compile,
            autograph=False,
        )

        def compute(inputs: Any) -> Any:
            tensors = {name: tf.convert_to_tensor(value, specs[name].dtype) for name, value in inputs.items()}
            return tf.nest.map_structure(lambda output: output.numpy(), traced(tensors))

        setattr(network, _TRACE_ATTRIBUTE, compute)
    return getattr(network, _TRACE_ATTRIBUTE)  # type: ignore[no-any-return]


_TRACE_ATTRIBUTE = "predict_any_shape"
"""Attribute of a network with its trace for prediction."""


def input_names(network: keras.Model) -> list[str]:
    """The names of a network's inputs."""
    return [tensor.name for tensor in network.inputs]


def _make_network(build: Callable[..., Any], inputs: Mapping[str, keras.KerasTensor], outputs: object) -> keras.Model:
    """Return the network that a method of the model built."""
    origin = qualified_method_name(build)
    if not isinstance(outputs, Mapping) or not all(isinstance(o, keras.KerasTensor) for o in outputs.values()):
        what = _describe_wrong_type(outputs, keras.KerasTensor)
        raise CodeError(f"{origin} returned {what}; it must return named tensors: {{'name': tensor, ...}}", build)
    if not outputs or not all(isinstance(name, str) and name for name in outputs):
        raise CodeError(f"{origin} returned outputs {list(outputs)}; each needs a name: {{'name': tensor, ...}}", build)
    outputs = {name: _cast_to_float32(output) for name, output in outputs.items()}
    used = _find_source_inputs(outputs)
    inputs = {name: tensor for name, tensor in inputs.items() if name in used}
    with attribute_errors_to(build):
        network = keras.Model(inputs, dict(outputs), name="network")
    check_batch_axis(origin, network, build)
    return network


def _find_source_inputs(outputs: Mapping[str, keras.KerasTensor]) -> set[str]:
    """The names of the inputs that some outputs depend on.

    Not with `keras.utils.get_source_inputs`, which visits a tensor once for each path to it: their number doubles
    with each step of a decoder and each residual block (measured: 3 s for ten steps of a GRU, 100 s of an LSTM).
    """
    waiting, seen, names = list(outputs.values()), set(), set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        operation, index, _ = tensor._keras_history
        node = operation._inbound_nodes[index]
        if node.is_input:
            names.add(tensor.name)
        waiting.extend(node.input_tensors)
    return names


def _cast_to_float32(output: keras.KerasTensor) -> keras.KerasTensor:
    """What layers computed in half the bits, as losses, evaluators and whoever uses an export expect it."""
    is_mixed = keras.config.dtype_policy().name.startswith("mixed")
    return keras.ops.cast(output, "float32") if is_mixed and output.dtype in ("float16", "bfloat16") else output


def _describe_wrong_type(value: object, expected: type) -> str:
    if isinstance(value, Mapping):
        wrong: Sequence[str] = [name for name, item in value.items() if not isinstance(item, expected)]
        return f"{wrong[0]!r} as {with_article(type(value[wrong[0]]).__name__)}"
    return with_article(type(value).__name__)


def _check_trained(build: Callable[..., Any], network: keras.Model, training: keras.Model) -> None:
    trained = {id(variable) for variable in training.weights}
    untrained = [variable.path for variable in network.weights if id(variable) not in trained]
    if untrained:
        raise CodeError(
            f"{qualified_method_name(build)} uses weights that are never trained "
            f"({', '.join(untrained[:3])}): take layers from "
            "the network that it is given, get_layer(NAME)",
            build,
        )
