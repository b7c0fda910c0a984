"""Exports of a training run: best/ and export/."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import keras

from tfaip_like._export.bundled_files import check_bundled_files
from tfaip_like._export.eager_network import EagerNetwork
from tfaip_like._export.exported_model import ExportedModel, load_export, load_weights
from tfaip_like._export.exporting import run_exporters
from tfaip_like._export.finite_inputs import find_finite_inputs
from tfaip_like._export.missing_saved_models import add_saved_models
from tfaip_like._export.pipeline import make_pipeline
from tfaip_like._export.saved_models import TracedSavedModel, has_saved_models
from tfaip_like._export.verification import (
    DIFFERENCE_COLUMN,
    ExpectedOutputs,
    check_export,
    check_outputs,
    select_predictable_rows,
)
from tfaip_like._export.writing import ExportFiles, add_metrics
from tfaip_like._keras_ext.extended_optimizer import use_averaged_weights
from tfaip_like._keras_ext.random_states import preserve_network_state
from tfaip_like._keras_ext.snapshots import Snapshot
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.background_writer import BackgroundWriter
from tfaip_like._utils.console import OnceLogger
from tfaip_like._utils.files import atomic_directory, copy_directory, make_staging_dir, replace_directory
from tfaip_like._utils.temp_dirs import make_locked_dir, process_temp_dir, remove_locked_dir
from tfaip_like.data._loader.batching import Batch
from tfaip_like.exporters import Exporter
from tfaip_like.inference._lav import NetworkWithLogits
from tfaip_like.modeling._context import current_position
from tfaip_like.modeling._network import Networks, input_names
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)


@contextmanager
def exported_weights(network: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Use the weights that are validated and exported (averaged ones, if any) within the block.

    The block leaves no trace in the training state, although inference may change it.
    """
    with preserve_network_state(network), use_averaged_weights(optimizer):
        yield


@dataclass(frozen=True)
class _CapturedBest:
    """Best weights or their export, until its metrics are known."""

    write: Callable[[Mapping[str, float]], None]
    """Replaces best/; can be repeated if it fails."""
    discard: Callable[[], None]


