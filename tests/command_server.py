"""Runs our console scripts, each in a process of its own, forked from this one, which has TensorFlow imported already.

Reads a line of JSON for each, `{"words": [program, ...], "errors": FILE}`, and answers with its exit code. Only for
tests that start many commands and are not about how they start.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from importlib.metadata import entry_points

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    """Serves until the input ends."""
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    scripts = {script.name: script.value.split(":") for script in entry_points(group="console_scripts")}
    for line in sys.stdin:
        task = json.loads(line)
        program, *words = task["words"]
        child = os.fork()
        if child == 0:
            errors = os.open(task["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(errors, 1)
            os.dup2(errors, 2)
            sys.argv = [program, *words]
            module, function = scripts[program]
            try:
                getattr(importlib.import_module(module), function)()
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(int(end.code or 0))
            os._exit(1)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
