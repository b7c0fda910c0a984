"""Signals: each delivery counts once, in any state of the main thread."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import textwrap

import keras
import pytest
from conftest import reset_signal_handlers

from tfaip_like import Interrupted
from tfaip_like._utils.interruption import HANDLED_SIGNALS, InterruptFlag


def deliver_signals(*more: int, first: int = signal.SIGINT, acknowledged: bool = True) -> InterruptFlag:
    flag = InterruptFlag()
    flag.record_signals(bytes([first]))
    if acknowledged:
        flag.acknowledge()
    flag.record_signals(bytes(more))
    return flag


def test_one_delivery_requests_a_stop_and_a_second_ctrl_c_an_immediate_stop() -> None:
    assert not deliver_signals().is_forced
    assert deliver_signals(signal.SIGINT).is_forced
    assert deliver_signals(signal.SIGINT, signal.SIGINT, first=signal.SIGTERM).is_forced


def test_copies_that_arrive_before_the_first_is_acknowledged_repeat_nothing() -> None:
    """As of a wrapper that passes on what the terminal has sent to all processes."""
    flag = deliver_signals(signal.SIGINT, signal.SIGINT, acknowledged=False)
    assert not flag.is_forced
    flag.acknowledge()
    flag.record_signals(bytes([signal.SIGINT]))
    assert flag.is_forced


@pytest.mark.parametrize("first", HANDLED_SIGNALS)
@pytest.mark.parametrize("other", [number for number in HANDLED_SIGNALS if number != signal.SIGINT])
def test_a_signal_of_a_cluster_never_costs_the_state_that_is_being_saved(first: int, other: int) -> None:
    """As SIGTERM at a time limit, after the SIGUSR1 before it; and the copy that a job script passes on."""
    flag = deliver_signals(other, other, first=first)
    assert not flag.is_forced
    assert flag.signum == first


def test_unhandled_signals_are_ignored() -> None:
    flag = InterruptFlag()
    flag.record_signals(bytes([signal.SIGCHLD, signal.SIGWINCH]))
    flag.check()


# In a separate process: handlers run in the main thread, and the last resort ends the process.
UNINTERRUPTIBLE = """
import ctypes, os, signal, sys, threading, time
from tfaip_like import Interrupted
from tfaip_like._utils.interruption import graceful_shutdown_signals
from tfaip_like._utils.console import log_to_console

log_to_console(20)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background ignore it
acknowledged = threading.Event()

class Notice:
    def write(self, text):
        if "noticed" in text:
            acknowledged.set()
        return len(text)
    def flush(self): pass
    def isatty(self): return False

sys.stderr = Notice()

def send(times):
    for number in range(times):
        os.kill(os.getpid(), signal.SIGINT)
        acknowledged.wait()
        while not flag._is_acknowledged:
            time.sleep(0.01)

class Destructor:
    def __del__(self):
        for _ in range(10):
            time.sleep(0.05)

with graceful_shutdown_signals("noticed") as flag:
    thread = threading.Thread(target=send, args=(TIMES,))
    thread.start()
    BODY
    print("left", flag.is_forced, flush=True)
    flag.check()
"""
IN_C = "ctypes.CDLL(None).sleep(2); thread.join()"
"""The main thread is in C code, without the lock of the interpreter, when the signals arrive."""


def run_uninterruptible(times: int, body: str) -> subprocess.CompletedProcess[str]:
    code = UNINTERRUPTIBLE.replace("TIMES", str(times)).replace("BODY", body)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_one_signal_counts_once_however_late_it_is_handled() -> None:
    done = run_uninterruptible(1, IN_C)
    assert done.stdout == "left False\n"
    assert done.returncode == 1
    assert "Interrupted" in done.stderr or done.stderr == ""


def test_a_second_ctrl_c_raises_in_the_main_thread() -> None:
    done = run_uninterruptible(2, "time.sleep(120)")
    assert done.stdout == ""
    assert done.returncode == 1  # of the exception, which nobody handles here


def test_a_second_ctrl_c_ends_a_process_whose_main_thread_never_returns() -> None:
    assert run_uninterruptible(2, "[ctypes.CDLL(None).sleep(120) for _ in range(100)]").returncode in (1, 130)
    assert run_uninterruptible(2, "[0 for _ in iter(lambda: time.sleep(0.01) or 0, 1)]").returncode == 1


def test_an_exception_that_a_destructor_swallows_does_not_keep_a_process_alive() -> None:
    body = textwrap.dedent(
        """
        while True:
            one = Destructor()
            del one
        """
    ).strip()
    assert run_uninterruptible(2, body.replace("\n", "\n    ")).returncode in (1, 130)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_that_is_repeated_while_a_command_ends_keeps_its_exit_code(number: signal.Signals) -> None:
    code = f"""
import os, sys
from tfaip_like._cli.command import run_command
from tfaip_like._utils.interruption import graceful_shutdown_signals

def command(words):
    with graceful_shutdown_signals() as flag:
        os.kill(os.getpid(), {int(number)})
        while flag.signum is None:
            pass
        flag.check()

code = run_command("command", command, [])
os.kill(os.getpid(), {int(number)})
sys.exit(code)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=reset_signal_handlers)
    assert done.returncode == 143
    assert done.stderr == f"command: stopped by {number.name}\n"


@pytest.mark.parametrize("number", HANDLED_SIGNALS)
def test_the_exception_survives_being_created_again(number: signal.Signals) -> None:
    original = Interrupted(number, forced=True)
    assert str(pickle.loads(pickle.dumps(original))) == str(original)
    assert pickle.loads(pickle.dumps(original)).forced
    assert Interrupted(f"Exception encountered when calling Layer.call(): {original}").signum is number
    assert original.exit_code == (130 if number is signal.SIGINT else 143)


class Raising(keras.layers.Layer):
    def call(self, x):  # type: ignore[no-untyped-def]
        raise Interrupted(signal.SIGTERM)


def test_keras_propagates_the_exception_unchanged() -> None:
    with pytest.raises(Interrupted) as raised:
        Raising()(keras.ops.ones((1, 2)))
    assert raised.value.signum is signal.SIGTERM
