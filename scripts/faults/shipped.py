"""Campaign on shipped scenarios: kill -9, SIGTERM, Ctrl-Z in a terminal, a deleted output directory, a moved export.

The commands run as a user starts them; only Ctrl-Z needs a shell with job control, which is started for it.
"""

from __future__ import annotations

import contextlib
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from scripts.faults.outcome import Outcome
from scripts.faults.server import (
    REPOSITORY,
    Command,
    ForkServer,
    is_running,
    map_parallel,
    session_processes,
    wait_until,
)

COMMON_FLAGS = [
    *("--trainer.epochs", "3", "--trainer.random_seed", "7", "--trainer.jit_compile", "false"),
    *("--train.num_processes", "1", "--trainer.steps_per_execution", "1", "--train.timeout_seconds", "5"),
]
SUSPEND_S = 6.0
TIMEOUT_S = 600.0
FAULTS = ("kill -9", "SIGTERM", "Ctrl-Z", "deleted directory", "moved export")


def text_lines(folder: Path) -> tuple[list[str], list[str]]:
    """Draw lines; return the words of a training, and those that choose samples for a prediction."""
    draw = [sys.executable, "-m", "scenarios.text_lines.draw", str(folder), "--lines", "64", "--val_lines", "16"]
    subprocess.run(draw, cwd=REPOSITORY, check=True)
    lists = ["--train.lists", str(folder / "train.lst"), "--val.lists", str(folder / "val.lst")]
    words = ["scenarios.text_lines", *lists, "--model.filters", "4", "4", "--model.units", "8"]
    return words, ["--predict.lists", str(folder / "val.lst")]


def jets(folder: Path) -> tuple[list[str], list[str]]:
    """Draw jets; return the words as above."""
    draw = [sys.executable, "-m", "scenarios.jets.draw", str(folder), "--files", "2", "--val_files", "1"]
    subprocess.run([*draw, "--jets", "400"], cwd=REPOSITORY, check=True)
    files = ["--data.files", f"{folder}/train_*.npz", "--data.val_files", f"{folder}/val_*.npz"]
    words = ["scenarios.jets", *files, "--model.units", "16", "--train.batch_size", "4"]
    return words, ["--predict.limit", "20"]


def sequences(folder: Path) -> tuple[list[str], list[str]]:
    """Return the words as above."""
    small = ["--data.samples", "512", "--data.val_samples", "64", "--model.units", "8", "--model.heads", "2"]
    return ["scenarios.sequences", *small, "--train.batch_size", "16"], ["--predict.limit", "20"]


SCENARIOS: Mapping[str, Callable[[Path], tuple[list[str], list[str]]]] = {
    "text_lines": text_lines,
    "jets": jets,
    "sequences": sequences,
}


