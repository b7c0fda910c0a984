"""Pseudo-terminals: commands as a person at a terminal sees them."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from command_server import shared_server
from conftest import REPOSITORY, reset_signal_handlers

COLOR = re.compile(r"\x1b\[[0-9;]*m")
UNSET = ("NO_COLOR", "COLUMNS", "PAGER", "LESS")
"""Variables of the person who runs the tests."""

OnOutput = Callable[[int, str], None]
"""Function of a terminal and everything that it has shown so far."""


def resize(terminal: int, columns: int, rows: int = 24) -> None:
    """Set the size of a terminal."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def run_in_terminal(
    *words: object, columns: int = 80, environment: Mapping[str, str] | None = None, on_output: OnOutput | None = None
) -> tuple[int, str]:
    """Run an installed console script in a terminal; return its exit code and all that it has written.

    Args:
        words: the command.
        columns: width of the terminal.
        environment: additional variables.
        on_output: called after each output.
    """
    program, *arguments = [str(word) for word in words]
    master, slave = os.openpty()
    resize(slave, columns)
    inherited = {name: value for name, value in os.environ.items() if name not in UNSET}
    process = subprocess.Popen(
        [Path(sys.executable).parent / program, *arguments],
        cwd=REPOSITORY,
        env={**inherited, "TERM": "xterm", **(environment or {})},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=_make_controlling,
    )
    os.close(slave)
    output = _read(master, lambda: process.poll() is not None, on_output)
    return process.wait(), output


def _make_controlling() -> None:
    reset_signal_handlers()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def train_in_terminal(
    *words: object, columns: int = 80, environment: Mapping[str, str] | None = None, on_output: OnOutput | None = None
) -> tuple[int, str]:
    """Run a command whose output is a terminal, in a process that has TensorFlow imported; see `run_in_terminal`."""
    master, slave = os.openpty()
    resize(slave, columns)
    codes: list[int] = []

    def run() -> None:
        variables = {"TERM": "xterm", "COLUMNS": "", "NO_COLOR": "", **(environment or {})}
        codes.append(shared_server().run(*words, environment=variables, terminal=os.ttyname(slave)).returncode)

    thread = threading.Thread(target=run)
    thread.start()
    output = _read(master, lambda: not thread.is_alive(), on_output)
    thread.join()
    os.close(slave)
    return codes[0], output


def _read(terminal: int, has_ended: Callable[[], bool], on_output: OnOutput | None) -> str:
    """Return what is written to a terminal until its command has ended."""
    output, deadline = b"", time.monotonic() + 240
    try:
        while time.monotonic() < deadline:
            ended = has_ended()
            if select.select([terminal], [], [], 0.05)[0]:
                try:
                    output += os.read(terminal, 65536)
                except OSError:  # its last process has ended
                    break
                if on_output is not None:
                    on_output(terminal, output.decode("utf-8", "replace"))
            elif ended:
                break
    finally:
        os.close(terminal)
    return output.decode("utf-8", "replace")


def screen_lines(output: str) -> list[str]:
    """Return the lines that remain on the screen, without colors: text after a carriage return replaces the line."""
    lines = []
    for line in COLOR.sub("", output).split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines
