"""Provenance and status of a run: `run.json` and `git.diff`."""

from __future__ import annotations

import getpass
import logging
import os
import platform
import socket
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from tfaip_like._runs.git import GitState, class_source_path, read_git_state
from tfaip_like._runs.job_environment import read_cluster_job
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.package_versions import installed_versions
from tfaip_like._runs.reader import Run
from tfaip_like._runs.run_files import RUN_INFO_FORMAT, RunInfo
from tfaip_like._utils.files import atomic_write_text
from tfaip_like.params._base import qualified_name
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)


class RunMetadata:
    """Writer of `run.json`: provenance and status (running, then done, stopped or failed)."""

    def __init__(self, output_dir: OutputDir, scenario: Scenario):
        self.output_dir = output_dir
        self.start_time = time.time()
        source = class_source_path(type(scenario))
        git = read_git_state(source) if source else GitState()
        if git.diff:
            atomic_write_text(output_dir.git_diff, git.diff)
        self.values: dict[str, Any] = {
            "status": "running",
            "description": scenario.trainer.description,
            "scenario": qualified_name(type(scenario)),
            "scenario_file": str(source) if source else None,
            "command": sys.argv,
            "folder": os.getcwd(),
            "git_commit": git.commit,
            "git_diff": bool(git.diff),
            "random_seed": scenario.trainer.random_seed,
            "backend": scenario.device.backend,
            "versions": {"python": platform.python_version(), **installed_versions()},
            "host": socket.gethostname(),
            "cluster_job": read_cluster_job(),
            "user": _get_username(),
            "processors": os.cpu_count(),
            "pid": os.getpid(),
            "started": _timestamp(),
        }
        self._completed_record: dict[str, Any] | None = None
        """Previous record of a finished run that is being resumed, until its components are built."""

    def mark_started(self) -> None:
        """Record the start of a new run."""
        self._write()

    def mark_resumed(self, position: str, changes: Sequence[str]) -> None:
        """Record that the run was resumed.

        Args:
            position: position it resumes from, for people.
            changes: changed parameters, as logged.
        """
        before: dict[str, Any] = {**Run(self.output_dir).info}
        self._completed_record = before if before.get("status") == "done" else None
        first = {name: before[name] for name in before if name not in ("status", "error", "ended", "seconds")}
        current = {
            name: self.values[name]
            for name in ("started", "command", "host", "cluster_job", "processors", "versions", "pid")
        }
        for name in ("host", "processors", "versions"):
            if name in first and first[name] != current[name]:
                logger.warning(
                    "%s changed from %s to %s since the run started; results may not be bitwise identical",
                    "number of CPUs" if name == "processors" else name,
                    _format_difference(first[name], current[name]),
                    _format_difference(current[name], first[name]),
                )
        resumes = [*first.get("resumed", []), {**current, "after": position, "changes": list(changes)}]
        self.values = {**self.values, **first, "status": "running", "pid": current["pid"], "resumed": resumes}
        self._write()

    def update(self, **values: Any) -> None:
        """Record values that are known once the components are built."""
        self._completed_record = None
        self.values |= values
        self._write()

    def mark_finished(self, status: str, **values: Any) -> None:
        """Record the end of the run; a finished run whose resumption was rejected keeps its previous record."""
        ended = {"status": status, "ended": _timestamp(), "seconds": round(time.time() - self.start_time, 1), **values}
        self.values = self._completed_record or {**self.values, **ended}
        try:
            self._write()
        except OSError as error:  # a full disk must not hide why the run ended
            logger.warning("%s: %s", self.output_dir.run, error.strerror)

    def _write(self) -> None:
        RUN_INFO_FORMAT.write(self.output_dir.run, cast(RunInfo, self.values))


def _format_difference(value: Any, other: Any) -> str:
    """Return a value for a message; of a dict only the entries that differ."""
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{name} {part}" for name, part in value.items() if other.get(name) != part)


def _get_username() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, in a container
        return None


def _timestamp() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
