"""Loaded export for inference.

Requires TensorFlow and NumPy only, for exports of all backends: neither Keras nor the scenario's code.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tfaip_like._export.graph_inspection import asset_filenames, find_forbidden_operation
from tfaip_like._export.layout import (
    PARAMS,
    SERVE,
    SIGNATURE,
    WITH_LOGITS,
    argument_names,
    read_versions,
    require_file,
)
from tfaip_like._export.logits import OUTPUT, is_output, select_outputs
from tfaip_like._export.safe_paths import tensorflow_safe_path
from tfaip_like._runs.run_files import METRICS, read_metrics
from tfaip_like._user_code.trust import TRUST_FLAG, allows_untrusted_code
from tfaip_like._utils.errors import UsageError, short_error_message
from tfaip_like._utils.json_files import Json
from tfaip_like.data._sample import Arrays, Spec, to_text_array
from tfaip_like.evaluation._evaluation import SampleError
from tfaip_like.params._files import read_param_file
from tfaip_like.params._resources import RESOURCES_DIR

logger = logging.getLogger(__name__)

SAVED_MODEL = "saved_model.pb"
VARIABLES = "variables"
ASSETS = "assets"


_OUT_OF_RANGE_PATTERN = re.compile(r"id out of range for (?P<layer>\w+ \\'.+?\\' \(0\.\.\d+\)):\] \[(?P<id>[^\]\s]+)")
"""Assertion message of `_keras_ext.range_checks`, which cannot be imported here because it requires Keras."""


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of an input or output of a network."""

    shape: tuple[int | None, ...] | None
    """Shape with the batch axis first; None for an axis of any length, or for an unknown rank."""
    dtype: str


