"""The job script of an array job: all there is on the cluster's side. It is kept in the batch, to be read."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.escaping import escape_text, is_printable
from tfaip_like.experiments._batches.batch import Batch

MANAGED_OPTIONS = {
    "job-name": "",
    "array": "jobs",
    "time": "time",
    "mem": "mem",
    "mem-per-cpu": "mem_per_cpu",
    "partition": "partition",
    "account": "account",
    "gpus": "gpus",
    "cpus-per-task": "cpus",
    "signal": "save_seconds",
    "output": "",
    "open-mode": "",
}
"""The options of sbatch that a batch sets itself, and the flags that say them."""

DEPENDENCY_OPTION = "dependency"

_SCRIPT = """\
#!/bin/bash
{lines}

batch={batch}
here={here}
runs=({runs})
first=({first})  # of each task, and the end of the last one

# These runs belong to one array job: the first one that comes here, or the one that submit has noted.
mine=$SLURM_ARRAY_JOB_ID
echo "$mine" >"$here/.job.$SLURM_JOB_ID" && ln "$here/.job.$SLURM_JOB_ID" "$here/job" 2>/dev/null
rm -f "$here/.job.$SLURM_JOB_ID"
owner=$(cat "$here/job" 2>/dev/null)
if [ "${{owner:-$mine}}" != "$mine" ]; then
    echo "job $mine trains nothing: its runs belong to job $owner, see $here/job; to train them: experiments submit"
    exit 0
fi

checkpoints() {{ ls "$batch/runs/$run/checkpoints" 2>/dev/null; }}
is_cancelled() {{ [ -e "$here/cancelled/$run" ]; }}
pass_on() {{ [ "$job" ] && kill "-$1" "$job" 2>/dev/null; }}
stop_if_cancelled() {{  # also by somebody to whom the cluster does not allow it
    exec {{never}}<> <(:)
    until is_cancelled; do read -r -t 5 -u $never; done
    kill -TERM "$1"
}}

job=; limit=; end=; worst=0; has_progress=
trap 'limit=near; pass_on USR1' USR1  # the run saves its state and ends; so it does
trap 'end=near; pass_on TERM' TERM    # when it is cancelled or preempted

task=$SLURM_ARRAY_TASK_ID
of_task=("${{runs[@]:${{first[$task]}}:${{first[$task + 1]}} - ${{first[$task]}}}}")
for run in "${{of_task[@]}}"; do
    if [ -e "$here/codes/$run" ] || is_cancelled; then continue; fi  # the first: it ended before a requeue
    before=$(checkpoints)
    export SLURM_JOB_NAME="$run"
    scontrol update JobId="${{mine}}_$task" JobName="$run" >/dev/null 2>&1  # as squeue and mails call it
    bash "$batch/job.sh" "$run" >>"$batch/logs/$run.log" 2>&1 &
    job=$!
    stop_if_cancelled $job >/dev/null 2>&1 &
    watch=$!
    wait $job; code=$?
    while kill -0 $job 2>/dev/null; do wait $job; code=$?; done
    job=
    kill $watch 2>/dev/null; wait $watch 2>/dev/null

    if [ $code = 0 ] || [ ! "$limit$end" ]; then
        echo $code >"$here/codes/$run"
        has_progress=yes
        if [ $code -gt $worst ]; then worst=$code; fi
    elif [ "$(checkpoints)" != "$before" ]; then
        has_progress=yes
    fi
    if [ "$limit$end" ]; then break; fi
done

is_unfinished() {{
    local run
    for run in "${{of_task[@]}}"; do [ -e "$here/codes/$run" ] || is_cancelled || return 0; done
    return 1
}}
if [ "$end" ] && is_unfinished; then
    exec sleep 10m  # until SLURM takes the job away, and perhaps into its queue again
fi
if [ "$limit" ] && is_unfinished; then
    [ "$has_progress" ] && scontrol requeue "${{mine}}_$task" && exec sleep 10m
    echo "job: nothing new was saved within the time limit; submit it with more --time" >>"$batch/logs/$run.log"
    echo $code >"$here/codes/$run"
    worst=$code
