"""Logging to the console and to the log file of a run."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from tfaip_like._utils.code_origin import is_author_file
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.escaping import escape_lines
from tfaip_like._utils.files import is_disk_full_error
from tfaip_like._utils.progress_bar import write_above_bars
from tfaip_like._utils.terminal import Style, terminal_columns, terminal_style

LOG_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
NOISY_LIBRARIES = (
    *("tensorflow", "absl", "jax", "jaxlib", "tf2onnx", "h5py", "matplotlib", "PIL", "numba", "fsspec"),
    *("mlflow", "alembic", "sqlalchemy", "git", "wandb", "trackio"),
    *("urllib3", "httpx", "httpcore", "asyncio", "botocore", "boto3", "s3transfer"),
)
"""Libraries with verbose logs; only their warnings are shown, everything on level debug."""
PACKAGE = "tfaip_like"
WARNINGS_LOGGER = "py.warnings"
"""The logger of Python's `warnings`."""


def should_show(record: logging.LogRecord) -> bool:
    """Return whether to show a record: all except those of noisy libraries below a warning."""
    is_debugging = logging.getLogger(PACKAGE).isEnabledFor(logging.DEBUG)
    return record.levelno >= logging.WARNING or is_debugging or record.name.partition(".")[0] not in NOISY_LIBRARIES


def replace_unformattable(record: logging.LogRecord) -> bool:
    """Replace a record whose arguments do not match its format string, so a faulty log call does not stop training.

    Used as a logging filter.
    """
    try:
        record.getMessage()
    except Exception as error:  # also raised by `__str__` of an argument
        text = repr(record.msg) if isinstance(record.msg, str) else type(record.msg).__name__
        record.msg, record.args = f"{record.pathname}, line {record.lineno}: cannot log {text}: {error}", ()
    return True


def _is_not_printed_elsewhere(record: logging.LogRecord) -> bool:
    """Return whether no other handler prints a record; TensorFlow's does if it was imported first."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        if any(_prints_to_terminal(handler, record) for handler in logger.handlers):
            return False
        logger = logger.parent if logger.propagate else None
    return True


def _prints_to_terminal(handler: logging.Handler, record: logging.LogRecord) -> bool:
    terminals = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    is_terminal = isinstance(handler, logging.StreamHandler) and handler.stream in terminals
    return is_terminal and record.levelno >= handler.level


class _DuplicateWarningFilter(logging.Filter):
    """Filter that drops repeated warnings of Python's `warnings`, which libraries emit on every call."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name != WARNINGS_LOGGER:
            return True
        text = record.getMessage()
        is_new = text not in self._seen
        self._seen.add(text)
        return is_new


class LogFormatter(logging.Formatter):
    """Formatter that prefixes records of libraries with the logger name, and optionally those of the scenario."""

    def __init__(self, form: str | None = None, shows_scenario_name: bool = False):
        super().__init__(form)
        self.shows_scenario_name = shows_scenario_name

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record with its traceback, escaped for a terminal."""
        return escape_lines(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the text of a record without its traceback."""
        if record.name == WARNINGS_LOGGER:  # location, class and text; the second line is source code
            record.message = record.message.splitlines()[0]
        elif record.name.partition(".")[0] != PACKAGE and (self.shows_scenario_name or not _is_from_scenario(record)):
            record.message = f"{record.name}: {record.message}"
        return super().formatMessage(record)


def _is_from_scenario(record: logging.LogRecord) -> bool:
    return is_author_file(record.pathname) or not os.path.exists(record.pathname)  # a notebook, a prompt


ConsoleLine: TypeAlias = Callable[[int, Style], str]
"""Function of the number of columns and the style of the console, which returns a line for it."""


def log_with_console_line(logger: logging.Logger, text: str, console_line: ConsoleLine) -> None:
    """Log a text, for which the console shows a different line.

    Args:
        logger: logger of the record.
        text: text for the log file and other handlers.
        console_line: function that returns the line for the console.
    """
    logger.info("%s", text, extra={"console_line": console_line})


class ConsoleHandler(logging.Handler):
    """Handler that writes to standard error without breaking progress bars; warnings and errors are colored."""

    def __init__(self, level: int):
        super().__init__(level)
        self.addFilter(should_show)
        self.addFilter(replace_unformattable)
        self.addFilter(_is_not_printed_elsewhere)
        self.addFilter(_DuplicateWarningFilter())
        self.setFormatter(LogFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "file_only", False):
            return
        try:
            write_above_bars(self._format_for_terminal(record))
        except BrokenPipeError:
            # The reader closed the pipe (`2>&1 | head`); training continues.
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

    def _format_for_terminal(self, record: logging.LogRecord) -> str:
        style = terminal_style(sys.stderr)
        if format_line := getattr(record, "console_line", None):
            line: str = format_line(terminal_columns(sys.stderr), style)
            return line
        text = self.format(record)
        if record.levelno <= logging.INFO:
            return text
        paint = style.warning if record.levelno == logging.WARNING else style.error
        return paint(f"{record.levelname.lower()}: {text}")