@dataclass(frozen=True)
class ExportedModel:
    """Loaded export; calling it predicts a batch.

    Args:
        path: Export directory.
        inputs: Specs of the inputs of the network by name.
        outputs: Specs of the outputs of the network by name, in the order in which the model returns them.
        metrics: `epoch` and the metrics of the network.
        scenario_params: Contents of `scenario_params.json`; the scenario's classes are not needed.
        versions: Package versions that wrote the export, by name.
        saved_model: SavedModel as loaded by TensorFlow.
        finite_inputs: Names of the inputs that must not contain NaN or infinity.
    """

    path: Path
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    metrics: Mapping[str, Any]
    scenario_params: Mapping[str, Json]
    versions: Mapping[str, str]
    saved_model: Any
    finite_inputs: Collection[str] = ()

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """Return the outputs for a batch.

        Args:
            inputs: Named arrays of shape (batch, ...); additional ones are ignored.

        Raises:
            UsageError: If an input is missing, or has the wrong shape or dtype.
        """
        return self._call(SIGNATURE, inputs)

    predict_on_batch = __call__

    def predict_with_logits(self, inputs: Mapping[str, Any]) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
        """Return the outputs for a batch, and the logits for `logits.attach_logits`."""
        if WITH_LOGITS not in self.saved_model.signatures:
            return self(inputs), {}
        values = self._call(WITH_LOGITS, inputs)
        outputs = select_outputs(values)
        return outputs, {name: value for name, value in values.items() if not is_output(name)}

    def _call(self, function: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
        import tensorflow as tf

        arguments = argument_names(self.inputs)
        arrays = {arguments[name]: self._convert_input(name, inputs) for name in self.inputs}

        def call(begin: int, end: int | None) -> Any:
            return self.saved_model.signatures[function](
                **{name: tf.constant(array[begin:end]) for name, array in arrays.items()}
            )

        try:
            outputs = call(0, None)
        except tf.errors.InvalidArgumentError as error:
            if not _OUT_OF_RANGE_PATTERN.search(str(error)):
                raise
            raise self._make_out_of_range_error(call, len(next(iter(arrays.values())))) from None
        # TensorFlow restores the outputs of a function in random order: those of `self.outputs` first, then logits.
        names = [f"{OUTPUT}:{name}" for name in self.outputs] if function == WITH_LOGITS else list(self.outputs)
        answers = {name: _to_array(outputs[name]) for name in [*names, *sorted(outputs.keys() - set(names))]}
        self._check_finite(arrays, select_outputs(answers) if function == WITH_LOGITS else answers)
        return answers

    def _check_finite(self, inputs: Arrays, outputs: Arrays) -> None:
        """Raise for a sample with NaN or infinity in an input that must be finite, or in both an input and an output.

        Networks may handle non-finite inputs (missing values), and return non-finite outputs for finite inputs (masks).
        """
        bad_inputs = _non_finite_rows(inputs)
        bad_outputs = _non_finite_rows(outputs) if bad_inputs else {}
        names = {argument: name for name, argument in argument_names(self.inputs).items()}
        for argument, rows in bad_inputs.items():
            affected = {output: rows & others for output, others in bad_outputs.items() if rows & others}
            is_rejected = names[argument] in self.finite_inputs
            if is_rejected or affected:
                row = min(rows if is_rejected else set().union(*affected.values()))
                values = np.asarray(inputs[argument][row], "float32")
                index = tuple(map(int, np.argwhere(~np.isfinite(values))[0]))
                location = f" at {list(index)}" if index else ""
                reason = f"input {names[argument]!r} is {values[index]}{location}, which the network does not support"
                raise SampleError(self.path, reason, row)

    def _make_out_of_range_error(self, call: Callable[[int, int], Any], size: int) -> SampleError:
        """Return the error for the first id out of range, found by bisection.

        Args:
            call: Function that predicts the samples from one index to another.
            size: Number of samples.
        """
        import tensorflow as tf

        def problem(begin: int, end: int) -> re.Match[str] | None:
            try:
                call(begin, end)
            except tf.errors.InvalidArgumentError as error:
                return _OUT_OF_RANGE_PATTERN.search(str(error))
            return None

        begin, end = 0, size
        while end - begin > 1:
            middle = (begin + end) // 2
            begin, end = (begin, middle) if problem(begin, middle) else (middle, end)
        match = problem(begin, end)
        assert match is not None
        layer = match["layer"].replace("\\'", "'")  # TensorFlow escapes strings
        return SampleError(self.path, f"id {match['id']} is out of range for {layer}", begin)

    @property
    def weight_mb(self) -> float:
        """Size of the weights in MB (10^6 bytes)."""
        variables = [v for v in getattr(self.saved_model, "variables", ()) if v.dtype.is_floating]
        return float(sum(np.prod(variable.shape) * variable.dtype.size for variable in variables)) / 1e6

    @property
    def resources(self) -> Path:
        """Directory of the files that the pipeline needs; missing if it needs none."""
        return self.path / RESOURCES_DIR

    def resource(self, name: str) -> Path:
        """Return the path of a file that the parameters refer to (`resources/codec.txt`).

        Raises:
            UsageError: If it is missing, or outside of the export.
        """
        return require_file(self.path, name)

    def _convert_input(self, name: str, inputs: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        where = f"{self.path}: input {name!r}"
        if name not in inputs:
            raise UsageError(f"{where} is missing; got: {', '.join(inputs) or 'none'}")
        array, spec = np.asarray(inputs[name]), self.inputs[name]
        assert spec.shape is not None
        specification = Spec(spec.shape, spec.dtype)
        if problem := specification.validation_error(array):
            raise UsageError(f"{where} {problem}")
        return specification.convert(array)


def _non_finite_rows(arrays: Arrays) -> dict[str, set[int]]:
    """Return the rows with NaN or infinity of each array that has any."""
    rows_by_name = {}
    for name, array in arrays.items():
        if array.ndim and "float" in array.dtype.name:
            finite = np.isfinite(array.astype("float32") if array.dtype.name == "bfloat16" else array)
            if not finite.all():
                rows_by_name[name] = set(np.flatnonzero(~finite.reshape(len(array), -1).all(axis=1)).tolist())
    return rows_by_name


def load_export(path: Path, trust_code: bool = False) -> ExportedModel:
    """Load an export for inference; only the graph of its network is run.

    Args:
        path: Export directory.
        trust_code: Accept a graph with any operations, which may do anything on this machine.

    Raises:
        UsageError: If it is not an export, or a file is missing or corrupt; names the file.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such directory")
    if not any((path / name).exists() for name in (SERVE, PARAMS)):
        raise UsageError(f"{path}: not an export directory (missing {SERVE}/ and {PARAMS})")
    params = read_param_file(require_file(path, PARAMS))
    require_file(path, METRICS)
    metrics = read_metrics(path)
    versions = read_versions(path)
    for name, size in versions.resources.items():
        file = require_file(path, f"{RESOURCES_DIR}/{name}")
        if file.stat().st_size != size:
            raise UsageError(
                f"{file}: has {file.stat().st_size} bytes instead of the {size} exported; copy the export again"
            )
    saved_model = _load_saved_model(path, trust_code or allows_untrusted_code())
    inputs, outputs = _read_signature(saved_model, list(versions.outputs))
    return ExportedModel(path, inputs, outputs, metrics, params, versions.packages, saved_model, versions.finite_inputs)


def load_weights(exported: ExportedModel, path: Path) -> ExportedModel:
    """Read the weights of another export with the same graph into a loaded one, which is ten times faster to load.

    Args:
        exported: Loaded export; it has the other weights afterwards.
        path: Other export.
    """
    import tensorflow as tf

    with tensorflow_safe_path(path / SERVE) as serve:
        checkpoint = tf.train.Checkpoint(root=exported.saved_model)
        checkpoint.read(str(Path(serve, VARIABLES, VARIABLES))).assert_existing_objects_matched()
    return dataclasses.replace(exported, path=path, metrics=read_metrics(path))


def _load_saved_model(path: Path, trust_code: bool) -> Any:
    import tensorflow as tf

    for name in (SAVED_MODEL, f"{VARIABLES}/{VARIABLES}.index"):
        require_file(path, f"{SERVE}/{name}")
    for file in (path / SERVE).rglob("*"):
        if file.is_symlink() or file.is_file():
            require_file(path, file.relative_to(path))
    _inspect_graph(path, trust_code)
    try:
        with tensorflow_safe_path(path / SERVE) as serve, _suppress_gradient_warnings():
            loaded = tf.saved_model.load(str(serve))
    except Exception as error:  # TensorFlow raises anything here
        raise UsageError(f"{path / SERVE / VARIABLES}: incomplete or corrupt: {short_error_message(error)}") from error
    if SIGNATURE not in loaded.signatures:
        raise UsageError(f"{path / SERVE}: no signature {SIGNATURE!r}; not usable for inference")
    return loaded


@contextmanager
def _suppress_gradient_warnings() -> Iterator[None]:
    """Suppress a warning for each function of an export from JAX: gradients of custom operations are not needed."""
    absl = logging.getLogger("absl")

    def is_wanted(record: logging.LogRecord) -> bool:
        return "unsaved custom gradients" not in record.getMessage()

    absl.addFilter(is_wanted)
    try:
        yield
    finally:
        absl.removeFilter(is_wanted)


def _inspect_graph(path: Path, trust_code: bool) -> None:
    """Raise `UsageError` for a SavedModel that cannot be read, or that could do more than inference."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file = path / SERVE / SAVED_MODEL
    try:
        meta_graphs = SavedModel.FromString(file.read_bytes()).meta_graphs
    except Exception as error:  # of the protobuf library; its class depends on the implementation
        raise UsageError(f"{file}: incomplete or corrupt: {short_error_message(error)}") from error
    if len(meta_graphs) != 1 or not meta_graphs[0].object_graph_def.nodes:
        raise UsageError(f"{file}: incomplete or corrupt: not a TensorFlow 2 SavedModel")
    for asset in asset_filenames(meta_graphs[0]):
        require_file(path / SERVE / ASSETS, asset)
    operation = find_forbidden_operation(meta_graphs[0])
    if operation and not trust_code:
        raise UsageError(
            f"{path / SERVE}: contains the operation {operation}, which inference does not need and which may access "
            "files or run code; not loaded.\n"
            f"If you trust the author, add {TRUST_FLAG} (in Python: trust_code=True)."
        )
    if operation:
        _warn_about_operation(operation)


@cache  # training loads an export in each epoch
def _warn_about_operation(operation: str) -> None:
    logger.warning("The export contains the operation %s; loading it requires %s.", operation, TRUST_FLAG)


def _read_signature(
    saved_model: Any, output_names: Sequence[str]
) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Return the specs of the inputs and outputs of a SavedModel by their names in the scenario.

    Args:
        saved_model: SavedModel as loaded by TensorFlow.
        output_names: Names of the outputs in the order of the model; any others follow in alphabetical order.
    """
    signature = saved_model.signatures[SIGNATURE]
    arguments = signature.structured_input_signature[1]
    inputs = {argument: _to_tensor_spec(spec) for argument, spec in arguments.items()}
    if hasattr(saved_model, SERVE):  # this function has the original input names
        ((named, *_), _) = saved_model.serve.concrete_functions[0].structured_input_signature
        names = argument_names(named)
        inputs = {name: inputs[names[name]] for name in sorted(names)}
    specs = signature.structured_outputs
    ordered = dict.fromkeys([*(name for name in output_names if name in specs), *sorted(specs)])
    return inputs, {name: _to_tensor_spec(specs[name]) for name in ordered}


def _to_array(tensor: Any) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.numpy()
    return to_text_array(array) if array.dtype == object else array


def _to_tensor_spec(spec: Any) -> TensorSpec:
    dtype = "str" if spec.dtype.name == "string" else spec.dtype.name
    return TensorSpec(None if spec.shape.rank is None else tuple(spec.shape.as_list()), dtype)
