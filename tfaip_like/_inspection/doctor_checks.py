"""Measurements for the checks of the machine: packages, cores, memory, disks, shared memory, tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfaip_like._utils.lazy_keras import keras
from tfaip_like._utils.locks import lock_descriptor
from tfaip_like._utils.operating_system import num_usable_cpus
from tfaip_like._utils.processes import run_with_timeout
from tfaip_like.data._workers.shared_memory import SharedFile

if TYPE_CHECKING:
    from packaging.requirements import Requirement

MIN_MEMORY_BYTES = 2**30
MIN_FREE_DISK_BYTES = 2**30
MIN_FREE_TEMPORARY_BYTES = 2**28
SHARED_MEMORY_PROBE_BYTES = 2**24
MIN_OPEN_FILES = 256
TOOL_TIMEOUT_S = 20.0
"""Timeout of external tools in seconds."""

SLURM_TOOLS = ("sbatch", "squeue", "scancel", "sinfo")

_READ_SHARED = """
import mmap, os, sys
memory = mmap.mmap(int(sys.argv[1]), 0)
sys.exit(0 if memory[-1] == 7 else 3)
"""


@dataclass(frozen=True)
class Package:
    """Required package."""

    name: str
    requirement: str
    """Requirement such as `keras>=3.14`."""
    version: str
    problem: str
    """Description of the problem; empty if there is none."""


def check_requirements() -> list[Package]:
    """Return the required packages; an empty list if tfaip_like is not installed."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in requires("tfaip_like") or []]
    except PackageNotFoundError:
        return []
    return [
        _check_package(requirement)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]


def _check_package(requirement: Requirement) -> Package:
    installed = version_of(requirement.name)
    problem = ""
    if not installed:
        problem = "not installed"
    elif not requirement.specifier.contains(installed, prereleases=True):
        problem = f"version {installed} is installed, but {requirement.specifier} is required"
    return Package(requirement.name, str(requirement), installed, problem)


def version_of(package: str) -> str:
    """Return the version of a package; an empty string if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def usable_cpus() -> float:
    """Return the number of cores that this process may use, by its affinity and the quota of its container."""
    cores = float(num_usable_cpus())
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, float(quota) / float(period))
    return cores


def max_open_files() -> int:
    """Return the maximum number of open files of this process."""
    try:
        import resource
    except ImportError:  # Windows
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def nearest_existing_directory(path: Path) -> Path:
    """Return the directory itself, or its nearest existing parent."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if os.path.lexists(folder))


def find_write_error(path: Path) -> str | None:
    """Return the reason why files cannot be written in a directory, or it cannot be created; None if they can."""
    folder = nearest_existing_directory(path)
    if not folder.is_dir():
        kind = "a link to a path that does not exist" if folder.is_symlink() and not folder.exists() else "a file"
        return f"is {kind}, not a directory" if folder == path.absolute() else f"cannot be created: {folder} is {kind}"
    try:
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".doctor-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(bytes(4096))
                file.flush()
                os.fsync(file.fileno())
            os.rename(name, name := f"{name}.renamed")
        finally:
            os.unlink(name)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if folder == path.absolute():
            return f"cannot be written: {reason}"
        return f"cannot be created in {folder}: {reason}"
    return None


def free_disk_bytes(path: Path) -> int | None:
    """Return the free bytes on the file system of an existing or new directory; None if unknown."""
    try:
        usage = shutil.disk_usage(nearest_existing_directory(path))
    except OSError:
        return None
    return usage.free if usage.total else None  # /proc and similar file systems have no size


def supports_locks(path: Path) -> bool:
    """Return whether the file system supports locks, which prevent two trainings in one run directory."""
    try:
        descriptor = os.open(nearest_existing_directory(path), os.O_RDONLY)
    except OSError:
        return False
    try:
        lock_descriptor(descriptor, shared=True, wait=False)
    except BlockingIOError:  # another process holds a lock
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def find_shared_memory_error() -> str | None:
    """Return the reason why memory cannot be shared with data workers; None if it can."""
    try:
        memory = SharedFile.in_memory()
        memory.view(SHARED_MEMORY_PROBE_BYTES)[-1] = 7
        done = subprocess.run(
            [sys.executable, "-S", "-c", _READ_SHARED, str(memory.descriptor)],
            pass_fds=[memory.descriptor],
            capture_output=True,
            timeout=TOOL_TIMEOUT_S,
            check=False,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return str(error)
    finally:
        with suppress(UnboundLocalError):
            memory.close()
    return None if done.returncode == 0 else "another process does not see written data"


def run_tool(*words: str) -> str | OSError:
    """Return the output of a tool, or an error with the reason why it failed."""
    try:
        done = run_with_timeout(TOOL_TIMEOUT_S, *words)
    except subprocess.TimeoutExpired:
        return OSError(f"no answer within {TOOL_TIMEOUT_S:g} s")
    except OSError as error:
        return OSError(error.strerror)
    if done.returncode:
        errors = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return OSError(errors[-1] if errors else f"exit code {done.returncode}")
    return done.stdout.decode("utf-8", "replace").strip()


def slurm_tools() -> tuple[list[str], list[str]]:
    """Return the SLURM tools that are found in PATH, and those that are missing."""
    found = [tool for tool in SLURM_TOOLS if shutil.which(tool)]
    return found, [tool for tool in SLURM_TOOLS if tool not in found]


def measure_matmul_error() -> float:
    """Return the relative error of a matrix product on the selected device, compared with float64 NumPy."""
    random = np.random.default_rng(0)
    a, b = (random.random((64, 64), dtype=np.float32) for _ in range(2))
    actual = keras.ops.convert_to_numpy(keras.ops.matmul(a, b))
    expected = a.astype(np.float64) @ b
    return float(np.abs(actual - expected).max() / expected.max())
