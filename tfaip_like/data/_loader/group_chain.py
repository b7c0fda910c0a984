"""Scheduling of sample groups over all levels: the results of one level are regrouped for the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tfaip_like.data._loader.batching import BadSample
from tfaip_like.data._loader.dropped_samples import DroppedSample
from tfaip_like.data._loader.groups import FIRST_POSITION, GroupPosition, GroupResult, SampleGroup
from tfaip_like.data._loader.sample_reader import Row
from tfaip_like.data._sample import Sample


class GroupChain:
    """Chain of groups over all levels: a source of tasks that are built from the results of earlier tasks.

    Pass the result of each task to `add_result`; a task is None while the next one depends on missing results.

    Args:
        source_groups: groups of the first level, in order.
        sizes: group size of each level.
        begin: position of the first group of the last level.
    """

    def __init__(
        self, source_groups: Iterator[SampleGroup], sizes: Sequence[int], begin: GroupPosition = FIRST_POSITION
    ):
        self._source_groups = source_groups
        self._is_source_exhausted = False
        self._regroupers: list[_Regrouper] = []
        for level, size in reversed(list(enumerate(sizes))[1:]):
            number, skip = (begin[0], begin[1]) if len(begin) > 1 else (0, 0)
            self._regroupers.insert(0, _Regrouper(level, size, number, skip))
            begin = begin[2:] if len(begin) > 1 else begin
        self._num_pending = [0] * len(sizes)

    def tasks(self) -> Iterator[SampleGroup | None]:
        """Yield groups, those of later levels first, to keep memory small."""
        while (group := self._next()) is not None or any(self._num_pending):
            if group is not None:
                self._num_pending[group.level] += 1
            yield group

    def add_result(self, result: GroupResult) -> GroupResult | None:
        """Add the result of a task, in the order of tasks; return it if it belongs to the last level."""
        self._num_pending[result.level] -= 1
        if result.level == len(self._regroupers):
            return result
        self._regroupers[result.level].add(result)
        return None

    def results(self, work: Callable[[SampleGroup], GroupResult]) -> Iterator[GroupResult]:
        """Yield the results of the last level, computed by `work` in this process."""
        for group in self.tasks():
            if group is not None and (result := self.add_result(work(group))) is not None:
                yield result

    def _next(self) -> SampleGroup | None:
        for regrouper in reversed(self._regroupers):
            if group := regrouper.pop_full_group():
                return group
        if not self._is_source_exhausted:
            if group := next(self._source_groups, None):
                return group
            self._is_source_exhausted = True
        for level, regrouper in enumerate(self._regroupers):
            if any(self._num_pending[: level + 1]):
                return None
            if group := regrouper.pop_remainder():
                return group
        return None


class _Regrouper:
    """Splitter of the results of one level into groups of the next.

    Args:
        level: level of the groups.
        size: group size.
        number: number of the first group in its pass.
        skip: number of samples to skip in the first result.
    """

    def __init__(self, level: int, size: int, number: int, skip: int):
        self._level = level
        self._size = size
        self._number = number
        self._skip = skip
        self._data_pass: int | None = None
        self._samples: list[tuple[Row, Sample, GroupPosition]] = []
        """Rows and samples with their positions: index in their group, and the position of that group."""
        self._bad: list[BadSample] = []
        self._dropped: list[DroppedSample] = []
        self._finished: list[SampleGroup] = []
        """Last groups of finished passes."""
        self._end: GroupPosition = (0, *FIRST_POSITION)
        """Position to assign to a group without samples."""

    def add(self, result: GroupResult) -> None:
        """Add a result of the level before."""
        if self._data_pass is not None and result.data_pass != self._data_pass:
            while group := self.pop_full_group(current_pass_only=True) or self.pop_remainder():
                self._finished.append(group)
            self._number = 0
        self._data_pass = result.data_pass
        numbered = enumerate(zip(result.rows, result.samples, strict=True))
        self._samples += [
            (row, sample, (index, *result.position)) for index, (row, sample) in numbered if index >= self._skip
        ]
        self._skip = 0
        self._end = (len(result.rows), *result.position)
        self._bad += result.bad
        self._dropped += result.dropped

    def pop_full_group(self, current_pass_only: bool = False) -> SampleGroup | None:
        """Return the next full group, or the last group of a finished pass, which may be smaller; None if neither."""
        if self._finished and not current_pass_only:
            return self._finished.pop(0)
        return self._pop_group() if len(self._samples) >= self._size else None

    def pop_remainder(self) -> SampleGroup | None:
        """Return the remaining samples as a group; None if there are none."""
        return self._pop_group() if self._samples or self._bad or self._dropped else None

    def _pop_group(self) -> SampleGroup:
        members, self._samples = self._samples[: self._size], self._samples[self._size :]
        begin = members[0][2] if members else self._end
        assert self._data_pass is not None
        group = SampleGroup(
            self._level,
            self._data_pass,
            (self._number, *begin),
            [row for row, _, _ in members],
            [sample for _, sample, _ in members],
            self._bad,
            self._dropped,
        )
        self._number += 1
        self._bad, self._dropped = [], []
        return group
