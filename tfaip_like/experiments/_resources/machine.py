"""CPUs and GPUs of this machine, counted without importing a machine learning library."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tfaip_like._utils.errors import UsageError, pluralize
from tfaip_like._utils.operating_system import num_usable_cpus

OTHER_GPUS = ("/dev/kfd", "/dev/dxg")
"""Device files of GPUs (AMD, Windows Subsystem for Linux) that cannot be counted without a library."""


def check_gpus(numbers: Sequence[int]) -> None:
    """Raise an error for a GPU that this machine does not have, or that CUDA_VISIBLE_DEVICES hides.

    Args:
        numbers: GPU indices, from 0.

    Raises:
        UsageError: names the GPU and the available ones.
    """
    count = count_gpus() if numbers else None
    if count is None:
        return
    flag = f"--gpus {' '.join(map(str, numbers))}"
    if missing := [number for number in numbers if number >= count]:
        available = f"{pluralize(count, 'GPU')} ({'0' if count == 1 else f'0 to {count - 1}'})" if count else "none"
        raise UsageError(f"{flag}: GPU {missing[0]} not found; this machine has {available}")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    is_numbered = visible is not None and all(word.strip().isdecimal() for word in visible.split(","))
    if visible is not None and is_numbered and (hidden := set(numbers) - set(map(int, visible.split(",")))):
        raise UsageError(f"{flag}: CUDA_VISIBLE_DEVICES is {visible!r} and hides GPU {min(hidden)}")


def count_gpus() -> int | None:
    """Return the number of GPUs of this machine; None if it cannot be determined."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        devices = len([path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdecimal()])
        is_known = devices or not any(Path(device).exists() for device in OTHER_GPUS)
        return devices if is_known else None
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def make_jobs_warning(jobs: int) -> str | None:
    """Return a warning if there are more parallel runs than CPUs; None otherwise."""
    cpus = num_usable_cpus()
    return f"({jobs} parallel runs will share {pluralize(cpus, 'CPU')})" if jobs > cpus else None
