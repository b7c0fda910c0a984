"""Common behaviour of all commands: logging, short error messages, exit codes."""

from __future__ import annotations

import atexit
import contextlib
import errno
import faulthandler
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import tfaip_like
from tfaip_like._user_code.code_errors import format_user_error, innermost_user_frame
from tfaip_like._user_code.error_hints import describe_error
from tfaip_like._utils.abandoned_threads import has_abandoned_threads
from tfaip_like._utils.console import echo, log_to_console, read_log_level
from tfaip_like._utils.errors import Interrupted, TrainingError, UsageError, short_error_message
from tfaip_like._utils.escaping import escape_lines
from tfaip_like._utils.files import is_disk_full_error
from tfaip_like._utils.interruption import process_exit_on_interrupt
from tfaip_like._utils.processes import exit_with_parent
from tfaip_like._utils.terminal import terminal_style
from tfaip_like.data._workers.background import is_user_code_running

EXIT_TIMEOUT_S = 5.0
"""Time for the exit functions of libraries if a thread is left."""
EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def run_program(program: str, main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a console script: `run_command` on the arguments of this process, which then exits.

    Args:
        program: name of the command.
        main: function that runs the command.
    """
    exit_with_parent()
    _report_crashes()
    code = run_command(program, main, sys.argv[1:])
    if is_user_code_running() or has_abandoned_threads():
        _force_exit(code)
    sys.exit(code)


def _report_crashes() -> None:
    """Print the Python stack if native code crashes this process, even while `suppress_native_stderr` is active."""
    if not faulthandler.is_enabled():  # PYTHONFAULTHANDLER
        with contextlib.suppress(OSError, ValueError):  # standard error is closed
            faulthandler.enable(os.dup(sys.stderr.fileno()), all_threads=False)


def run_command(program: str, main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Run a command and return its exit code.

    0: success. 1: training failed, or an unexpected error, reported with the innermost line of user code first.
    2: usage error, reported in one to three lines. 130: stopped by Ctrl-C. 143: stopped by SIGTERM, SIGUSR1 or SIGHUP.

    Args:
        program: name of the command, the prefix of error messages.
        main: function that runs the command.
        argv: arguments without the name of the command.
    """
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
        # The reader of the pipe has exited (`| head`), so nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if _is_debugger_active():  # it stops where the error was raised
            raise
        return _print_error(program, format_unexpected_error(error), EXIT_ERROR)
    return EXIT_OK


def _force_exit(code: int) -> NoReturn:
    """Exit even if a thread is inside user code or a library; a normal exit might wait for it forever."""
    exit_functions = threading.Thread(target=atexit._run_exitfuncs, daemon=True)  # that of W&B waits for its server
    exit_functions.start()
    exit_functions.join(EXIT_TIMEOUT_S)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # broken pipe, or closed
            stream.flush()
    os._exit(code)


def _is_debugger_active() -> bool:
    """Return whether a debugger started this program: its frames are then at the bottom of the stack."""
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
    prefix = f"{program}:"
    if code in (EXIT_ERROR, EXIT_USAGE):
        prefix = terminal_style(sys.stderr).error(prefix)
    print(prefix, escape_lines(text), file=sys.stderr, flush=True)
    return code


def _disk_error_message(error: Exception) -> str | None:
    """Return the operating system's error that a TensorFlow error quotes (TensorFlow raises no OSError), if any."""
    if not type(error).__module__.startswith("tensorflow"):
        return None
    message = re.sub(r"{{[^}]*}} *| *\[Op:.*", "", short_error_message(error))
    numbers = (errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EACCES, errno.EPERM)
    reason = next((os.strerror(number) for number in numbers if os.strerror(number) in message), None)
    return reason and f"{reason}: {message.partition(';')[0]}"


def format_unexpected_error(error: Exception) -> str:
    """Return the message for an unexpected error: the line of user code first, the traceback on request."""
    whole = "".join(traceback.format_exception(error))
    frame = innermost_user_frame(error)
    if frame is None:
        if isinstance(error, OSError) and error.strerror:  # a full disk, a removed directory
            # If an error names two files, the second is the one that was written.
            text = f"{error.strerror}: {error.filename2 or error.filename or 'while reading or writing'}"
            return f"{text}\nFree some space, then run the same command again." if is_disk_full_error(error) else text
        if disk_error := _disk_error_message(error):
            return disk_error
        return f"internal error; please file a bug report\n{whole}"
    text = f"{frame}\n{frame.of}{': ' if frame.of else ''}{describe_error(error)}"
    if logging.getLogger("tfaip_like").isEnabledFor(logging.DEBUG):
        return f"{text}\n\n{whole}"
    return f"{text}\n(set TFAIP_LOG_LEVEL=debug for the full traceback)"
