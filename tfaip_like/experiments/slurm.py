"""Runs of a batch as an array job of a SLURM cluster.

The job script is all there is on the cluster's side; it is kept in the batch, to be read and repeated by hand.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfaip_like.errors import UsageError
from tfaip_like.experiments.batch import Batch
from tfaip_like.experiments.tickets import waiting, write_ticket
from tfaip_like.files import write_text
from tfaip_like.json_files import read_text, shown
from tfaip_like.printable import is_printable, printable
from tfaip_like.processes import run_within

USUAL_ARRAY = 1000
"""Runs in one array job, where the cluster does not say how many it allows."""

USUAL_REASONS = ("", "None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Dependency", "Cleaning")
"""Why jobs wait on every cluster."""

OPTIONS = {
    "job-name": "",
    "array": "jobs",
    "time": "time",
    "mem": "mem",
    "partition": "partition",
    "account": "account",
    "gpus": "gpus",
    "cpus-per-task": "cpus",
    "signal": "save_seconds",
    "output": "",
    "open-mode": "",
}
"""The options of sbatch that a batch sets itself, and the flags that say them."""

_SCRIPT = """\
#!/bin/bash
{lines}

batch={batch}
runs=({runs})
run=${{runs[$SLURM_ARRAY_TASK_ID]}}
checkpoints() {{ ls "$batch/runs/$run/checkpoints" 2>/dev/null; }}

rm -f "$batch/queue/$run.exit"
before=$(checkpoints)
bash "$batch/job.sh" "$run" >>"$batch/logs/$run.log" 2>&1 &
job=$!
trap 'limit=near; kill -USR1 $job' USR1  # the run saves its state and ends; so it does
trap 'end=near; kill -TERM $job' TERM    # when it is cancelled or preempted
wait $job; code=$?
while kill -0 $job 2>/dev/null; do wait $job; code=$?; done

if [ "${{end-}}" ] && [ $code != 0 ]; then
    exec sleep 10m  # until SLURM takes the job away, and perhaps into its queue again
fi
if [ "${{limit-}}" ] && [ $code != 0 ]; then
    if [ "$(checkpoints)" != "$before" ]; then
        scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID" && exec sleep 10m
    else
        echo "job: nothing new was saved within the time limit; submit it with more --time" >>"$batch/logs/$run.log"
    fi
fi
echo $code >"$batch/queue/$run.exit"
exit $code
"""


@dataclass(frozen=True)
class Request:
    """What is asked of the cluster for each run."""

    time: str
    """A time limit as SLURM writes it."""
    memory: str
    partition: str | None = None
    account: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    at_once: int | None = None
    """Runs that are at work at the same time."""
    save_seconds: int = 120
    """How long before its time limit a run is told to save."""
    extra: Sequence[str] = ()
    """Further options of sbatch."""

    def lines(self, batch: Batch, runs: int) -> list[str]:
        """The options for an array of so many runs."""
        limit = f"%{self.at_once}" if self.at_once else ""
        options = {
            "job-name": shlex.quote("/".join(batch.path.resolve().parts[-2:])),
            "array": f"0-{runs - 1}{limit}",
            "time": self.time,
            "mem": self.memory,
            "partition": _quoted(self.partition),
            "account": _quoted(self.account),
            "gpus": self.gpus,
            "cpus-per-task": self.cpus,
            "signal": f"B:USR1@{self.save_seconds}",
            # Of a % in a path, SLURM would make something else.
            "output": shlex.quote(str(batch.path.resolve() / "logs").replace("%", "%%") + "/slurm-%A_%a.log"),
            "open-mode": "append",
        }
        named = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
        lines = [*named, "#SBATCH --requeue", *(f"#SBATCH --{option.lstrip('-')}" for option in self.extra)]
        for line in lines:
            if not is_printable(line):  # what follows a line break would be a command of the script
                raise UsageError(f"{printable(line.removeprefix('#SBATCH '))}: must not hold control characters")
        return lines


def _quoted(word: str | None) -> str | None:
    return None if word is None else shlex.quote(word)


def array_script(batch: Batch, names: Sequence[str], request: Request) -> str:
    """The job script for some runs of a batch."""
    return _SCRIPT.format(
        lines="\n".join(request.lines(batch, len(names))),
        batch=shlex.quote(str(batch.path.resolve())),
        runs=" ".join(map(shlex.quote, names)),
    )


def seconds_of(limit: str) -> int:
    """Seconds of a time limit as SLURM writes it: minutes, minutes:seconds, hours:minutes:seconds, or days-hours..."""
    days, dash, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash or len(parts) == 3:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:
        hours, minutes, seconds = (0, *parts, 0)[:3]
    return (int(days or 0) * 24 + hours) * 3600 + minutes * 60 + seconds


def check_that_slurm_is_there() -> None:
    """Raises `UsageError` if jobs cannot be handed in from here."""
    if shutil.which("sbatch") is None:
        raise UsageError("--slurm: there is no sbatch on this machine; log in to a cluster, or leave --slurm out")


def submit_arrays(batch: Batch, names: Sequence[str], request: Request) -> list[str]:
    """Hands runs to the cluster; to be called while `batch.changing()`.

    Returns:
        The numbers of the array jobs.

    Raises:
        UsageError: when the cluster does not take them.
    """
    check_that_slurm_is_there()
    size = _largest_array()
    jobs = []
    for first in range(0, len(names), size):
        part = names[first : first + size]
        script = _next_script(batch)
        write_text(script, array_script(batch, part, request))
        done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise UsageError(f"sbatch: {done.stderr.strip() or 'failed'}\n(the script is {script})")
        jobs.append(done.stdout.strip().split(";")[0])
        for number, name in enumerate(part):
            (batch.queue / f"{name}.exit").unlink(missing_ok=True)
            write_ticket(batch, name, waiting("slurm", job=f"{jobs[-1]}_{number}"))
    return jobs


def _largest_array() -> int:
    done = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False)
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", done.stdout, re.MULTILINE)
    return max(1, min(USUAL_ARRAY, int(match[1]))) if match else USUAL_ARRAY


def _next_script(batch: Batch) -> Path:
    number = 1
    while (path := batch.queue / f"slurm_{number}.sh").exists():
        number += 1
    return path


@dataclass(frozen=True)
class ClusterJob:
    """What the cluster says about a run."""

    state: str
    node: str | None = None
    pending: str = ""
    """Why it waits, as the cluster calls it."""

    @property
    def waits_for(self) -> str:
        """Why it waits, if that is not only for its turn."""
        return "" if self.pending in USUAL_REASONS else f"the cluster says: {self.pending}"

    @property
    def waits(self) -> bool:
        """Whether it is to be started, maybe again."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "PREEMPTED", "SPECIAL_EXIT")

    @property
    def is_over(self) -> bool:
        """Whether it will not be at work again."""
        return not self.waits and self.state not in (
            "RUNNING",
            "CONFIGURING",
            "COMPLETING",
            "RESIZING",
            "SIGNALING",
            "STAGE_OUT",
            "STOPPED",
            "SUSPENDED",
        )

    @property
    def reason(self) -> str:
        """Why the cluster ended it."""
        return {
            "TIMEOUT": "killed at its time limit",
            "OUT_OF_MEMORY": "killed: it took more memory than it had asked for (--mem)",
            "NODE_FAIL": "its node failed",
            "BOOT_FAIL": "its node did not start",
            "DEADLINE": "its deadline has passed",
        }.get(self.state, "")


