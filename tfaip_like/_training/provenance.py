"""Where a run came from and what became of it: `run.json` and `git.diff`."""

from __future__ import annotations

import getpass
import logging
import os
import platform
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from tfaip_like._runs.git import GitState, git_state, source_file
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.run_files import ClusterJobInfo
from tfaip_like._utils.files import write_text
from tfaip_like._utils.json_files import write_json
from tfaip_like.params._base import class_tag
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

PACKAGES = ("tfaip_like", "keras", "tensorflow", "jax", "torch", "numpy")


class RunRecord:
    """Writes `run.json`: status running at first, then done, stopped or failed."""

    def __init__(self, folder: OutputDir, scenario: Scenario):
        self.folder = folder
        self.begin = time.time()
        source = source_file(type(scenario))
        git = git_state(source) if source else GitState()
        if git.diff:
            write_text(folder.git_diff, git.diff)
        self.values: dict[str, Any] = {
            "status": "running",
            "description": scenario.trainer.description,
            "scenario": class_tag(type(scenario)),
            "scenario_file": str(source) if source else None,
            "command": sys.argv,
            "folder": os.getcwd(),
            "git_commit": git.commit,
            "git_diff": bool(git.diff),
            "random_seed": scenario.trainer.random_seed,
            "backend": scenario.device.backend,
            "versions": {"python": platform.python_version(), **_versions()},
            "host": socket.gethostname(),
            "slurm": _slurm_job(),
            "user": _user(),
            "processors": os.cpu_count(),
            "pid": os.getpid(),
            "started": _now(),
        }
        self._of_done_run: dict[str, Any] | None = None
        """What was recorded of a run that was done, until its training is set up to go on."""

    def begin_run(self) -> None:
        """Notes that a new run has begun."""
        self._write()

    def goes_on(self, position: str, changes: Sequence[str]) -> None:
        """Notes that this is a run that was begun before, and what was changed."""
        before: dict[str, Any] = {**self.folder.record()}
        self._of_done_run = before if before.get("status") == "done" else None
        first = {name: before[name] for name in before if name not in ("status", "error", "ended", "seconds")}
        own = {
            name: self.values[name] for name in ("started", "command", "host", "slurm", "processors", "versions", "pid")
        }
        for name in ("host", "processors", "versions"):
            if name in first and first[name] != own[name]:
                logger.warning(
                    "%s: %s when the run was begun, %s now; numbers may differ in their last bits",
                    name,
                    _told(first[name], own[name]),
                    _told(own[name], first[name]),
                )
        resumes = [*first.get("resumed", []), {**own, "after": position, "changes": list(changes)}]
        self.values = {**self.values, **first, "status": "running", "pid": own["pid"], "resumed": resumes}
        self._write()

    def note(self, **values: Any) -> None:
        """Notes what is known once the training is set up."""
        self._of_done_run = None
        self.values |= values
        self._write()

    def end(self, status: str, **values: Any) -> None:
        """Notes how the run ended; one that was done, and now was refused, is done as before."""
        ended = {"status": status, "ended": _now(), "seconds": round(time.time() - self.begin, 1), **values}
        self.values = self._of_done_run or {**self.values, **ended}
        try:
            self._write()
        except OSError as error:  # a full disk must not hide why the run ended
            logger.warning("%s: %s", self.folder.run, error.strerror)

    def _write(self) -> None:
        write_json(self.folder.run, self.values)


def _told(value: Any, other: Any) -> str:
    """A value for a message; of several only those that differ."""
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{name} {part}" for name, part in value.items() if other.get(name) != part)


def _versions() -> Mapping[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _slurm_job() -> ClusterJobInfo | None:
    """Return the job of a SLURM cluster that this process belongs to, None if there is none."""
    of_job = {name: os.environ.get(f"SLURM_JOB_{name.upper()}") for name in ("name", "partition", "account")}
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    return cast(ClusterJobInfo, {"job": job, **{name: value for name, value in of_job.items() if value is not None}})


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, in a container
        return None


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