class ScenarioCampaign:
    """Runs of one scenario.

    Args:
        folder: of the runs and data.
    """

    def __init__(self, name: str, folder: Path, server: ForkServer):
        self.name = name
        self.folder = folder
        self.server = server
        folder.mkdir(parents=True)
        self.words, self.chosen = SCENARIOS[name](folder / "data")
        self.reference = folder / "reference"
        code = self._start(self.reference).wait(TIMEOUT_S)
        if code != 0:
            raise RuntimeError(f"{name}: the uninterrupted run ends with {code}, see {self.reference}.log")
        self.outcome = Outcome.read(self.reference)

    def run_fault(self, fault: str) -> str:
        """Return "ok", or a description of the fault."""
        run = self.folder / fault.replace(" ", "_")
        if fault == "moved export":
            return self._test_moved_export(run)
        if fault == "Ctrl-Z":
            return self._test_suspension(run)
        command = self._start(run)
        if not wait_for_epoch(run, command):
            return "it ended before the second epoch"
        if fault == "deleted directory":
            return self._test_deleted_dir(run, command)
        number, expected = (signal.SIGKILL, -9) if fault == "kill -9" else (signal.SIGTERM, 143)
        os.kill(command.pid, number)
        code = command.wait(60)
        if code != expected:
            command.kill()
            return "hung" if code is None else f"exit code {code}, expected {expected}"
        if command.orphans():
            return "orphans"
        code = self.server.start(["resume-training", run], command.log, exits_fast=True).wait(TIMEOUT_S)
        return self._compare(run) if code == 0 else f"the resumed run ends with exit code {code}"

    def _start(self, run: Path) -> Command:
        return self.server.start(self._words(run), run.with_suffix(".log"))

    def _words(self, run: Path) -> list[str]:
        return ["train-scenario", *self.words, *COMMON_FLAGS, "--trainer.output_dir", str(run)]

    def _compare(self, run: Path) -> str:
        differences = Outcome.read(run).differences(self.outcome)
        return f"differs in {', '.join(differences[:3])}" if differences else "ok"

    def _test_deleted_dir(self, run: Path, command: Command) -> str:
        for _ in range(100):  # it may be writing there meanwhile
            shutil.rmtree(run, ignore_errors=True)
        code = command.wait(120)
        log = command.log.read_text()
        if code is None:
            command.kill()
            return "hung"
        if command.orphans():
            return "orphans"
        printed = [line for line in log.splitlines() if str(run) in line]
        if code not in (1, 2) or not printed or "Traceback" in log:
            return f"exit code {code}, says {printed[-1:] or log.splitlines()[-1:]}"
        return f"left {sorted(path.name for path in run.iterdir())}" if run.exists() else "ok"

    def _test_suspension(self, run: Path) -> str:
        """Press Ctrl-Z for longer than the time limit for a sample, then say `fg`."""
        with open_terminal() as (shell, keyboard, screen):
            words = [str(Path(sys.executable).parent / "train-scenario"), *self._words(run)[1:]]
            send_keys(keyboard, f"cd {shlex.quote(str(REPOSITORY))}; {shlex.join(words)}\n")
            if not wait_until(lambda: count_epochs(run) >= 1, TIMEOUT_S):
                return f"no epoch: {b''.join(screen)[-300:]!r}"
            send_keys(keyboard, "\x1a")
            if not wait_until(lambda: b"Stopped" in b"".join(screen), 30):
                return f"was not suspended: {b''.join(screen)[-300:]!r}"
            time.sleep(SUSPEND_S)
            send_keys(keyboard, "fg; echo ended with $?.\n")
            if not wait_until(lambda: b"ended with " in b"".join(screen).replace(b"ended with $", b""), TIMEOUT_S):
                return "hung"
            printed = b"".join(screen).rpartition(b"ended with ")[2].split(b".")[0].decode()
            if printed != "0":
                return f"ended with exit code {printed}"
            if len(session_processes(shell)) > 1:
                return "orphans"
        return self._compare(run)

    def _test_moved_export(self, run: Path) -> str:
        """Predict with an export in its place, and with a copy elsewhere after the run was removed."""
        shutil.copytree(self.reference, run)
        before, after = self.folder / "before.jsonl", self.folder / "after.jsonl"
        if (code := self._predict(run / "best", before)) != 0:
            return f"prediction ends with exit code {code}"
        moved = Path(shutil.move(run / "best", self.folder / "elsewhere"))
        shutil.rmtree(run)
        hidden = Path(shutil.move(self.reference, self.folder / "hidden"))
        try:
            if (code := self._predict(moved, after)) != 0:
                return f"prediction with the moved export ends with exit code {code}"
        finally:
            shutil.move(hidden, self.reference)
        return "ok" if before.read_text() == after.read_text() else "other predictions"

    def _predict(self, export: Path, output: Path) -> int | None:
        words = ["predict-scenario", export, *self.chosen, "--output", output]
        return self.server.start(words, output.with_suffix(".log"), exits_fast=True).wait(TIMEOUT_S)


def count_epochs(run: Path) -> int:
    """Return the number of epochs in the history of a run."""
    try:
        return len((run / "history.csv").read_text().splitlines()) - 1
    except OSError:
        return 0


def wait_for_epoch(run: Path, command: Command) -> bool:
    """Wait until the first epoch is done; return whether the training is still running."""
    wait_until(lambda: count_epochs(run) >= 1 or not command.is_running, TIMEOUT_S)
    return command.is_running


@contextlib.contextmanager
def open_terminal() -> Iterator[tuple[int, int, list[bytes]]]:
    """Start an interactive shell in a terminal; give its process, the keyboard and what it has shown so far."""
    shell, descriptor = pty.fork()
    if shell == 0:
        os.environ["PS1"] = "$ "
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])  # noqa: S606
    screen: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the terminal was closed
            while data := os.read(descriptor, 4096):
                screen.append(data)

    threading.Thread(target=read, daemon=True).start()
    try:
        yield shell, descriptor, screen
    finally:
        for pid in session_processes(shell):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if is_running(shell):
            wait_until(lambda: not is_running(shell), 10)
        os.waitpid(shell, 0)
        os.close(descriptor)


def send_keys(keyboard: int, text: str) -> None:
    """Press keys."""
    os.write(keyboard, text.encode())


def run(
    folder: Path, servers: Sequence[ForkServer], names: Sequence[str] = tuple(SCENARIOS)
) -> dict[str, dict[str, str]]:
    """Return the result of each fault, by the scenario's name."""

    def work(server: ForkServer, name: str) -> dict[str, str]:
        shipped = ScenarioCampaign(name, folder / name, server)
        found = {}
        for fault in FAULTS:
            found[fault] = shipped.run_fault(fault)
            print(f"{name}, {fault}: {found[fault]}", flush=True)
        return found

    return dict(zip(names, map_parallel(servers, work, list(names)), strict=True))
