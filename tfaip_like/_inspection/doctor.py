"""Checks of the machine (`tfaip-doctor`): requirements of training, with advice for each problem."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tfaip_like._inspection import doctor_checks as checks
from tfaip_like._training.devices import configure_devices
from tfaip_like._user_code.trust import trust_record_path
from tfaip_like._utils.errors import UsageError, format_bytes, pluralize, short_error_message, truncate_list
from tfaip_like._utils.lazy_keras import initialize_backend, is_set_by_us, set_backend
from tfaip_like._utils.operating_system import get_memory_bytes
from tfaip_like.params import Params
from tfaip_like.settings import Device

MATMUL_TOLERANCE = 1e-3
"""Relative error of a matrix product: GPUs round to fewer bits."""


class Severity(Enum):
    """Severity of a finding."""

    OK = "ok"
    NOTE = "note"
    ERROR = "ERROR"


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    subject: str
    text: str
    severity: Severity = Severity.OK
    advice: str = ""
    """How to fix it."""

    def __str__(self) -> str:
        lines = [f"{self.severity.value:<6} {self.subject}: {self.text}"]
        return "\n".join([*lines, *(f"{'':<7}-> {line}" for line in self.advice.splitlines())])


class Doctor(Params):
    """Settings of the checks."""

    output_dir: Path = Path()
    """Output directory of the runs; it need not exist yet."""

    slurm: bool = False
    """Require a working SLURM, to submit batches from here."""

    device: Device = Device()
    """Backend and devices for training."""


def run_checks(
    settings: Doctor, start: Callable[[Device], None] | None = None, output_flag: str = "--output_dir"
) -> Iterator[Finding]:
    """Yield one finding after another, the quick ones first.

    Args:
        settings: Settings of the checks.
        start: Function that initializes the backend; by default with the libraries' output shown.
        output_flag: Flag of the output directory, for advice.
    """
    yield from _check_packages(settings.device.backend)
    yield from _check_machine()
    yield from _check_directories(settings.output_dir, output_flag)
    yield _check_shared_memory()
    yield _check_git()
    yield from _check_slurm(settings.slurm)
    yield from _check_environment(os.environ)
    yield from _check_devices(settings.device, start or _start_backend)


def summarize_failures(findings: Iterable[Finding]) -> str:
    """Return the number of errors and their subjects for a message; an empty string without errors."""
    errors = [finding.subject for finding in findings if finding.severity is Severity.ERROR]
    return f"{pluralize(len(errors), 'problem')} to fix: {', '.join(errors)}" if errors else ""


def _check_packages(backend: str) -> Iterator[Finding]:
    yield Finding("Python", platform.python_version())
    required = checks.check_requirements()
    if not required:
        advice = "install it with pip install -e . in its directory, so that its dependencies can be checked"
        yield Finding("tfaip_like", "runs from its source, not installed", Severity.NOTE, advice)
    for package in required:
        if package.problem:
            yield Finding(package.name, package.problem, Severity.ERROR, f"pip install '{package.requirement}'")
    good = [f"{package.name} {package.version}" for package in required if not package.problem]
    if backend not in [package.name for package in required] and (version := checks.version_of(backend)):
        good.insert(0, f"{backend} {version}")  # a missing one is reported with the devices
    if good:
        yield Finding("packages", ", ".join(good))


def _check_machine() -> Iterator[Finding]:
    yield Finding("CPU", f"{checks.usable_cpus():g} of {os.cpu_count()} cores available")
    total, free = get_memory_bytes()
    text = f"{format_bytes(free)} free of {format_bytes(total)}"
    if free >= checks.MIN_MEMORY_BYTES:
        yield Finding("memory", text)
    else:
        advice = "close other programs, or request more memory (on SLURM: --mem)"
        text += f"; training needs at least {format_bytes(checks.MIN_MEMORY_BYTES)}"
        yield Finding("memory", text, Severity.ERROR, advice)
    files = checks.max_open_files()
    if files < checks.MIN_OPEN_FILES:
        text = f"at most {files} per process; data workers need {checks.MIN_OPEN_FILES}"
        yield Finding("open files", text, Severity.ERROR, f"raise the limit: ulimit -n {checks.MIN_OPEN_FILES}")


def _check_directories(output_dir: Path, flag: str) -> Iterator[Finding]:
    yield _directory(
        "output directory", output_dir, f"choose another directory: {flag} DIR", checks.MIN_FREE_DISK_BYTES
    )
    temporary = "choose another directory: export TMPDIR=/path/with/space"
    yield _directory("temporary directory", Path(tempfile.gettempdir()), temporary, checks.MIN_FREE_TEMPORARY_BYTES)
    configuration = "choose another directory: export XDG_CONFIG_HOME=DIR (it records which code you trust)"
    yield _directory("configuration directory", trust_record_path().parent, configuration)


def _directory(subject: str, path: Path, choose_another: str, min_room: int = 0) -> Finding:
    where, room = path.absolute(), checks.free_disk_bytes(path)
    is_full = room is not None and room < min_room
    problem = checks.find_write_error(path)
    if problem is None and room is not None and is_full:
        problem = f"only {format_bytes(room)} free, at least {format_bytes(min_room)} needed"
    if problem is not None:
        advice = f"free some space, or {choose_another}" if is_full else choose_another
        return Finding(subject, f"{where}: {problem}", Severity.ERROR, advice)
    if not checks.supports_locks(path):
        advice = "run only one training per run directory: a second one is not detected on this file system"
        return Finding(subject, f"{where}: the file system does not support file locks", Severity.NOTE, advice)
    state = (
        "writable"
        if path.exists()
        else f"does not exist yet, can be created in {checks.nearest_existing_directory(path)}"
    )
    return Finding(subject, f"{where}: {state}{f', {format_bytes(room)} free' if room is not None else ''}")


def _check_shared_memory() -> Finding:
    problem = checks.find_shared_memory_error()
    tried = format_bytes(checks.SHARED_MEMORY_PROBE_BYTES)
    if problem is None:
        return Finding("shared memory", f"data workers can use it (tested with {tried})")
    advice = "raise the memory limit of the container or job, or train without data workers: --train.num_processes 0"
    return Finding(
        "shared memory", f"data workers cannot use it (tested with {tried}): {problem}", Severity.ERROR, advice
    )


def _check_git() -> Finding:
    version = checks.run_tool("git", "--version")
    if isinstance(version, str):
        return Finding("git", version.removeprefix("git version "))
    text = f"not available ({version}); runs do not record the commit and the changes of your code"
    return Finding("git", text, Severity.NOTE, "install git")


def _check_slurm(is_required: bool) -> Iterator[Finding]:
    bad = Severity.ERROR if is_required else Severity.NOTE
    found, missing = checks.slurm_tools()
    if not found:
        advice = "log in to a node of the cluster, or load the module (module load slurm)" if is_required else ""
        yield Finding("SLURM", "not available on this machine (no sbatch in PATH); batches run locally", bad, advice)
    elif missing:
        advice = "install all client commands of SLURM, or add their directory to PATH"
        yield Finding("SLURM", f"{', '.join(missing)} not found in PATH", bad, advice)
    else:
        result = checks.run_tool("sinfo", "--noheader", "--format=%P %a %D")
        if isinstance(result, str):
            partitions = result.splitlines()
            yield Finding("SLURM", f"{pluralize(len(partitions), 'partition')}: {truncate_list(partitions)}")
        else:
            reason = result.args[0].removeprefix("sinfo: ")
            advice = "check the controller with scontrol ping, or ask your administrators"
            yield Finding("SLURM", f"installed, but sinfo fails: {reason}", bad, advice)


def _check_environment(variables: Mapping[str, str]) -> Iterator[Finding]:
    known = ("KERAS_BACKEND", "CUDA_VISIBLE_DEVICES", "TFAIP_LOG_LEVEL", "OMP_NUM_THREADS", "LD_LIBRARY_PATH")
    prefixes = ("TF_FORCE_", "TF_XLA_", "TF_GPU_", "TF_CUDNN_", "TF_ENABLE_", "TF_NUM_", "XLA_", "JAX_")
    names = sorted(name for name in variables if name in known or name.startswith(prefixes))
    found = [f"{name}={variables[name]}" for name in names if not is_set_by_us(name)]
    if found:
        yield Finding("environment", f"variables that affect training: {', '.join(found)}", Severity.NOTE)


def _start_backend(device: Device) -> None:
    set_backend(device.backend)
    configure_devices(device)
    initialize_backend()


def _check_devices(device: Device, start: Callable[[Device], None]) -> Iterator[Finding]:
    try:
        start(device)
        devices = configure_devices(device)
    except UsageError as error:
        problem, _, advice = str(error).partition("\n")
        yield Finding("devices", problem, Severity.ERROR, advice)
        return
    except Exception as error:  # of a library that cannot be loaded: anything
        advice = f"python -c 'import {device.backend}' shows the whole error; try to reinstall it in a new environment"
        text = f"{device.backend} cannot be loaded: {type(error).__name__}: {short_error_message(error)}"
        yield Finding("devices", text, Severity.ERROR, advice)
        return
    text = f"{device.backend} runs on {devices}{'' if devices.num_available else '; no GPU found'}"
    yield Finding("devices", text, Severity.ERROR if devices.advice else Severity.OK, devices.advice)
    yield _check_computation(device.backend)


def _check_computation(backend: str) -> Finding:
    try:
        error = checks.measure_matmul_error()
    except Exception as problem:  # of a driver or a compiler: anything
        advice = "the GPU driver and the CUDA libraries may not match; --device.gpus -1 uses the CPU"
        text = f"{backend} fails to compute: {type(problem).__name__}: {short_error_message(problem)}"
        return Finding("computation", text, Severity.ERROR, advice)
    if not error < MATMUL_TOLERANCE:
        text = f"matrix multiplication gives wrong results (relative error {error:.1g})"
        return Finding("computation", text, Severity.ERROR, "use another device: --device.gpus N, or -1 for the CPU")
    return Finding("computation", "matrix multiplication gives correct results")
