"""Calls of a logger's methods, whose exceptions never reach the training."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from tfaip_like._user_code.code_errors import innermost_user_frame
from tfaip_like._utils.errors import short_error_message

logger = logging.getLogger(__name__)

MAX_RETRY_INTERVAL_S = 30.0
SLOW_CALL_S = 30.0
"""Duration of a call after which the server is reported as not answering."""
NOT_TEMPORARY = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
"""Errors of the operating system that do not pass, unlike those of a connection or a full disk."""
NUM_LAST_ATTEMPTS = 3
"""Attempts of a call at the end of a training, one second apart."""


class GivenUpError(Exception):
    """Server that is away at the end of the training, or that nobody waits for any more."""


class LoggerCalls:
    """Calls of the methods of a logger, repeated while its server is away; each kind of failure is reported once.

    Args:
        name: name of the logger.
    """

    def __init__(self, name: str):
        self._name = name
        self._call_began: float | None = None
        self._is_away = False
        self._reported: set[str] = set()
        self._is_ending, self._is_abandoned = threading.Event(), False

    def end(self) -> None:
        """Give up soon when the server is away: the training has ended."""
        self._is_ending.set()

    def abandon(self) -> None:
        """Give up after the call in progress."""
        self._is_abandoned = True
        self._is_ending.set()

    def call(self, method: Callable[[], None], name: str) -> bool:
        """Call a method, repeatedly while it raises `OSError`; return whether it has succeeded.

        Args:
            method: method with its arguments.
            name: its name.

        Raises:
            GivenUpError: if the server is away at the end of the training.
        """
        interval, num_last_attempts = 1.0, 0
        while not self._is_abandoned:
            self._call_began = time.monotonic()
            try:
                method()
            except Exception as error:
                if not isinstance(error, OSError) or isinstance(error, NOT_TEMPORARY):
                    self.report_fault(error, name)
                    return False
                self._report_away(error)
            else:
                self._report_back()
                return True
            finally:
                self._call_began = None
            if self._is_ending.wait(interval):
                num_last_attempts += 1
                if num_last_attempts == NUM_LAST_ATTEMPTS:
                    break
                time.sleep(1.0)
            interval = min(2 * interval, MAX_RETRY_INTERVAL_S)
        raise GivenUpError

    def report_fault(self, error: BaseException, method: str) -> None:
        """Warn about an exception, the user's line first.

        Args:
            error: the exception.
            method: name of the method that raised it.
        """
        frame = innermost_user_frame(error)
        lines = [str(frame)] if frame is not None else []
        lines += [f"{type(error).__name__}: {short_error_message(error)}"]
        lines += [f"Raised by the logger {self._name} in `{method}`; the training continues without these values."]
        self.warn_once(f"fault {method}", "\n".join(lines))
        logger.debug("logger %s", self._name, exc_info=error)

    def report_slow_call(self) -> None:
        """Warn if the call in progress takes long."""
        began = self._call_began
        if began is not None and time.monotonic() - began > SLOW_CALL_S:
            self.warn_once("away", f"logger {self._name}: no answer for {SLOW_CALL_S:.0f} s; the training continues")

    def warn_once(self, kind: str, message: str) -> None:
        """Log a warning, unless one of this kind was logged.

        Args:
            kind: kind of the warning.
            message: its text.
        """
        if kind not in self._reported and not self._is_abandoned:
            self._reported.add(kind)
            logger.warning("%s", message)

    def _report_away(self, error: OSError) -> None:
        self._is_away = True
        reason = short_error_message(error)
        self.warn_once("away", f"logger {self._name}: {reason}; the training continues, values are sent later")

    def _report_back(self) -> None:
        if self._is_away:
            self._is_away = False
            logger.info("logger %s: works again", self._name)