def echo(text: str) -> None:
    """Print text to standard output, escaped for a terminal."""
    print(escape_lines(text), flush=True)


def read_log_level() -> int:
    """Return the log level of the environment variable TFAIP_LOG_LEVEL, by default info.

    Raises:
        UsageError: if it is not debug, info, warning or error.
    """
    name = os.environ.get("TFAIP_LOG_LEVEL", "info").lower()
    if name not in LOG_LEVELS:
        raise UsageError(f"TFAIP_LOG_LEVEL={name}: must be one of {', '.join(LOG_LEVELS)}")
    return LOG_LEVELS[name]


def log_to_console(level: int) -> None:
    """Print log records of all loggers from `level` on, and Python's `warnings`."""
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler, ConsoleHandler)]
    root.addHandler(ConsoleHandler(level))
    root.setLevel(level)
    logging.getLogger(PACKAGE).setLevel(level)
    for library in NOISY_LIBRARIES:
        logging.getLogger(library).setLevel(logging.INFO if level <= logging.DEBUG else max(logging.WARNING, level))
    logging.captureWarnings(True)


@contextmanager
def console_level(level: int) -> Iterator[None]:
    """Print only log records from `level` on within the block."""
    consoles = [handler for handler in logging.getLogger().handlers if isinstance(handler, ConsoleHandler)]
    before = [console.level for console in consoles]
    for console in consoles:
        console.setLevel(max(level, console.level))
    try:
        yield
    finally:
        for console, level_before in zip(consoles, before, strict=True):
            console.setLevel(level_before)


@contextmanager
def default_console_logging() -> Iterator[None]:
    """Print the log within the block, unless logging is configured already."""
    loggers = [logging.getLogger(name) for name in ("", PACKAGE, *NOISY_LIBRARIES)]
    if loggers[0].handlers or loggers[1].handlers:
        yield
        return
    levels = [logger.level for logger in loggers]
    log_to_console(read_log_level())
    try:
        yield
    finally:
        loggers[0].handlers[:] = [handler for handler in loggers[0].handlers if not isinstance(handler, ConsoleHandler)]
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)
        logging.captureWarnings(False)


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Write log records from level info on to a file within the block.

    If an application has configured logging, its levels are kept; only the level of this package is lowered to info.
    """
    root, package = logging.getLogger(), logging.getLogger(PACKAGE)
    handler = _LogFileHandler(path, encoding="utf-8")
    handler.setFormatter(LogFormatter("%(asctime)s %(levelname)-7s %(message)s", shows_scenario_name=True))
    handler.setLevel(logging.INFO)
    handler.addFilter(should_show)
    handler.addFilter(replace_unformattable)
    handler.addFilter(_DuplicateWarningFilter())
    _enable_package_loggers()
    # Loggers pass all records that any handler needs; the console handler has its own level.
    are_ours = all(isinstance(handler, ConsoleHandler) for handler in root.handlers)
    changed = {package: package.level, **({root: root.level} if are_ours else {})}
    for logger in changed:
        logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
    loggers = [root] if package.propagate else [root, package]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        for logger, level in changed.items():
            logger.setLevel(level)
        handler.close()


def _enable_package_loggers() -> None:
    """Enable our loggers again: `logging.config` in a scenario disables existing ones unless configured otherwise."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == PACKAGE:
            logging.getLogger(name).disabled = False


class _LogFileHandler(logging.FileHandler):
    _has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Report once that lines cannot be written; a full disk is reported when a checkpoint is written."""
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not is_disk_full_error(error) and not self._has_failed:
            self._has_failed = True
            sys.stderr.write(f"warning: {self.baseFilename}: {error.strerror}; log lines are lost\n")


class OnceLogger:
    """Logger that drops messages it has logged before.

    Args:
        logger: destination of the messages.
    """

    def __init__(self, logger: logging.Logger):
        self._logger = logger
        self._logged_messages: set[str] = set()

    def info(self, message: str) -> None:
        """Log an info message unless it was logged before."""
        self._log(logging.INFO, message)

    def warning(self, message: str) -> None:
        """Log a warning unless it was logged before."""
        self._log(logging.WARNING, message)

    def _log(self, level: int, message: str) -> None:
        if message not in self._logged_messages:
            self._logged_messages.add(message)
            self._logger.log(level, "%s", message)
