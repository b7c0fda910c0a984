"""Jets from tables in many files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from tfaip_like import ArraySource, Data, Mode, Spec, UsageError
from tfaip_like.data import TableFormat, TableSource, find_files

from .draw import CLASSES, FEATURES, MISSING, draw_files


class Jets(Data):
    """Rows of tables in many files, which are read one by one."""

    files: list[str] = []
    """Training tables (.npz, .csv, .tsv, .parquet); quote globs. By default, synthetic jets are generated."""

    val_files: list[str] = []
    """Validation tables; without any there is no validation, except for synthetic jets."""

    num_files: int | None = None
    """Number of training files to use, from the first one; all by default."""

    folder: Path = Path("drawn_jets")
    """Directory of the synthetic jets; existing files are reused."""

    features: list[str] = FEATURES
    """Columns of the network inputs."""

    label: str = "flavour"
    """Column of the class index."""

    classes: list[str] = CLASSES
    """Names of the classes 0, 1, 2 ..."""

    default: float = MISSING
    """Value that marks missing values, in addition to empty cells, NA and nulls."""

    default_shift: float = 1.0
    """Missing values are replaced by the minimum of their feature minus this, in units of default_shift_unit."""

    default_shift_unit: Literal["deviation", "feature"] = "deviation"
    """Unit of default_shift: the standard deviation of each feature, or its own unit (GeV, mm)."""

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
                f"--data.label {self.label}: expected integers from 0 to {len(self.classes) - 1} (indices of "
                f"--data.classes), got {classes.min():g} to {classes.max():g}"
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
        self.require(bool(self.files) or not self.val_files, "val_files", "requires --data.files")
        self.require(self.num_files is None or self.num_files >= 1, "num_files", "must be at least 1")
        self.require(len(self.features) >= 1, "features", "must not be empty")
        self.require(len(self.classes) >= 2, "classes", "must have at least two entries")
