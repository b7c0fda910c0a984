"""Job script of a cluster, which is stored in the batch: trains the runs of a task one after another."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tfaip_like._runs.job_environment import JOB_ID_VARIABLE, JOB_NAME_VARIABLE
from tfaip_like.experiments._batches.batch import Batch

_SCRIPT = """\
#!/bin/bash
{directives}

batch={batch}
here={here}
runs=({runs})
first=({first})  # index of the first run of each task, and the total number

# These runs belong to one array job: the first one that starts, or the one that submit recorded.
mine={job}
task={task}
id="{task_id}"
echo "$mine" >"$here/.job.$mine.$task" && ln "$here/.job.$mine.$task" "$here/job" 2>/dev/null
rm -f "$here/.job.$mine.$task"
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

{timer}of_task=("${{runs[@]:${{first[$task]}}:${{first[$task + 1]}} - ${{first[$task]}}}}")
for run in "${{of_task[@]}}"; do
    if [ -e "$here/codes/$run" ] || is_cancelled; then continue; fi  # exit code exists: ended before a requeue
    before=$(checkpoints)
    export {id_variable}="$id" {name_variable}="$run"  # the training records them
    {rename} >/dev/null 2>&1
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
    {after_end}
fi
if [ "$limit" ] && is_unfinished; then
    {after_limit}
    echo $code >"$here/codes/$run"
    worst=$code
fi
exit $worst
"""

_WITH_REQUEUE = {
    "after_end": "exec sleep 10m  # until the cluster ends the job, and possibly requeues it",
    "after_limit": """\
[ "$has_progress" ] && {requeue} && exec sleep 10m
    echo "job: no progress within the time limit; resubmit with a larger --time" >>"$batch/logs/$run.log\"""",
}
_WITHOUT_REQUEUE = {
    "after_end": 'echo $code >"$here/codes/$run"; exit $code',
    "after_limit": """\
echo "job: time limit reached; submit the run again to resume it" >>"$batch/logs/$run.log\"""",
}
_TIMER = """\
# The cluster sends no signal before the time limit.
exec {{clock}}<> <(:)
(read -r -t {seconds} -u $clock; kill -USR1 $$) >/dev/null 2>&1 &
timer=$!
trap 'kill $timer 2>/dev/null' EXIT

"""


@dataclass(frozen=True)
class JobShell:
    """Shell expressions of a cluster, for its job scripts.

    >>> JobShell(job="$PBS_JOBID").task
    '0'
    """

    job: str
    """ID of the job, as `submit_script` returns it: "$PBS_JOBID"."""
    task: str = "0"
    """Number of the task, from 0: "$SLURM_ARRAY_TASK_ID"."""
    rename: str = ":"
    """Command that names the job "$id" like its run "$run"; by default none."""
    requeue: str = ""
    """Command that queues the task "$id" again; required for the capability `requeue`."""


def make_job_script(
    directives: Sequence[str],
    shell: JobShell,
    task_id: str,
    batch: Batch,
    folder: str,
    tasks: Sequence[Sequence[str]],
    timer_s: int | None = None,
) -> str:
    """Return the script of a job.

    Args:
        directives: lines that request resources.
        shell: expressions of the cluster.
        task_id: format of the ID of a task.
        batch: batch of the runs.
        folder: directory of the record of the job.
        tasks: names of the runs that each task trains sequentially.
        timer_s: seconds after which the script signals itself that its time limit is near; None if the cluster does so.
    """
    endings = _WITH_REQUEUE if shell.requeue else _WITHOUT_REQUEUE
    return _SCRIPT.format(
        directives="\n".join(directives),
        batch=shlex.quote(str(batch.path.resolve())),
        here=shlex.quote(folder),
        runs=" ".join(shlex.quote(name) for runs in tasks for name in runs),
        first=" ".join(map(str, accumulate((len(runs) for runs in tasks), initial=0))),
        job=shell.job,
        task=shell.task,
        task_id=task_id.format(job="${mine}", task="${task}"),
        rename=shell.rename,
        timer="" if timer_s is None else _TIMER.format(seconds=timer_s),
        id_variable=JOB_ID_VARIABLE,
        name_variable=JOB_NAME_VARIABLE,
        **{name: text.format(requeue=shell.requeue) for name, text in endings.items()},
    )
