"""Something done once to many samples, in parallel where that pays, with a progress bar."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from tfaip_like.data.workers.background import call_in_thread, iterate_in_thread
from tfaip_like.data.workers.pool import CannotBeSentError, Workers
from tfaip_like.data.workers.process import Work

if TYPE_CHECKING:
    from tfaip_like.data.settings import DataSettings

SECONDS_THAT_PAY = 10.0
"""Work that takes longer in one process is divided."""
MOST_PROCESSES = 4
"""More are used only when they are asked for."""
PART = 256

Indices = npt.NDArray[np.int64]


def in_parts(
    work: Work, indices: Indices, settings: DataSettings, title: str, check: Callable[[], None]
) -> Iterator[tuple[Indices, Any]]:
    """Parts of the indices and what `work` makes of each, in their order.

    Args:
        title: of the progress bar.
        check: called while waiting; raises to stop.
    """
    parts = [indices[begin : begin + PART] for begin in range(0, len(indices), PART)]
    bar = tqdm(total=len(indices), desc=title, unit="sample", delay=1, leave=False, disable=not sys.stderr.isatty())
    with bar:
        for part, made in zip(parts, _results(work, parts, settings, check), strict=True):
            yield part, made
            bar.update(len(part))


def _results(work: Work, parts: list[Indices], settings: DataSettings, check: Callable[[], None]) -> Iterator[Any]:
    if not parts:
        return
    begin = time.perf_counter()
    yield call_in_thread(lambda: work(parts[0]), check)
    seconds = (time.perf_counter() - begin) * (len(parts) - 1)
    count = settings.num_processes if settings.num_processes is not None else processes_that_pay(seconds)
    if count and seconds > 1:
        try:
            workers = Workers(work, count, 2 * count, settings.timeout_seconds, check)
        except CannotBeSentError:
            if settings.num_processes is not None:
                raise
        else:
            with workers:
                yield from workers.run(parts[1:])
            return
    yield from iterate_in_thread((work(part) for part in parts[1:]), check)


def processes_that_pay(seconds: float) -> int:
    """How many processes to start for work that takes so long in one."""
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES) if seconds > SECONDS_THAT_PAY else 0