fi
exit $worst
"""


@dataclass(frozen=True)
class ResourceRequest:
    """What is asked of the cluster for each task of an array."""

    time: str
    """A time limit as SLURM writes it."""
    memory: str
    memory_is_per_cpu: bool = False
    partition: str | None = None
    account: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    max_running_tasks: int | None = None
    """Tasks that are at work at the same time."""
    save_seconds: int = 120
    """Seconds before its time limit at which a run is signalled to save."""
    extra: Sequence[str] = ()
    """Further options of sbatch."""
    after: Sequence[str] = ()
    """Array jobs that must have ended before this one begins."""

    def lines(self, batch: Batch, num_tasks: int) -> list[str]:
        """Return the options for an array.

        Raises:
            UsageError: for an option that cannot stand in a script.
        """
        limit = f"%{self.max_running_tasks}" if self.max_running_tasks else ""
        options = {
            "job-name": "/".join(batch.path.resolve().parts[-2:]),
            "array": f"0-{num_tasks - 1}{limit}",
            "time": self.time,
            "mem-per-cpu" if self.memory_is_per_cpu else "mem": self.memory,
            "partition": self.partition,
            "account": self.account,
            "gpus": self.gpus,
            "cpus-per-task": self.cpus,
            "signal": f"B:USR1@{self.save_seconds}",
            # Of a % in a path, SLURM would make something else.
            "output": str(batch.path.resolve() / "logs").replace("%", "%%") + "/slurm-%A_%a.log",
            "open-mode": "append",
        }
        named = [f"{name}={value}" for name, value in options.items() if value is not None]
        lines = [*named, "requeue", *self._extra_options()]
        for line in lines:
            if not is_printable(line):  # what follows a line break would be a command of the script
                raise UsageError(f"--{escape_text(line)}: must not hold control characters")
        return [f"#SBATCH --{_quote_option(line)}" for line in lines]

    def _extra_options(self) -> list[str]:
        """Return the further options; a dependency of theirs and ours are one option."""
        extra = [option.lstrip("-") for option in self.extra]
        if not self.after:
            return extra
        ours = f"afterany:{':'.join(self.after)}"
        theirs = [option for option in extra if option.partition("=")[0] == DEPENDENCY_OPTION]
        conditions = ",".join([*(option.partition("=")[2] for option in theirs), ours])
        return [*(option for option in extra if option not in theirs), f"{DEPENDENCY_OPTION}={conditions}"]


def _quote_option(option: str) -> str:
    """Return an option for a line of a script, which sbatch itself takes apart: a backslash escapes everywhere."""
    name, equals, value = option.partition("=")
    if shlex.quote(value) == value or not equals:
        return option
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'


def make_array_script(batch: Batch, here: Path, tasks: Sequence[Sequence[str]], request: ResourceRequest) -> str:
    """Return the job script of an array.

    Args:
        here: the folder of the submission.
        tasks: the runs that each task trains, one after another.
    """
    return _SCRIPT.format(
        lines="\n".join(request.lines(batch, len(tasks))),
        batch=shlex.quote(str(batch.path.resolve())),
        here=shlex.quote(str(here)),
        runs=" ".join(shlex.quote(name) for runs in tasks for name in runs),
        first=" ".join(map(str, accumulate((len(runs) for runs in tasks), initial=0))),
    )


def parse_time_limit(limit: str) -> int:
    """Seconds of a time limit as SLURM writes it: minutes, minutes:seconds, hours:minutes:seconds, or days-hours..."""
    days, dash, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash or len(parts) == 3:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:
        hours, minutes, seconds = (0, *parts, 0)[:3]
    return (int(days or 0) * 24 + hours) * 3600 + minutes * 60 + seconds


def parse_option_name(option: str) -> str:
    """Return the name of an option of sbatch as it may be given: `--qos=long`."""
    return option.lstrip("-").partition("=")[0]


def find_managed_options(options: Iterable[str]) -> dict[str, str]:
    """Return the options that a batch sets itself, and the flags that say them."""
    return {
        option: MANAGED_OPTIONS[parse_option_name(option)]
        for option in options
        if parse_option_name(option) in MANAGED_OPTIONS
    }
