"""Command-line tools of a cluster."""

from __future__ import annotations

import subprocess

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.processes import run_with_timeout

QUERY_TIMEOUT_S = 30


class ToolError(UsageError):
    """A tool of a cluster failed, is missing, or did not answer in time.

    >>> str(ToolError("qsub", "unknown queue"))
    'qsub: unknown queue'
    """

    def __init__(self, tool: str, problem: str = ""):
        super().__init__(f"{tool}: {problem or 'failed'}")
        self.tool = tool


def run_tool(*words: str, lock: int | None = None, is_strict: bool = False) -> str:
    """Run a tool of a cluster and return its output.

    Args:
        *words: tool and arguments.
        lock: descriptor of the batch lock, for the tool that submits. The tool inherits it: if this process is killed,
            no other process concludes that the cluster does not have the job while the tool is still submitting it.
            There is no timeout then.
        is_strict: treat any text in the standard error output as a failure.

    Raises:
        ToolError: if the tool is missing, fails, or takes longer than 30 seconds.
    """
    try:
        if lock is None:
            done = run_with_timeout(QUERY_TIMEOUT_S, *words)
        else:
            done = subprocess.run(words, capture_output=True, check=False, pass_fds=[lock])
    except FileNotFoundError as error:
        raise ToolError(words[0], "not found") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(words[0], "no answer") from error
    problem = done.stderr.decode(errors="replace").strip()
    if done.returncode or (is_strict and problem):
        raise ToolError(words[0], problem)
    return done.stdout.decode(errors="surrogateescape")
