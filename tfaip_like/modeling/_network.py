"""Construction of the Keras networks of a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import keras

from tfaip_like._keras_ext import layer_names, range_checks, regularizers
from tfaip_like._keras_ext.broadcasting import PROBE_BATCH_SIZE
from tfaip_like._keras_ext.call_sites import record_call_sites
from tfaip_like._keras_ext.paths import set_variable_paths
from tfaip_like._keras_ext.symbolic_graph import find_source_inputs
from tfaip_like._user_code.code_errors import CodeError, attribute_errors_to, attribute_frame, qualified_method_name
from tfaip_like._utils.errors import with_article
from tfaip_like.data import Data
from tfaip_like.data._sample import Arrays, to_text_array
from tfaip_like.modeling._activation_network import ActivationNetwork, BuildRecorder, make_activation_network
from tfaip_like.modeling._activations import record_with
from tfaip_like.modeling._context import TrainingPosition, current_position, start_position, use_position
from tfaip_like.modeling._graph_scopes import graph_scopes
from tfaip_like.modeling._model import Model, Tensors

logger = logging.getLogger(__name__)

PROBE_LENGTH = 997
"""Size of unknown axes in the symbolic inputs that `check_batch_axis` uses."""

layer_names.install()
range_checks.install()
regularizers.install()


@dataclass(frozen=True)
class Networks:
    """Networks of one model, with shared weights."""

    training: keras.Model
    """Network that is trained; its inputs include the fed targets."""
    prediction: keras.Model
    """Network that is validated; the same object as `training` unless the model defines another."""
    extra: Mapping[str, keras.Model] = field(default_factory=dict)
    """Additional networks to export, by name."""
    export: keras.Model | None = None
    """Network to export instead of the prediction network."""
    activations: Sequence[ActivationNetwork] = ()
    """Training and prediction network with the activations that they record."""

    @property
    def exported(self) -> keras.Model:
        """Network that exports contain."""
        return self.prediction if self.export is None else self.export


def reset_keras(precision: str) -> None:
    """Reset Keras' layer numbering, so that the weights of a second network have the same paths, and its dtype policy.

    Args:
        precision: Name of the dtype policy of new layers.
    """
    shows_all_frames = not keras.config.is_traceback_filtering_enabled()
    keras.utils.clear_session(free_memory=False)
    if shows_all_frames:  # `clear_session` resets it
        keras.config.disable_traceback_filtering()
    keras.config.set_dtype_policy(precision)


@record_call_sites()
def build_networks(model: Model, data: Data) -> Networks:
    """Return the networks of a model for the inputs of its data.

    Raises:
        UsageError: If a method of the model does not return tensors, or uses untrained weights for prediction.
    """
    with graph_scopes(model):
        networks = _build_networks(model, data)
    set_variable_paths(networks.training)
    return networks


def _build_networks(model: Model, data: Data) -> Networks:
    specs, targets = data.validate_specs("inputs"), data.validate_specs("targets")
    for name, spec in specs.items():
        if "/" in name or not name:
            raise CodeError(
                f"{type(data).__name__}.inputs: {name!r} is not a valid input name (empty, or contains '/')",
                attribute_frame(type(data), "inputs"),
            )
        if spec.is_text and keras.backend.backend() != "tensorflow":
            raise CodeError(
                f"{type(data).__name__}.inputs: {name!r} is a text, which networks on {keras.backend.backend()} cannot "
                "have; convert it to numbers in a processor, such as Tokenizer, or use --device.backend tensorflow",
                attribute_frame(type(data), "inputs"),
            )
    inputs = {name: keras.Input(spec.shape, dtype=spec.tensor_dtype, name=name) for name, spec in specs.items()}
    if not inputs:
        message = f"{type(data).__name__}.inputs is empty: the network needs at least one input"
        raise CodeError(message, attribute_frame(type(data), "inputs"))
    fed = {}
    names = [model.feed_targets] if isinstance(model.feed_targets, str) else model.feed_targets
    for name in names:
        if name not in targets or name in inputs or targets[name].is_text:
            raise CodeError(
                f"{type(model).__name__}.feed_targets: {name!r} must be a numeric target of {type(data).__name__} "
                f"and not also an input (targets: {', '.join(targets) or 'none'})",
                attribute_frame(type(model), "feed_targets"),
            )
        fed[name] = keras.Input(targets[name].shape, dtype=targets[name].dtype, name=name)
    recorder, of_prediction = BuildRecorder(), BuildRecorder()
    with record_with(recorder):
        training = _make_network(model.build, {**inputs, **fed}, _call_build_method(model.build, {**inputs, **fed}))
    activations = [make_activation_network(training, recorder, model.build)]
    with record_with(of_prediction):
        predicted = _call_build_method(model.build_prediction, inputs, training)
    if predicted is None:
        if fed:
            raise CodeError(
                f"{type(model).__name__}.feed_targets: targets are not available in prediction; "
                "define an inference network in `build_prediction`",
                attribute_frame(type(model), "feed_targets"),
            )
        prediction = training
    else:
        prediction = _make_network(model.build_prediction, inputs, predicted)
        _check_trained(model.build_prediction, prediction, training)
        activations.append(make_activation_network(prediction, of_prediction, model.build_prediction))
    export = None
    if (outputs := _call_build_method(model.build_export, inputs, prediction)) is not None:
        export = _make_network(model.build_export, inputs, outputs)
        _check_trained(model.build_export, export, training)
    auxiliary = _build_auxiliary_models(model, training)
    return Networks(training, prediction, auxiliary, export, [each for each in activations if each is not None])


def _call_build_method(
    method: Callable[..., Tensors | None], inputs: Tensors, *networks: keras.Model
) -> Tensors | None:
    """Return the outputs of a `build` method of the model, called with inputs and already built networks."""
    with _list_names_on_key_error(inputs, *networks), use_position(partial(_reject_position, method)):
        return method(inputs, *networks)


def _reject_position(method: Callable[..., Any]) -> TrainingPosition:
    """Raise an error, unless a layer is called for the shapes of its outputs: `build` would get a constant."""
    from keras.src.backend.common.symbolic_scope import in_symbolic_scope  # Keras has no public access to it

    if in_symbolic_scope():
        return start_position()
    raise CodeError(
        f"{qualified_method_name(method)} reads `context`, whose value would be a constant of the network; read it in "
        "the method `call` of a layer, in `loss` or in `metrics`"
    )


@contextmanager
def _list_names_on_key_error(inputs: Tensors, *networks: keras.Model) -> Iterator[None]:
    """Add the available names to a `KeyError` of the block, which a misspelt input or output raises."""
    try:
        yield
    except KeyError as error:
        outputs = [name for network in networks for name in network.output]
        available = {"inputs": list(inputs), "outputs of the given network": outputs}
        if not all(name in names for names in (inputs, outputs) if names for name in error.args):
            error.add_note(
                "\n".join(f"Available {kind}: {', '.join(names)}." for kind, names in available.items() if names)
            )
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
        origin: Name of what built the network, for the message.
        network: Network to check.
        code: Functions or classes that built it, see `CodeError`.

    Raises:
        CodeError: If an output has no batch axis.
    """
    # Symbolic: nothing is computed.
    shapes = _infer_output_shapes(network, PROBE_BATCH_SIZE)
    for name, shape in shapes.items():
        if not shape or shape[0] != PROBE_BATCH_SIZE:
            actual = network.output[name].shape if isinstance(network.output, Mapping) else shape
            raise CodeError(
                f"{origin}: output {name!r} has no batch axis (shape {actual}); outputs need one row per sample, "
                "scalars of a whole batch belong in `loss` or `metrics`",
                *code,
            )


