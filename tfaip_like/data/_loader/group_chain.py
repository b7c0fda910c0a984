"""The groups of all levels, each cut out of what the level before has made, as tasks for data processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tfaip_like.data._loader.batching import BadSample
from tfaip_like.data._loader.dropped_samples import DroppedSample
from tfaip_like.data._loader.groups import FIRST_POSITION, GroupPosition, GroupResult, SampleGroup
from tfaip_like.data._loader.sample_reader import Row
from tfaip_like.data._sample import Sample


class GroupChain:
    """The groups of all levels as tasks, whose results make the groups of the next level.

    `take` the result of each task; a task is None while there is nothing to do before results were taken.

    Args:
        raw: groups of the first level, in the order of passes.
        sizes: of the groups of each level.
        begin: position of the first group of the last level.
    """

    def __init__(self, raw: Iterator[SampleGroup], sizes: Sequence[int], begin: GroupPosition = FIRST_POSITION):
        self._source_groups = raw
        self._is_source_exhausted = False
        self._regroupers: list[_Regrouper] = []
        for level, size in reversed(list(enumerate(sizes))[1:]):
            number, skip = (begin[0], begin[1]) if len(begin) > 1 else (0, 0)
            self._regroupers.insert(0, _Regrouper(level, size, number, skip))
            begin = begin[2:] if len(begin) > 1 else begin
        self._num_pending = [0] * len(sizes)

    def tasks(self) -> Iterator[SampleGroup | None]:
        """Yield groups, those of later levels first, so that little is kept."""
        while (group := self._next()) is not None or any(self._num_pending):
            if group is not None:
                self._num_pending[group.level] += 1
            yield group

    def add_result(self, made: GroupResult) -> GroupResult | None:
        """Take a result, in the order of tasks; return it if it is of the last level."""
        self._num_pending[made.level] -= 1
        if made.level == len(self._regroupers):
            return made
        self._regroupers[made.level].add(made)
        return None

    def results(self, work: Callable[[SampleGroup], GroupResult]) -> Iterator[GroupResult]:
        """Yield what `work` makes of all groups of the last level, one after another."""
        for group in self.tasks():
            if group is not None and (made := self.add_result(work(group))) is not None:
                yield made

    def _next(self) -> SampleGroup | None:
        for cut in reversed(self._regroupers):
            if group := cut.full():
                return group
        if not self._is_source_exhausted:
            if group := next(self._source_groups, None):
                return group
            self._is_source_exhausted = True
        for level, cut in enumerate(self._regroupers):
            if any(self._num_pending[: level + 1]):
                return None
            if group := cut.rest():
                return group
        return None


class _Regrouper:
    """Cuts the results of one level into groups of the next."""

    def __init__(self, level: int, size: int, number: int, skip: int):
        self._level = level
        self._size = size
        self._number = number
        self._skip = skip
        self._data_pass: int | None = None
        self._samples: list[tuple[Row, Sample, GroupPosition]] = []
        """With the position of each: how many precede it in its group, and the position of that group."""
        self._bad: list[BadSample] = []
        self._dropped: list[DroppedSample] = []
        self._finished: list[SampleGroup] = []
        """The last groups of passes that are over."""
        self._end: GroupPosition = (0, *FIRST_POSITION)
        """Position of a group without samples."""

    def add(self, made: GroupResult) -> None:
        """Take a result."""
        if self._data_pass is not None and made.data_pass != self._data_pass:
            while group := self.full(of_this_pass=True) or self.rest():
                self._finished.append(group)
            self._number = 0
        self._data_pass = made.data_pass
        numbered = enumerate(zip(made.rows, made.samples, strict=True))
        self._samples += [
            (row, sample, (place, *made.position)) for place, (row, sample) in numbered if place >= self._skip
        ]
        self._skip = 0
        self._end = (len(made.rows), *made.position)
        self._bad += made.bad
        self._dropped += made.dropped

    def full(self, of_this_pass: bool = False) -> SampleGroup | None:
        """Return the next full group, or the smaller last one of a pass that is over; None if there is none."""
        if self._finished and not of_this_pass:
            return self._finished.pop(0)
        return self._group() if len(self._samples) >= self._size else None

    def rest(self) -> SampleGroup | None:
        """Return what is left as a group; None if nothing is."""
        return self._group() if self._samples or self._bad or self._dropped else None

    def _group(self) -> SampleGroup:
        taken, self._samples = self._samples[: self._size], self._samples[self._size :]
        begin = taken[0][2] if taken else self._end
        assert self._data_pass is not None
        group = SampleGroup(
            self._level,
            self._data_pass,
            (self._number, *begin),
            [row for row, _, _ in taken],
            [sample for _, sample, _ in taken],
            self._bad,
            self._dropped,
        )
        self._number += 1
        self._bad, self._dropped = [], []
        return group
