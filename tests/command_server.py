"""Run our console scripts, each in a separate process, forked from one that has TensorFlow imported already.

Importing takes longer than most trainings of tests do. For tests that are not about how a command starts.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent


class CommandServer:
    """The process to fork from, seen from the tests."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # notes of TensorFlow; commands have separate files
            text=True,
        )

    def run(
        self,
        program: object,
        *words: object,
        cwd: Path = REPOSITORY,
        environment: Mapping[str, str] | None = None,
        terminal: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Like `conftest.run_command`, for our own commands only; may write to a terminal instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        out, errors = (Path(self._folder.name) / name for name in ("out", "errors"))
        command = [Path(str(program)).name, *map(str, words)]
        changes = {"COLUMNS": "100", **(environment or {})}
        task = {"words": command, "cwd": str(cwd), "environment": changes}
        task |= {"out": terminal or str(out), "errors": terminal or str(errors)}
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        if terminal is not None:
            return subprocess.CompletedProcess(command, code)
        return subprocess.CompletedProcess(command, code, out.read_text(), errors.read_text())

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=240)
        self._folder.cleanup()


@functools.cache
def shared_server() -> CommandServer:
    """Return the server of this process, which ends with it."""
    server = CommandServer()
    atexit.register(server.close)
    return server


def serve() -> None:
    """Run the command of each line of JSON and answer with its exit code, until the input ends."""
    scripts = {script.name: script.value.split(":") for script in entry_points(group="console_scripts")}
    for module in (
        "keras",
        "tensorflow",
        "sklearn.datasets",
        "tfaip_like._training.training",
        "tfaip_like._cli.experiments",
        "tfaip_like._cli.train_scenario",
    ):
        importlib.import_module(module)
    gc.freeze()  # or each child would visit, and so copy, all objects of TensorFlow
    sys.path[0] = str(Path(sys.executable).parent)  # as it is for an installed script
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if child == 0:
            run_task(task)
            module, function = scripts[task["words"][0]]
            exit_like(getattr(importlib.import_module(module), function))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run_task(task: Mapping[str, Any]) -> None:
    """Make this process what a shell would have started."""
    signal.alarm(250)
    for number, name in ((0, os.devnull), (1, task["out"]), (2, task["errors"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(task["cwd"])
    os.environ.update(task["environment"])
    tempfile.tempdir = None  # TMPDIR may be another
    sys.path[1:1] = filter(None, task["environment"].get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = task["words"]


def exit_like(main: Callable[[], None]) -> None:
    """End this process as it would end after `main`, but without a second for taking TensorFlow down."""
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        code = 1
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
