"""What this machine has for the runs of its local queue; no machine learning library is imported to find out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tfaip_like._utils.errors import UsageError, pluralize
from tfaip_like._utils.operating_system import num_usable_cpus

OTHER_GPUS = ("/dev/kfd", "/dev/dxg")
"""Devices of GPUs (AMD, Windows Subsystem for Linux) that are not counted without a library."""


def check_gpus(numbers: Sequence[int]) -> None:
    """Raise if runs would be given a GPU that this machine does not have, or that is hidden from this shell.

    Raises:
        UsageError: names the GPU and what there is.
    """
    present = count_gpus() if numbers else None
    if present is None:
        return
    flag = f"--gpus {' '.join(map(str, numbers))}"
    if missing := [number for number in numbers if number >= present]:
        has = f"{pluralize(present, 'GPU')} ({'0' if present == 1 else f'0 to {present - 1}'})" if present else "none"
        raise UsageError(f"{flag}: there is no GPU {missing[0]}; this machine has {has}")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    is_numbered = visible is not None and all(word.strip().isdecimal() for word in visible.split(","))
    if visible is not None and is_numbered and (hidden := set(numbers) - set(map(int, visible.split(",")))):
        raise UsageError(f"{flag}: CUDA_VISIBLE_DEVICES is {visible!r} and hides GPU {min(hidden)}")


def count_gpus() -> int | None:
    """Return the number of GPUs of this machine; None where that is not known."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        devices = len([path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdecimal()])
        is_known = devices or not any(Path(device).exists() for device in OTHER_GPUS)
        return devices if is_known else None
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def make_jobs_warning(jobs: int) -> str | None:
    """Return a line for more runs at a time than this machine has processors; None for fewer."""
    processors = num_usable_cpus()
    if jobs <= processors:
        return None
    return f"({jobs} runs at a time will share the {pluralize(processors, 'processor')} of this machine)"
