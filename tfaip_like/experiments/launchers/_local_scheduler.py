"""Scheduler of the local queue of a batch: a detached process that runs a limited number of trainings in parallel.

All of its state is in files, so it can be killed at any time. A run is alive while its lock file is locked: the process
of the run inherits the lock, which the system releases when that process ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tfaip_like._runs.reader import Run
from tfaip_like._utils.file_formats import FileFormat
from tfaip_like._utils.files import is_disk_full_error
from tfaip_like._utils.locks import is_locked, lock_descriptor
from tfaip_like._utils.operating_system import num_usable_cpus
from tfaip_like._utils.processes import ActiveTimer, is_suspended
from tfaip_like._utils.typed_json import AtLeast, Count
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments.launchers._tickets import Ticket, read_local_tickets, write_ticket

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.2
MAX_LOCK_ATTEMPTS, LOCK_RETRY_INTERVAL_S = 10, 0.02
MIN_FREE_BYTES = 2**20
"""Free disk space required to start a run."""
TERMINATION_GRACE_S = 60.0
"""Time between SIGTERM and SIGKILL."""


@dataclass(frozen=True)
class QueueSettings:
    """Settings of a local queue."""

    jobs: Annotated[int, AtLeast(1)] = 1
    """Number of parallel runs."""
    gpus: tuple[Count, ...] = ()
    """GPUs to assign, one to each run."""

    def write(self, batch: Batch) -> None:
        """Write the settings of a batch; a running scheduler picks them up."""
        SETTINGS_FORMAT.write(_settings_path(batch), self, indent=None)


SETTINGS_FORMAT = FileFormat("settings of a queue", QueueSettings)


def start_scheduler(batch: Batch) -> None:
    """Start the scheduler of a batch, detached from this process and its terminal; no effect if one is running."""
    with (batch.queue_dir / "scheduler.log").open("a", encoding="utf-8") as log:
        subprocess.Popen(
            # -P: a random.py of the user must not shadow a standard module. Not -m: the package imports this module.
            [sys.executable, "-P", "-c", f"from {__name__} import main; main()", str(batch.path.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # not affected by Ctrl-C or the end of the shell
        )


def is_scheduler_running(batch: Batch) -> bool:
    """Return whether a scheduler of a batch is running."""
    return is_locked(_scheduler_lock_path(batch))


def is_disk_full(batch: Batch) -> bool:
    """Return whether the free disk space is too small to start a run."""
    return shutil.disk_usage(batch.path).free < MIN_FREE_BYTES


def is_run_alive(batch: Batch, name: str) -> bool:
    """Return whether the local queue is running a run."""
    return is_locked(_run_lock_path(batch, name))


@dataclass
class Scheduler:
    """Scheduler that processes the queue of a batch until it is empty."""

    batch: Batch
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """Processes of runs that this scheduler started, by the names of the runs."""
    stopping: dict[str, ActiveTimer] = field(default_factory=dict)
    """Time since SIGTERM was sent to a run."""
    queue_mtime_ns: int = -1
    """Modification time of the queue when it was last processed."""
    unwritten: dict[str, Ticket] = field(default_factory=dict)
    """Tickets that could not be written because the disk is full."""

    def run(self) -> None:
        """Start and monitor runs until the queue is empty; return immediately if another scheduler is running."""
        with self.batch.lock():
            lock = _try_lock(_scheduler_lock_path(self.batch))
        if lock is None:
            return
        while True:
            with self.batch.lock():
                if not self._poll_queue():
                    # While the batch is locked: the next submission finds no scheduler and starts one.
                    os.close(lock)
                    return
            time.sleep(POLL_INTERVAL_S)

    def _poll_queue(self) -> bool:
        """Process the queue, return whether there is more to do; a full disk only defers the start of runs."""
        was_full = bool(self.unwritten)
        try:
            left = self._process_queue()
        except OSError as error:
            if not is_disk_full_error(error):
                raise
            left = True
        if self.unwritten and not was_full:
            logger.warning("Disk full: no runs are started until space is available.")
        return left or bool(self.unwritten)

    def _process_queue(self) -> bool:
        """Record ended runs, stop cancelled and start queued ones; return whether there is more to do."""
        self._flush_unwritten_tickets()
        ended = any(child.poll() is not None for child in self.children.values())
        changed = os.stat(self.batch.queue_dir).st_mtime_ns
        if not ended and changed == self.queue_mtime_ns and self.children and not self.stopping:
            return True  # avoids reading 1,000 tickets five times a second
        tickets = {**read_local_tickets(self.batch), **self.unwritten}
        running = self._update_running({name: ticket for name, ticket in tickets.items() if ticket.state == "running"})
        for name, ticket in running.items():
            if ticket.cancelled:
                self._stop_run(name, ticket)
        order = [run.name for run in self.batch.read_index().runs]
        queued = [name for name in order if name in tickets and tickets[name].is_queued]
        settings = _read_settings(self.batch)
        while queued and len(running) < settings.jobs and not self.unwritten and not is_disk_full(self.batch):
            name = queued.pop(0)
            gpu = _least_used_gpu(settings, running.values())
            running[name] = self._start_run(name, tickets[name], gpu, settings.jobs)
        self.queue_mtime_ns = os.stat(self.batch.queue_dir).st_mtime_ns
        return bool(running or queued)

    def _update_running(self, running: dict[str, Ticket]) -> dict[str, Ticket]:
        """Return the runs that are alive; record the end of the others."""
        alive = {}
        for name, ticket in running.items():
            child = self.children.get(name)
            if child is not None and child.poll() is not None:
                del self.children[name]
            elif child is not None or is_run_alive(self.batch, name):
                alive[name] = ticket
                continue
            # The exit code of a run that another scheduler started is unknown.
            code = child.returncode if child is not None else None
            self.stopping.pop(name, None)
            if code and not ticket.cancelled and is_disk_full(self.batch):
                self._save_ticket(name, ticket.replace(state="waiting", started=None, host=None, pid=None, gpu=None))
                logger.info("%s exited with code %d on a full disk; queued until space is available", name, code)
                continue
            self._save_ticket(name, ticket.replace(state="ended", ended=time.time(), code=code))
            logger.info("%s ended%s", name, "" if code is None else f" with exit code {code}")
        return alive

    def _start_run(self, name: str, ticket: Ticket, gpu: int | None, jobs: int) -> Ticket:
        ticket = ticket.replace(state="running", started=time.time(), host=socket.gethostname(), gpu=gpu)
        lock = _try_lock(_run_lock_path(self.batch, name))
        if lock is not None:  # otherwise it is running: a scheduler was killed before it wrote the ticket
            self.children[name] = self._spawn(name, make_run_environment(os.environ, gpu, jobs), lock)
            os.close(lock)
            ticket = ticket.replace(pid=self.children[name].pid)
            logger.info("%s started%s", name, "" if gpu is None else f" on GPU {gpu}")
        self._save_ticket(name, ticket)
        return ticket

    def _save_ticket(self, name: str, ticket: Ticket) -> None:
        """Write a ticket; on a full disk keep it in memory until space is available."""
        self.unwritten.pop(name, None)
        try:
            write_ticket(self.batch, name, ticket)
        except OSError as error:
            if not is_disk_full_error(error):
                raise
            self.unwritten[name] = ticket

    def _flush_unwritten_tickets(self) -> None:
        """Write the tickets that are kept in memory; drop those of runs that were submitted again."""
        on_disk = read_local_tickets(self.batch) if self.unwritten else {}
        for name, ticket in list(self.unwritten.items()):
            if name in on_disk and on_disk[name].submitted == ticket.submitted:
                self._save_ticket(name, ticket.replace(cancelled=on_disk[name].cancelled))
            else:
                del self.unwritten[name]

    def _spawn(self, name: str, environment: Mapping[str, str], lock: int) -> subprocess.Popen[bytes]:
        with self.batch.log_path(name).open("ab") as log:
            return subprocess.Popen(
                ["bash", self.batch.job_script_path, name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=[lock],
                start_new_session=True,
            )

    def _stop_run(self, name: str, ticket: Ticket) -> None:
        pid = ticket.pid or Run(self.batch.run_dir(name)).info.get("pid")
        if pid is None or ticket.host not in (None, socket.gethostname()):  # a PID is valid on its host only
            return
        if name not in self.stopping:
            self.stopping[name] = ActiveTimer()
            _signal_process_group(pid, signal.SIGTERM)
        elif self.stopping[name].update(counts=not is_suspended(pid)) > TERMINATION_GRACE_S:
            _signal_process_group(pid, signal.SIGKILL)


def make_run_environment(variables: Mapping[str, str], gpu: int | None, jobs: int) -> dict[str, str]:
    """Return the environment variables of a run: its GPU, and its share of the CPUs.

    PyTorch has one OpenMP thread per CPU, and threads of parallel runs that wait for each other keep the CPUs busy: two
    runs on two CPUs trained 250 to 1,500 samples/s each, with one thread each 7,000. TensorFlow and JAX ignore
    the limit.

    Args:
        variables: environment variables of the queue.
        gpu: GPU of the run; None leaves the choice to the run.
        jobs: number of parallel runs.
    """
    limits = {} if jobs == 1 else {"OMP_NUM_THREADS": str(max(1, num_usable_cpus() // jobs))}
    return {**limits, **variables, **({} if gpu is None else {"CUDA_VISIBLE_DEVICES": str(gpu)})}


def _least_used_gpu(settings: QueueSettings, running: Iterable[Ticket]) -> int | None:
    """Return the GPU with the fewest runs; None if no GPUs are assigned."""
    uses = Counter(ticket.gpu for ticket in running)
    return min(settings.gpus, key=lambda gpu: uses[gpu]) if settings.gpus else None


def _signal_process_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)  # the run is the leader of its session, hence of its process group


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock on a file; None if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    for _ in range(MAX_LOCK_ATTEMPTS):  # `is_locked` of another process holds it for a moment
        try:
            lock_descriptor(descriptor, wait=False)
            return descriptor
        except BlockingIOError:
            time.sleep(LOCK_RETRY_INTERVAL_S)
        except OSError:  # a file system without locks
            return descriptor
    os.close(descriptor)
    return None


def _read_settings(batch: Batch) -> QueueSettings:
    file = _settings_path(batch)
    return SETTINGS_FORMAT.read(file) if os.path.lexists(file) else QueueSettings()


def _settings_path(batch: Batch) -> Path:
    return batch.queue_dir / ".settings"


def _scheduler_lock_path(batch: Batch) -> Path:
    return batch.queue_dir / ".scheduler.lock"


def _run_lock_path(batch: Batch, name: str) -> Path:
    return batch.queue_dir / f"{name}.lock"


def main() -> None:
    """Run the scheduler; entry point of the process that `start_scheduler` starts."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    batch = Batch(Path(sys.argv[1]))
    try:
        Scheduler(batch).run()
    except FileNotFoundError:
        if batch.index_file.exists():
            raise
        logger.error(
            "%s: directory not found; the scheduler stops. If the batch was moved, submit it from its new location.",
            batch.path,
        )


if __name__ == "__main__":
    main()
