"""Fault points: a training reports that it has reached a point, and blocks there until a fault is injected.

The scenarios of the campaigns call `reach` at every fault point. At most one point of a run is armed, by the
environment, and it blocks once. So a fault hits the phase that its cell names at any speed of the machine.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

POINT_VARIABLE = "FAULTS_POINT"
"""Armed point."""
RUN_DIR_VARIABLE = "FAULTS_RUN"
"""Run directory; also marks all processes of the run."""
AFTER_EPOCHS_VARIABLE = "FAULTS_AFTER"
"""Number of epochs that must be complete in the history before the point is armed."""
HOLD_S_VARIABLE = "FAULTS_HOLD"
"""Seconds to stay in the point after the fault."""
REACHED, INJECTED, LEFT = "reached", "injected", "left"
"""Suffixes of the marker files next to the run directory."""
MAX_BLOCK_S = 120.0
POLL_INTERVAL_S = 0.005


def marker(run: Path, name: str) -> Path:
    """Return the path of a marker file of a run."""
    return run.with_name(f"{run.name}.{name}")


def is_armed(point: str) -> bool:
    """Return whether a fault is requested at this point, from the current epoch on."""
    if os.environ.get(POINT_VARIABLE) != point:
        return False
    history = Path(os.environ[RUN_DIR_VARIABLE], "history.csv")
    try:
        epochs = float(history.read_text().splitlines()[-1].split(",")[0])
    except OSError:
        epochs = 0.0
    return int(epochs) >= int(os.environ[AFTER_EPOCHS_VARIABLE])


def reach(point: str) -> None:
    """Block until the fault is injected, the first time that an armed point is reached."""
    if not is_armed(point):
        return
    run = Path(os.environ[RUN_DIR_VARIABLE])
    try:
        os.close(os.open(marker(run, REACHED), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    end = time.monotonic() + MAX_BLOCK_S
    while not marker(run, INJECTED).exists() and time.monotonic() < end:
        time.sleep(POLL_INTERVAL_S)
    time.sleep(float(os.environ[HOLD_S_VARIABLE]))
    marker(run, LEFT).touch()


def is_best_being_written() -> bool:
    """Return whether `best/` is being written aside."""
    return any(Path(os.environ[RUN_DIR_VARIABLE]).glob(".best.new-*"))


def patch_os_calls() -> None:
    """Make the points that end in "sync", "rename" and "last export" of calls of the operating system."""
    fsync, rename = os.fsync, os.rename

    def path_of(descriptor: int) -> str:
        return os.readlink(f"/proc/self/fd/{descriptor}")

    def watched_fsync(descriptor: Any) -> None:
        path = path_of(descriptor if isinstance(descriptor, int) else descriptor.fileno())
        if "/.epoch_" in path:
            reach("checkpoint sync")
        elif "/.best.new-" in path:
            reach("export sync")
        elif "/.export.new-" in path:
            reach("last export")
        fsync(descriptor)

    def watched_rename(source: Any, target: Any, **options: Any) -> None:
        rename(source, target, **options)
        if "/epoch_" in os.fspath(target):
            reach("checkpoint rename")

    vars(os).update(fsync=watched_fsync, rename=watched_rename)
