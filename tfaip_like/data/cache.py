"""Processed samples that are kept, so that they are made once."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from tfaip_like.data.batching import BadSample, name_sample
from tfaip_like.data.dropped import Dropped
from tfaip_like.data.randomness import RandomOfRow
from tfaip_like.data.workers.background import call_in_thread
from tfaip_like.data.workers.many import in_parts
from tfaip_like.data.workers.shared import SharedFile
from tfaip_like.errors import UsageError, counted
from tfaip_like.sample import Sample

if TYPE_CHECKING:
    from tfaip_like.data.samples import Samples
    from tfaip_like.data.settings import DataSettings


logger = logging.getLogger(__name__)

SAMPLES_TRIED = 100


class Cache:
    """Samples after their first processors, by their index, in a file that all processes map.

    Attributes:
        stages: how many processors their samples have passed.
    """

    def __init__(self, place: Literal["memory", "disk"], length: int, stages: int):
        self.file = SharedFile.in_memory() if place == "memory" else SharedFile.on_disk()
        self.stages = stages
        self.begins = np.full(length, -1, np.int64)
        self.sizes = np.zeros(length, np.int64)
        self.bad: list[BadSample] = []
        """Those that could not be made."""
        self.dropped: list[Dropped] = []
        """Those that processors dropped."""
        self._end = 0

    def add(self, index: int, data: bytes | BadSample | Dropped) -> None:
        """Keep a pickled sample, or why it is bad or dropped."""
        if isinstance(data, BadSample):
            self.bad.append(data)
        elif isinstance(data, Dropped):
            self.dropped.append(data)
        else:
            self.begins[index], self.sizes[index] = self._end, len(data)
            self.file.write(data)
            self._end += len(data)

    def read(self, index: int) -> Sample | None:
        """The sample, None if it is dropped."""
        begin, size = int(self.begins[index]), int(self.sizes[index])
        if begin < 0:
            return None
        sample: Sample = pickle.loads(self.file.view(begin + size)[begin:])  # noqa: S301  (our own)
        return sample

    def nbytes(self) -> int:
        """Size of what is kept."""
        return self._end


class FillCache:
    """The work of filling a cache: pickled samples for their indices."""

    def __init__(self, samples: Samples, stages: int):
        self.samples = copy.copy(samples)
        self.samples.random = self.random = WatchedRandomness()
        self.samples.dropped = []
        self.stages = stages
        self.at = samples.at
        self.seconds = samples.seconds

    def __call__(self, indices: npt.NDArray[np.int64]) -> list[bytes | BadSample | Dropped]:
        """Return for each index its sample, or why it is bad or dropped."""
        self.samples.at, self.samples.seconds = self.at, self.seconds
        return [self._made(index) for index in indices.tolist()]

    def what_is_made(self, at: npt.NDArray[np.int64]) -> str:
        """The sample that is being made."""
        return self.samples.what_is_made(at)

    def _made(self, index: int) -> bytes | BadSample | Dropped:
        self.at[:] = (0, index, 0, 0, self.at[4] + 1)
        self.random.forget()
        try:
            sample = self.samples.processed(self.samples.raw(index), (0, index, 0), end=self.stages)
        except Exception as error:
            if self.samples.data.on_bad_sample == "skip":
                return BadSample(index, self.samples.place(index), f"{type(error).__name__}: {error}")
            name_sample(error, self.samples.place(index))
            raise
        if (stage := self.random.first_user()) is not None:
            raise UsageError(
                f"cache: {self.samples.stages[stage]} used its random generator for {self.samples.place(index)}, "
                "though not for the first samples; what it makes cannot be kept, so turn the cache off"
            )
        return self.samples.take_dropped()[-1] if sample is None else pickle.dumps(sample, protocol=5)


class WatchedRandomness(RandomOfRow):
    """Generators of which it is known whether they were used."""

    def __init__(self) -> None:
        super().__init__(0)
        self.forget()

    def forget(self) -> None:
        """Begins to watch anew."""
        self._first_user: int | None = None
        self._stage: int | None = None
        self._before = b""

    def at(self, row: tuple[int, int, int], stage: int) -> np.random.Generator:
        self._look()
        generator = super().at(row, stage)
        self._stage, self._before = stage, self._position()
        return generator

    def first_user(self) -> int | None:
        """The first stage that used its generator, None if none did."""
        self._look()
        return self._first_user

    def _look(self) -> None:
        if self._first_user is None and self._stage is not None and self._position() != self._before:
            self._first_user = self._stage

    def _position(self) -> bytes:
        state = self._bits.state
        return bytes(state["state"]["counter"].tobytes()) + bytes([state["buffer_pos"], state["has_uint32"]])


def fill_cache(
    samples: Samples, settings: DataSettings, group: str, check: Callable[[], None], stages: int | None = None
) -> Cache:
    """Make the samples that are used, as far as their processing is not random.

    Args:
        group: of the flags: for messages.
        check: called while waiting; raises to stop.
        stages: number of processors whose results are kept; by default those before the first random one.
    """
    place: Literal["memory", "disk"] = "memory" if settings.cache == "memory" else "disk"
    if stages is None:
        stages = call_in_thread(lambda: stages_without_randomness(samples), check)
    cache = Cache(place, len(samples.source), stages)
    title = f"caching --{group} samples"
    for indices, made in in_parts(FillCache(samples, stages), samples.indices, settings, title, check):
        for index, item in zip(indices.tolist(), made, strict=True):
            cache.add(index, item)
    logger.info(
        "--%s.cache %s: %s, %.3g MB, after %d of %d processors",
        group,
        place,
        counted(len(samples.indices), "sample"),
        cache.nbytes() / 1e6,
        stages,
        len(samples.processors),
    )
    return cache


def stages_without_randomness(samples: Samples) -> int:
    """How many of the first processors do not use their random generator, as seen on the first good sample."""
    watched = copy.copy(samples)
    watched.random = random = WatchedRandomness()
    watched.dropped = []
    for index in samples.indices[:SAMPLES_TRIED].tolist():
        random.forget()
        try:
            made = watched.processed(watched.raw(index), (0, index, 0))
        except Exception as error:
            if samples.data.on_bad_sample == "raise":
                name_sample(error, samples.place(index))
                raise
            continue
        if (stage := random.first_user()) is not None:
            return stage - 1
        if made is not None:
            return len(samples.processors)
    return 0
