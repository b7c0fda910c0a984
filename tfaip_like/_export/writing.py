"""Writing of export directories, see `layout`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfaip_like._export.bundled_files import bundled_file_sizes, copy_bundled_files
from tfaip_like._export.layout import (
    ADDITIONAL,
    MODEL,
    PARAMS,
    PIPELINE,
    SERVE,
    VERSIONS,
    VERSIONS_FORMAT,
    WEIGHTS,
    Versions,
)
from tfaip_like._export.pipeline import make_pipeline
from tfaip_like._export.saved_models import SavedModelWriter, TracedSavedModel, try_write_saved_model
from tfaip_like._keras_ext.lora import lora_weight_ids, merge_lora
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._keras_ext.snapshots import read_array
from tfaip_like._runs.package_versions import installed_versions
from tfaip_like._runs.run_files import METRICS, METRICS_FORMAT, read_metrics
from tfaip_like._utils.errors import Interrupted, short_error_message
from tfaip_like._utils.files import atomic_directory, is_disk_full_error
from tfaip_like.modeling._context import TrainingPosition, current_position
from tfaip_like.modeling._network import Networks, input_names
from tfaip_like.params._files import write_params
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)


def write_export(path: Path, networks: Networks, scenario: Scenario, metrics: Mapping[str, float]) -> None:
    """Write an export, which replaces an existing one atomically.

    Depending on the backend it has no SavedModel yet, see `add_saved_models`.

    Args:
        path: Export directory.
        networks: Networks of the model.
        scenario: Scenario whose parameters and pipeline are exported.
        metrics: `epoch` and metrics of the network.
    """
    with atomic_directory(path) as staging_dir:
        ExportFiles(networks, scenario).write(staging_dir)
        add_metrics(staging_dir, metrics)


class ExportFiles:
    """Files of the exports of networks, all but the metrics.

    Args:
        networks: Networks of the model.
        scenario: Scenario whose parameters and pipeline are exported.
        warn: Called with a message about missing parts.
    """

    def __init__(self, networks: Networks, scenario: Scenario, warn: Callable[[str], None] = logger.warning):
        self.networks = networks
        self.scenario = scenario
        self._warn = warn
        self._writers = {
            folder: SavedModelWriter(network, with_logits=True)
            for folder, network in [
                (Path(), networks.exported),
                *((Path(ADDITIONAL, name), network) for name, network in networks.extra.items()),
            ]
        }
        """Writers of SavedModels by the directory of the network in an export."""

    @property
    def variables(self) -> Iterator[keras.Variable]:
        """Yield the variables that are written, some of them repeatedly."""
        for network in (self.networks.training, *(writer.network for writer in self._writers.values())):
            yield from network.variables

    @property
    def graph(self) -> TracedSavedModel | None:
        """Return the traced network for inference; None if it must be traced first."""
        return self._writers[Path()].traced

    @property
    def are_traced(self) -> bool:
        """Return whether `write` only reads variables, so that a thread can do it with a snapshot of them."""
        if lora_weight_ids(self.networks.training):  # changed and restored while they are written
            return False
        traced = [writer.traced for writer in self._writers.values()]
        # On PyTorch SavedModels are written later.
        return keras.backend.backend() == "torch" or all(one and one.depends_on_variables_only for one in traced)

    def write(self, export: Path, finite_inputs: Sequence[str] = (), position: TrainingPosition | None = None) -> None:
        """Write the current weights and everything else, with empty metrics, into an empty directory.

        Args:
            export: Empty directory.
            finite_inputs: Names of the inputs that must not contain NaN or infinity.
            position: Step and epoch of the training; by default the current ones.
        """
        written = [writer.network for writer in self._writers.values()]
        with merge_lora(self.networks.training, *written):
            for folder, writer in self._writers.items():
                (export / folder).mkdir(parents=True, exist_ok=True)
                self._write_network(export, folder, writer)
            _write_weights(export / WEIGHTS, self.networks.training)
        pipeline = make_pipeline(self.scenario.data, input_names(self.networks.exported))
        for tree, name in zip(copy_bundled_files(export, self.scenario, pipeline), (PARAMS, PIPELINE), strict=True):
            write_params(tree, export / name)
        outputs = self.networks.exported.output
        versions = Versions(
            packages=installed_versions(),
            resources=bundled_file_sizes(export),
            finite_inputs=tuple(finite_inputs),
            outputs={name: tuple(output.shape[1:]) for name, output in outputs.items()},
            position=tuple(position or current_position()),
        )
        VERSIONS_FORMAT.write(export / VERSIONS, versions)
        METRICS_FORMAT.write(export / METRICS, {})

    def _write_network(self, export: Path, folder: Path, writer: SavedModelWriter) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns that the prediction network is not compiled
            try_write_saved_model(writer, export / folder / SERVE)
            model = export / folder / MODEL
            try:
                writer.network.save(model)
            except Exception as error:
                model.unlink(missing_ok=True)
                if isinstance(error, (Interrupted, OSError)) or is_disk_full_error(error):
                    raise
                self._warn(
                    f"exports lack {folder / MODEL}: Keras cannot save the network: {type(error).__name__}: "
                    f"{short_error_message(error)}\n"
                    f"Inference, LAV and warm starts work (they use {SERVE}/ and {WEIGHTS}); ONNX and LiteRT do not."
                )


def add_metrics(export: Path, values: Mapping[str, float]) -> None:
    """Add values to the metrics of an export."""
    METRICS_FORMAT.write(export / METRICS, {**read_metrics(export), **values})


def _write_weights(file: Path, network: keras.Model) -> None:
    """Write the weights of a network by path.

    No other file of an export has all weights by path. Measured with Keras 3.15: a SavedModel written on TensorFlow
    drops the names of nested layers (`own/kernel` for `own/dense_2/kernel`), on JAX of all layers (`kernel`), and on
    PyTorch it is written last; model.keras numbers the weights of a layer and cannot be read without the classes of
    its layers; and both lack weights that only the training network uses.
    """
    merged = lora_weight_ids(network)
    weights = {path: weight for path, weight in weight_paths(network).items() if id(weight) not in merged}
    np.savez(file, **{path: _to_numpy(weight) for path, weight in weights.items()})  # type: ignore[arg-type]


def _to_numpy(weight: keras.Variable) -> np.ndarray[Any, Any]:
    array = read_array(weight)
    # NumPy files do not support bfloat16.
    return array.astype("float32") if array.dtype.kind == "V" else array
