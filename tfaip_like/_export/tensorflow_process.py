"""Child process with TensorFlow, for what Keras can do on TensorFlow only."""

from __future__ import annotations

import importlib
import json
import logging
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import keras

from tfaip_like._user_code.code_errors import innermost_user_frame
from tfaip_like._user_code.error_hints import describe_error
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.processes import child_code, run_child_process
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like.params import Params

logger = logging.getLogger(__name__)

SCRIPT_MODULE = "__main__"


def call_in_tensorflow_process(scenario: Params, function: Callable[..., None], *args: object) -> None:
    """Call a function in a child process with the TensorFlow backend, and log its messages here.

    Args:
        scenario: Scenario, whose module the child process imports first: it registers its layers.
        function: Function of this package.
        args: Its arguments, which can be pickled.

    Raises:
        UsageError: If the function raises an exception, or a class of a script is needed.
        RuntimeError: If the child process crashes.
    """
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
    }
    with temporary_directory() as folder:
        call, result = Path(folder, "call"), Path(folder, "result")
        call.write_bytes(pickle.dumps((function, args)))
        module = type(scenario).__module__
        done = run_child_process(
            [sys.executable, "-c", child_code(__name__), module, str(call), str(result)], environment
        )
        if done.returncode or not result.exists():
            raise RuntimeError(f"TensorFlow cannot export the network:\n{done.stderr[-2000:]}")
        answer = json.loads(result.read_text(encoding="utf-8"))
    for level, message in answer["messages"]:
        logger.log(level, "%s", message)
    if answer["error"]:
        raise UsageError(answer["error"])


def main() -> None:
    """Run the call that the command line names: MODULE CALL RESULT."""
    module, call, result = sys.argv[1:]
    log = _MessageCollector()
    package_logger = logging.getLogger("tfaip_like")
    package_logger.addHandler(log)
    package_logger.setLevel(logging.INFO)
    keras.config.disable_traceback_filtering()  # otherwise Keras replaces exceptions of layers
    error = None
    try:
        if module != SCRIPT_MODULE:
            importlib.import_module(module)
        function, args = pickle.loads(Path(call).read_bytes())  # noqa: S301  (of the parent process)
        function(*args)
    except Exception as raised:  # of user code: anything
        error = _describe(raised)
    Path(result).write_text(json.dumps({"error": error, "messages": log.messages}), encoding="utf-8")


class _MessageCollector(logging.Handler):
    """Handler that collects messages and their levels."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append((record.levelno, record.getMessage()))


def _describe(error: Exception) -> str:
    if isinstance(error, UsageError):
        return str(error)
    frame = innermost_user_frame(error)
    return (
        f"{frame or 'the network'}\n{describe_error(error)}\nExports are TensorFlow SavedModels: use only keras.layers "
        "and keras.ops in the network."
    )
