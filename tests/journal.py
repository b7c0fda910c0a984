"""A logger that writes its calls to a file, as a user would write it, and that can fail in many ways."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfaip_like.loggers import LoggedRun, Logger, ParamValue, Status
from tfaip_like.summaries import Summary

FAILURE = "JOURNAL_FAILURE"
"""Environment variable with the call that fails, and how: `log_metrics 2=kill` (the process), `after start 1=exit`,
`log_metrics=ConnectionError` (each of them), `finish=0.5` (a pause in seconds), `finish=stop` (a signal).
"""


class Journal(Logger):
    """Lines of JSON, one per call; the file stands for the server."""

    file: Path = Path("journal.jsonl")
    """File of all runs."""
    knows_steps: bool = True
    """Whether the server can be asked for the last step."""

    def start(self, run: LoggedRun) -> None:
        self._numbers: dict[str, int] = {}
        if not run.is_resumed:
            self.id = f"{run.name}-{len(self.lines(self.file))}"
        parent = run.parent["id"] if run.parent is not None else None
        self._write("start", resumed=run.is_resumed, parent=parent, name=run.name, batch=run.batch)

    def last_step(self) -> int | None:
        if not self.knows_steps:
            return None
        return max((line["step"] for line in self.lines(self.file) if line["call"] == "log_metrics"), default=0)

    def log_params(self, params: Mapping[str, ParamValue]) -> None:
        self._write("log_params", params=dict(params))

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: float) -> None:
        self._write("log_metrics", step=step, epoch=epoch, metrics=dict(metrics))

    def log_best(self, metrics: Mapping[str, float], step: int, epoch: float) -> None:
        self._write("log_best", step=step, epoch=epoch, metrics=dict(metrics))

    def log_summary(self, name: str, summary: Summary, step: int, epoch: float) -> None:
        self._write("log_summary", step=step, epoch=epoch, name=name, kind=type(summary).__name__)

    def log_artifact(self, path: Path) -> None:
        self._write("log_artifact", name=path.name, files=sorted(each.name for each in path.iterdir()))

    def finish(self, status: Status) -> None:
        self._write("finish", status=status, thread=threading.current_thread().name)

    def _write(self, call: str, **values: Any) -> None:
        self._numbers[call] = number = self._numbers.get(call, 0) + 1
        self._fail_at(call, f"{call} {number}")
        with self.file.open("a") as file:
            file.write(json.dumps({"call": call, "id": self.id, **values}) + "\n")
        self._fail_at(f"after {call} {number}")

    def _fail_at(self, *points: str) -> None:
        point, _, failure = os.environ.get(FAILURE, "").partition("=")
        if point not in points:
            return
        if failure == "exit":
            raise SystemExit
        if failure == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if failure == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
            failure = "600"
        if failure.replace(".", "").isdecimal():
            time.sleep(float(failure))
            return
        kinds: dict[str, type[Exception]] = {"ConnectionError": ConnectionError, "FileNotFoundError": FileNotFoundError}
        raise kinds.get(failure, ValueError)("the service is away")

    @staticmethod
    def lines(file: Path) -> list[dict[str, Any]]:
        """Return what was written."""
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
