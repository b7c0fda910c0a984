"""Passes over an iterable-only source, which a resumed training continues at its position.

Marks are set while the source is read: the state of its iterator, if it has one, and a digest of the item that follows.
A checkpoint stores the marks around its position. The resumed training begins at the state, or reads the samples of the
pass again, and finds out by the digests if they are other ones.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import pluralize
from tfaip_like._utils.json_files import Json
from tfaip_like._utils.progress_bar import sample_progress_bar
from tfaip_like._utils.typed_json import Count
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._sample import Mode, Sample
from tfaip_like.data._sources.datasets.items import ItemIterable
from tfaip_like.data._sources.iterator_state import IteratorState, decode_state, encode_state, reset_state

logger = logging.getLogger(__name__)

END_OF_PASS: Any = object()
"""Sentinel after the last item of a pass."""
MIN_SAMPLES_BETWEEN_MARKS = 64
MAX_MARK_COST = 0.01
"""Maximum share of the time that is spent on marks."""
MAX_MARKS = 1000
"""Maximum number of marks that are kept; far more than what is read ahead has."""


@dataclass(frozen=True)
class SourceMark:
    """Position within a pass over a source, before an item."""

    data_pass: Count
    samples: Count
    """Number of samples of the pass before it."""
    digest: str
    """Digest of the item."""
    state: Json = None
    """Encoded state of the iterator; None if it has none."""


class OtherItemError(CodeError):
    """Source that yields another item than before at the same position."""


class SourcePasses:
    """Reader of the passes over an iterable-only source.

    Args:
        samples: reader with the source.
        group: flag group such as `train`, for messages.
    """

    def __init__(self, samples: SampleReader, group: str = ""):
        self._samples = samples
        self._group = group
        self._marks: list[SourceMark] = []
        """Marks in the order of reading."""
        self._expected: dict[tuple[int, int], str] = {}
        """Digests by pass and samples, of the checkpoint and of the first items that were read."""
        self._lock = threading.Lock()
        """Guards the marks: samples are read and checkpoints are created in different threads."""
        self._is_resumed = self._is_restored = self._is_state_refused = False
        self._next_mark = 0
        self._next_mark_time = 0.0

    def restore(self, marks: Iterable[SourceMark]) -> None:
        """Continue a training with the marks of its checkpoint."""
        self._marks = list(marks)
        self._is_resumed = True
        if self._resume != "inexact":
            self._expected |= {(mark.data_pass, mark.samples): mark.digest for mark in self._marks}

    def marks(self, data_pass: int, first: int) -> list[SourceMark]:
        """Return the marks that a training needs to continue at a sample of a pass: one before it, and the last.

        Earlier ones are discarded.
        """
        with self._lock:
            before = self._find(data_pass, first)
            if before is not None:
                self._marks = self._marks[self._marks.index(before) :]
            same_pass = [mark for mark in self._marks if mark.data_pass == data_pass]
            last = [replace(mark, state=None) for mark in same_pass[-1:] if mark is not before]
            return [*([] if before is None else [before]), *last]

    def read(self, data_pass: int, first: int) -> Iterator[Sample]:
        """Yield the samples of a pass from number `first` on.

        Raises:
            CodeError: if they are other ones than before the training was interrupted.
        """
        for begin, item in self.read_batches(data_pass, first):
            yield from itertools.islice(self._split(item), max(0, first - begin), None)

    def read_batches(self, data_pass: int, first: int) -> Iterator[tuple[int, Any]]:
        """Yield the items of a pass from that with sample `first` on, with the numbers of their first samples.

        An item is a batch if the source has batches, else a sample.

        Raises:
            CodeError: if they are other ones than before the training was interrupted.
        """
        start, items = self._begin(data_pass, first)
        is_resumed, self._is_resumed = self._is_resumed and first > 0, False
        begin, count = time.perf_counter(), start
        with sample_progress_bar(first - start, f"reading --{self._group} samples again", delay_s=1) as bar:
            for item, length in items:
                if count < first:
                    bar.update(min(length, first - count))
                if count + length > first:
                    if is_resumed:
                        self._log_resumed(start, first, time.perf_counter() - begin)
                        is_resumed = False
                    yield count, item
                count += length

    def has_batches(self) -> bool:
        """Return whether the items of the source are batches; reads the first item if none has been read."""
        source = self._samples.source
        if not isinstance(source, ItemIterable):
            return False
        if source.is_batched is None:
            next(self._items(0, 0), None)
        return bool(source.is_batched)

    def _log_resumed(self, start: int, first: int, seconds: float) -> None:
        logger.info(
            "--%s: resumed %s at sample %d of the pass%s; read %s again in %.1f s",
            self._group,
            self._name,
            first,
            f" from its state at sample {start}" if start else "",
            pluralize(first - start, "sample"),
            seconds,
        )

    @property
    def _resume(self) -> str:
        return self._samples.data.resume

    @property
    def _is_training(self) -> bool:
        return self._samples.mode is Mode.TRAIN

    def _find(self, data_pass: int, first: int) -> SourceMark | None:
        """Return the last mark up to a sample of a pass."""
        marks = (mark for mark in self._marks if mark.data_pass == data_pass and mark.samples <= first)
        return max(marks, key=lambda mark: mark.samples, default=None)

    def _begin(self, data_pass: int, first: int) -> tuple[int, Iterator[tuple[Any, int]]]:
        """Return the number of samples before the first item, and the items."""
        with self._lock:
            mark = self._find(data_pass, first)
        uses_state = self._resume != "replay" and not self._is_state_refused
        if mark is not None and mark.state is not None and uses_state:
            self._expected[data_pass, mark.samples] = mark.digest
            items = self._items(data_pass, mark.samples, decode_state(mark.state))
            try:
                head = list(itertools.islice(items, 1))
            except OtherItemError:
                if self._resume == "state":
                    raise
                self._is_state_refused = True
                logger.warning(
                    "--%s: the state of %s does not restore its position (a shuffle buffer?): reading the samples of "
                    "the pass again",
                    self._group,
                    self._name,
                )
            else:
                return mark.samples, itertools.chain(head, items)
        if self._resume == "inexact":
            return first, self._items(data_pass, first)
        return 0, self._items(data_pass, 0)

    def _items(self, data_pass: int, count: int, state: Any = None) -> Iterator[tuple[Any, int]]:
        """Yield the items of a pass and their number of samples; set marks, and check the items of known digest.

        Args:
            data_pass: number of the pass, from 0.
            count: number of samples before the first item.
            state: state of the iterator; None to begin a pass.
        """
        position = self._open(data_pass, state)
        self._next_mark, self._next_mark_time = count, 0.0
        for number in itertools.count():
            begin = time.perf_counter()
            is_due = self._is_training and count >= self._next_mark and begin >= self._next_mark_time
            # Before its first item, a Hugging Face dataset has the state of its last pass.
            encoded = self._encode(position) if is_due and number else None
            state_seconds = time.perf_counter() - begin
            item = next(position.iterator, END_OF_PASS)
            if item is END_OF_PASS:
                if state is not None and number == 0:  # there was an item after the state
                    raise self._other_item_error(data_pass, count)
                return
            item = self._convert(item)
            begin = time.perf_counter()
            expected = self._expected.get((data_pass, count))
            if is_due or expected is not None:
                digest = compute_digest(item)
                if expected not in (None, digest):
                    raise self._other_item_error(data_pass, count)
            if is_due:
                self._add(SourceMark(data_pass, count, digest, encoded))
                end = time.perf_counter()
                self._next_mark = count + MIN_SAMPLES_BETWEEN_MARKS
                self._next_mark_time = end + (end - begin + state_seconds) / MAX_MARK_COST
            length = self._length(item)
            yield item, length
            count += length

    def _open(self, data_pass: int, state: Any) -> IteratorState:
        """Begin a pass, or continue it at a state."""
        iterable = self._samples.source
        if isinstance(iterable, ItemIterable):
            iterable = iterable.begin(data_pass, self._samples.seed) if self._is_training else iterable.begin(0, 0)
        if self._is_restored:
            reset_state(iterable)
        self._is_restored = state is not None
        position = IteratorState(iterable, state)
        if self._resume == "state" and self._is_training and not position.has_state:
            raise self._error(
                f"--data.resume state: {self._name} has no state (state_dict and load_state_dict, or get_state and "
                "set_state); use --data.resume replay"
            )
        return position

    def _encode(self, position: IteratorState) -> Json:
        """Return the state of an iterator as JSON; None if it has none, or one that is not stored."""
        try:
            return encode_state(position.get())
        except TypeError as error:
            if self._resume == "state":
                raise self._error(f"--data.resume state: the state of {self._name} contains {error}") from None
            return None

    def _add(self, mark: SourceMark) -> None:
        with self._lock:
            if mark.samples == mark.data_pass == 0 and self._resume != "inexact":
                self._expected[0, 0] = mark.digest  # the first samples are read twice, if workers are chosen by us
            self._marks = [
                other for other in self._marks if (other.data_pass, other.samples) != (mark.data_pass, mark.samples)
            ]
            self._marks.append(mark)
            if len(self._marks) > MAX_MARKS:
                del self._marks[1:-1:2]

    @property
    def _name(self) -> str:
        source = self._samples.source
        return source.name if isinstance(source, ItemIterable) else type(source).__name__

    def _convert(self, item: Any) -> Any:
        source = self._samples.source
        return source.convert(item) if isinstance(source, ItemIterable) else item

    def _length(self, item: Any) -> int:
        source = self._samples.source
        return source.length(item) if isinstance(source, ItemIterable) else 1

    def _split(self, item: Any) -> Iterable[Any]:
        source = self._samples.source
        return source.split(item) if isinstance(source, ItemIterable) else [item]

    def _other_item_error(self, data_pass: int, count: int) -> OtherItemError:
        return OtherItemError(
            f"{type(self._samples.data).__name__}.source: {self._name} yields another sample {count} in pass "
            f"{data_pass + 1} when it is read again, so a training cannot be resumed exactly.\n"
            "Seed its random generators, shuffle with --train.shuffle_buffer instead, or accept other samples with "
            "--data.resume inexact",
            *self._samples.get_reader_code(),
        )

    def _error(self, message: str) -> CodeError:
        return CodeError(message, *self._samples.get_reader_code())


def compute_digest(item: Any) -> str:
    """Return a digest of the arrays, numbers and texts of an item; other values are ignored."""
    digest = hashlib.blake2b(digest_size=8)
    _update(digest, item)
    return digest.hexdigest()


def _update(digest: Any, value: Any) -> None:
    if isinstance(value, Sample):
        value = [value.inputs, value.targets]
    if isinstance(value, Mapping):
        value = [part for key in sorted(value, key=str) for part in (str(key), value[key])]
    if isinstance(value, list | tuple):
        for part in value:
            _update(digest, part)
    elif isinstance(value, str | bytes | bool | int | float):
        digest.update(repr(value).encode())
    elif isinstance(value, np.generic | np.ndarray) and not value.dtype.hasobject:
        digest.update(np.ascontiguousarray(value))
