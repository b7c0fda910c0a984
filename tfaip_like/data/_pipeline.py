"""Data of an export: processors before and after its network, and the specs of its inputs."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

from tfaip_like.data._data import Data, Source
from tfaip_like.data._processors import Processor
from tfaip_like.data._sample import Mode, Spec
from tfaip_like.data._sources.tables.table_format import TableFormat
from tfaip_like.params import Params


class ArraySpec(Params):
    """Shape and dtype of an array of one sample.

    Example:
        >>> ArraySpec(shape=[None, 40], dtype="float32").padding
        0.0
    """

    shape: list[int | None]
    """Length of each axis; none for any length."""

    dtype: str
    """Name of the dtype."""

    padding: float = 0.0
    """Padding value for samples that are shorter than others in the batch."""


class Pipeline(Data, abc.ABC):  # abstract: not a choice of --data
    """Processors before and after a network, and the specs of its inputs.

    Example:
        >>> Pipeline(specs={"x": ArraySpec(shape=[2], dtype="float32")}).inputs["x"].shape
        (2,)
    """

    specs: dict[str, ArraySpec] = {}
    """Input specs by name."""

    tables: TableFormat = TableFormat()
    """Format of tables with samples."""

    @property
    def inputs(self) -> Mapping[str, Spec]:
        return {name: Spec(tuple(spec.shape), spec.dtype, spec.padding) for name, spec in self.specs.items()}

    @property
    def table_format(self) -> TableFormat:
        return self.tables

    def source(self, mode: Mode) -> Source | None:
        """Return None: samples are passed to the predictor."""
        return None

    def pipeline(self, mode: Mode) -> Sequence[Processor]:
        return self.processors

    def post_pipeline(self, mode: Mode) -> Sequence[Processor]:
        return self.post_processors
