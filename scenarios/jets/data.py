"""Jets as rows of tables in many files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from tfaip_like import ArraySource, Data, Mode, Spec, UsageError
from tfaip_like.data import TableFormat, TableSource, find_files

from .draw import CLASSES, FEATURES, MISSING, draw_files


class Jets(Data):
    """Rows of tables in many files, read one after another; memory holds one file at a time."""

    files: list[str] = []
    """Tables of jets to train on (.npz, .csv, .tsv, .parquet), patterns in quotes; without any, jets are drawn."""

    val_files: list[str] = []
    """Tables to validate on; without any there is no validation, but for drawn jets."""

    num_files: int | None = None
    """Train on the first so many files only."""

    folder: Path = Path("drawn_jets")
    """Where jets are drawn; those that are there already are taken."""

    features: list[str] = FEATURES
    """The columns that the network sees."""

    label: str = "flavour"
    """The column with the number of the class."""

    classes: list[str] = CLASSES
    """Names of the classes 0, 1, 2 ..."""

    default: float = MISSING
    """What stands in the files for a value that is missing, besides empty cells, NA and nulls."""

    default_shift: float = 1.0
    """A missing value becomes the least of its feature in training, less this, in units of `default_shift_unit`."""

    default_shift_unit: Literal["deviation", "feature"] = "deviation"
    """Unit of `default_shift`: the standard deviation of each feature, or the feature's own (GeV, mm)."""

    @property
    def inputs(self) -> Mapping[str, Spec]:
        return {"features": Spec((len(self.features),))}

    @property
    def targets(self) -> Mapping[str, Spec]:
        return {"class": Spec((), "int32")}

    @property
    def table_format(self) -> TableFormat:
        return TableFormat(columns={"features": self.features}, missing=dict.fromkeys(self.features, self.default))

    def source(self, mode: Mode) -> ArraySource | None:
        files = self._files(mode)
        if not files:
            return None
        source = TableSource(files, self.table_format.columns, {"class": self.label}, self.table_format)
        classes = source.targets["class"]
        if not (np.issubdtype(classes.dtype, np.integer) and np.isin(classes, range(len(self.classes))).all()):
            raise UsageError(
                f"--data.label {self.label}: must hold whole numbers from 0 to {len(self.classes) - 1}, one for each "
                f"of --data.classes; it has {classes.min():g} to {classes.max():g}"
            )
        return source

    def _files(self, mode: Mode) -> list[Path]:
        if self.files:
            train = find_files(self.files, "--data.files")
            val = find_files(self.val_files, "--data.val_files")
        else:
            train, val = draw_files(self.folder)
        return train[: self.num_files] if mode is Mode.TRAIN else val

    def check(self) -> None:
        super().check()
        self.require(bool(self.files) or not self.val_files, "val_files", "needs --data.files to train on, too")
        self.require(self.num_files is None or self.num_files >= 1, "num_files", "must be at least 1")
        self.require(len(self.features) >= 1, "features", "there must be at least one")
        self.require(len(self.classes) >= 2, "classes", "there must be at least two")
