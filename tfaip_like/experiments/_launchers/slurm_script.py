"""Job script of an array job, which is stored in the batch."""

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
"""Options of sbatch that the job script sets, and the flags that control them; empty if there is none."""

DEPENDENCY_OPTION = "dependency"

_SCRIPT = """\
#!/bin/bash
{lines}

batch={batch}
here={here}
runs=({runs})
first=({first})  # index of the first run of each task, and the total number

# These runs belong to one array job: the first one that starts, or the one that submit recorded.
mine=$SLURM_ARRAY_JOB_ID
echo "$mine" >"$here/.job.$SLURM_JOB_ID" && ln "$here/.job.$SLURM_JOB_ID" "$here/job" 2>/dev/null
rm -f "$here/.job.$SLURM_JOB_ID"
owner=$(cat "$here/job" 2>/dev/null)
if [ "${{owner:-$mine}}" != "$mine" ]; then
    echo "job $mine: nothing to do: its runs belong to job $owner ($here/job); submit them with experiments submit"
    exit 0
fi

checkpoints() {{ ls "$batch/runs/$run/checkpoints" 2>/dev/null; }}
is_cancelled() {{ [ -e "$here/cancelled/$run" ]; }}
pass_on() {{ [ "$job" ] && kill "-$1" "$job" 2>/dev/null; }}
stop_if_cancelled() {{  # for users who may not cancel the job itself
    exec {{never}}<> <(:)
    until is_cancelled; do read -r -t 5 -u $never; done
    kill -TERM "$1"
}}

job=; limit=; end=; worst=0; has_progress=
trap 'limit=near; pass_on USR1' USR1  # near the time limit: the run saves its state and exits
trap 'end=near; pass_on TERM' TERM    # cancelled or preempted: likewise

task=$SLURM_ARRAY_TASK_ID
of_task=("${{runs[@]:${{first[$task]}}:${{first[$task + 1]}} - ${{first[$task]}}}}")
for run in "${{of_task[@]}}"; do
    if [ -e "$here/codes/$run" ] || is_cancelled; then continue; fi  # exit code exists: ended before a requeue
    before=$(checkpoints)
    export SLURM_JOB_NAME="$run"
    scontrol update JobId="${{mine}}_$task" JobName="$run" >/dev/null 2>&1  # name in squeue and mails
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
    exec sleep 10m  # until SLURM ends the job, and possibly requeues it
fi
if [ "$limit" ] && is_unfinished; then
    [ "$has_progress" ] && scontrol requeue "${{mine}}_$task" && exec sleep 10m
    echo "job: no progress within the time limit; resubmit with a larger --time" >>"$batch/logs/$run.log"
    echo $code >"$here/codes/$run"
    worst=$code
fi
exit $worst
"""


@dataclass(frozen=True)
class ResourceRequest:
    """Resources that each task of an array requests from the cluster."""

    time: str
    """Time limit in the format of sbatch --time."""
    memory: str
    """Memory limit in the format of sbatch --mem."""
    memory_is_per_cpu: bool = False
    partition: str | None = None
    account: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    max_running_tasks: int | None = None
    """Maximum number of tasks that run in parallel; None for no limit."""
    save_seconds: int = 120
    """Seconds before the time limit at which a run receives the signal to save and exit."""
    extra: Sequence[str] = ()
    """Additional options of sbatch."""
    after: Sequence[str] = ()
    """Numbers of array jobs that must end before this one starts."""

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
            # SLURM expands % in a path.
            "output": str(batch.path.resolve() / "logs").replace("%", "%%") + "/slurm-%A_%a.log",
            "open-mode": "append",
        }
        named = [f"{name}={value}" for name, value in options.items() if value is not None]
        lines = [*named, "requeue", *self._extra_options()]
        for line in lines:
            if not is_printable(line):  # text after a line break would be a command of the script
                raise UsageError(f"--{escape_text(line)}: must not contain control characters")
        return [f"#SBATCH --{_quote_option(line)}" for line in lines]

    def _extra_options(self) -> list[str]:
        """Return the additional options, with our dependency merged into a given one."""
        extra = [option.lstrip("-") for option in self.extra]
        if not self.after:
            return extra
        dependencies = [option for option in extra if option.partition("=")[0] == DEPENDENCY_OPTION]
        conditions = [*(option.partition("=")[2] for option in dependencies), f"afterany:{':'.join(self.after)}"]
        others = [option for option in extra if option not in dependencies]
        return [*others, f"{DEPENDENCY_OPTION}={','.join(conditions)}"]


def _quote_option(option: str) -> str:
    """Return an option quoted for a line of a script, according to sbatch's parser."""
    name, equals, value = option.partition("=")
    if shlex.quote(value) == value or not equals:
        return option
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'


def make_array_script(
    batch: Batch, submission_dir: Path, tasks: Sequence[Sequence[str]], request: ResourceRequest
) -> str:
    """Return the job script of an array.

    Args:
        batch: batch of the runs.
        submission_dir: directory of the submission.
        tasks: names of the runs that each task trains sequentially.
        request: resources of each task.

    Raises:
        UsageError: if an option of sbatch contains control characters.
    """
    return _SCRIPT.format(
        lines="\n".join(request.lines(batch, len(tasks))),
        batch=shlex.quote(str(batch.path.resolve())),
        here=shlex.quote(str(submission_dir)),
        runs=" ".join(shlex.quote(name) for runs in tasks for name in runs),
        first=" ".join(map(str, accumulate((len(runs) for runs in tasks), initial=0))),
    )


def parse_time_limit(limit: str) -> int:
    """Return the seconds of a time limit of sbatch: minutes, minutes:seconds, hours:minutes:seconds, days-hours, ..."""
    days, dash, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash or len(parts) == 3:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:
        hours, minutes, seconds = (0, *parts, 0)[:3]
    return (int(days or 0) * 24 + hours) * 3600 + minutes * 60 + seconds


def parse_option_name(option: str) -> str:
    """Return the name of an option of sbatch: `qos` for `--qos=long`."""
    return option.lstrip("-").partition("=")[0]


def find_managed_options(options: Iterable[str]) -> dict[str, str]:
    """Return those options that the job script sets itself, and the flags that control them."""
    return {
        option: MANAGED_OPTIONS[parse_option_name(option)]
        for option in options
        if parse_option_name(option) in MANAGED_OPTIONS
    }
