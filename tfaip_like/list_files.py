"""Scenarios whose samples are files named in list files: `--train.lists`, `--val.lists`, `--lav.lists`."""

from __future__ import annotations

import abc
import bisect
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.remote_paths import join_location, to_path
from tfaip_like.data import Data, LavLoaderSettings, Source, TrainLoaderSettings, ValLoaderSettings
from tfaip_like.data._sample import Mode, Sample
from tfaip_like.data._sources.file_lists import find_paths, iter_files, iter_list_file
from tfaip_like.data._sources.images import IMAGE_SUFFIXES
from tfaip_like.data._sources.indexed import IndexedSequence, PackedStrings
from tfaip_like.data._sources.mixture import Mixture
from tfaip_like.scenario import Scenario

__all__ = [
    "ListFileData",
    "ListFileScenario",
    "ListLavLoaderSettings",
    "ListSource",
    "ListTrainLoaderSettings",
    "ListValLoaderSettings",
    "make_list_source",
]


class ListTrainLoaderSettings(TrainLoaderSettings):
    """Data loading for training on list files.

    Example:
        >>> ListTrainLoaderSettings(lists=["clean.lst", "noisy.lst"], list_ratios=[3.0, 1.0]).list_ratios
        [3.0, 1.0]
    """

    lists: list[str] = []
    """List files (one path per line, relative to the list file), sample files, directories, or quoted glob patterns
    ('lines/*.png'); paths, or URLs such as s3://bucket/train.lst."""

    list_ratios: list[float] = []
    """Relative sampling rate of each list, independent of its length; by default every sample is equally likely."""

    def check(self) -> None:
        super().check()
        self.require(bool(self.lists), "lists", "is required: list files, files, directories or glob patterns")
        is_complete = not self.list_ratios or len(self.list_ratios) == len(self.lists)
        self.require(is_complete, "list_ratios", f"must have one value per list ({len(self.lists)})")
        is_positive = not self.list_ratios or (min(self.list_ratios) >= 0 and sum(self.list_ratios) > 0)
        self.require(is_positive, "list_ratios", "must be at least 0, and at least one above 0")


class ListValLoaderSettings(ValLoaderSettings):
    """Data loading for validation on list files.

    Example:
        >>> ListValLoaderSettings(lists=["val.lst"]).lists
        ['val.lst']
    """

    lists: list[str] = []
    """List files, sample files, directories or glob patterns, as for training; by default no validation."""


class ListLavLoaderSettings(LavLoaderSettings):
    """Data loading for load-and-validate on list files.

    Example:
        >>> ListLavLoaderSettings(lists=["clean.lst", "noisy.lst"]).lists
        ['clean.lst', 'noisy.lst']
    """

    lists: list[str] = []
    """List files, sample files, directories or glob patterns, as for training, each evaluated separately; by default
    --val.lists."""


class ListFileData(Data):
    """Dataset whose samples are files named in list files.

    Example:
    ```python
    from tfaip_like import Sample
    from tfaip_like.list_files import ListFileData

    class Pages(ListFileData):
        def sample(self, file):
            return Sample({"image": str(file)}, {"text": file.with_suffix(".txt").read_text()})
    ```
    """

    suffixes: ClassVar[tuple[str, ...]] = IMAGE_SUFFIXES
    """Suffixes of sample files, such as (".png", ".jpg"); all other files are list files."""

    @abc.abstractmethod
    def sample(self, file: Path) -> Sample:
        """Return the sample of a file; leave slow work, such as decoding an image, to a processor.

        Args:
            file: path of the sample file; at a URL, too, it can be opened, and its neighbours are found by
                `file.with_suffix`.
        """

    def source(self, mode: Mode) -> Source | None:
        """Return None: the scenario makes the sources, because it has the lists."""
        return None


