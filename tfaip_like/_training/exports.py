"""The exports of a training: at most one in an epoch, validated and checked before it is kept."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from tfaip_like._export.bundled_files import check_bundled_files
from tfaip_like._export.exported_model import ExportedModel, load_export
from tfaip_like._export.finite_inputs import find_finite_inputs
from tfaip_like._export.formats import add_formats
from tfaip_like._export.pipeline import make_pipeline
from tfaip_like._export.verification import DIFFERENCE_COLUMN, check_export
from tfaip_like._export.writing import add_metrics, add_saved_models, fill_export, has_saved_models
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._utils.files import atomic_directory, make_staging_dir, replace_directory
from tfaip_like._utils.temp_dirs import make_locked_dir, process_temp_dir, remove_locked_dir
from tfaip_like.data._loader.batching import Batch
from tfaip_like.modeling._network import Networks, input_names
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)


class ExportWriter:
    """Writes exports, each staging_dir first; one that differs from the network is never kept.

    Args:
        folder: where the best and the last are kept; None keeps none.
        example: a batch for the comparison.

    Raises:
        UsageError: when a file that belongs to exports cannot be copied.
    """

    def __init__(self, output_dir: OutputDir | None, networks: Networks, scenario: Scenario, example: Batch):
        self.output_dir = output_dir
        self.networks = networks
        self.scenario = scenario
        self.example = example
        self._staging_dir: Path | None = None
        self._current_export: ExportedModel | None = None
        self._difference: float | None = None
        """That of the export of this moment from the network."""
        self._best_difference: float | None = None
        """None as long as this process wrote no best export, or could not compare it."""
        self._logged_messages: set[str] = set()
        check_bundled_files(scenario, make_pipeline(scenario.data, input_names(networks.exported)))

    def current_export(self) -> ExportedModel:
        """Return the export of this moment; it is written and compared with the network when first asked for."""
        if self._current_export is None:
            staging_dir = self._write_current()
            try:
                add_saved_models([staging_dir], self.scenario)
                current_export = load_export(staging_dir, trust_code=True)
                network = self.networks.exported
                self._difference = check_export(staging_dir, network, self.example, current_export, self._info_once)
            except BaseException:
                self.discard_current()
                raise
            self._current_export = current_export
        return self._current_export

    def verify_current(self) -> None:
        """Write an export of this moment, load it, compare it with the network and remove it.

        Raises:
            TrainingError: when it differs.
            UsageError: when a file that belongs to it cannot be exported.
        """
        try:
            self.current_export()
        finally:
            self.discard_current()

    def save_best(self, metrics: Mapping[str, float]) -> None:
        """Make the export of this moment the best one.

        Raises:
            TrainingError: when it differs from the network; the best one stays as it was.
        """
        assert self.output_dir is not None
        staging_dir = self._write_current()
        if has_saved_models(
            staging_dir
        ):  # those that another process must write come at the end: it takes seconds to start
            self.current_export()
        add_metrics(staging_dir, metrics)
        replace_directory(self.output_dir.best, staging_dir)
        self._best_difference = self._difference
        self._staging_dir = self._current_export = self._difference = None

    def discard_current(self) -> None:
        """Remove the export of this moment, unless it was kept: what comes next is another moment."""
        if self._staging_dir is not None:
            remove_locked_dir(self._staging_dir)
        self._staging_dir = self._current_export = self._difference = None

    def save_last(self, metrics: Mapping[str, float], is_best: bool) -> None:
        """Write the export of the end of a training, and complete the best one.

        Args:
            metrics: the values of the last epoch.
            is_best: whether the last epoch is the best one.

        Raises:
            TrainingError: when it differs from the network; the last one stays as it was.
        """
        assert self.output_dir is not None
        with atomic_directory(self.output_dir.export) as staging_dir:
            difference = self._best_difference if is_best else None
            # The same weights: half a second of a small network, minutes of a large one.
            if difference is not None and self.output_dir.best.exists():
                shutil.copytree(self.output_dir.best, staging_dir, dirs_exist_ok=True)
            else:
                fill_export(staging_dir, self.networks, self.scenario, self._warn_once, self._finite_inputs)
                add_saved_models([self.output_dir.best, staging_dir], self.scenario)
                difference = check_export(staging_dir, self.networks.exported, self.example, log=self._info_once)
            add_metrics(staging_dir, {**metrics, DIFFERENCE_COLUMN: difference})
        for export in (self.output_dir.best, self.output_dir.export):
            if export.exists():
                add_formats(export, self.scenario.trainer.export_formats, self.example)

    @cached_property
    def _finite_inputs(self) -> list[str]:
        return find_finite_inputs(self.networks, self.example)

    def _write_current(self) -> Path:
        if self._staging_dir is None:
            staging_dir = self._make_staging_dir()
            try:
                fill_export(staging_dir, self.networks, self.scenario, self._warn_once, self._finite_inputs)
            except BaseException:  # on a full disk it is tried again
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

    def _warn_once(self, message: str) -> None:
        self._log_once(logging.WARNING, message)

    def _info_once(self, message: str) -> None:
        self._log_once(logging.INFO, message)

    def _log_once(self, level: int, message: str) -> None:
        if message not in self._logged_messages:
            self._logged_messages.add(message)
            logger.log(level, "%s", message)
