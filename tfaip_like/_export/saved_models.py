"""Writing of networks as SavedModels."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import keras

from tfaip_like._export.layout import ADDITIONAL, SERVE, argument_names
from tfaip_like._export.logits import add_endpoints_with_logits
from tfaip_like._export.safe_paths import tensorflow_safe_path
from tfaip_like._keras_ext import range_checks
from tfaip_like.modeling._context import TrainingPosition, current_position, use_position
from tfaip_like.modeling._network import input_names

logger = logging.getLogger(__name__)

_VARIABLES = "variables"
"""Directory of a SavedModel with the values of its variables, and the name of the files in it."""
_FINGERPRINT = "fingerprint.pb"
"""Hashes of the files of a SavedModel; optional."""


class SavedModelWriter:
    """Writer of a network in inference mode as SavedModels with the same input and output names.

    On TensorFlow the network is traced once. Later SavedModels are the first one with the current values of the
    variables, which is 60 times faster for a bidirectional LSTM (1.5 s, 0.025 s). The network is traced again if the
    graph may have changed: it has constants of the training position (`context.step`), or other variables.

    Args:
        network: Network to write.
        with_logits: Add a function that also returns the logits of outputs, see `logits`.
    """

    def __init__(self, network: keras.Model, with_logits: bool = False):
        self.network = network
        self._with_logits = with_logits
        self._archive: Any = None
        self._depends_on_position = False
        self._variables: list[keras.Variable] = []
        self._graph_files: dict[Path, bytes] = {}
        """Files of the first SavedModel that do not depend on the values of variables, by path in it."""

    def write(self, folder: Path) -> None:
        """Write the network into a directory, which is made if necessary."""
        folder.mkdir(parents=True, exist_ok=True)
        with tensorflow_safe_path(folder) as path:
            if self._is_graph_valid():
                self._write_variables(Path(path))
            else:
                self._trace()
                self._archive.write_out(str(path), verbose=False)
                self._graph_files = _read_graph_files(Path(path))

    def _is_graph_valid(self) -> bool:
        """Return whether the graph of the first SavedModel is that of the network now."""
        return (
            bool(self._graph_files)
            and keras.backend.backend() == "tensorflow"  # elsewhere an archive has copies of the variables
            and not self._depends_on_position
            and [id(variable) for variable in self.network.variables] == [id(traced) for traced in self._variables]
        )

    def _trace(self) -> None:
        """Trace the inference function.

        `network.export` traces without `training`, which would leave layers active whose `training` argument defaults
        to True (all augmentation layers of Keras).
        """
        arguments = argument_names(input_names(self.network))
        signature = {
            tensor.name: keras.InputSpec(
                shape=(None, *tensor.shape[1:]), dtype=tensor.dtype, name=arguments[tensor.name]
            )
            for tensor in self.network.inputs
        }
        self._variables = list(self.network.variables)
        position = current_position()

        def constant_position() -> TrainingPosition:
            self._depends_on_position = True
            return position

        def predict(inputs: Any) -> Any:
            constant = use_position(constant_position)
            with constant, range_checks.assert_ids_in_range(), range_checks.RangeRecorder() as ids:
                outputs = self.network(inputs, training=False)
            # Exports of JAX do not support assertions.
            return ids.mask_invalid_samples(outputs) if keras.backend.backend() == "jax" else outputs

        self._archive = keras.export.ExportArchive()
        self._archive.track(self.network)
        if self._with_logits and keras.backend.backend() == "tensorflow":
            add_endpoints_with_logits(self._archive, predict, signature)
        else:
            self._archive.add_endpoint(SERVE, predict, [signature])

    def _write_variables(self, folder: Path) -> None:
        """Write the first SavedModel with the current values of the variables."""
        import tensorflow as tf

        for path, content in self._graph_files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        # What `tf.saved_model.save` writes the variables of, by the same names; Keras has no public access to it.
        root = self._archive._tf_trackable
        tf.train.Checkpoint(root=root).write(str(folder / _VARIABLES / _VARIABLES))


def _read_graph_files(saved_model: Path) -> dict[Path, bytes]:
    files = [path.relative_to(saved_model) for path in saved_model.rglob("*") if path.is_file()]
    return {
        path: (saved_model / path).read_bytes() for path in files if path.parts[0] not in (_VARIABLES, _FINGERPRINT)
    }


def try_write_saved_model(writer: SavedModelWriter, folder: Path) -> None:
    """Write a SavedModel, unless only TensorFlow can, see `add_saved_models`."""
    backend = keras.backend.backend()
    if backend == "torch":
        return
    try:
        writer.write(folder)
    except Exception as error:
        if backend == "tensorflow":
            raise
        # Measured: Keras exports to JAX with a distinct symbol for each unknown axis, so a network that adds two
        # sequences cannot be exported.
        logger.debug("JAX cannot export the network, falling back to TensorFlow: %s", error)
        shutil.rmtree(folder, ignore_errors=True)


def has_saved_models(export: Path) -> bool:
    """Return whether all networks of an export have a SavedModel."""
    return not dirs_without_saved_model(export)


def dirs_without_saved_model(export: Path) -> list[Path]:
    """Return the directories of the networks of an export that have no SavedModel yet."""
    additional = [folder for folder in sorted((export / ADDITIONAL).glob("*")) if folder.is_dir()]
    return [folder for folder in (export, *additional) if not (folder / SERVE).exists()]