class ListSource(IndexedSequence[Sample]):
    """Random-access source of the samples of one entry of `lists`.

    Args:
        data: dataset that makes the samples.
        entry: list file, sample file, directory or glob pattern.
        flag: flag that named the entry, for messages.

    Raises:
        UsageError: if the entry does not exist or names no sample file.

    Example:
        >>> source = ListSource(pages, "train.lst", "--train.lists")  # doctest: +SKIP
        >>> source.describe(0)  # doctest: +SKIP
        'scans/1.png, line 1 of train.lst'
    """

    def __init__(self, data: ListFileData, entry: str, flag: str):
        self.data = data
        self.lists: list[str] = []
        self._list_starts: list[int] = []
        """Index of the first sample of each list."""
        lines = array("i")
        """Line number of each sample in its list file; 0 if it is not from a list file."""

        def files() -> Iterator[str]:
            entries: Iterable[tuple[str, int]]
            for name in find_paths([entry], flag):
                path = to_path(name)
                if path.is_dir():
                    entries = ((str(file), 0) for file in iter_files(path, data.suffixes))
                elif self._is_sample(name):
                    entries = [(name, 0)]
                else:
                    self.lists.append(name)
                    self._list_starts.append(len(lines))
                    folder = os.path.dirname(name)
                    entries = ((join_location(folder, text), number) for number, text in iter_list_file(path))
                for file, line in entries:
                    lines.append(line)
                    yield file

        self.files = PackedStrings(files())
        self.line_numbers = np.frombuffer(lines, np.int32)
        if not self.files:
            raise UsageError(f"{flag} {entry}: no file with suffix {', '.join(data.suffixes)} found")

    def _is_sample(self, name: str) -> bool:
        return name.lower().endswith(self.data.suffixes)

    def __len__(self) -> int:
        return len(self.files)

    def at(self, index: int) -> Sample:
        """Return the sample at an index."""
        return self.data.sample(to_path(self.files[index]))

    def describe(self, index: int) -> str:
        """Return the path of the file at an index, with the line and list file that name it."""
        line = int(self.line_numbers[index])
        if not line:
            return self.files[index]
        of_list = bisect.bisect_right(self._list_starts, index) - 1
        return f"{self.files[index]}, line {line} of {self.lists[of_list]}"


class ListFileScenario(Scenario):
    """Scenario whose samples are files named in list files; its `data` extends `ListFileData`.

    Example:
    ```python
    from tfaip_like import Sample
    from tfaip_like.list_files import ListFileData, ListFileScenario

    class Pages(ListFileData):
        def sample(self, file):
            return Sample({"image": str(file)}, {"text": file.with_suffix(".txt").read_text()})

    class PageScenario(ListFileScenario):
        data: ListFileData = Pages()
    ```
    """

    data: ListFileData
    """Sources and processors of the samples."""

    train: ListTrainLoaderSettings = ListTrainLoaderSettings()
    """Data loading for training."""

    val: ListValLoaderSettings = ListValLoaderSettings()
    """Data loading for validation."""

    lav: ListLavLoaderSettings = ListLavLoaderSettings()
    """Data loading for load-and-validate (LAV)."""

    def source(self, mode: Mode) -> Source | None:
        if mode is Mode.TRAIN:
            sources = _make_sources(self.data, self.train.lists, "--train.lists")
            return Mixture(sources, self.train.list_ratios or None)
        return make_list_source(self.data, self.val.lists, "--val.lists") if self.val.lists else None

    def lav_sources(self) -> Mapping[str, Source]:
        if self.train.folds and not self.lav.lists:
            return super().lav_sources()
        lists = self.lav.lists or self.val.lists
        names = [to_path(entry).stem for entry in lists]
        unique = [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names)]
        flag = "--lav.lists" if self.lav.lists else "--val.lists"
        return {name: ListSource(self.data, entry, flag) for name, entry in zip(unique, lists, strict=True)}


def make_list_source(data: ListFileData, lists: Sequence[str], flag: str) -> Source:
    """Return a source that concatenates the samples of lists.

    Args:
        data: dataset that makes the samples.
        lists: list files, sample files, directories or glob patterns.
        flag: flag that named the lists, for messages.

    Raises:
        UsageError: if an entry does not exist or names no sample file.
    """
    return Mixture(_make_sources(data, lists, flag))


def _make_sources(data: ListFileData, lists: Sequence[str], flag: str) -> list[ListSource]:
    return [ListSource(data, entry, flag) for entry in lists]
