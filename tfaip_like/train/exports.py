"""The exports of a training: at most one in an epoch, validated and checked before it is kept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tfaip_like.data.batching import Batch
from tfaip_like.files import folder_beside, replace_folder
from tfaip_like.network import Networks
from tfaip_like.output_dir import OutputDir
from tfaip_like.predict.check import DIFFERENCE, check_export
from tfaip_like.predict.export import add_metrics, add_saved_models, fill_export, has_saved_models, write_export
from tfaip_like.predict.exported import Exported, load_export
from tfaip_like.predict.formats import add_formats
from tfaip_like.scenario import Scenario


class Exports:
    """Writes exports, each aside first; the first one and the last are compared with the network.

    Args:
        folder: where the best and the last are kept; None keeps none.
        example: a batch for the comparison.
    """

    def __init__(self, folder: OutputDir | None, networks: Networks, scenario: Scenario, example: Batch):
        self.folder = folder
        self.networks = networks
        self.scenario = scenario
        self.example = example
        self._aside: Path | None = None
        self._loaded: Exported | None = None
        self._is_checked = False

    def loaded(self) -> Exported:
        """The export of this moment; it is written when first asked for."""
        if self._loaded is None:
            aside = self._written()
            add_saved_models([aside], self.scenario)
            self._loaded = load_export(aside)
            if self.folder is None:
                self._check_the_first(aside)
        return self._loaded

    def keep_as_best(self, metrics: Mapping[str, float]) -> None:
        """Makes the export of this moment the best one."""
        assert self.folder is not None
        aside = self._written()
        add_metrics(aside, metrics)
        replace_folder(self.folder.best, aside)
        self._aside = self._loaded = None
        self._check_the_first(self.folder.best)

    def forget(self) -> None:
        """Removes the export of this moment, unless it was kept: what comes next is another moment."""
        if self._aside is not None:
            shutil.rmtree(self._aside, ignore_errors=True)
        self._aside = self._loaded = None

    def write_last(self, metrics: Mapping[str, float]) -> None:
        """Writes the export of the end of a training, and completes the best one."""
        assert self.folder is not None
        write_export(self.folder.export, self.networks, self.scenario, metrics)
        add_saved_models([self.folder.best, self.folder.export], self.scenario)
        difference = self._check(self.folder.export)
        add_metrics(self.folder.export, {DIFFERENCE: difference})
        for export in (self.folder.best, self.folder.export):
            if export.exists():
                add_formats(export, self.scenario.trainer.export_formats, self.example)

    def _written(self) -> Path:
        if self._aside is None:
            aside = folder_beside(self.folder.best) if self.folder else Path(tempfile.mkdtemp())
            try:
                fill_export(aside, self.networks, self.scenario)
            except BaseException:  # on a full disk it is tried again
                shutil.rmtree(aside, ignore_errors=True)
                raise
            self._aside = aside
        return self._aside

    def _check_the_first(self, export: Path) -> None:
        # How far it is off is not kept: which export is the first depends on where a run was killed.
        if not self._is_checked and has_saved_models(export):
            self._check(export)

    def _check(self, export: Path) -> float:
        self._is_checked = True
        return check_export(export, self.networks.prediction, self.example)
