"""Datasets of Hugging Face as sources."""

from __future__ import annotations

from typing import Any

from tfaip_like.data._sample import Arrays
from tfaip_like.data._sources.arrays import RowSource
from tfaip_like.data._sources.datasets.items import ItemReader, ItemSequence


class HuggingFaceSequence(ItemSequence, RowSource):
    """Random-access dataset of Hugging Face, of which a batch reads its rows together.

    Args:
        dataset: dataset.
        read: converts an item.
    """

    def __init__(self, dataset: Any, read: ItemReader):
        super().__init__(dataset, read)
        # Rows without a format are Python lists, which take far longer to make.
        has_format = getattr(dataset, "format", {}).get("type") is not None
        self._rows = dataset if has_format else dataset.with_format("numpy")

    def rows(self, indices: Any) -> tuple[Arrays, Arrays]:
        """Return inputs and targets of some rows."""
        batch = self._read(self._rows[list(map(int, indices))])
        return batch.inputs, batch.targets
