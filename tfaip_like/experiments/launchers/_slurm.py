"""SLURM: array jobs through its command-line tools."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from typing import ClassVar

from tfaip_like._utils.errors import UsageError
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments.launchers._cluster import Cluster
from tfaip_like.experiments.launchers._cluster_script import JobShell
from tfaip_like.experiments.launchers._jobs import ResourceRequest
from tfaip_like.experiments.launchers._launcher import Capabilities, JobStatus
from tfaip_like.experiments.launchers._tools import ToolError, run_tool

DEFAULT_MAX_ARRAY_SIZE = 1000
"""Maximum number of tasks of an array, if the cluster does not report its limit."""

NORMAL_PENDING_REASONS = (
    "",
    "None",
    "Priority",
    "Resources",
    "JobArrayTaskLimit",
    "BeginTime",
    "Dependency",
    "Cleaning",
)
"""Pending reasons that need no attention."""
PENDING_STATES = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "PREEMPTED", "SPECIAL_EXIT")
RUNNING_STATES = (
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "RESIZING",
    "SIGNALING",
    "STAGE_OUT",
    "STOPPED",
    "SUSPENDED",
)
END_REASONS = {
    "TIMEOUT": "time limit exceeded (--time)",
    "OUT_OF_MEMORY": "memory limit exceeded (--mem)",
    "NODE_FAIL": "node failure",
    "BOOT_FAIL": "node failed to boot",
    "DEADLINE": "deadline missed",
}
"""Reasons why SLURM ended a job, by its state."""

MANAGED_OPTIONS = {
    "job-name": "",
    "array": "jobs",
    "time": "time",
    "mem": "mem",
    "mem-per-cpu": "mem_per_cpu",
    "partition": "launcher.partition",
    "account": "launcher.account",
    "gpus": "gpus",
    "cpus-per-task": "cpus",
    "signal": "save_seconds",
    "output": "",
    "open-mode": "",
}
"""Options of sbatch that the job script sets, and the flags that control them; empty if there is none."""

DEPENDENCY_OPTION = "dependency"


class Slurm(Cluster):
    """SLURM cluster; needs its commands sbatch, squeue and scancel on this machine."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        limits=True, memory_per_cpu=True, arrays=True, requeue=True, signal=True
    )
    title: ClassVar[str] = "SLURM"
    task_id: ClassVar[str] = "{job}_{task}"
    shell: ClassVar[JobShell] = JobShell(
        job="$SLURM_ARRAY_JOB_ID",
        task="$SLURM_ARRAY_TASK_ID",
        rename='scontrol update JobId="$id" JobName="$run"',  # in squeue and mails
        requeue='scontrol requeue "$id"',
    )

    partition: str | None = None
    """Partition of the cluster."""

    account: str | None = None
    """Account to charge."""

    sbatch: list[str] = []
    """Additional options of sbatch, without dashes: qos=long constraint=v100."""

    def check(self) -> None:
        for option in self.sbatch:
            flag = MANAGED_OPTIONS.get(parse_option_name(option))
            self.require(
                flag is None, "sbatch", f"{option}: use --{flag} instead" if flag else f"{option} is set by the batch"
            )

    def require_available(self, request: ResourceRequest) -> None:
        if shutil.which("sbatch") is None:
            raise UsageError(
                "--launcher Slurm: sbatch not found; run this on a login node of the cluster, or use the local queue"
            )

    def max_tasks(self) -> int:
        try:
            config = run_tool("scontrol", "show", "config")
        except ToolError:
            return DEFAULT_MAX_ARRAY_SIZE
        match = re.search(r"^MaxArraySize\s*=\s*(\d+)", config, re.MULTILINE)
        return max(1, min(DEFAULT_MAX_ARRAY_SIZE, int(match[1]))) if match else DEFAULT_MAX_ARRAY_SIZE

    def directives(self, batch: Batch, num_tasks: int, request: ResourceRequest) -> list[str]:
        limit = f"%{request.max_running_tasks}" if request.max_running_tasks else ""
        options = {
            "job-name": "/".join(batch.path.resolve().parts[-2:]),
            "array": f"0-{num_tasks - 1}{limit}",
            "time": request.time,
            "mem-per-cpu" if request.memory_is_per_cpu else "mem": request.memory,
            "partition": self.partition,
            "account": self.account,
            "gpus": request.num_gpus,
            "cpus-per-task": request.cpus,
            "signal": f"B:USR1@{request.save_seconds}",
            # SLURM expands % in a path.
            "output": str(batch.path.resolve() / "logs").replace("%", "%%") + "/slurm-%A_%a.log",
            "open-mode": "append",
        }
        named = [f"{name}={value}" for name, value in options.items() if value is not None]
        return [f"#SBATCH --{_quote_option(line)}" for line in (*named, "requeue", *self._extra_options(request.after))]

    def _extra_options(self, after: Sequence[str]) -> list[str]:
        """Return the additional options, with our dependency merged into a given one."""
        extra = [option.lstrip("-") for option in self.sbatch]
        if not after:
            return extra
        dependencies = [option for option in extra if option.partition("=")[0] == DEPENDENCY_OPTION]
        conditions = [*(option.partition("=")[2] for option in dependencies), f"afterany:{':'.join(after)}"]
        others = [option for option in extra if option not in dependencies]
        return [*others, f"{DEPENDENCY_OPTION}={','.join(conditions)}"]

    def submit_script(self, script: str, lock: int) -> str:
        return run_tool("sbatch", "--parsable", script, lock=lock).strip().split(";")[0]

    def find_jobs(self) -> Mapping[str, str]:
        lines = run_tool("squeue", "--noheader", "--states=all", "--format=%F|%o").splitlines()
        return {script: job for job, _, script in (line.strip().partition("|") for line in lines)}

    def query_jobs(self, jobs: Sequence[str]) -> Mapping[str, JobStatus]:
        # squeue lists finished jobs for some minutes only, and not every cluster has accounting, so the outcome of a
        # run is read from its files.
        which = f"--jobs={','.join(jobs)}"
        words = ["squeue", "--noheader", which, "--array", "--states=all", "--format=%F_%K|%T|%N|%r|%j"]
        try:
            lines = run_tool(*words).splitlines()
        except ToolError as error:
            if "Invalid job id" in str(error):  # a single job that squeue no longer lists
                return {}
            raise
        fields = (line.strip().split("|", 4) for line in lines)
        return {job: make_job_status(state, node, reason, name) for job, state, node, reason, name in fields}

    def cancel_jobs(self, jobs: Sequence[str]) -> None:
        run_tool("scancel", *jobs, is_strict=True)

    def describe(self, batch: Batch, job: str) -> str:
        # The last error in the output of the job; errors about memory take precedence.
        try:
            text = (batch.path / "logs" / f"slurm-{job}.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        errors = [line.partition("error: ")[2].strip() for line in text.splitlines() if "error: " in line]
        memory_errors = [line for line in errors if "memory" in line.lower()]
        return (memory_errors or errors or [""])[-1]


def make_job_status(state: str, node: str = "", reason: str = "", name: str | None = None) -> JobStatus:
    """Return the status of a task from the fields that squeue prints."""
    if state in PENDING_STATES:
        needs_attention = reason not in NORMAL_PENDING_REASONS
        return JobStatus("pending", node or None, f"pending: {reason}" if needs_attention else "", name)
    if state in RUNNING_STATES:
        return JobStatus("running", node or None, name=name)
    return JobStatus("ended", node or None, END_REASONS.get(state, ""), name, is_cancelled=state == "CANCELLED")


def parse_option_name(option: str) -> str:
    """Return the name of an option of sbatch: `qos` for `--qos=long`."""
    return option.lstrip("-").partition("=")[0]


def _quote_option(option: str) -> str:
    """Return an option quoted for a line of a script, according to sbatch's parser."""
    name, equals, value = option.partition("=")
    if shlex.quote(value) == value or not equals:
        return option
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'