def cluster_jobs(wanted: Iterable[str]) -> dict[str, ClusterJob] | None:
    """The jobs that the cluster still knows, by ARRAY_TASK; None if it cannot be asked.

    Finished ones are forgotten after some minutes, and accounting is not everywhere: what became of a run is
    read from its own files.
    """
    arrays = sorted({job.partition("_")[0] for job in wanted})
    if not arrays:
        return {}
    # By their numbers: a batch may be that of somebody else.
    which = f"--jobs={','.join(arrays)}"
    words = ["squeue", "--noheader", which, "--array", "--states=all", "--format=%F_%K|%T|%N|%r"]
    try:
        done = run_within(30, *words)
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode:
        return {} if b"Invalid job id" in done.stderr else None  # a single one that it has forgotten
    jobs = {}
    for line in done.stdout.decode().splitlines():
        job, state, node, pending = line.strip().split("|", 3)
        jobs[job] = ClusterJob(state, node or None, pending)
    return jobs


def last_error(batch: Batch, job: str) -> str:
    """What the cluster itself has last said of a job, in the file of its output; of its memory rather."""
    try:
        text = (batch.path / "logs" / f"slurm-{job}.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    said = [line.partition("error: ")[2].strip() for line in text.splitlines() if "error: " in line]
    of_memory = [line for line in said if "memory" in line.lower()]
    return (of_memory or said or [""])[-1]


def exit_code(batch: Batch, name: str) -> int | None:
    """Return the code that a run ended with on the cluster, None if it did not get so far.

    Raises:
        UsageError: if the file that holds it is damaged.
    """
    file = batch.queue / f"{name}.exit"
    if not file.exists():
        return None
    text = read_text(file).strip()
    if text and not re.fullmatch(r"\d{1,3}", text):
        raise UsageError(f"{file}, line 1: expected an exit code, got {shown(text)}")
    return int(text) if text else None  # it is being written


def cancel_jobs(jobs: Iterable[str]) -> None:
    """Takes jobs from the cluster, those that are at work too.

    Raises:
        UsageError: when the cluster cannot be told.
    """
    words = list(jobs)
    if not words:
        return
    try:
        done = subprocess.run(["scancel", *words], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError("there is no scancel on this machine; cancel where the runs were submitted") from error
    if done.returncode:
        raise UsageError(f"scancel: {done.stderr.strip() or 'failed'}")
