"""What every command does: logging, errors as short messages, exit codes."""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import tfaip_like
from tfaip_like._user_code.code_errors import format_user_error, innermost_user_frame
from tfaip_like._user_code.error_hints import describe_error
from tfaip_like._utils.console import echo, log_to_console, read_log_level
from tfaip_like._utils.errors import Interrupted, TrainingError, UsageError, short_error_message
from tfaip_like._utils.escaping import escape_lines
from tfaip_like._utils.files import is_disk_full_error
from tfaip_like._utils.interruption import process_exit_on_interrupt
from tfaip_like._utils.processes import exit_with_parent
from tfaip_like.data._workers.background import is_user_code_running

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def run_command(program: str, main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Run a command and return its exit code.

    0 done; 2 a user error, reported in one to three lines; 1 an unexpected error, with the user's own line
    of code first; 130 or 143 stopped by Ctrl-C or by SIGTERM, SIGUSR1 or SIGHUP.
    """
    exit_with_parent()
    code = _run_for_exit_code(program, main, argv)
    if is_user_code_running():
        _force_exit(code)
    return code


def _force_exit(code: int) -> NoReturn:
    """End this process although a thread is inside user code, for which Python or TensorFlow might wait forever."""
    atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(code)


def _run_for_exit_code(program: str, main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    try:
        log_to_console(read_log_level())
        with process_exit_on_interrupt():
            main(argv)
        sys.stdout.flush()
    except UsageError as error:
        return _print_error(program, format_user_error(error), EXIT_USAGE)
    except TrainingError as error:
        return _print_error(program, str(error), EXIT_ERROR)
    except Interrupted as interrupt:
        return _print_error(
            program, "\n".join([str(interrupt), *getattr(interrupt, "__notes__", [])]), interrupt.exit_code
        )
    except KeyboardInterrupt:
        return _print_error(program, "stopped by SIGINT", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe had enough (`| head`); nothing more can be written there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if _is_debugger_active():  # which wants to see it where it happened
            raise
        return _print_error(program, format_unexpected_error(error), EXIT_ERROR)
    return EXIT_OK


def _is_debugger_active() -> bool:
    """Return whether a debugger started this program: it is at the bottom of the stack, tracing or not."""
    frame = sys._getframe()
    while frame is not None:
        if Path(frame.f_code.co_filename).name in ("pdb.py", "bdb.py", "pydevd.py"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def print_version(program: str) -> None:
    """Print the version of the package."""
    echo(f"{program} {tfaip_like.__version__}")


def _print_error(program: str, text: str, code: int) -> int:
    print(escape_lines(f"{program}: {text}"), file=sys.stderr, flush=True)
    return code


def _disk_error_message(error: Exception) -> str | None:
    """Return the error of the operating system and its file, if TensorFlow quotes it: it raises no OSError."""
    if not type(error).__module__.startswith("tensorflow"):
        return None
    message = re.sub(r"{{[^}]*}} *| *\[Op:.*", "", short_error_message(error))
    numbers = (errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EACCES, errno.EPERM)
    reason = next((os.strerror(number) for number in numbers if os.strerror(number) in message), None)
    return reason and f"{reason}: {message.partition(';')[0]}"


def format_unexpected_error(error: Exception) -> str:
    """Return the message for an unexpected error: the line of the user first, the traceback on demand."""
    whole = "".join(traceback.format_exception(error))
    frame = innermost_user_frame(error)
    if frame is None:
        if isinstance(error, OSError) and error.strerror:  # a full disk, a folder that went away
            # Of two files the second is the one that is written.
            text = f"{error.strerror}: {error.filename2 or error.filename or 'while reading or writing'}"
            return f"{text}\nMake room, then run the same command again." if is_disk_full_error(error) else text
        if disk_error := _disk_error_message(error):
            return disk_error
        return f"a fault inside the program; please report it\n{whole}"
    text = f"{frame}\n{frame.of}{': ' if frame.of else ''}{describe_error(error)}"
    if logging.getLogger("tfaip_like").isEnabledFor(logging.DEBUG):
        return f"{text}\n\n{whole}"
    return f"{text}\n(TFAIP_LOG_LEVEL=debug prints the whole traceback.)"


_NATIVE_LOG_LINE = re.compile(rb"[IWE]\d{4} |WARNING: All log messages before absl")


@contextmanager
def suppress_native_stderr() -> Iterator[None]:
    """Hide the notes that C++ libraries write to standard error when they are loaded.

    TensorFlow writes some about the machine that no setting turns off. All other lines, and all of
    them if the block fails or the log level is debug, are passed on.
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
