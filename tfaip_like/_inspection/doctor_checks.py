"""Measurements of doctor: packages, cores, memory, disks, shared memory, tools; no verdicts."""

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
from tfaip_like._utils.operating_system import lock_file, num_usable_cpus
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
"""Longest time for a tool to answer."""

SLURM_TOOLS = ("sbatch", "squeue", "scancel", "sinfo")

_READ_SHARED = """
import mmap, os, sys
memory = mmap.mmap(int(sys.argv[1]), 0)
sys.exit(0 if memory[-1] == 7 else 3)
"""


@dataclass(frozen=True)
class Package:
    """A package that this one needs."""

    name: str
    requirement: str
    """The requirement: `keras>=3.14`."""
    version: str
    problem: str
    """What is wrong with it; may be empty."""


def check_requirements() -> list[Package]:
    """Return the packages that this one cannot do without; none if it is not installed."""
    from packaging.requirements import Requirement

    try:
        requirement = [Requirement(text) for text in requires("tfaip_like") or []]
    except PackageNotFoundError:
        return []
    return [
        _check_package(one.name, one) for one in requirement if one.marker is None or one.marker.evaluate({"extra": ""})
    ]


def _check_package(name: str, requirement: Requirement) -> Package:
    found = version_of(name)
    if not found:
        return Package(name, str(requirement), "", "not installed")
    if not requirement.specifier.contains(found, prereleases=True):
        return Package(
            name, str(requirement), found, f"version {found} is installed, but {requirement.specifier} is required"
        )
    return Package(name, str(requirement), found, "")


def version_of(package: str) -> str:
    """Return the version of a package; an empty text if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def usable_cpus() -> float:
    """Return how many cores this process may use, by its affinity and the quota of its container."""
    cores = float(num_usable_cpus())
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, float(quota) / float(period))
    return cores


def get_memory_bytes() -> tuple[int | None, int | None]:
    """Return the bytes of memory in all and those that are free, within the limit of a container; None if unknown."""
    try:
        lines = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
        values = {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines}
        total, free = values["MemTotal"], values["MemAvailable"]
    except (OSError, ValueError, LookupError):
        return None, None
    with suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        total, free = min(total, limit), min(free, limit - used)
    return total, free


def max_open_files() -> int:
    """Return how many files this process may open."""
    try:
        import resource
    except ImportError:  # Windows
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def nearest_existing_directory(path: Path) -> Path:
    """Return a directory, or the nearest one above it that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if os.path.lexists(folder))


def find_write_error(path: Path) -> str | None:
    """Return why no file can be written in a directory, or the directory cannot be made; None if all is well."""
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
    """Return the bytes that are free for this user where a directory is, or would be made; None if unknown."""
    try:
        usage = shutil.disk_usage(nearest_existing_directory(path))
    except OSError:
        return None
    return usage.free if usage.total else None  # /proc and its like have no size


def supports_locks(path: Path) -> bool:
    """Return whether the file system of a directory has locks, which keep a second training out of a run."""
    try:
        descriptor = os.open(nearest_existing_directory(path), os.O_RDONLY)
    except OSError:
        return False
    try:
        lock_file(descriptor, shared=True, wait=False)
    except BlockingIOError:  # somebody has locked it
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def find_shared_memory_error() -> str | None:
    """Return why memory cannot be shared with another process, as data processes do; None if it can."""
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
    return None if done.returncode == 0 else "another process does not see what is written"


def run_tool(*words: str) -> str | OSError:
    """Return what a tool prints, or an error that says why it does not answer."""
    try:
        done = run_with_timeout(TOOL_TIMEOUT_S, *words)
    except subprocess.TimeoutExpired:
        return OSError(f"no answer within {TOOL_TIMEOUT_S:g} s")
    except OSError as error:
        return OSError(error.strerror)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return OSError(said[-1] if said else f"exit code {done.returncode}")
    return done.stdout.decode("utf-8", "replace").strip()


def slurm_tools() -> tuple[list[str], list[str]]:
    """Return the tools of SLURM that are found, and those that are not."""
    found = [tool for tool in SLURM_TOOLS if shutil.which(tool)]
    return found, [tool for tool in SLURM_TOOLS if tool not in found]


def measure_matmul_error() -> float:
    """Return how wrong a product of matrices is that the chosen device computes, relative to that of numpy."""
    random = np.random.default_rng(0)
    one, other = (random.random((64, 64), dtype=np.float32) for _ in range(2))
    found = keras.ops.convert_to_numpy(keras.ops.matmul(one, other))
    right = one.astype(np.float64) @ other
    return float(np.abs(found - right).max() / right.max())


def format_bytes(count: int) -> str:
    """Return a number of bytes for a person."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
