"""Memory use of this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_STATM = Path("/proc/self/statm")


def resident_memory_mb() -> float:
    """Return the resident set size of this process in MB (10^6 bytes); its peak on systems without /proc (macOS)."""
    if _STATM.exists():
        return round(int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
    import resource  # not on Windows, where nothing is trained

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak / 1e3, 1)
