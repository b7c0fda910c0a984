"""What a training tells the person who watches it, on standard error."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from tfaip_like.errors import UsageError

LOG_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LIBRARIES = ("tensorflow", "absl", "jax", "tf2onnx")


class Console(logging.Handler):
    """Lines on standard error that leave a progress bar whole."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "file_only", False):
            return
        prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        try:
            tqdm.write(f"{prefix}{self.format(record)}", file=sys.stderr)
        except BrokenPipeError:
            # Whoever read along had enough (`2>&1 | head`); the training goes on without them.
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def log_level() -> int:
    """The level of the environment variable TFAIP_LOG_LEVEL, info by default.

    Raises:
        UsageError: when it is none of debug, info, warning, error.
    """
    name = os.environ.get("TFAIP_LOG_LEVEL", "info").lower()
    if name not in LOG_LEVELS:
        raise UsageError(f"TFAIP_LOG_LEVEL={name}: must be one of {', '.join(LOG_LEVELS)}")
    return LOG_LEVELS[name]


def log_to_console(level: int) -> None:
    """Prints what the package logs from `level` on, and of the libraries warnings only."""
    package = logging.getLogger("tfaip_like")
    console = Console(level)
    package.handlers[:] = [console]
    package.propagate = False
    package.setLevel(level)
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(max(logging.WARNING, level))


@contextmanager
def console_unless_configured() -> Iterator[None]:
    """Prints the log for the length of the block, if nobody has decided where logs go."""
    package = logging.getLogger("tfaip_like")
    if package.handlers or logging.getLogger().handlers:
        yield
        return
    before = (package.propagate, package.level)
    log_to_console(log_level())
    try:
        yield
    finally:
        package.handlers.clear()
        package.propagate, package.level = before


def samples_bar(total: int, title: str = "") -> Any:
    """A bar that counts samples, in a terminal only; `update` tells how many more.

    Args:
        total: how many there are; 0 if nobody knows.
    """
    return tqdm(
        total=total or None,
        desc=title or None,
        unit=" samples",
        leave=False,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )
