"""A process ends when it is asked to, in any user code, and its children with it; suspended ones do not hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from conftest import Run, reset_signal_handlers, slow
from hanging import STEPPED

from tfaip_like import Interrupted
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.checkpoints import list_checkpoints
from tfaip_like._utils.processes import ActiveTimer, run_with_timeout
from tfaip_like.data._workers.background import call_in_thread, is_user_code_running

TESTS = Path(__file__).parent
LONG = 120.0
"""Seconds after which something hangs, on the busiest machine."""

# A sample that takes forever.


def saved_steps(run: Path) -> list[int]:
    """Return steps of the first epoch after which a state was saved."""
    checkpoints = OutputDir(run).checkpoints
    return [checkpoint.position.step for checkpoint in list_checkpoints(checkpoints)] if checkpoints.exists() else []


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("InTraining", 1, 5),
        ("InValidation", 1, 12),
        ("InStream", 1, 8),
        slow("InSource", 1, 8),
        slow("InTraining --train.cache memory", 0, 0),
        slow("InTraining --train.num_processes 1", 1, 5),
        slow("InTraining --train.num_processes 1 --train.worker_type thread", 1, 5),
        slow("InSource --train.num_processes 1", 0, 8),  # a worker may read the whole source before the first step
    ],
)
def test_a_sample_that_takes_forever_does_not_keep_a_stopped_training_alive(
    name: str, least: int, most: int, quick_run: Run, tmp_path: Path
) -> None:
    scenario, *flags = name.split()
    if not least:
        (tmp_path / STEPPED).touch()
    words = [f"hanging:{scenario}", "--trainer.output_dir", "run", *flags]
    done = quick_run("train-scenario", *words, cwd=tmp_path, environment={"PYTHONPATH": str(TESTS)})
    assert done.returncode == 143, done.stderr
    steps = saved_steps(tmp_path / "run") or [0]  # how many were done when the signal came is a matter of time
    assert len(steps) == 1
    assert least <= steps[0] <= most


def test_slow_data_in_the_main_process_do_not_keep_a_stopped_training_alive(quick_run: Run, tmp_path: Path) -> None:
    words = ["hanging:Slow", "--trainer.output_dir", "run"]
    done = quick_run("train-scenario", *words, cwd=tmp_path, environment={"PYTHONPATH": str(TESTS)})
    assert done.returncode == 143, done.stderr
    [step] = saved_steps(tmp_path / "run")
    assert 0 < step <= 6  # the batch that was being read may arrive in time


def test_a_sample_that_takes_forever_does_not_keep_a_failed_training_alive(quick_run: Run, tmp_path: Path) -> None:
    done = quick_run("train-scenario", "hanging:Fails", cwd=tmp_path, environment={"PYTHONPATH": str(TESTS)})
    assert done.returncode == 2
    assert "non-finite loss" in done.stderr.splitlines()[-2]


@pytest.mark.slow
def test_a_sample_that_takes_forever_does_not_keep_a_benchmark_alive(quick_run: Run, tmp_path: Path) -> None:
    (tmp_path / STEPPED).touch()
    words = ["benchmark-input-pipeline", "hanging:InTraining"]
    done = quick_run(*words, cwd=tmp_path, environment={"PYTHONPATH": str(TESTS)})
    assert done.returncode == 143, done.stderr


@pytest.mark.parametrize("flags", [[], slow(["--device.backend", "jax"])])
def test_a_process_ends_while_the_backend_waits_for_a_sample(flags: list[str], tmp_path: Path) -> None:
    # A separate process, which goes through the end of the interpreter.
    words = ["train-scenario", "hanging:InTraining", "--trainer.output_dir", "run", *flags]
    command = [str(Path(sys.executable).parent / words[0]), *words[1:]]
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        preexec_fn=reset_signal_handlers,
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert done.returncode == 143
    assert done.stderr.splitlines()[-1].startswith("Run `resume-training run` to continue")


def test_abandoned_user_code_is_tracked_until_it_ends() -> None:
    may_end = threading.Event()

    def stop() -> None:
        if is_user_code_running():
            raise Interrupted(signal.SIGINT)

    with pytest.raises(Interrupted):
        call_in_thread(may_end.wait, stop)
    assert is_user_code_running()
    may_end.set()
    while is_user_code_running():
        time.sleep(0.01)


def test_an_end_of_iteration_in_user_code_does_not_end_the_data() -> None:
    def ends() -> None:
        next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        call_in_thread(ends, lambda: None)


# Children, and processes that are suspended.


def children(pid: int) -> list[int]:
    """Return the data workers of a process."""
    return [child.pid for child in psutil.Process(pid).children()]


def is_computing(pid: int) -> bool:
    """Return whether a process has computed for a second."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system > 1


READS = """
import os, sys, threading, time
sys.path.insert(0, {tests!r})
from worker_data import AtSample, Counted
from tfaip_like import Mode
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.data._loader.loader_factory import open_training
data = Counted(count=40, processors=[AtSample(what={what!r}, index=-1)])
settings = TrainLoaderSettings(num_processes=2, batch_size=1, shuffle=False, prefetch=2, timeout_seconds=600)
batches = open_training(data, data.source(Mode.TRAIN), settings, None, 7)
stream = batches.iter_training(0, 10)
next(stream)
workers = batches.producer.workers
print(*workers.pids, flush=True)
{then}
"""


def start_reader(what: str, then: str) -> subprocess.Popen[str]:
    script = READS.format(tests=str(TESTS), what=what, then=then)
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_exit(pids: list[int]) -> bool:
    end = time.monotonic() + LONG
    while any(map(is_alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(is_alive, pids))


@pytest.mark.parametrize("who", ["all", slow("data workers")])
def test_a_suspended_process_does_not_hang(who: str) -> None:
    with start_reader("slow", "workers.timeout_seconds = 3; print(sum(len(batch) for batch in stream))") as main:
        assert main.stdout is not None
        pids = [int(pid) for pid in main.stdout.readline().split()] + ([main.pid] if who == "all" else [])
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                os.kill(pid, number)
            time.sleep(4 if number is signal.SIGSTOP else 0)
        assert int(main.stdout.readline()) == 9
    assert main.returncode == 0


@pytest.mark.parametrize("then", ["time.sleep(1000)", slow("os.kill(workers.pids[0], 9); list(stream)")])
def test_a_data_worker_in_c_code_ends_with_the_main_process(then: str) -> None:
    with start_reader("compute", then) as main:
        assert main.stdout is not None
        pids = [int(pid) for pid in main.stdout.readline().split()]
        while len(pids := children(main.pid)) < 2 or not all(map(is_computing, pids)):
            assert main.poll() is None
            time.sleep(0.1)
        main.kill()
    assert wait_for_exit(pids)


def test_suspended_time_does_not_count_as_waiting() -> None:
    timer = ActiveTimer()
    timer._last -= 1000  # as after a suspension
    assert timer.update() <= 1
    assert timer.update(counts=False) <= 1
    timer.reset()
    assert timer.update() < 1


def test_a_program_that_takes_too_long_is_killed() -> None:
    assert run_with_timeout(LONG, "sh", "-c", "echo done").stdout == b"done\n"
    with pytest.raises(subprocess.TimeoutExpired):
        run_with_timeout(1, "sleep", "1000")


def test_a_child_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from tfaip_like._utils.processes import run_child_process
child = "from tfaip_like._utils.processes import exit_with_parent; exit_with_parent(); import os; print(os.getpid(), "
child += "file=open('pid', 'w'), flush=True); sum(range(10**13))"
run_child_process([sys.executable, "-c", child], os.environ)
"""
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environment) as main:
        while not ((file := tmp_path / "pid").exists() and file.read_text()):
            assert main.poll() is None
            time.sleep(0.05)
        main.kill()
    assert wait_for_exit([int((tmp_path / "pid").read_text())])
