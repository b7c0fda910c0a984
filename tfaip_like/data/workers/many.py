"""Something done once to many samples, in parallel where that pays, with a progress bar."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from tfaip_like.data.workers.pool import Workers
from tfaip_like.data.workers.process import Work

if TYPE_CHECKING:
    from tfaip_like.data.settings import DataSettings

SECONDS_THAT_PAY = 10.0
"""Work that takes longer in one process is divided."""
MOST_PROCESSES = 4
"""More are used only when they are asked for."""
PART = 256


def map_in_parts(work: Work, indices: npt.NDArray[np.int64], settings: DataSettings, title: str) -> list[Any]:
    """The items that `work` makes for all indices, in their order: a list for each task of some indices."""
    parts = [indices[begin : begin + PART] for begin in range(0, len(indices), PART)]
    bar = tqdm(total=len(indices), desc=title, unit="sample", delay=1, leave=False, disable=not sys.stderr.isatty())
    items: list[Any] = []
    with bar:
        for made in _results(work, parts, settings):
            items += made
            bar.update(len(made))
    return items


def _results(work: Work, parts: list[npt.NDArray[np.int64]], settings: DataSettings) -> Iterator[list[Any]]:
    if not parts:
        return
    begin = time.perf_counter()
    yield work(parts[0])
    seconds = (time.perf_counter() - begin) * (len(parts) - 1)
    count = settings.num_processes
    if count is None:
        count = processes_that_pay(seconds)
    if count == 0 or seconds < 1:
        yield from (work(part) for part in parts[1:])
        return
    with Workers(work, count, 2 * count, settings.timeout_seconds) as workers:
        yield from workers.run(parts[1:])


def processes_that_pay(seconds: float) -> int:
    """How many processes to start for work that takes so long in one."""
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES) if seconds > SECONDS_THAT_PAY else 0