def _infer_output_shapes(network: keras.Model, batch: int) -> dict[str, tuple[int | None, ...]]:
    """Return the output shapes for a batch size by name, without those that cannot be inferred."""

    def shape(tensor: keras.KerasTensor) -> tuple[int, ...]:
        return (batch, *(PROBE_LENGTH if size is None else size for size in tensor.shape[1:]))

    if not isinstance(getattr(network, "input", None), Mapping | Sequence | keras.KerasTensor):
        return {}  # a subclassed model, without a graph
    inputs = keras.tree.map_structure(lambda tensor: keras.KerasTensor(shape(tensor), tensor.dtype), network.input)
    try:
        specs = network.compute_output_spec(inputs)
    except Exception as error:  # of any layer: not all of them infer a shape for every length
        logger.debug("cannot infer the output shapes of %s: %s", network.name, error)
        return {}
    shapes = {}
    for path, spec in keras.tree.flatten_with_path(specs):
        name = str(path[-1]) if path else network.output_names[0]
        if not spec.shape or spec.shape[0] is not None:
            shapes[name] = spec.shape
    return shapes


def select_inputs(values: Tensors, network: keras.Model) -> dict[str, object]:
    """Return the values that a network takes as inputs; additional ones could silently feed the wrong input."""
    return {name: values[name] for name in input_names(network)}


