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

from tfaip_like.data._workers.background import call_in_thread, iterate_in_thread
from tfaip_like.data._workers.pool import CannotBeSentError, Workers
from tfaip_like.data._workers.process import Work

if TYPE_CHECKING:
    from tfaip_like.data._settings import DataSettings

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
    with progress_bar(len(indices), title) as bar:
        for part, made in zip(parts, results_of(work, iter(parts), len(parts), settings, check), strict=True):
            yield part, made
            bar.update(len(part))


def progress_bar(total: int | None, title: str) -> tqdm[Any]:
    """Return a bar that counts samples, in a terminal and after a second."""
    return tqdm(total=total, desc=title, unit="sample", delay=1, leave=False, disable=not sys.stderr.isatty())


def results_of(
    work: Work, tasks: Iterator[Any], count: int, settings: DataSettings, check: Callable[[], None]
) -> Iterator[Any]:
    """Yield what `work` makes of tasks, in their order.

    Args:
        tasks: see `Workers.run`.
        count: about how many there are.
    """
    begin = time.perf_counter()
    first = call_in_thread(lambda: next(tasks, None), check)
    if first is None:
        return
    yield call_in_thread(lambda: work(first), check)
    seconds = (time.perf_counter() - begin) * (count - 1)
    processes = settings.num_processes if settings.num_processes is not None else processes_that_pay(seconds)
    if processes and seconds > 1:
        try:
            workers = Workers(work, processes, 2 * processes, settings.timeout_seconds, check)
        except CannotBeSentError:
            if settings.num_processes is not None:
                raise
        else:
            with workers:
                yield from workers.run(iterate_in_thread(tasks, check))
            return
    yield from iterate_in_thread((work(task) for task in tasks if task is not None), check)


def processes_that_pay(seconds: float) -> int:
    """How many processes to start for work that takes so long in one."""
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES) if seconds > SECONDS_THAT_PAY else 0
