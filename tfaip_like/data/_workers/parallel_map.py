"""Parallel map over samples with a progress bar; starts workers only where they save time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.operating_system import IS_POSIX, num_usable_cpus
from tfaip_like._utils.progress_bar import sample_progress_bar
from tfaip_like.data._sources.indexed import Indices
from tfaip_like.data._workers.background import call_in_thread, iterate_in_thread
from tfaip_like.data._workers.pool import NotPicklableError
from tfaip_like.data._workers.process import WorkerFunction
from tfaip_like.data._workers.process_pool import ProcessPool
from tfaip_like.data._workers.thread_pool import ThreadPool

if TYPE_CHECKING:
    from tfaip_like.data._settings import LoaderSettings

MIN_SECONDS_FOR_WORKERS = 10.0
"""Estimated single-process time above which workers are started."""
MAX_AUTO_WORKERS = 4
"""Upper limit of the automatic choice; num_processes may exceed it."""
CHUNK_SIZE = 256

IndexChunk = npt.NDArray[np.int64]


def map_in_chunks(
    work: WorkerFunction, indices: Indices, settings: LoaderSettings, title: str, check: Callable[[], None]
) -> Iterator[tuple[IndexChunk, Any]]:
    """Yield chunks of the indices, in order, each with the result of `work`.

    Args:
        work: function of a chunk of indices.
        indices: positions in the source.
        settings: number of workers and their timeout.
        title: title of the progress bar.
        check: called while waiting; raises to stop.
    """
    chunks = [indices[begin : begin + CHUNK_SIZE] for begin in range(0, len(indices), CHUNK_SIZE)]
    with sample_progress_bar(len(indices), title, delay_s=1) as bar:
        for chunk, result in zip(chunks, map_tasks(work, iter(chunks), len(chunks), settings, check), strict=True):
            yield chunk, result
            bar.update(len(chunk))


def map_tasks(
    work: WorkerFunction, tasks: Iterator[Any], count: int, settings: LoaderSettings, check: Callable[[], None]
) -> Iterator[Any]:
    """Yield the results of tasks, in order.

    Args:
        work: function of a task.
        tasks: see `WorkerPool.run`.
        count: approximate number of tasks.
        settings: number of workers and their timeout; by default the time of the first task decides.
        check: called while waiting; raises to stop.
    """
    begin = time.perf_counter()
    first = call_in_thread(lambda: next(tasks, None), check)
    if first is None:
        return
    yield call_in_thread(lambda: work(first), check)
    seconds = (time.perf_counter() - begin) * (count - 1)
    num_workers = settings.num_processes if settings.num_processes is not None else choose_num_workers(seconds)
    if num_workers and seconds > 1:
        try:
            pool = ThreadPool if settings.worker_type == "thread" else ProcessPool
            workers = pool(work, num_workers, 2 * num_workers, settings.timeout_seconds, check)
        except NotPicklableError:
            if settings.num_processes is not None:
                raise
        else:
            with workers:
                yield from workers.run(iterate_in_thread(tasks, check))
            return
    yield from iterate_in_thread((work(task) for task in tasks if task is not None), check)


def choose_num_workers(seconds: float) -> int:
    """Return the number of workers for work that takes `seconds` in a single process."""
    return min(num_usable_cpus(), MAX_AUTO_WORKERS) if IS_POSIX and seconds > MIN_SECONDS_FOR_WORKERS else 0
