"""Pool of worker threads, for work that releases the GIL: decoding images, reading files, NumPy with large arrays.

Each thread has its own copy of the worker function, made as for a process, so that processors need not share state. It
saves the start of the processes and the transfer of the results. A thread cannot be killed: one that hangs or is not
finished when the pool is closed is abandoned, which `is_user_code_running` reports.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NoReturn

import numpy as np

from tfaip_like._utils.processes import ActiveTimer
from tfaip_like.data._workers.background import track_user_code
from tfaip_like.data._workers.pool import TaskResult, WorkerPool, pack_work
from tfaip_like.data._workers.process import WorkerFunction
from tfaip_like.data._workers.shared_memory import SharedFile, unpack_views


class ThreadPool(WorkerPool):
    """Worker threads; see `WorkerPool`."""

    kind = "threads"

    def __init__(
        self,
        work: WorkerFunction,
        num_workers: int,
        max_outstanding: int,
        timeout_seconds: float = 0,
        check: Callable[[], None] = lambda: None,
    ):
        super().__init__(work, num_workers, max_outstanding, timeout_seconds, check)
        files: list[SharedFile] = []
        self._packed = SharedFile.in_memory()
        pack_work(work, self._packed, files)
        self._tasks: SimpleQueue[tuple[int, Any] | None] = SimpleQueue()
        self._finished: SimpleQueue[TaskResult] = SimpleQueue()
        self._workers = [_WorkerThread(unpack_views(self._packed, files), self) for _ in range(num_workers)]

    def nbytes(self) -> int:
        return 0

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for _ in self._workers:
            self._tasks.put(None)
        self._discard_results()
        self._packed.close()

    def run_next_task(self, worker: _WorkerThread) -> bool:
        """Run a task in a worker thread; return False when there will be no more."""
        task = self._tasks.get()
        if task is None or self._closed:
            return False
        if task[0] >= self._first_task_of_run:
            self._finished.put(worker.run(*task))
        return True

    def _can_submit(self) -> bool:
        return True

    def _submit(self, number: int, task: Any) -> None:
        self._tasks.put((number, task))

    def _receive(self, seconds: float) -> None:
        try:
            self._add_result(self._finished.get(timeout=seconds))
            while True:
                self._add_result(self._finished.get_nowait())
        except Empty:
            pass

    def _check_timeout(self, awaited: int) -> None:
        holder = next((worker for worker in self._workers if worker.number == awaited), None)
        if self.timeout_seconds and holder is not None and holder.seconds_since_progress() > self.timeout_seconds:
            raise self._make_timeout_error(holder.work.progress)


class _WorkerThread:
    """Daemon thread with its copy of the worker function.

    Attributes:
        number: number of the task that it runs.
    """

    def __init__(self, work: WorkerFunction, pool: ThreadPool):
        self.work = work
        self.work.progress = np.zeros(len(work.progress), np.int64)
        self.work.seconds = np.zeros(len(work.seconds))
        self.number = -1
        self._last_progress = b""
        self._stall_timer = ActiveTimer()
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(_run_tasks, self, pool), name="data worker", daemon=True).start()

    def run(self, number: int, task: Any) -> TaskResult:
        """Run a task in this thread."""
        self.number = number
        seconds, cpu = self.work.seconds.copy(), time.thread_time()
        try:
            with track_user_code():
                value = self.work(task)
        except BaseException as error:
            return TaskResult(number, partial(_raise, error))
        spent = (self.work.seconds - seconds).tolist()
        return TaskResult(number, lambda: value, seconds=spent, cpu=time.thread_time() - cpu)

    def seconds_since_progress(self) -> float:
        """Return for how long the progress marker has not changed, measured between calls."""
        now = self.work.progress.tobytes()
        if now != self._last_progress:
            self._last_progress = now
            self._stall_timer.reset()
        return self._stall_timer.update(counts=True)


def _raise(error: BaseException) -> NoReturn:
    raise error


def _run_tasks(worker: _WorkerThread, pool: ThreadPool) -> None:
    while pool.run_next_task(worker):
        pass
