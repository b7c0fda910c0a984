"""Choice between worker threads and processes, by measuring both."""

from __future__ import annotations

import logging
import timeit
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from tfaip_like.data._workers.pool import WorkerPool
from tfaip_like.data._workers.process_pool import ProcessPool
from tfaip_like.data._workers.thread_pool import ThreadPool

logger = logging.getLogger(__name__)

PROBE_S = 0.03
"""Time that one worker takes for a probe."""
MAX_PROBE_SAMPLES = 4096
MAX_SLOWDOWN = 1.15
"""Slowdown of a task while all threads are busy, up to which the work counts as releasing the GIL."""
NUM_REPEATS = 3


def start_faster_pool(
    start: Callable[[type[WorkerPool]], WorkerPool], make_probe: Callable[[int], Any], group: str
) -> WorkerPool:
    """Start the pool with the higher throughput.

    Processes, whose start takes half a second, are not measured if threads do not slow each other down.

    Args:
        start: starts a pool of a type.
        make_probe: returns a task of a number of samples, of any size.
        group: flag group such as `train`, for messages.
    """
    with ExitStack() as started:
        threads = chosen = started.enter_context(start(ThreadPool))
        probe = make_probe(_choose_probe_size(threads, make_probe))
        alone, together = _measure(threads, [probe]), _measure(threads, [probe] * threads.num_workers)
        speeds = {"threads": threads.num_workers * alone / together}
        if together > MAX_SLOWDOWN * alone:
            processes = started.enter_context(start(ProcessPool))
            _measure(processes, [probe] * processes.num_workers, repeats=1)  # includes the start
            by_processes = _measure(processes, [probe] * processes.num_workers)
            speeds["processes"] = processes.num_workers * alone / by_processes
            chosen, other = (processes, threads) if by_processes <= together else (threads, processes)
            other.close()
        started.pop_all()
    logger.info(
        "--%s: data workers are %s (speed relative to one: %s)",
        group,
        chosen.kind,
        ", ".join(f"{name} {speed:.2f}" for name, speed in speeds.items()),
    )
    return chosen


def _choose_probe_size(threads: WorkerPool, make_probe: Callable[[int], Any]) -> int:
    """Return the number of samples that take about `PROBE_S`; warm up the threads."""
    size = 1
    _measure(threads, [make_probe(size)] * threads.num_workers, repeats=1)
    while (seconds := _measure(threads, [make_probe(size)], repeats=1)) < PROBE_S / 4 and size < MAX_PROBE_SAMPLES:
        size *= 4
    return min(max(1, round(size * PROBE_S / seconds)), MAX_PROBE_SAMPLES)


def _measure(pool: WorkerPool, tasks: list[Any], repeats: int = NUM_REPEATS) -> float:
    """Return the seconds that a pool takes for tasks, the shortest of several runs."""
    return min(timeit.repeat(lambda: deque(pool.run(tasks), maxlen=0), number=1, repeat=repeats))