def make_predict_fn(network: keras.Model) -> Callable[[Arrays], Arrays]:
    """Return a function that maps a batch of inputs to the outputs of a network in memory."""
    compute = _trace_for_any_shape(network)

    def predict(inputs: Arrays) -> Arrays:
        outputs: Arrays = compute(select_inputs(inputs, network))
        return outputs

    return predict


def _trace_for_any_shape(network: keras.Model) -> Callable[[Any], Any]:
    """Return the inference function of a network, on TensorFlow with one trace for batches of all shapes.

    Keras traces once for each of the first batch shapes. An LSTM traced for one shape and one traced for any shape
    differ in the last bit, so outputs would depend on the earlier batches: a resumed run would log other numbers.
    """
    if keras.backend.backend() != "tensorflow" or network.run_eagerly:
        return partial(_predict_on_batch, network)
    if not hasattr(network, _TRACE_ATTRIBUTE):
        import tensorflow as tf

        specs = {tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name) for tensor in network.inputs}

        def call(inputs: Any, step: Any, epoch: Any) -> Any:
            with use_position(lambda: TrainingPosition(step, epoch)):
                return network(inputs, training=False)

        scalar = tf.TensorSpec((), "float32")
        traced = tf.function(
            call, input_signature=[specs, scalar, scalar], jit_compile=network.jit_compile, autograph=False
        )

        def compute(inputs: Any) -> Any:
            tensors = {name: tf.convert_to_tensor(value, specs[name].dtype) for name, value in inputs.items()}
            position = (tf.convert_to_tensor(value, "float32") for value in current_position())
            return tf.nest.map_structure(_to_numpy, traced(tensors, *position))

        setattr(network, _TRACE_ATTRIBUTE, compute)
    return getattr(network, _TRACE_ATTRIBUTE)  # type: ignore[no-any-return]


def _to_numpy(tensor: Any) -> Any:
    array = tensor.numpy()
    return to_text_array(array) if array.dtype == object else array


_compiled_positions: WeakKeyDictionary[keras.Model, TrainingPosition] = WeakKeyDictionary()
"""Position that Keras' compiled inference function of a network holds as constants, if the network reads it."""


def _predict_on_batch(network: keras.Model, inputs: Any) -> Any:
    position, reads = current_position(), list[bool]()
    if _compiled_positions.get(network, position) != position:
        network.predict_function = None  # Keras compiles it again

    def read() -> TrainingPosition:
        reads.append(True)
        return position

    with use_position(read):
        outputs = network.predict_on_batch(inputs)
    if reads:
        _compiled_positions[network] = position
    return outputs


_TRACE_ATTRIBUTE = "predict_any_shape"
"""Attribute of a network that caches its inference function."""


def input_names(network: keras.Model) -> list[str]:
    """Return the names of a network's inputs."""
    return [tensor.name for tensor in network.inputs]


def _make_network(build: Callable[..., Any], inputs: Mapping[str, keras.KerasTensor], outputs: object) -> keras.Model:
    """Return the network with the outputs that a method of the model returned, and the inputs that they use.

    Raises:
        CodeError: If the outputs are not named tensors with a batch axis.
    """
    origin = qualified_method_name(build)
    if not isinstance(outputs, Mapping) or not all(isinstance(o, keras.KerasTensor) for o in outputs.values()):
        actual = _describe_wrong_type(outputs, keras.KerasTensor)
        raise CodeError(f"{origin} returned {actual}; it must return named tensors: {{'name': tensor, ...}}", build)
    if not outputs or not all(isinstance(name, str) and name for name in outputs):
        raise CodeError(f"{origin} returned outputs {list(outputs)}; each needs a name: {{'name': tensor, ...}}", build)
    outputs = {name: _cast_to_float32(output) for name, output in outputs.items()}
    used = find_source_inputs(outputs.values())
    inputs = {name: tensor for name, tensor in inputs.items() if name in used}
    layer_names.make_names_unique(outputs.values(), origin)
    with attribute_errors_to(build):
        network = keras.Model(inputs, dict(outputs), name="network")
    check_batch_axis(origin, network, build)
    return network


def _cast_to_float32(output: keras.KerasTensor) -> keras.KerasTensor:
    """Cast a half-precision output of mixed precision to float32, which losses, evaluators and clients expect."""
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
            f"{qualified_method_name(build)} uses weights that are never trained ({', '.join(untrained[:3])}); "
            "reuse layers of the given network: get_layer(NAME)",
            build,
        )
