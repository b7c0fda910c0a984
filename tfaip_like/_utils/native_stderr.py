"""Standard error of native code."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tfaip_like._utils.errors import UsageError

_NATIVE_LOG_LINE = re.compile(rb"[IWE]\d{4} |WARNING: All log messages before absl")


@contextmanager
def suppress_native_stderr() -> Iterator[None]:
    """Hide the log lines that C++ libraries write to standard error while they are loaded.

    TensorFlow logs some lines about the machine that no setting turns off. All other lines are printed; if the block
    fails or the log level is debug, all lines are.
    """
    if logging.getLogger("tfaip_like").isEnabledFor(logging.DEBUG):
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        raised = True
        try:
            yield
            raised = False
        except (KeyboardInterrupt, UsageError):
            raised = False
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            caught.seek(0)
            for line in caught:
                if raised or not _NATIVE_LOG_LINE.match(line):
                    sys.stderr.write(line.decode("utf-8", errors="replace"))
