"""What every command does: logging, errors as short messages, exit codes."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from tfaip_like.errors import Interrupted, TrainingError, UsageError

DONE, FAULT, USAGE, INTERRUPTED = 0, 1, 2, 130
LOG_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def run_command(program: str, main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Runs a command and returns its exit code.

    0 done; 2 a mistake of the user, told in one to three lines; 1 a fault, with the user's own line
    of code first; 130 stopped by Ctrl-C.
    """
    try:
        _log_to_console()
        main(argv)
        sys.stdout.flush()
    except UsageError as error:
        return _say(program, str(error), USAGE)
    except TrainingError as error:
        return _say(program, str(error), FAULT)
    except Interrupted as interrupt:
        return _say(program, str(interrupt), 128 + interrupt.number)
    except KeyboardInterrupt:
        return _say(program, "stopped by SIGINT", INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe had enough (`| head`); nothing more can be written there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        return _say(program, fault_text(error), FAULT)
    return DONE


def print_version(program: str) -> None:
    """Prints the version of the package."""
    print(f"{program} {version('tfaip_like')}")


def _say(program: str, text: str, code: int) -> int:
    print(f"{program}: {text}", file=sys.stderr, flush=True)
    return code


class _Console(logging.Handler):
    """Lines on standard error that leave a progress bar whole."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "file_only", False):
            return
        prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        tqdm.write(f"{prefix}{self.format(record)}", file=sys.stderr)


def _log_to_console() -> None:
    name = os.environ.get("TFAIP_LOG_LEVEL", "info").lower()
    if name not in LOG_LEVELS:
        raise UsageError(f"TFAIP_LOG_LEVEL={name}: must be one of {', '.join(LOG_LEVELS)}")
    package = logging.getLogger("tfaip_like")
    package.handlers[:] = [_Console()]
    package.propagate = False
    package.setLevel(LOG_LEVELS[name])
    for noisy in ("tensorflow", "absl", "jax"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, LOG_LEVELS[name]))


def fault_text(error: Exception) -> str:
    """A fault for the person who may have written it: their line first, the rest on demand."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if _is_users(frame.filename)]
    whole = "".join(traceback.format_exception(error))
    if not theirs:
        return f"a fault inside the program; please report it\n{whole}"
    last = theirs[-1]
    said = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    text = f"{last.filename}, line {last.lineno}, in {last.name}\n    {last.line}\n{said}"
    if logging.getLogger("tfaip_like").isEnabledFor(logging.DEBUG):
        return f"{text}\n\n{whole}"
    return f"{text}\n(The whole traceback is in train.log; TFAIP_LOG_LEVEL=debug prints it.)"


def _is_users(filename: str) -> bool:
    """Whether a file is neither this package, nor installed, nor part of Python."""
    path = Path(filename)
    package = Path(__file__).parent.parent
    python = Path(os.__file__).parent
    inside = [package, python]
    return path.exists() and "site-packages" not in path.parts and not any(f in path.parents for f in inside)


@contextmanager
def native_notes_hidden() -> Iterator[None]:
    """Hides what C++ libraries write to standard error at their start; shows it if the block raises.

    TensorFlow prints notes about the machine there that no setting turns off.
    """
    if logging.getLogger("tfaip_like").isEnabledFor(logging.DEBUG):
        yield
        return
    import tempfile

    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            hidden.seek(0)
            sys.stderr.write(hidden.read().decode("utf-8", errors="replace"))
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
