"""The exports of a training: at most one in an epoch, validated and checked before it is kept."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from tfaip_like._export.bundled_files import check_files
from tfaip_like._export.exported import Exported, load_export
from tfaip_like._export.finite_inputs import find_finite_inputs
from tfaip_like._export.formats import add_formats
from tfaip_like._export.pipeline import pipeline_of
from tfaip_like._export.verification import DIFFERENCE, check_export
from tfaip_like._export.writing import add_metrics, add_saved_models, fill_export, has_saved_models
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._utils.files import folder_beside, new_folder, replace_folder
from tfaip_like._utils.temporary import claimed_directory, discard, process_directory
from tfaip_like.data._loader.batching import Batch
from tfaip_like.modeling._network import Networks, input_names
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)


class Exports:
    """Writes exports, each aside first; one that differs from the network is never kept.

    Args:
        folder: where the best and the last are kept; None keeps none.
        example: a batch for the comparison.

    Raises:
        UsageError: when a file that belongs to exports cannot be copied.
    """

    def __init__(self, folder: OutputDir | None, networks: Networks, scenario: Scenario, example: Batch):
        self.folder = folder
        self.networks = networks
        self.scenario = scenario
        self.example = example
        self._aside: Path | None = None
        self._loaded: Exported | None = None
        self._difference: float | None = None
        """That of the export of this moment from the network."""
        self._difference_of_best: float | None = None
        """None as long as this process wrote no best export, or could not compare it."""
        self._said: set[str] = set()
        check_files(scenario, pipeline_of(scenario.data, input_names(networks.exported)))

    def loaded(self) -> Exported:
        """Return the export of this moment; it is written and compared with the network when first asked for."""
        if self._loaded is None:
            aside = self._written()
            try:
                add_saved_models([aside], self.scenario)
                loaded = load_export(aside, trust_code=True)
                network = self.networks.exported
                self._difference = check_export(aside, network, self.example, loaded, self._inform_once)
            except BaseException:
                self.forget()
                raise
            self._loaded = loaded
        return self._loaded

    def check(self) -> None:
        """Write an export of this moment, load it, compare it with the network and remove it.

        Raises:
            TrainingError: when it differs.
            UsageError: when a file that belongs to it cannot be exported.
        """
        try:
            self.loaded()
        finally:
            self.forget()

    def keep_as_best(self, metrics: Mapping[str, float]) -> None:
        """Make the export of this moment the best one.

        Raises:
            TrainingError: when it differs from the network; the best one stays as it was.
        """
        assert self.folder is not None
        aside = self._written()
        if has_saved_models(aside):  # those that another process must write come at the end: it takes seconds to start
            self.loaded()
        add_metrics(aside, metrics)
        replace_folder(self.folder.best, aside)
        self._difference_of_best = self._difference
        self._aside = self._loaded = self._difference = None

    def forget(self) -> None:
        """Remove the export of this moment, unless it was kept: what comes next is another moment."""
        if self._aside is not None:
            discard(self._aside)
        self._aside = self._loaded = self._difference = None

    def write_last(self, metrics: Mapping[str, float], is_best: bool) -> None:
        """Write the export of the end of a training, and complete the best one.

        Args:
            metrics: the values of the last epoch.
            is_best: whether the last epoch is the best one.

        Raises:
            TrainingError: when it differs from the network; the last one stays as it was.
        """
        assert self.folder is not None
        with new_folder(self.folder.export) as aside:
            difference = self._difference_of_best if is_best else None
            # The same weights: half a second of a small network, minutes of a large one.
            if difference is not None and self.folder.best.exists():
                shutil.copytree(self.folder.best, aside, dirs_exist_ok=True)
            else:
                fill_export(aside, self.networks, self.scenario, self._warn_once, self._finite_inputs)
                add_saved_models([self.folder.best, aside], self.scenario)
                difference = check_export(aside, self.networks.exported, self.example, inform=self._inform_once)
            add_metrics(aside, {**metrics, DIFFERENCE: difference})
        for export in (self.folder.best, self.folder.export):
            if export.exists():
                add_formats(export, self.scenario.trainer.export_formats, self.example)

    @cached_property
    def _finite_inputs(self) -> list[str]:
        return find_finite_inputs(self.networks, self.example)

    def _written(self) -> Path:
        if self._aside is None:
            aside = self._staging_directory()
            try:
                fill_export(aside, self.networks, self.scenario, self._warn_once, self._finite_inputs)
            except BaseException:  # on a full disk it is tried again
                discard(aside)
                raise
            self._aside = aside
        return self._aside

    def _staging_directory(self) -> Path:
        return folder_beside(self.folder.best) if self.folder else claimed_directory(process_directory(), "export-")

    def _warn_once(self, message: str) -> None:
        self._log_once(logging.WARNING, message)

    def _inform_once(self, message: str) -> None:
        self._log_once(logging.INFO, message)

    def _log_once(self, level: int, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            logger.log(level, "%s", message)