class ExportWriter:
    """Writer of exports, at most one per epoch; an export whose outputs differ from the network is discarded.

    Args:
        output_dir: run directory; None saves no export.
        networks: networks of the run.
        scenario: scenario of the run.
        example: batch on which exports are compared with the network.
        writer: thread that writes best/.
        exporters: exporters of further formats.

    Raises:
        UsageError: if a bundled file cannot be copied.
    """

    def __init__(
        self,
        output_dir: OutputDir | None,
        networks: Networks,
        scenario: Scenario,
        example: Batch,
        writer: BackgroundWriter,
        exporters: Sequence[Exporter] = (),
    ):
        self.output_dir = output_dir
        self.networks = networks
        self.scenario = scenario
        self.example = example
        self.writer = writer
        self.exporters = exporters
        self._staging_dir: Path | None = None
        self._captured_best: _CapturedBest | None = None
        self._current_export: ExportedModel | None = None
        self._difference: float | None = None
        """Output difference between the current export and the network."""
        self._best_difference: float | None = None
        """Output difference of best/; None if this process has not written or not compared it."""
        self._loaded: tuple[TracedSavedModel | None, ExportedModel] | None = None
        """Export that was loaded last, and its graph."""
        self._predictable: Batch | None = None
        """Samples of the example that exports accept; None before the first export is compared."""
        self._once_logger = OnceLogger(logger)
        self._files = ExportFiles(networks, scenario, self._once_logger.warning)
        check_bundled_files(scenario, make_pipeline(scenario.data, input_names(networks.exported)))

    def current_export(self) -> ExportedModel:
        """Return the export of the current weights; written, and compared with the network, on the first call.

        Raises:
            TrainingError: if it differs from the network.
        """
        if self._current_export is None:
            staging_dir = self._write_current()
            try:
                add_saved_models([staging_dir], self.scenario)
                current_export = self._load(staging_dir)
                network, log = self.networks.exported, self._once_logger.info
                self._difference = check_export(staging_dir, network, self.example, current_export, log)
                self._predictable = select_predictable_rows(current_export, self.example)
            except BaseException:
                self.discard_current()
                raise
            self._current_export = current_export
        return self._current_export

    def current_network(self) -> NetworkWithLogits:
        """Return the network to load and validate: the export of the current weights.

        On PyTorch it is the network in memory: only a process with TensorFlow, which takes seconds to start, can write
        the export. The first and the last export are compared with the network.
        """
        if keras.backend.backend() == "torch":
            return EagerNetwork(self.networks.exported)
        return self.current_export()

    def verify_current(self) -> None:
        """Export the current weights, compare the loaded export with the network, and remove it.

        Raises:
            TrainingError: if it differs from the network.
            UsageError: if a bundled file cannot be exported.
        """
        try:
            self.current_export()
        finally:
            self.discard_current()

    def capture_best(self) -> None:
        """Keep the current weights, or their export, for `save_best`, which writes the metrics with it.

        Raises:
            TrainingError: if the export differs from the network.
        """
        self.writer.wait()
        if self._staging_dir is None and self._files.are_traced and self._can_compare_later:
            self._captured_best = self._make_deferred_write()
            return
        staging_dir = self._write_current()
        # Formats that another process must write follow after training: it takes seconds to start.
        if has_saved_models(staging_dir):
            self.current_export()
        self._captured_best = self._make_replacement(staging_dir, self._difference)
        self._staging_dir = self._current_export = self._difference = None

    def save_best(self, metrics: Mapping[str, float]) -> None:
        """Replace best/ with what was captured; in the background if nothing must be traced for it.

        Args:
            metrics: metrics of the epoch.
        """
        assert self._captured_best is not None
        self._captured_best.write(dict(metrics))
        self._captured_best = None

    def _make_replacement(self, staging_dir: Path, difference: float | None) -> _CapturedBest:
        """Return an export that replaces best/."""

        def write(metrics: Mapping[str, float]) -> None:
            assert self.output_dir is not None
            add_metrics(staging_dir, metrics)
            replace_directory(self.output_dir.best, staging_dir)
            self._best_difference = difference

        return _CapturedBest(write, lambda: remove_locked_dir(staging_dir))

    @property
    def _can_compare_later(self) -> bool:
        return keras.backend.backend() == "torch" or bool(self._predictable)

    def _make_deferred_write(self) -> _CapturedBest:
        """Return the weights of now, from which a thread writes best/ later."""
        assert self.output_dir is not None
        best, finite_inputs, position = self.output_dir.best, self._finite_inputs, current_position()
        expected = (
            ExpectedOutputs.of_network(self.networks.exported, self._predictable)
            if keras.backend.backend() != "torch" and self._predictable is not None
            else None
        )
        snapshot = Snapshot(self._files.variables, self.writer.buffers)

        def write(metrics: Mapping[str, float]) -> None:
            difference = None
            with atomic_directory(best) as staging_dir:
                with snapshot.use():
                    self._files.write(staging_dir, finite_inputs, position)
                if expected is not None:
                    difference = check_outputs(staging_dir, self._load(staging_dir), expected, self._once_logger.info)
                add_metrics(staging_dir, metrics)
            snapshot.release()
            self._best_difference = difference

        return _CapturedBest(lambda metrics: self.writer.submit(partial(write, metrics)), snapshot.release)

    def close(self) -> None:
        """Remove the current export, and what was captured but not saved."""
        self.discard_current()
        if self._captured_best is not None:
            self._captured_best.discard()
            self._captured_best = None

    def discard_current(self) -> None:
        """Remove the current export, unless it was captured for best/; call this when the weights change."""
        if self._staging_dir is not None:
            remove_locked_dir(self._staging_dir)
        self._staging_dir = self._current_export = self._difference = None

    def save_last(self, metrics: Mapping[str, float], is_best: bool) -> None:
        """Write export/, and complete best/.

        Args:
            metrics: metrics of the last epoch.
            is_best: whether the last epoch is the best one.

        Raises:
            TrainingError: if it differs from the network; export/ is unchanged then.
        """
        assert self.output_dir is not None
        self.writer.wait()
        with atomic_directory(self.output_dir.export) as staging_dir:
            difference = self._best_difference if is_best else None
            # Same weights: copying saves half a second for a small network, minutes for a large one.
            if difference is not None and self.output_dir.best.exists():
                copy_directory(self.output_dir.best, staging_dir)
            else:
                self._files.write(staging_dir, self._finite_inputs)
                add_saved_models([self.output_dir.best, staging_dir], self.scenario)
                difference = check_export(staging_dir, self.networks.exported, self.example, log=self._once_logger.info)
            add_metrics(staging_dir, {**metrics, DIFFERENCE_COLUMN: difference})
        exports = [export for export in (self.output_dir.best, self.output_dir.export) if export.exists()]
        run_exporters(exports, self.exporters, self.example, self.scenario)

    def _load(self, export: Path) -> ExportedModel:
        """Load an export, or only its weights if it has the graph of the one loaded before."""
        graph = self._files.graph
        if self._loaded is not None and graph is not None and self._loaded[0] is graph:
            loaded = load_weights(self._loaded[1], export)
        else:
            loaded = load_export(export, trust_code=True)
        self._loaded = (graph, loaded)
        return loaded

    @cached_property
    def _finite_inputs(self) -> list[str]:
        return find_finite_inputs(self.networks, self.example)

    def _write_current(self) -> Path:
        if self._staging_dir is None:
            staging_dir = self._make_staging_dir()
            try:
                self._files.write(staging_dir, self._finite_inputs)
            except BaseException:  # retried after a full disk
                remove_locked_dir(staging_dir)
                raise
            self._staging_dir = staging_dir
        return self._staging_dir

    def _make_staging_dir(self) -> Path:
        return (
            make_staging_dir(self.output_dir.best)
            if self.output_dir
            else make_locked_dir(process_temp_dir(), "export-")
        )
