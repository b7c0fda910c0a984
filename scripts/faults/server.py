"""Fork server with TensorFlow imported, which saves seconds per command."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from scripts.faults.fault_points import RUN_DIR_VARIABLE, patch_os_calls

Item = TypeVar("Item")
Result = TypeVar("Result")

REPOSITORY = Path(__file__).parents[2]
POLL_INTERVAL_S = 0.01
ORPHAN_TIMEOUT_S = 5.0
"""Seconds that the processes of a run have to end after its main process."""


class ForkServer:
    """A warm process, seen from the campaign; runs one command at a time.

    Args:
        environment: of the warm process, in addition to this one's.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.faults.server"],
            cwd=REPOSITORY,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": path, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        words: Sequence[object],
        log: Path,
        environment: Mapping[str, object] | None = None,
        cwd: Path = REPOSITORY,
        exits_fast: bool = False,
    ) -> Command:
        """Start a command in a new session.

        Args:
            words: name of a console script of this package, and its arguments.
            log: file for stdout and stderr.
            environment: changes of the environment variables.
            cwd: working directory.
            exits_fast: end without the shutdown of the interpreter, which takes TensorFlow a while.
        """
        changes = {name: str(value) for name, value in (environment or {}).items()}
        task = {
            "words": [str(word) for word in words],
            "log": str(log),
            "environment": changes,
            "cwd": str(cwd),
            "exits_fast": exits_fast,
        }
        return Command(self, int(self.ask(task)), log)

    def ask(self, task: Mapping[str, Any]) -> str:
        """Send a task and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the warm process of the campaign has ended; its errors are above")
        return answer

    def close(self) -> None:
        """End the warm process."""
        self._process.communicate()


@dataclass(frozen=True)
class Command:
    """Running command with all its processes."""

    server: ForkServer
    pid: int
    log: Path

    @property
    def is_running(self) -> bool:
        """Return whether its main process has not ended yet."""
        return is_running(self.pid)

    def wait(self, limit_s: float) -> int | None:
        """Return the exit code, negative for a signal that killed it; None if it does not end in time."""
        if not wait_until(lambda: not self.is_running, limit_s):
            return None
        return int(self.server.ask({"wait": self.pid}))

    def kill(self) -> None:
        """End what is left, after writing the stacks of its threads to the log."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR2)
                time.sleep(0.5)
        for pid in session_processes(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def orphans(self) -> list[int]:
        """Return the processes that are still there some seconds after the main process has ended, and end them."""
        wait_until(lambda: not session_processes(self.pid), ORPHAN_TIMEOUT_S)
        left = session_processes(self.pid)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left


def wait_until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Return whether a condition came true in time."""
    end = time.monotonic() + limit_s
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(POLL_INTERVAL_S)
    return holds or condition()


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def session_processes(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    return [pid for pid in psutil.pids() if _session_of(pid) == session and is_running(pid)]


def _session_of(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid)
    return None


def map_parallel(
    servers: Sequence[ForkServer], work: Callable[[ForkServer, Item], Result], items: Iterable[Item]
) -> list[Result]:
    """Return the results of work on items, in their order; each server has one at a time."""
    results: dict[int, Result] = {}
    waiting = enumerate(items)
    lock = threading.Lock()

    def take(server: ForkServer) -> None:
        while True:
            with lock:
                found = next(waiting, None)
            if found is None:
                return
            number, item = found
            results[number] = work(server, item)

    with ThreadPoolExecutor(len(servers)) as pool:
        for done in [pool.submit(take, server) for server in servers]:
            done.result()
    return [results[number] for number in sorted(results)]


@contextlib.contextmanager
def start_servers(count: int, environment: Mapping[str, str] | None = None) -> Iterator[list[ForkServer]]:
    """Start some warm processes and end them after the block."""
    started = [ForkServer(environment) for _ in range(count)]
    try:
        yield started
    finally:
        for server in started:
            server.close()


def server_main() -> None:
    """Start the command of each line of standard input, until there are no more."""
    from importlib.metadata import entry_points

    scripts = {script.name: script.value.split(":") for script in entry_points(group="console_scripts")}
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    for module in (
        "tfaip_like",  # imports the packages of the backend in the order that they require
        "keras",
        *([backend] if backend != "jax" else []),  # the threads of JAX do not survive a fork
        "tfaip_like._training.training",
        "scripts.faults.scenarios",
        "scripts.faults.layers",
    ):
        importlib.import_module(module)
    for line in sys.stdin:
        task = json.loads(line)
        if "wait" in task:
            print(os.waitstatus_to_exitcode(os.waitpid(task["wait"], 0)[1]), flush=True)
        elif child := os.fork():
            print(child, flush=True)
        else:
            _set_up_child(task)
            module, function = scripts[task["words"][0]]
            _run_command(getattr(importlib.import_module(module), function), task["exits_fast"])
            return


def _set_up_child(task: Mapping[str, Any]) -> None:
    """Make this process what a shell would have started."""
    os.setsid()
    log = os.open(task["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number, descriptor in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(descriptor, number)
    os.chdir(task["cwd"])
    os.environ.update(task["environment"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    if os.environ.get(RUN_DIR_VARIABLE):
        patch_os_calls()
    sys.argv = task["words"]


def _run_command(main: Callable[[], None], exits_fast: bool) -> None:
    """Run the command; return, or exit, as it does."""
    if not exits_fast:
        main()
        return
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    server_main()
