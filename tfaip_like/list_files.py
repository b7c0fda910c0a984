"""Scenarios whose samples are named in list files: `--train.lists`, `--val.lists`, `--lav.lists`."""

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
from tfaip_like.data import Data, LavLoaderSettings, Source, TrainLoaderSettings, ValLoaderSettings
from tfaip_like.data._sample import Mode, Sample
from tfaip_like.data._sources.file_lists import PackedStrings, find_paths, iter_files, iter_list_file
from tfaip_like.data._sources.images import IMAGE_SUFFIXES
from tfaip_like.data._sources.indexed import IndexedSequence
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
    """Batches for training, of the samples in list files."""

    lists: list[str] = []
    """List files with a path on each line, relative to the list; or the files themselves, or folders of
    them. Patterns in quotes ('lines/*.png') are expanded here, however many files they mean."""

    list_ratios: list[float] = []
    """How often each list is drawn from in all, whatever its length; by default each sample equally often."""

    def check(self) -> None:
        super().check()
        self.require(bool(self.lists), "lists", "is required: list files, files, folders or patterns")
        matches = not self.list_ratios or len(self.list_ratios) == len(self.lists)
        self.require(matches, "list_ratios", f"there must be as many as lists ({len(self.lists)})")
        positive = not self.list_ratios or (min(self.list_ratios) >= 0 and sum(self.list_ratios) > 0)
        self.require(positive, "list_ratios", "must be 0 or more, and not all 0")


class ListValLoaderSettings(ValLoaderSettings):
    """Batches for validation, of the samples in list files."""

    lists: list[str] = []
    """List files, or files, folders and patterns as for training; none for no validation."""


class ListLavLoaderSettings(LavLoaderSettings):
    """Batches for load-and-validate, of the samples in list files."""

    lists: list[str] = []
    """List files, or files, folders and patterns as for training, each with a result of its own; by
    default those of validation."""


class ListFileData(Data):
    """Samples that are files, named in list files."""

    suffixes: ClassVar[tuple[str, ...]] = IMAGE_SUFFIXES
    """Of the files that are samples, such as (".png", ".jpg"); all other files are list files."""

    @abc.abstractmethod
    def sample(self, file: Path) -> Sample:
        """The sample of a file; best without reading more than is quick, and the rest in a processor."""

    def source(self, mode: Mode) -> Source | None:
        """Is asked of the scenario, which knows the lists."""
        return None


class ListSource(IndexedSequence[Sample]):
    """The samples of one entry of `lists`."""

    def __init__(self, data: ListFileData, entry: str, flag: str):
        self.data = data
        self.lists: list[str] = []
        self._list_starts: list[int] = []
        """Index of the first sample of each list."""
        lines = array("i")
        """Line of the list that a sample is on, 0 without a list."""

        def files() -> Iterator[str]:
            entries: Iterable[tuple[str, int]]
            for name in find_paths([entry], flag):
                if os.path.isdir(name):
                    entries = ((str(file), 0) for file in iter_files(Path(name), data.suffixes))
                elif self._is_sample(name):
                    entries = [(name, 0)]
                else:
                    self.lists.append(name)
                    self._list_starts.append(len(lines))
                    entries = ((os.path.join(os.path.dirname(name), text), n) for n, text in iter_list_file(Path(name)))
                for file, line in entries:
                    lines.append(line)
                    yield file

        self.files = PackedStrings(files())
        self.line_numbers = np.frombuffer(lines, np.int32)
        if not self.files:
            raise UsageError(f"{flag} {entry}: names no file that ends with {', '.join(data.suffixes)}")

    def _is_sample(self, name: str) -> bool:
        return name.lower().endswith(self.data.suffixes)

    def __len__(self) -> int:
        return len(self.files)

    def at(self, index: int) -> Sample:
        """The sample of a file."""
        return self.data.sample(Path(self.files[index]))

    def describe(self, index: int) -> str:
        """The file, and where it is listed."""
        line = int(self.line_numbers[index])
        if not line:
            return self.files[index]
        of_list = bisect.bisect_right(self._list_starts, index) - 1
        return f"{self.files[index]}, line {line} of {self.lists[of_list]}"


class ListFileScenario(Scenario):
    """A scenario whose samples are named in list files; its data extend `ListFileData`."""

    data: ListFileData
    """The samples."""

    train: ListTrainLoaderSettings = ListTrainLoaderSettings()
    """Batches for training."""

    val: ListValLoaderSettings = ListValLoaderSettings()
    """Batches for validation."""

    lav: ListLavLoaderSettings = ListLavLoaderSettings()
    """Batches for load-and-validate."""

    def source(self, mode: Mode) -> Source | None:
        if mode is Mode.TRAIN:
            sources = _make_sources(self.data, self.train.lists, "--train.lists")
            return Mixture(sources, self.train.list_ratios or None)
        return make_list_source(self.data, self.val.lists, "--val.lists") if self.val.lists else None

    def lav_sources(self) -> Mapping[str, Source]:
        if self.train.folds and not self.lav.lists:
            return super().lav_sources()
        lists = self.lav.lists or self.val.lists
        names = [Path(entry).stem for entry in lists]
        unique = [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names)]
        flag = "--lav.lists" if self.lav.lists else "--val.lists"
        return {name: ListSource(self.data, entry, flag) for name, entry in zip(unique, lists, strict=True)}


def make_list_source(data: ListFileData, lists: Sequence[str], flag: str) -> Source:
    """The samples of lists, one list after another.

    Args:
        flag: that named the lists, to begin a message with.
    """
    return Mixture(_make_sources(data, lists, flag))


def _make_sources(data: ListFileData, lists: Sequence[str], flag: str) -> list[ListSource]:
    return [ListSource(data, entry, flag) for entry in lists]
