"""Persistent cache of compiled programs, which a resumed or repeated run need not compile again."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

from tfaip_like._utils.cache_dirs import user_cache_dir
from tfaip_like._utils.errors import short_error_message
from tfaip_like._utils.operating_system import num_usable_cpus

logger = logging.getLogger(__name__)

MIN_COMPILATION_S = 0.2
"""Compilation time from which a program is stored; the steps of all but trivial networks take longer."""
MAX_CACHE_BYTES = 2_000_000_000
"""Size of the cache of a machine from which JAX removes the programs that were not used for longest."""


def enable_compilation_cache(jax: Any) -> None:
    """Let JAX store compiled programs in the user's cache directory, unless the user has chosen another one.

    The key of a program is that of JAX: its code, the options of the compiler, and the versions of JAX and its
    libraries. A failure to read or write the cache is a warning of JAX.

    Args:
        jax: the module.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    folder = user_cache_dir("compiled") / f"jax-{_machine_key()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logger.warning("no compilation cache: %s: %s", folder, error.strerror or short_error_message(error))
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILATION_S)
    jax.config.update("jax_compilation_cache_max_size", MAX_CACHE_BYTES)


def _machine_key() -> str:
    """Return a key of what XLA compiles for beyond the key of JAX: CPU model and instructions, number of CPUs.

    Machines of a cluster share the cache directory; XLA compiles loops for a number of threads.
    """
    cpu = [platform.machine(), platform.processor()]
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        cpu += [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    key = "\n".join([*cpu, str(num_usable_cpus()), os.environ.get("XLA_FLAGS", "")])
    return hashlib.sha256(key.encode()).hexdigest()[:16]
