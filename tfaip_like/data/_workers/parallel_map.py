"""Something done once to many samples, in parallel where that pays, with a progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from tfaip_like._utils.operating_system import IS_POSIX, num_usable_cpus
from tfaip_like.data._workers.background import call_in_thread, iterate_in_thread
from tfaip_like.data._workers.pool import NotPicklableError, WorkerPool
from tfaip_like.data._workers.process import WorkerFunction

if TYPE_CHECKING:
    from tfaip_like.data._settings import LoaderSettings

MIN_SECONDS_FOR_WORKERS = 10.0
"""Work that takes longer in one process is divided."""
MAX_AUTO_WORKERS = 4
"""More are used only when they are asked for."""
CHUNK_SIZE = 256

Indices = npt.NDArray[np.int64]


def map_in_chunks(
    work: WorkerFunction, indices: Indices, settings: LoaderSettings, title: str, check: Callable[[], None]
) -> Iterator[tuple[Indices, Any]]:
    """Parts of the indices and what `work` makes of each, in their order.

    Args:
        title: of the progress bar.
        check: called while waiting; raises to stop.
    """
    parts = [indices[begin : begin + CHUNK_SIZE] for begin in range(0, len(indices), CHUNK_SIZE)]
    with progress_bar(len(indices), title) as bar:
        for part, made in zip(parts, map_tasks(work, iter(parts), len(parts), settings, check), strict=True):
            yield part, made
            bar.update(len(part))


def progress_bar(total: int | None, title: str) -> tqdm[Any]:
    """Return a bar that counts samples, in a terminal and after a second."""
    return tqdm(total=total, desc=title, unit="sample", delay=1, leave=False, disable=not sys.stderr.isatty())


def map_tasks(
    work: WorkerFunction, tasks: Iterator[Any], count: int, settings: LoaderSettings, check: Callable[[], None]
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
    processes = settings.num_processes if settings.num_processes is not None else choose_num_workers(seconds)
    if processes and seconds > 1:
        try:
            workers = WorkerPool(work, processes, 2 * processes, settings.timeout_seconds, check)
        except NotPicklableError:
            if settings.num_processes is not None:
                raise
        else:
            with workers:
                yield from workers.run(iterate_in_thread(tasks, check))
            return
    yield from iterate_in_thread((work(task) for task in tasks if task is not None), check)


def choose_num_workers(seconds: float) -> int:
    """How many processes to start for work that takes so long in one."""
    return min(num_usable_cpus(), MAX_AUTO_WORKERS) if IS_POSIX and seconds > MIN_SECONDS_FOR_WORKERS else 0
