"""Doctor: what a training needs from this machine, what is wrong with it, and how to fix that."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tfaip_like.devices import choose_devices
from tfaip_like.errors import UsageError, counted, first_line, some
from tfaip_like.inspection import doctor_checks as checks
from tfaip_like.lazy import choose_backend, start_backend
from tfaip_like.params import Params
from tfaip_like.settings import Device
from tfaip_like.trust import record_file

TOLERANCE = 1e-3
"""Of a product of matrices, relative to the right one: GPUs round to fewer bits."""


class Verdict(Enum):
    """How good a finding is."""

    GOOD = "ok"
    NOTE = "note"
    WRONG = "WRONG"


@dataclass(frozen=True)
class Finding:
    """What was found about one thing."""

    subject: str
    text: str
    verdict: Verdict = Verdict.GOOD
    advice: str = ""
    """How to fix it."""

    def __str__(self) -> str:
        lines = [f"{self.verdict.value:<6} {self.subject}: {self.text}"]
        return "\n".join([*lines, *(f"{'':<7}-> {line}" for line in self.advice.splitlines())])


class Doctor(Params):
    """What is examined."""

    output_dir: Path = Path()
    """Directory in which runs will be written; it need not exist yet."""

    slurm: bool = False
    """Whether batches will be submitted to SLURM from here, so that its tools must work."""

    device: Device = Device()
    """What will compute."""


def examine(settings: Doctor, start: Callable[[Device], None] | None = None) -> Iterator[Finding]:
    """Yield one finding after another, the quick ones first.

    Args:
        start: starts the libraries; by default as they are, with what they print.
    """
    yield from _versions()
    yield from _machine()
    yield from _directories(settings.output_dir)
    yield _shared_memory()
    yield _git()
    yield from _slurm(settings.slurm)
    yield from _environment(os.environ)
    yield from _devices(settings.device, start or _start)


def verdict_of(findings: Iterable[Finding]) -> str:
    """Return how many findings are wrong, in words; an empty text if none is."""
    wrong = [finding.subject for finding in findings if finding.verdict is Verdict.WRONG]
    if not wrong:
        return ""
    return f"{len(wrong)} of the things above must be fixed: {', '.join(wrong)}"


def _versions() -> Iterator[Finding]:
    yield Finding("Python", platform.python_version())
    required = checks.requirements()
    if not required:
        advice = "pip install -e . in its directory lets its packages be checked"
        yield Finding("tfaip_like", "used from its source, not installed", Verdict.NOTE, advice)
    for package in required:
        if package.problem:
            yield Finding(package.name, package.problem, Verdict.WRONG, f"pip install '{package.wanted}'")
    good = [f"{package.name} {package.version}" for package in required if not package.problem]
    if good:
        yield Finding("packages", ", ".join(good))


def _machine() -> Iterator[Finding]:
    yield Finding("CPU", f"{checks.usable_cpus():g} of {os.cpu_count()} cores")
    total, free = checks.memory()
    if free is not None:
        verdict = Verdict.WRONG if free < checks.MIN_MEMORY else Verdict.GOOD
        advice = "end other programs, or ask for more (on SLURM --mem)" if verdict is Verdict.WRONG else ""
        yield Finding("memory", f"{checks.size(free)} free of {checks.size(total or free)}", verdict, advice)
    files = checks.open_files()
    if files < checks.MIN_OPEN_FILES:
        advice = f"ulimit -n {checks.MIN_OPEN_FILES}"
        yield Finding("open files", f"at most {files}, too few for data processes", Verdict.WRONG, advice)


def _directories(output_dir: Path) -> Iterator[Finding]:
    temporary = Path(tempfile.gettempdir())
    advice = {
        "output directory": "choose another one (--output_dir DIR, --trainer.output_dir DIR), or make room there",
        "temporary directory": "make room there, or name another one: export TMPDIR=/path/with/room",
        "configuration": f"make {record_file().parent} writable, or set XDG_CONFIG_HOME: code of your own runs is "
        "recorded as trusted there",
    }
    places = zip(advice, (output_dir, temporary, record_file().parent), strict=True)
    for subject, path in places:
        problem = checks.problem_of_writing(path)
        if problem is None and (room := checks.room(path)) is not None:
            least = checks.MIN_ROOM if subject == "output directory" else checks.MIN_TEMPORARY_ROOM
            if subject != "configuration" and room < least:
                problem = f"only {checks.size(room)} are free"
        where = path.absolute()
        if problem is not None:
            yield Finding(subject, f"{where}: {problem}", Verdict.WRONG, advice[subject])
        elif not checks.can_lock(path):
            hint = "do not start two trainings in one directory: nothing stops the second one there"
            yield Finding(subject, f"{where}: its file system has no locks", Verdict.NOTE, hint)
        else:
            yield Finding(subject, f"{where}: writable, {checks.size(checks.room(path) or 0)} free")


def _shared_memory() -> Finding:
    problem = checks.problem_of_sharing()
    if problem is None:
        return Finding("shared memory", f"{checks.size(checks.SHARED_BYTES)} shared with another process")
    advice = "raise the memory limit of the container or job; until then use --train.num_processes 0"
    return Finding("shared memory", problem, Verdict.WRONG, advice)


def _git() -> Finding:
    version = checks.output_of("git", "--version")
    if isinstance(version, str):
        return Finding("git", version.removeprefix("git version "))
    return Finding("git", "not found", Verdict.NOTE, "install it: runs record the commit of your code, and its changes")


def _slurm(is_required: bool) -> Iterator[Finding]:
    bad = Verdict.WRONG if is_required else Verdict.NOTE
    found, missing = checks.slurm_tools()
    if not found:
        advice = "log in to a node of the cluster, or load its module (module load slurm)" if is_required else ""
        yield Finding("SLURM", "its tools are not here; batches run on this machine", bad, advice)
    elif missing:
        advice = "install all client commands of SLURM, or add their directory to PATH"
        yield Finding("SLURM", f"{', '.join(missing)} not found", bad, advice)
    else:
        answer = checks.output_of("sinfo", "--noheader", "--format=%P %a %D")
        if isinstance(answer, str):
            partitions = answer.splitlines()
            yield Finding("SLURM", f"{counted(len(partitions), 'partition')}: {some(partitions)}")
        else:
            advice = "ask the administrators whether slurmctld runs (scontrol ping)"
            yield Finding("SLURM", f"sinfo failed: {answer.args[0]}", bad, advice)


def _environment(variables: Mapping[str, str]) -> Iterator[Finding]:
    known = ("KERAS_BACKEND", "CUDA_VISIBLE_DEVICES", "TFAIP_LOG_LEVEL", "OMP_NUM_THREADS", "LD_LIBRARY_PATH")
    prefixes = ("TF_FORCE_", "TF_XLA_", "TF_GPU_", "TF_CUDNN_", "TF_ENABLE_", "TF_NUM_", "XLA_", "JAX_")
    found = sorted(name for name in variables if name in known or name.startswith(prefixes))
    if found:
        yield Finding("environment", ", ".join(f"{name}={variables[name]}" for name in found), Verdict.NOTE)


def _start(device: Device) -> None:
    choose_backend(device.backend)
    choose_devices(device)
    start_backend()


def _devices(device: Device, start: Callable[[Device], None]) -> Iterator[Finding]:
    try:
        start(device)
        devices = choose_devices(device)
    except UsageError as error:
        problem, _, advice = str(error).partition("\n")
        yield Finding("devices", problem, Verdict.WRONG, advice)
        return
    except Exception as error:  # of a library that cannot be loaded: anything
        advice = f"python -c 'import {device.backend}' shows all of it; install the package again in a new environment"
        text = f"{device.backend} cannot start: {type(error).__name__}: {first_line(error)}"
        yield Finding("devices", text, Verdict.WRONG, advice)
        return
    if devices.advice:
        yield Finding("devices", f"{device.backend} computes on {devices}", Verdict.WRONG, devices.advice)
    else:
        yield Finding("devices", f"{device.backend} computes on {devices}")
    yield _computation(device.backend)


def _computation(backend: str) -> Finding:
    try:
        error = checks.error_of_a_product()
    except Exception as problem:  # of a driver or a compiler: anything
        advice = "driver and CUDA libraries may not fit together; --device.gpus -1 computes on the CPU"
        text = f"{backend} cannot compute: {type(problem).__name__}: {first_line(problem)}"
        return Finding("computation", text, Verdict.WRONG, advice)
    if not error < TOLERANCE:
        return Finding(
            "computation", f"a product of matrices is wrong by {error:.1g}", Verdict.WRONG, "try another device"
        )
    return Finding("computation", "a product of matrices is right")
